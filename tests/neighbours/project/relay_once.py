"""Run django-email-relay's loop once: its command has no end but being killed."""

import django
from django.core.management import load_command_class

django.setup()
load_command_class("email_relay", "runrelay").handle(_loop_count=1)
