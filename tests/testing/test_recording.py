"""Mail that is kept, and answered as told."""

import smtplib

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from django_smtp_pool import DeliveryUnknown, PartiallyRefused, get_pool, signals, status_of
from django_smtp_pool.testing import recorded_mail

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def letter(number=1, *to):
    return EmailMessage(f"Letter {number}", "Hello", to=list(to) or ["ann@example.com"])


@pytest.fixture
def heard():
    """What the signals say."""
    said = []

    def sent(sender, message, status, **_):
        said.append(("sent", message.subject, status.outcome))

    def failed(sender, message, status, error, **_):
        said.append(("failed", message.subject, type(error).__name__))

    signals.message_sent.connect(sent)
    signals.message_failed.connect(failed)
    yield said
    signals.message_sent.disconnect(sent)
    signals.message_failed.disconnect(failed)


def test_what_is_accepted_is_kept_with_a_status(heard):
    with recorded_mail() as answers:
        message = letter()
        assert message.send() == 1
        assert answers.outbox == mail.outbox
        (kept,) = mail.outbox
        assert kept.subject == "Letter 1"
        assert status_of(message).queue_id == status_of(kept).queue_id == "T000001"
    assert heard == [("sent", "Letter 1", "accepted")]


@pytest.mark.parametrize("batch", [False, True])
def test_each_message_is_answered_in_its_turn(heard, batch):
    messages = [letter(number) for number in range(4)]
    with recorded_mail() as answers:
        answers.refuse_message("554 5.7.1 Spam")
        answers.accept_message()
        answers.lose_connection()
        if batch:
            with pytest.raises(smtplib.SMTPDataError, match="Spam") as caught:
                _backend().send_messages(messages)
            assert {index: type(each) for index, each in caught.value.failures.items()}[2] is DeliveryUnknown
        else:
            errors = [_error_of(message) for message in messages]
            assert [type(error).__name__ for error in errors] == [
                "DataRefused",
                "NoneType",
                "DeliveryUnknown",
                "NoneType",
            ]
        assert [status_of(each).outcome for each in messages] == ["refused", "accepted", "unknown", "accepted"]
        assert [each.subject for each in mail.outbox] == ["Letter 1", "Letter 3"]
    assert heard[0] == ("failed", "Letter 0", "DataRefused")
    assert heard[2] == ("failed", "Letter 2", "DeliveryUnknown")


def _error_of(message):
    try:
        message.send()
    except smtplib.SMTPException as error:
        return error
    return None


def _backend():
    from tests.backend.project import mailer

    return mailer()


def test_some_recipients_are_refused():
    message = letter(1, "ann@example.com", "no@example.com")
    with recorded_mail() as answers:
        answers.refuse_recipient("no@example.com")
        assert message.send() == 1
        assert status_of(message).accepted == ("ann@example.com",)
        assert str(status_of(message).refused["no@example.com"]) == "550 5.1.1 No such user"
    with recorded_mail(on_partial_refusal="raise") as answers:
        answers.refuse_recipient("no@example.com")
        with pytest.raises(PartiallyRefused):
            letter(1, "ann@example.com", "no@example.com").send()


def test_every_recipient_is_refused():
    with recorded_mail() as answers:
        answers.refuse_recipient("ann@example.com", "450 4.2.1 Later")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            letter().send()
    assert caught.value.recipients == {"ann@example.com": (450, b"4.2.1 Later")}


def test_time_is_the_tests_own():
    message = letter()
    with recorded_mail() as answers:
        answers.be_slow(3600)
        message.send()
        assert (answers.clock.now, status_of(message).sent) == (3600, 3600)


def test_messages_that_take_long_to_render_are_sent_as_ever():
    with recorded_mail(finishers=[lambda content: content]):
        assert mail.get_connection().send_messages([letter(1), letter(2)]) == 2
        assert [kept.subject for kept in mail.outbox] == ["Letter 1", "Letter 2"]


def test_bad_headers_are_refused_as_ever():
    with recorded_mail(), pytest.raises(ValueError, match="Header"):
        EmailMessage("a\nb", "Hello", to=["ann@example.com"]).send()


def test_the_pool_is_there_and_does_nothing():
    with recorded_mail():
        letter().send()
        assert get_pool().stats().connections_opened == 0


def test_it_leaves_the_outbox_as_it_was():
    with recorded_mail():
        mail.outbox.append("of an outer test")
        before = mail.outbox
        with recorded_mail():
            letter().send()
        assert mail.outbox is before
        assert mail.outbox == ["of an outer test"]
