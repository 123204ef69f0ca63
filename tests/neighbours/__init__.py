"""Real neighbours: gunicorn, uWSGI, Celery and the mail queues, run as their users run them, with our backend underneath."""
