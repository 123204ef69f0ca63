"""The pool, without a server."""
