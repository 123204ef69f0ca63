"""The newsletter application."""

from django.apps import AppConfig


class NewsletterConfig(AppConfig):
    """Subscribers, what they were sent, and a contact form."""

    name = "newsletter"
    verbose_name = "Newsletter"
