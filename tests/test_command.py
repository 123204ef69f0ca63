"""`manage.py smtp_pool`."""

import io

import pytest
from django.core.management import CommandError, call_command

from django_smtp_pool.services import all_services


def run(*arguments):
    out = io.StringIO()
    call_command("smtp_pool", *arguments, stdout=out)
    return out.getvalue()


def test_it_lists_every_provider():
    lines = run("services").splitlines()
    assert [line.split("  ")[0] for line in lines] == [service.name for service in all_services()]


def test_it_searches():
    assert run("services", "office", "365") == (
        "Outlook365  smtp.office365.com:587 STARTTLS; Microsoft 365 / Office 365; also Office 365, Microsoft 365, "
        "outlook.office365.com; max_connections=3; rate_limit=30; rate_delta=60\n"
    )


def test_nothing_found_is_an_error():
    with pytest.raises(CommandError, match="no provider is known by 'no such thing'"):
        run("services", "no", "such", "thing")


def test_a_tool_must_be_named():
    with pytest.raises(CommandError, match="tool"):
        run()
