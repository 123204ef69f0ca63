"""What the tests of the asyncio driver share."""

import asyncio


async def until(server, predicate):
    """Wait until something is true of the server, with the loop free meanwhile."""
    assert await asyncio.to_thread(server.wait_for, predicate)


def assert_no_place_is_taken(backend):
    """Check that nobody holds or wants a connection."""
    stats = backend.pool.stats()
    assert (stats.busy, stats.connecting, stats.waiting) == (0, 0, 0)
