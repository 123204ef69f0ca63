"""Messages as they are sent: those that went wrong somewhere once, and many that chance puts together.

Each is a function that makes the message, since rendering one may change it.
"""

import random
from email import message_from_bytes, message_from_string, policy
from email.message import EmailMessage as Modern
from functools import partial

from django.core.mail import EmailMessage, EmailMultiAlternatives

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
CALENDAR = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nSUMMARY:Grüße\r\nEND:VCALENDAR\r\n"
FORWARDED = b"From: a@example.com\nTo: b@example.com\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nOld\n.\nmail\n"
BOUNCE = (
    b'From: daemon@example.com\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary="bb"\n\n'
    b"--bb\nContent-Type: text/plain\n\nNo.\n--bb\nContent-Type: message/delivery-status\n\n"
    b"Reporting-MTA: dns; example.com\n\nFinal-Recipient: rfc822; x@example.com\nAction: failed\n\n"
    b"--bb\nContent-Type: message/rfc822\n\nSubject: inner\n: nameless\n\nBody\n--bb--\n"
)


def mail(**fields):
    """Return a message with sender and recipient unless told otherwise."""
    values = {"subject": "Subject", "body": "Body\n", "from_email": "from@example.com", "to": ["to@example.com"]}
    return EmailMessage(**{**values, **fields})


def html(*alternatives, attachments=(), **fields):
    """Return a message with alternatives: (content, type) pairs."""
    values = {"subject": "Subject", "body": "Body\n", "from_email": "from@example.com", "to": ["to@example.com"]}
    made = EmailMultiAlternatives(**{**values, **fields})
    for content, kind in alternatives:
        made.attach_alternative(content, kind)
    for attachment in attachments:
        made.attach(*attachment)
    return made


def with_encoding(encoding, **fields):
    """Return a message in another charset."""
    made = mail(**fields)
    made.encoding = encoding
    return made


def with_subtype(subtype, **fields):
    """Return a message that is not text/plain."""
    made = mail(**fields)
    made.content_subtype = subtype
    return made


def with_inline_image():
    """Return HTML with an image that it shows by Content-ID, as every newsletter does."""
    image = Modern(policy=policy.SMTP)
    image.set_content(PNG, maintype="image", subtype="png", disposition="inline", filename="logo.png", cid="<logo>")
    return html(('<img src="cid:logo">', "text/html"), attachments=[(legacy_part(image),)])


def legacy_part(part):
    """Return a MIME part as this version of Django takes it."""
    import django

    if django.VERSION >= (6, 0):
        return part
    from email.mime.base import MIMEBase

    old = MIMEBase(part.get_content_maintype(), part.get_content_subtype())
    for name in ("Content-Disposition", "Content-ID", "Content-Transfer-Encoding"):
        if part[name]:
            old[name] = str(part[name])
    old.set_payload(part.get_payload())
    return old


def forwarding_bytes(octets):
    """Return a message with another one attached, given as octets."""
    return html(attachments=[("old.eml", octets, "message/rfc822")])


COLLECTED = {
    "plain": mail,
    "empty body": partial(mail, body=""),
    "empty subject": partial(mail, subject=""),
    "no final line end": partial(mail, body="Body"),
    "final blank lines": partial(mail, body="Body\n\n\n"),
    "blank": partial(mail, body="\n"),
    "dots": partial(mail, body=".\n..\n.hidden\nend\n."),
    "smuggled end": partial(mail, body="a\n.\nMAIL FROM:<x@example.com>\n"),
    "smuggled end, CRLF": partial(mail, body="a\r\n.\r\nMAIL FROM:<x@example.com>\r\n"),
    "smuggled end, LF and CR": partial(mail, body="a\r\n.\rQUIT\r\nb\n.\r\nc\r.\r\n"),
    "line ends of every kind": partial(mail, body="a\r\nb\nc\rd\n\re\r\r\nf\x0bg\x0ch\x85i\u2028j"),
    "From at the line start": partial(mail, body="From here\n>From there\nFrom\n"),
    "trailing blanks": partial(mail, body="a \nb\t\n \n\t\n-- \nsignature\n"),
    "control characters": partial(mail, body="bell \x07 escape \x1b[0m delete \x7f\n"),
    "soft hyphens and joiners": partial(mail, body="a\xadb \u200d \u202e \ufeff\n"),
    "German": partial(mail, subject="Grüße aus Köln", body="Straße, Äpfel, Öl\n"),
    "Japanese": partial(mail, subject="日本語の件名" * 8, body="日本語の本文\n" * 5),
    "Arabic": partial(mail, subject="مرحبا بالعالم", body="السلام عليكم\n"),
    "Hebrew": partial(mail, subject="שלום", body="שלום עולם\n"),
    "Thai": partial(mail, subject="สวัสดี" * 20, body="สวัสดีชาวโลก" * 200),
    "emoji": partial(mail, subject="🎉 Done 👩‍👩‍👧‍👦", body="🎉" * 300 + "\n"),
    "long subject": partial(mail, subject="word " * 300),
    "long word in the subject": partial(mail, subject="x" * 500),
    "subject like an encoded word": partial(mail, subject="=?utf-8?q?not=20one?= =?x?"),
    "subject with tabs": partial(mail, subject="a\tb"),
    "long lines": partial(mail, body="x" * 5000 + "\n"),
    "long lines, not ASCII": partial(mail, body="ü" * 5000 + "\n"),
    "line of 998": partial(mail, body="x" * 998 + "\n"),
    "line of 999": partial(mail, body="x" * 999 + "\n"),
    "HTML as the body": partial(with_subtype, "html", body="<p>Grüße</p>\n"),
    "long lines of HTML": partial(with_subtype, "html", body="<td>x</td>" * 400),
    "Latin-1": partial(with_encoding, "iso-8859-1", subject="Grüße", body="Äpfel\n"),
    "Latin-1, long lines": partial(with_encoding, "iso-8859-1", body="Äpfel" * 500),
    "Latin-1 cannot say it": partial(with_encoding, "iso-8859-1", body="日本\n"),
    "KOI8-R": partial(with_encoding, "koi8-r", subject="Привет", body="Привет, мир\n"),
    "ISO-2022-JP": partial(with_encoding, "iso-2022-jp", subject="日本", body="日本語\n"),
    "Shift-JIS": partial(with_encoding, "shift_jis", body="日本語\n"),
    "ASCII": partial(with_encoding, "us-ascii", body="ASCII\n"),
    "unknown charset": partial(with_encoding, "x-none", body="x\n"),
    "lone surrogate in the body": partial(mail, body="\udc80\n"),
    "lone surrogate in the subject": partial(mail, subject="\udc80\n"),
    "name and address": partial(mail, from_email="Ann <ann@example.com>", to=["Bob <bob@example.com>"]),
    "name with a comma": partial(mail, from_email='"Doe, Ann" <ann@example.com>', to=['"B, ob" <b@example.com>']),
    "name that is not ASCII": partial(mail, from_email="Änne <ann@example.com>", to=["日本 <b@example.com>"]),
    "long name": partial(mail, to=[f"{'Name ' * 60}<b@example.com>"]),
    "IDNA": partial(mail, from_email="a@bücher.example", to=["b@例え.example", "c@xn--bcher-kva.example"]),
    "local mailbox": partial(mail, from_email="webmaster", to=["root"]),
    "quoted local part": partial(mail, to=['"a b"@example.com', '"a@b"@example.com', '"a\\"b"@example.com']),
    "comment": partial(mail, to=["bob@example.com (Bob)", "(B)bob@example.com"]),
    "address literal": partial(mail, to=["a@[192.0.2.1]", "a@[IPv6:2001:db8::1]"]),
    "plus and dots": partial(mail, to=["a+b.c_d@sub.example.com", "O'Hara@example.com"]),
    "dots in a row": partial(mail, to=["a..b@example.com"]),
    "same recipient twice": partial(mail, to=["a@example.com", "a@example.com"], cc=["a@example.com"]),
    "cc, bcc, reply-to": partial(
        mail, cc=["c@example.com"], bcc=["d@example.com"], reply_to=["e@example.com", "f@example.com"]
    ),
    "only bcc": partial(mail, to=[], bcc=["d@example.com"]),
    "many recipients": partial(mail, to=[f"user{number}@example.com" for number in range(150)]),
    "two addresses in one": partial(mail, to=["a@example.com, b@example.com"]),
    "no address": partial(mail, to=["@"]),
    "blank address": partial(mail, to=[" "]),
    "address with a line end": partial(mail, to=["a@example.com\nBcc: b@example.com"]),
    "From in the headers": partial(mail, headers={"From": "Other <other@example.com>"}),
    "To in the headers": partial(mail, headers={"To": "list:;"}),
    "Reply-To in the headers": partial(mail, headers={"Reply-To": "r@example.com"}),
    "Date and Message-ID": partial(
        mail, headers={"date": "Fri, 09 Nov 2001 01:08:47 -0000", "MESSAGE-ID": "<own@example.com>"}
    ),
    "list headers": partial(
        mail,
        headers={
            "List-Unsubscribe": "<https://example.com/unsubscribe/" + "x" * 200 + ">, <mailto:u@example.com>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "List-ID": "News <news.example.com>",
            "Precedence": "bulk",
        },
    ),
    "references": partial(mail, headers={"References": " ".join(f"<{n}@example.com>" for n in range(40))}),
    "header that is not ASCII": partial(mail, headers={"X-Name": "Grüße", "Organization": "日本" * 40}),
    "header that is a number": partial(mail, headers={"X-Priority": 1}),
    "empty header": partial(mail, headers={"X-Empty": ""}),
    "JSON header": partial(mail, headers={"X-SMTPAPI": '{"category": ["a", "b"], "unique_args": {"id": "1"}}' * 8}),
    "header with a line end": partial(mail, headers={"X-A": "a\nBcc: b@example.com"}),
    "subject with a line end": partial(mail, subject="a\nBcc: b@example.com"),
    "subject with a CR": partial(mail, subject="a\rb"),
    "sender header": partial(mail, headers={"Sender": "robot@example.com"}),
    "alternative": partial(html, ("<p>Grüße</p>", "text/html")),
    "alternatives": partial(html, ("<p>x</p>", "text/html"), (CALENDAR, "text/calendar; method=REQUEST")),
    "alternative, empty body": partial(html, ("<p>x</p>", "text/html"), body=""),
    "alternative that is no text": partial(html, (PNG, "image/png")),
    "alternative and attachment": partial(html, ("<b>x</b>", "text/html"), attachments=[("a.pdf", b"%PDF\n", None)]),
    "lone attachment": partial(html, body="", attachments=[("a.png", PNG, "image/png")]),
    "attachment": partial(html, attachments=[("a.bin", bytes(range(256)) * 4, None)]),
    "empty attachment": partial(html, attachments=[("a.bin", b"", None)]),
    "attachments": partial(html, attachments=[(f"{n}.bin", bytes([n]) * 100, None) for n in range(8)]),
    "attachment of text": partial(html, attachments=[("a.txt", "Grüße\r\nund\nmehr\r.\n", "text/plain")]),
    "attachment of long lines": partial(html, attachments=[("a.csv", "1;2;3;" * 500, "text/csv")]),
    "attachment of text in bytes": partial(html, attachments=[("a.txt", "Grüße".encode(), "text/plain")]),
    "attachment of text that is none": partial(html, attachments=[("a.txt", b"\xff\xfe", "text/plain")]),
    "attachment with a NUL": partial(html, attachments=[("a.bin", b"\0" * 100, None)]),
    "file name that is not ASCII": partial(html, attachments=[("Grüße 日本.pdf", b"%PDF", None)]),
    "long file name": partial(html, attachments=[("x" * 200 + ".pdf", b"%PDF", None)]),
    "file name with quotes": partial(html, attachments=[('a"b\\c.pdf', b"%PDF", None)]),
    "no file name": partial(html, attachments=[(None, b"x", "application/octet-stream")]),
    "inline image": with_inline_image,
    "calendar": partial(html, attachments=[("invite.ics", CALENDAR, "text/calendar")]),
    "forwarded octets": partial(forwarding_bytes, FORWARDED),
    "forwarded text": partial(forwarding_bytes, FORWARDED.decode()),
    "forwarded bounce": partial(forwarding_bytes, BOUNCE),
    "forwarded parsed": lambda: forwarding_bytes(message_from_bytes(FORWARDED)),
    "forwarded parsed from text": lambda: forwarding_bytes(message_from_string(FORWARDED.decode())),
    "forwarded of our own": lambda: forwarding_bytes(mail(subject="Grüße", headers={"Message-ID": "<i@example.com>"})),
    "forwarded with attachment": lambda: forwarding_bytes(
        html(("<p>Grüße</p>", "text/html"), attachments=[("a.png", PNG, None)])
    ),
    "forwarded empty": partial(forwarding_bytes, b""),
    "forwarded nonsense": partial(forwarding_bytes, b"no header at all\n.\n"),
    "large": partial(html, attachments=[("a.bin", bytes(range(256)) * 4000, None)]),
}

SCRIPTS = (
    "abcdefghijklmnopqrstuvwxyz     ",
    "ABC 123 .,;:!?()<>[]@\\\"'=_%&+-*/#~^`{}|$",
    "äöüßéèêçñøåæœ ÄÖÜ",
    "абвгдежзийклмно ",
    "αβγδεζηθικλμν ",
    "日本語中文한국어 ",
    "ابتثجحخ אבגדה ",
    "🎉👍🏽🇪🇺✓—…„“ ",
)
LINE_ENDS = ("\n", "\r\n", "\r", "\n\n", "\n.\n", "\n..", " \n", "\nFrom ")


class Chance:
    """Puts messages together, the same ones for the same seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def text(self, longest):
        """Return a line in some language."""
        draw = self._random
        scripts = draw.sample(SCRIPTS, draw.choice((1, 1, 1, 2, 3)))
        alphabet = "".join(scripts)
        return "".join(draw.choice(alphabet) for _ in range(draw.randrange(longest)))

    def body(self):
        """Return some lines, ended in some way."""
        draw = self._random
        longest = draw.choice((10, 60, 90, 400, 1500))
        return "".join(self.text(longest) + draw.choice(LINE_ENDS) for _ in range(draw.randrange(8)))

    def address(self):
        """Return an address, perhaps with a name."""
        draw = self._random
        local = "".join(draw.choice("abcdefg0123456789") for _ in range(draw.randrange(1, 12)))
        domain = draw.choice(("example.com", "mail.example.org", "bücher.example", "例え.example"))
        name = "".join(draw.choice("Ann Ödön 日本 O'Hara") for _ in range(draw.randrange(12))).strip()
        return f"{name} <{local}@{domain}>" if name and draw.random() < 0.5 else f"{local}@{domain}"

    def attachment(self):
        """Return an attachment's name, content and type."""
        draw = self._random
        name = draw.choice(("a.bin", "report.pdf", "Grüße.txt", "data.csv", "photo.jpg", "page.html", None))
        content = draw.choice((draw.randbytes(draw.randrange(3000)), self.body()))
        kind = draw.choice((None, "text/plain", "application/octet-stream", "image/png", "text/calendar"))
        return name, content, kind or ("application/octet-stream" if name is None else None)

    def fields(self):
        """Return what every message has."""
        draw = self._random
        fields = {"subject": self.text(draw.choice((10, 60, 300))), "body": self.body(), "from_email": self.address()}
        fields["to"] = [self.address() for _ in range(draw.randrange(1, 4))]
        for name in ("cc", "bcc", "reply_to"):
            if draw.random() < 0.3:
                fields[name] = [self.address() for _ in range(draw.randrange(1, 3))]
        if draw.random() < 0.3:
            fields["headers"] = {f"X-{draw.choice('ABC')}-{n}": self.text(200) for n in range(draw.randrange(3))}
        return fields

    def message(self):
        """Return one message."""
        draw = self._random
        alternatives = [(self.body(), "text/html")] if draw.random() < 0.4 else []
        attachments = [self.attachment() for _ in range(draw.choice((0, 0, 1, 3)))]
        made = html(*alternatives, attachments=attachments, **self.fields())
        if draw.random() < 0.2:
            made.encoding = draw.choice(("iso-8859-1", "us-ascii", "koi8-r", "utf-16", "utf-8"))
        return made


def generated(number):
    """Return functions for `number` messages of chance, by name."""
    return {f"chance {seed}": partial(_of_chance, seed) for seed in range(number)}


def _of_chance(seed):
    return Chance(seed).message()
