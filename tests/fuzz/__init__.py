"""Octets of chance for whatever reads what others wrote; `python -m tests.fuzz replies --seconds 300` goes on and on."""
