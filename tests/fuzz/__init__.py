"""Octets of chance for whatever reads what others wrote; `python -m tests.fuzz replies` goes on and on."""
