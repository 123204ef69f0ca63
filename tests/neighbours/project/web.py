"""A site whose every request sends one message."""

import os

from django.core.mail import send_mail
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path


def send(request, number):
    """Send a message, and tell which process did."""
    sent = send_mail(f"Message {number}", "Hello\n", None, ["to@example.com"])
    return HttpResponse(f"{sent} by {os.getpid()}", content_type="text/plain")


urlpatterns = [path("send/<int:number>", send)]
application = get_wsgi_application()

if os.environ.get("SEND_BEFORE_FORK"):
    # Under --preload this is the master: it has a warm connection, and the housekeeper, when it forks.
    send_mail("Message 0", "Hello\n", None, ["to@example.com"])
