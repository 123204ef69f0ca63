"""One message over one connection, and what is tried again."""
