"""Real neighbours: gunicorn, uWSGI, Celery and the mail queues, run as their users run them, over our backend."""
