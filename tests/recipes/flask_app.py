"""app.py: one client for all threads of a Flask application."""

import os
from email.message import EmailMessage

from flask import Flask, request

from django_smtp_pool.core.delivery.client import Client
from django_smtp_pool.core.errors import DeliveryUnknown, Failure
from django_smtp_pool.core.options.options import ServerOptions

app = Flask(__name__)
client = Client(ServerOptions(host=os.environ["SMTP_HOST"], port=os.environ["SMTP_PORT"]))


@app.post("/welcome")
def welcome():
    """Send a welcome, and answer by what became of it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", request.form["address"], "Welcome"
    message.set_content("Hello!")
    try:
        client.send(message)
    except DeliveryUnknown:  # it may have arrived: do not send it again
        return {"sent": None}, 202
    except (Failure, OSError) as error:
        return {"sent": False, "why": str(error)}, 503
    return {"sent": True}
