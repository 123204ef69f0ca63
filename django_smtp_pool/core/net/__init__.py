"""Sockets, TLS and connecting to a server. Does not know SMTP."""
