"""The site's pages: home, the newsletter to read here, and the contact form."""

import logging
from smtplib import SMTPException

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.mail import send_mail
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from newsletter import letter as newsletter
from newsletter.forms import ContactForm
from newsletter.models import Subscriber
from newsletter.workbench import BEHAVIOURS, MESSAGES, bench

logger = logging.getLogger(__name__)


@require_safe
def home(request):
    """Show the home page."""
    return render(request, "newsletter/home.html", {"subscribers": Subscriber.objects.filter(active=True).count()})


@require_safe
def letter(request):
    """Show the newsletter as a subscriber gets it; `?language=de` selects another language."""
    reader = Subscriber(name="Reader", language=request.GET.get("language", "en"))
    return HttpResponse(newsletter.render_html(reader))


@require_http_methods(["GET", "HEAD", "POST"])
def contact(request):
    """Send a visitor's message to the editors; if that fails, keep it in the form and show the error."""
    form = ContactForm(request.POST or None)
    if not form.is_valid():
        return render(request, "newsletter/contact.html", {"form": form})
    try:
        send_to_editors(**form.cleaned_data)
    except (SMTPException, OSError) as error:
        logger.warning("The contact form's message could not be sent: %s", error)
        # The form keeps the text: the visitor decides whether to send it again.
        in_doubt = getattr(error, "in_doubt", False)
        return render(
            request,
            "newsletter/contact.html",
            {"form": form, "failed": True, "in_doubt": in_doubt},
            status=503,
        )
    return redirect("contact-thanks")


def send_to_editors(name, email, message):
    """Send a visitor's message through the pool, with plain `send_mail()`."""
    send_mail(
        subject=f"Contact form: {name}",
        message=f"{name} <{email}> writes:\n\n{message}\n",
        from_email=settings.DEFAULT_FROM_EMAIL,
        recipient_list=[settings.CONTACT_EMAIL],
    )


@require_safe
def contact_thanks(request):
    """Show that the message was sent."""
    return render(request, "newsletter/contact_thanks.html")


@staff_member_required
@require_http_methods(["GET", "HEAD", "POST"])
def workbench(request):
    """Start a mailing, and set the behaviour of the mail server."""
    if request.method == "POST":
        do_at_workbench(request)
        if request.POST.get("do") != "one":  # without a redirect, the toolbar shows the message of this request
            return redirect("workbench")
    behaviours = [(name, words) for name, (words, _) in BEHAVIOURS.items()]
    return render(
        request,
        "newsletter/workbench.html",
        {"bench": bench, "behaviours": behaviours, "total": MESSAGES, "port": settings.SMTP_PORT},
    )


def do_at_workbench(request):
    """Do the action of a button of the workbench."""
    match request.POST.get("do"):
        case "behave" if request.POST.get("behaviour") in BEHAVIOURS:
            try:
                bench.behave(request.POST["behaviour"])
            except OSError as error:
                text = f"Port {settings.SMTP_PORT} is not free: {error}. Stop the other mail server first."
                messages.error(request, text)
        case "stop":
            bench.stop()
        case "mailing" if not bench.start_mailing():
            messages.error(request, "A mailing is under way already.")
        case "one":
            try:
                send_to_editors("The workbench", settings.CONTACT_EMAIL, "One message, for the toolbar.")
            except (SMTPException, OSError) as error:
                messages.error(request, f"The message was not accepted: {error}")
            else:
                messages.success(request, "The message was accepted.")


@require_safe
def metrics(request):  # noqa: ARG001 - a view
    """Return the metrics of this process in the format of Prometheus."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
