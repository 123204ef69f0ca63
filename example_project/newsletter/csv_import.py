"""Subscribers from a CSV file with the columns name, email and language."""

import csv

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from newsletter.models import Subscriber

COLUMNS = {"name", "email", "language"}


class BadFileError(ValueError):
    """A CSV file that is not a list of subscribers."""


def read(path):
    """Return the subscribers of a file, not yet saved, one for each address."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := COLUMNS.difference(reader.fieldnames or ()):
            raise BadFileError(f"{path} has no column {', '.join(sorted(missing))} in its first line")
        people = [subscriber(row, f"{path}, line {reader.line_num}") for row in reader]
    return list({person.email: person for person in people}.values())


def subscriber(row, place):
    """Return one line as a subscriber."""
    name, email, language = ((row[column] or "").strip() for column in ("name", "email", "language"))
    try:
        validate_email(email)
    except ValidationError:
        raise BadFileError(f"{place}: {email!r} is not an email address") from None
    return Subscriber(name=" ".join(name.split()), email=email, language=language or "en")


def load(path):
    """Save the people of a file, and return the active ones, in the order of the file."""
    people = read(path)
    # An import does not reactivate subscribers who have left (`active` unticked in the admin).
    Subscriber.objects.bulk_create(
        people,
        batch_size=200,
        update_conflicts=True,
        unique_fields=["email"],
        update_fields=["name", "language"],
    )
    saved = Subscriber.objects.in_bulk([person.email for person in people], field_name="email")
    return [saved[person.email] for person in people if saved[person.email].active]
