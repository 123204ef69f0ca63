"""Real neighbours: gunicorn, Celery and the mail queues, run as their users run them, with our backend underneath."""
