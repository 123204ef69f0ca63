"""A pooled SMTP e-mail backend for Django."""

__version__ = "0.1.0.dev0"
