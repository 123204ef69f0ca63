"""newsletter.py: send a message to each line of a file, without Django."""

import os
import sys
from email.message import EmailMessage

from django_smtp_pool.core.delivery.client import Client
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions

SERVER = ServerOptions(
    host=os.environ["SMTP_HOST"],
    port=os.environ["SMTP_PORT"],
    use_tls=os.environ.get("SMTP_TLS") == "1",
    username=os.environ.get("SMTP_USER"),
    password=os.environ.get("SMTP_PASSWORD"),
)


def letters(addresses):
    """Yield the messages one by one: a million of them is never in memory."""
    for address in addresses:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "shop@example.com", address, "News"
        message.set_content("Hello!")
        yield message


client = Client(SERVER, PoolOptions(max_connections=3))
for delivery in client.send_many(letters(line.strip() for line in sys.stdin)):
    print(delivery.outcome.value, delivery.error or "")
client.close()
