"""Sockets, TLS and the way to a server. Knows no SMTP."""
