"""The newsletter itself: rendered for one subscriber, in the subscriber's language if there is a translation."""

from email.headerregistry import Address

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import select_template


def render(subscriber):
    """Return the newsletter as a message to one subscriber."""
    subject, text = render_text(subscriber)
    message = EmailMultiAlternatives(
        subject=subject,
        body=text,
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[str(Address(subscriber.name, addr_spec=subscriber.email))],
        headers={
            "List-Id": "The Allotment Letter <letter.example.com>",
            "List-Unsubscribe": "<mailto:letter@example.com?subject=unsubscribe>",
        },
    )
    message.attach_alternative(render_html(subscriber), "text/html")
    return message


def render_text(subscriber):
    """Return subject and text: the template's first line is the subject."""
    rendered = template(subscriber.language, "txt").render({"subscriber": subscriber})
    subject, text = rendered.split("\n", 1)
    return subject.strip(), text.lstrip("\n")


def render_html(subscriber):
    """Return the HTML version."""
    return template(subscriber.language, "html").render({"subscriber": subscriber})


def template(language, kind):
    """Return the template for a language such as "pt-BR": exact, without its region, or English."""
    languages = dict.fromkeys([language.lower(), language.lower().split("-")[0], "en"])
    return select_template([f"newsletter/letter.{code}.{kind}" for code in languages])
