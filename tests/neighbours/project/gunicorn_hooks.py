"""Gunicorn's configuration: tell when a worker is ready, since a signal that comes earlier is lost on it."""


def post_worker_init(worker):
    """Say that a worker obeys signals now."""
    worker.log.info("Worker ready (pid: %s)", worker.pid)
