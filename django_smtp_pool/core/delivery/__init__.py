"""The life of a message over the connections of a pool."""
