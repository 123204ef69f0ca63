"""Batches: many messages over several connections, driven from the calling thread."""
