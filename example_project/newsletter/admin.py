"""The admin: subscribers, their messages, and an action that sends the newsletter."""

from django.contrib import admin, messages
from django.db.models import OuterRef, Subquery
from django.utils.html import format_html

from newsletter.models import Delivery, Subscriber
from newsletter.sending import Mailing

PROBLEMS_SHOWN = 10

COLOURS = {
    Delivery.Outcome.ACCEPTED: "#2f6f3e",
    Delivery.Outcome.REFUSED: "#a32a2a",
    Delivery.Outcome.NOT_SENT: "#a32a2a",
    Delivery.Outcome.UNKNOWN: "#9a6200",
}


class ReadOnly:
    """Records cannot be added or changed, only viewed."""

    def has_add_permission(self, _request, _obj=None):
        """Refuse."""
        return False

    def has_change_permission(self, _request, _obj=None):
        """Refuse."""
        return False


class DeliveryInline(ReadOnly, admin.TabularInline):
    """The messages of one subscriber."""

    model = Delivery
    fields = ("sent_at", "subject", "outcome", "reply", "attempts", "reused")
    can_delete = False
    extra = 0


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin):
    """Subscribers, each with the outcome of the last message."""

    list_display = ("name", "last_outcome", "email", "language", "active")
    list_filter = ("active", "language")
    search_fields = ("name", "email")
    inlines = (DeliveryInline,)
    actions = ("send_newsletter",)

    def get_queryset(self, request):
        """Add the last outcome to each row, in the same query."""
        latest = Delivery.objects.filter(subscriber=OuterRef("pk")).order_by("-sent_at", "-pk")
        return super().get_queryset(request).annotate(latest_outcome=Subquery(latest.values("outcome")[:1]))

    @admin.display(description="last message", ordering="latest_outcome", empty_value="none yet")
    def last_outcome(self, subscriber):
        """Show the outcome of the last message, in colour."""
        return outcome_in_colour(subscriber.latest_outcome) if subscriber.latest_outcome else None

    @admin.action(description="Send the newsletter to the selected subscribers")
    def send_newsletter(self, request, queryset):
        """Send to the active ones of the selected subscribers, and show the result."""
        recipients = queryset.filter(active=True)
        total = recipients.count()
        report = Mailing(recipients.iterator()).run()
        self.message_user(
            request,
            f"{report.accepted} of {total} messages were accepted.",
            messages.SUCCESS if report.accepted == total else messages.WARNING,
        )
        for delivery in report.problems[:PROBLEMS_SHOWN]:
            text = f"{delivery.get_outcome_display()}: {delivery.subscriber}: {delivery.reply}"
            self.message_user(request, text, messages.ERROR)
        if report.error:
            self.message_user(request, f"Stopped before the end: {report.error}", messages.ERROR)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly, admin.ModelAdmin):
    """Every message of every mailing."""

    list_display = ("sent_at", "coloured_outcome", "subscriber", "reply", "attempts", "reused")
    list_display_links = ("subscriber",)
    list_filter = ("outcome", "reused", "sent_at")
    list_select_related = ("subscriber",)
    search_fields = ("subscriber__name", "subscriber__email", "reply")
    date_hierarchy = "sent_at"

    @admin.display(description="outcome", ordering="outcome")
    def coloured_outcome(self, delivery):
        """Show the outcome in colour."""
        return outcome_in_colour(delivery.outcome)


def outcome_in_colour(value):
    """Return the words for an outcome, green, red or amber."""
    outcome = Delivery.Outcome(value)
    return format_html('<b style="color: {}">{}</b>', COLOURS[outcome], outcome.label)
