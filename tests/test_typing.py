"""The types that a reader's own code sees: mypy --strict checks this file (see pyproject.toml), and pytest runs it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives

from django_smtp_pool import set_options, status_of

if TYPE_CHECKING:
    from typing_extensions import assert_type  # noqa: TC004 - used where mypy reads alone


def outcome_of(message: EmailMessage) -> str:
    status = status_of(message)
    if TYPE_CHECKING and status is not None:
        assert_type(status.outcome, str)
        assert_type(status.sent, float)
        assert_type(status.accepted, tuple[str, ...])
        assert_type(status.error, BaseException | None)
    return "none" if status is None else status.outcome


def test_a_typed_message_has_options_and_a_status() -> None:
    message = EmailMultiAlternatives("subject", "body", "a@example.com", ["b@example.com"])
    set_options(message, dsn={"notify": ["FAILURE"]}, require_tls=True)
    options: Mapping[str, object] = vars(message)["smtp_options"]
    assert options["require_tls"] is True
    assert outcome_of(message) == "none"


def test_a_wrong_type_is_found() -> None:
    """`warn_unused_ignores` makes each of these comments an error where mypy finds nothing."""
    message = EmailMessage()
    with pytest.raises(ValueError, match="require_tls"):
        set_options(message, require_tls="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        set_options(message, priority=1)  # type: ignore[call-arg]
