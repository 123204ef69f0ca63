"""The rate limit, in one process or over all of them."""
