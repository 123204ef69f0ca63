"""A site that sends a message for each request, with the admin; as a program, it makes tables and logs a user in."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.contrib import admin  # noqa: E402 - which needs the apps
from django.urls import path  # noqa: E402

from tests.neighbours.project.web import send  # noqa: E402

urlpatterns = [path("send/<int:number>", send), path("admin/", admin.site.urls)]

if __name__ == "__main__":
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(get_user_model().objects.create_superuser("superuser"))
    print(client.cookies["sessionid"].value)  # noqa: T201 - for the test
