"""Django's contract: what the backend shares with Django's own, and what is deliberately ours."""
