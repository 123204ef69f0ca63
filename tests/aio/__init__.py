"""The asyncio driver, through the backend."""
