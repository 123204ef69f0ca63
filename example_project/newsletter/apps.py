"""The newsletter application."""

from django.apps import AppConfig


class NewsletterConfig(AppConfig):
    """Subscribers, their messages, and a contact form."""

    name = "newsletter"
    verbose_name = "Newsletter"
