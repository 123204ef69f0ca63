"""app.py: one client for a FastAPI application; a `def` endpoint runs in a thread, and may wait."""

import os
from contextlib import asynccontextmanager
from email.message import EmailMessage

from fastapi import FastAPI

from django_smtp_pool.core.delivery.client import Client
from django_smtp_pool.core.options.options import ServerOptions

client = Client(ServerOptions(host=os.environ["SMTP_HOST"], port=os.environ["SMTP_PORT"]))


@asynccontextmanager
async def lifespan(app):
    """Say goodbye to the server when the application ends."""
    yield
    client.close(timeout=2)


app = FastAPI(lifespan=lifespan)


@app.post("/welcome")
def welcome(address: str):
    """Send a welcome."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", address, "Welcome"
    message.set_content("Hello!")
    return {"attempts": client.send(message).attempts}
