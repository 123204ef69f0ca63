"""Tests of the core: the SMTP conversation, the transport, and the pool, each by itself."""
