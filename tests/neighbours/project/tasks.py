"""Celery tasks that each send one message."""

import os

import billiard.pool
import django
from celery import Celery
from celery.signals import worker_process_shutdown
from django.core.mail import send_mail

from django_smtp_pool import close_all
from tests.neighbours.project.settings import VAR

django.setup()

app = Celery("neighbours", broker=os.environ["BROKER"])
app.conf.update(
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)

# A process that ends waits for Celery to take note of its last task, 30 seconds at most: at a warm shutdown
# Celery sometimes does not.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10  # tenths of a second

if not os.environ.get("NO_FAREWELL"):
    # Celery's processes end by os._exit(), which runs none of Python's exit handlers.
    @worker_process_shutdown.connect
    def say_quit(**kwargs):
        """Say QUIT on the connections of a process that ends."""
        close_all(timeout=2)


@app.task
def send(number):
    """Note that Celery runs this, and send a message."""
    with (VAR / "runs").open("a") as runs:
        runs.write(f"{number}\n")
    return send_mail(f"Message {number}", "Hello\n", None, ["to@example.com"])


def queue(count):
    """Ask for messages 0 to `count` - 1."""
    with app.connection_for_write() as connection:
        for number in range(count):
            send.apply_async((number,), connection=connection)
