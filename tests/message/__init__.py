"""What Django users send: every message arrives as written, or is refused before it leaves."""
