"""Send the newsletter and record the outcome of every message, for the command and for the admin."""

from collections import deque
from dataclasses import dataclass, field
from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPSenderRefused

from django.utils import timezone

from newsletter import letter, mailers
from newsletter.models import Delivery

Outcome = Delivery.Outcome

BATCH = "batch"  # one send_messages() for all: the pool may spread it over several connections
EACH = "each"  # a send() for each message, as with send_mail() in a loop

# What a mailer raises: about one message (a refusal, an invalid address) or about the server.
ERRORS = (SMTPException, OSError, ValueError)
REFUSALS = (SMTPRecipientsRefused, SMTPSenderRefused, SMTPDataError)

RECORDS_AT_ONCE = 100


@dataclass(kw_only=True)
class Report:
    """The result of a mailing."""

    accepted: int = 0
    problems: list[Delivery] = field(default_factory=list)
    error: Exception | None = None  # the error that stopped it early

    @property
    def attempted(self):
        """Number of messages that have an outcome."""
        return self.accepted + len(self.problems)


class Mailing:
    """One mailing: takes subscribers from any iterable, and keeps only the messages that are being sent."""

    def __init__(self, subscribers, *, way=BATCH, alias=mailers.DEFAULT, record=True, on_next=lambda: None):
        self.report = Report()
        self._subscribers = subscribers
        self._way = way
        self._alias = alias
        self._pooled = mailers.is_pooled(alias)
        self._record = record
        self._on_next = on_next  # called when the mailer asks for the next message
        self._under_way = deque()  # (subscriber, message)
        self._records = []
        self._exhausted = False

    def run(self):
        """Send everything and return the report; records are saved even if a KeyboardInterrupt is raised."""
        try:
            if self._way == EACH:
                self._send_each()
            else:
                self._send_batch()
        except BaseException as error:
            self._settle(error)
            raise
        finally:
            self._write_records()
        return self.report

    def _send_batch(self):
        messages = self._messages()
        while not self._exhausted:
            before = self.report.attempted
            try:
                mailers.connection(self._alias).send_messages(messages)
            except ERRORS as error:
                # The pool continues after a refusal and raises at the end. Django's backend stops at the refusal,
                # and the rest of the generator is still to be read.
                self._settle(error)
                if not about_one_message(error) or self.report.attempted == before:
                    self.report.error = error
                    return
            else:
                self._settle()

    def _send_each(self):
        for message in self._messages():
            try:
                mailers.send(message, self._alias)
            except ERRORS as error:
                self._settle(error)
                if not about_one_message(error):
                    self.report.error = error
                    return
            else:
                self._settle()

    def _messages(self):
        """Render one message at a time, as the mailer asks for them."""
        for subscriber in self._subscribers:
            self._settle_what_is_known()
            try:
                message = letter.render(subscriber)
            except ValueError as error:  # a name or address that is not valid in a header
                self._note(subscriber, "", Outcome.NOT_SENT, str(error))
            else:
                self._under_way.append((subscriber, message))
                yield message
            self._on_next()
        self._exhausted = True

    def _settle_what_is_known(self):
        """Record the messages that are finished while the batch continues, and forget them."""
        waiting = [pair for pair in self._under_way if not self._settle_by_status(*pair)]
        self._under_way = deque(waiting)

    def _settle(self, error=None):
        """Record all remaining messages after the mailer has returned or raised."""
        while self._under_way:
            subscriber, message = self._under_way.popleft()
            if self._settle_by_status(subscriber, message):
                continue
            if self._pooled:  # it read the message, but did not try it
                self._note(subscriber, message.subject, Outcome.NOT_SENT, describe(error) if error else "")
            elif error is None or self._under_way:
                # Django's backend keeps no status and raises at the first failure, so the others were accepted.
                self._note(subscriber, message.subject, Outcome.ACCEPTED)
            else:
                outcome = Outcome.REFUSED if isinstance(error, REFUSALS) else Outcome.UNKNOWN
                self._note(subscriber, message.subject, outcome, describe(error))

    def _settle_by_status(self, subscriber, message):
        """Record the pool's status of a message; return False if there is none."""
        status = getattr(message, "smtp_pool_status", None)
        if status is None:
            return False
        reply = "; ".join(map(str, status.refused.values())) or str(status.reply or "")
        if not reply and status.error:
            reply = describe(status.error)
        self._note(
            subscriber,
            message.subject,
            Outcome(status.outcome),
            reply,
            attempts=status.attempts,
            reused=status.reused,
        )
        return True

    def _note(self, subscriber, subject, outcome, reply="", **more):
        delivery = Delivery(
            subscriber=subscriber,
            subject=subject,
            sent_at=timezone.now(),
            outcome=outcome,
            reply=reply,
            **more,
        )
        if outcome == Outcome.ACCEPTED:
            self.report.accepted += 1
        else:
            self.report.problems.append(delivery)
        if self._record:
            self._records.append(delivery)
        if len(self._records) >= RECORDS_AT_ONCE:
            self._write_records()

    def _write_records(self):
        Delivery.objects.bulk_create(self._records)
        self._records = []


def about_one_message(error):
    """Return whether an error is about one message only, so that the next may still be sent."""
    return isinstance(error, (*REFUSALS, ValueError)) or getattr(error, "in_doubt", False)


def describe(error):
    """Return the server's reply in an error of smtplib, or the text of the error."""
    if isinstance(error, SMTPRecipientsRefused):
        replies = error.recipients.values()
    elif isinstance(error, SMTPSenderRefused | SMTPDataError):
        replies = [(error.smtp_code, error.smtp_error)]
    else:
        return str(error) or type(error).__name__
    return "; ".join(f"{code} {text.decode(errors='replace')}" for code, text in replies)
