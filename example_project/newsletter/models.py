"""Subscribers, and the outcome of each message."""

from django.db import models


class Subscriber(models.Model):
    """A subscriber of the newsletter."""

    name = models.CharField(max_length=200)
    email = models.EmailField(unique=True)
    language = models.CharField(max_length=12, default="en", help_text="A code such as en, de or pt-BR.")
    active = models.BooleanField(default=True, help_text="Inactive subscribers stay in the list, but get no mail.")
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name", "pk")

    def __str__(self):
        return f"{self.name} <{self.email}>"


class Delivery(models.Model):
    """The outcome of one message to one subscriber."""

    class Outcome(models.TextChoices):
        """The four outcomes of a message."""

        ACCEPTED = "accepted", "accepted"
        REFUSED = "refused", "refused"
        NOT_SENT = "not_sent", "not sent"
        UNKNOWN = "unknown", "unknown (may have arrived)"

    subscriber = models.ForeignKey(Subscriber, on_delete=models.CASCADE, related_name="deliveries")
    subject = models.CharField(max_length=200)
    sent_at = models.DateTimeField(db_index=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    reply = models.TextField(blank=True, help_text="The server's reply, or the text of the error.")
    attempts = models.PositiveSmallIntegerField(default=1)
    reused = models.BooleanField(null=True, help_text="Whether the connection had carried a message before.")

    class Meta:
        ordering = ("-sent_at", "-pk")
        verbose_name_plural = "deliveries"

    def __str__(self):
        return f"{self.subject} to {self.subscriber.email}: {self.get_outcome_display()}"
