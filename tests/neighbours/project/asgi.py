"""An asynchronous view that sends a message, and Django's application for ASGI, with the end of its lifespan."""

import os

import django
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

from django_smtp_pool import close_all
from django_smtp_pool.aio import asend_mail

django.setup()


async def send(request, number):
    """Send one message."""
    await asend_mail(f"Message {number}", "Hello\n", None, ["to@example.com"])
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("<int:number>", send)]
django_application = get_asgi_application()


async def application(scope, receive, send):
    """Run Django's application, and end the mail connections with it."""
    if scope["type"] != "lifespan":
        return await django_application(scope, receive, send)
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.shutdown":
            await sync_to_async(close_all, thread_sensitive=False)(timeout=2)
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return None
