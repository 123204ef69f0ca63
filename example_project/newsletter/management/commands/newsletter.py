"""Send the newsletter to the people of a CSV file, and show what that took."""

import os
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from itertools import cycle, islice, product
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from newsletter import csv_import, letter, mailers, table
from newsletter.embedded_server import EmbeddedServer
from newsletter.sending import BATCH, EACH, Mailing, Outcome

SUBSCRIBERS = settings.BASE_DIR / "newsletter" / "data" / "subscribers.csv"
PROBLEMS_SHOWN = 20
INTERRUPTED = 130  # what a shell expects after Ctrl-C

EXPLANATION = """
The same messages went to a server of the same kind, whose mailbox was thrown away: in every way,
{rounds}. Each row is the median run.
"""

WAYS = {BATCH: "one send_messages()", EACH: "a send() each"}


class Command(BaseCommand):
    """Send the newsletter, by default to a mail server of the command's own."""

    help = (
        "Send the newsletter to the subscribers of a CSV file. Without --host, the mail goes to a server "
        "that the command starts itself on loopback, and stays in an mbox file."
    )
    # The command makes its database itself, so there may be none yet to be checked.
    requires_migrations_checks = False

    def add_arguments(self, parser):
        """Declare the options."""
        parser.add_argument("--csv", type=Path, default=SUBSCRIBERS, help="columns name, email, language")
        parser.add_argument("--count", type=int, help="messages to send; the list is cut, or gone through again")
        parser.add_argument("--way", choices=WAYS, default=BATCH, help="one send_messages(), or a send() for each")
        own = parser.add_argument_group("the command's own server")
        own.add_argument("--mbox", type=Path, default=settings.VAR_DIR / "newsletter.mbox", help="written anew")
        own.add_argument("--refuse", action="append", default=[], metavar="ADDRESS", help="recipient to refuse")
        own.add_argument("--delay", type=float, default=5, metavar="MS", help="milliseconds before each reply")
        own.add_argument("--rounds", type=int, default=3, help="runs of each way in the comparison; default: 3")
        own.add_argument("--no-comparison", action="store_true", help="send once; leave the other ways out")
        real = parser.add_argument_group("a real server")
        real.add_argument("--host", help="send there instead: real mail to real people")
        real.add_argument("--port", type=int, help="25, or 587 with --use-tls, or 465 with --use-ssl")
        real.add_argument("--username", help="log in; the password comes from the environment")
        real.add_argument("--password-env", default="EXAMPLE_SMTP_PASSWORD", metavar="VARIABLE")
        real.add_argument("--use-tls", action="store_true", help="STARTTLS")
        real.add_argument("--use-ssl", action="store_true", help="TLS from the first byte")

    def handle(self, **options):
        """Do it, and end quietly at Ctrl-C."""
        self.report = self.requested = None  # of the newsletter, as soon as there is one
        try:
            self.newsletter(options)
        except KeyboardInterrupt:
            raise CommandError(self.interrupted(), returncode=INTERRUPTED) from None
        except ImproperlyConfigured as error:  # such as a password in clear to a distant server
            raise CommandError(str(error)) from error

    def newsletter(self, options):
        """Send, compare, and report."""
        server = real_server(options) if options["host"] else None
        recipients = self.load_recipients(options, real=server is not None)
        own_server = {"refuse": options["refuse"], "delay_ms": options["delay"]}
        self.say(f"Sending the newsletter: {len(recipients)} messages ...")
        if server is None:
            mbox = fresh_file(options["mbox"])
            report, row = self.mail(recipients, options["way"], mbox=mbox, **own_server)
            self.stdout.write(f"The mail is in {options['mbox']}.")
            self.stdout.write(f"The server took {options['delay']:g} ms for each reply, as one in the same town does.")
        else:
            report, row = self.mail(recipients, options["way"], server=server)
        self.say(f"Sent in {row.seconds:.2f} s.")
        rows = [row]
        if server is None and not options["no_comparison"] and report.error is None:
            rows = self.compare(recipients, options["way"], options["rounds"], **own_server)
        self.show(rows, options["rounds"])
        self.conclude(report, len(recipients))

    def load_recipients(self, options, *, real):
        """Make the database where there is none, import the CSV file, and return whom to write to."""
        call_command("migrate", verbosity=0, interactive=False)
        try:
            people = csv_import.load(options["csv"])
        except (OSError, csv_import.BadFileError) as error:
            raise CommandError(str(error)) from error
        count = len(people) if options["count"] is None else options["count"]
        if options["rounds"] < 1:
            raise CommandError("--rounds must be at least 1.")
        if not people or count < 1:
            raise CommandError("There is nobody to write to.")
        if real and count > len(people):
            raise CommandError(f"{count} messages for {len(people)} people: with --host nobody gets it twice.")
        return list(islice(cycle(people), count))

    def mail(self, recipients, way, *, alias=mailers.DEFAULT, server=None, mbox=None, record=True, **own_server):
        """Send to everybody in one way; return the report and the row of the table."""
        with EmbeddedServer(mbox, **own_server) if server is None else nullcontext() as embedded:
            server = server or {"host": "127.0.0.1", "port": embedded.port}
            with mailers.mail_server(**server), progress(label(alias, way), len(recipients)) as bar:
                warm_up(alias, recipients[0])
                mailing = Mailing(recipients, way=way, alias=alias, record=record, on_next=bar.update)
                if record:
                    self.report, self.requested = mailing.report, len(recipients)
                started = time.perf_counter()
                try:
                    mailing.run()
                finally:
                    pool_count = close_pool() if alias == mailers.DEFAULT else None
                seconds = time.perf_counter() - started
        return mailing.report, table.Row(
            label=label(alias, way),
            messages=mailing.report.accepted,
            seconds=seconds,
            server_count=embedded.received.connections if embedded else None,
            pool_count=pool_count,
        )

    def compare(self, recipients, way, rounds, **own_server):
        """Do the same work in each way, in turn, into a mailbox that is thrown away; return the medians' rows."""
        ways = [way, *(other for other in WAYS if other != way)]
        candidates = [(alias, each) for alias in (mailers.DEFAULT, mailers.STOCK) for each in ways]
        self.say(f"\nComparing: {times(rounds)} each. Django's backend takes its time.")
        runs = {candidate: [] for candidate in candidates}
        with tempfile.TemporaryDirectory() as directory:
            mbox = Path(directory) / "mbox"
            for number, (alias, each) in product(range(1, rounds + 1), candidates):
                row = self.mail(recipients, each, alias=alias, mbox=mbox, record=False, **own_server)[1]
                self.say(f"  {number}/{rounds}  {row.label}: {row.seconds:.2f} s")
                runs[alias, each].append(row)
        return [table.median(rows) for rows in runs.values()]

    def say(self, text):
        """Print a line now, also into a pipe."""
        self.stdout.write(text)
        self.stdout.flush()

    def show(self, rows, rounds):
        """Print the table, and how like compares with like."""
        self.stdout.write(f"\n{table.render(rows)}\n")
        if len(rows) > 1:
            self.stdout.write(EXPLANATION.format(rounds=times(rounds)))
        by_label = {row.label: row for row in rows}
        for way in (EACH, BATCH):
            pooled, stock = (by_label.get(label(alias, way)) for alias in (mailers.DEFAULT, mailers.STOCK))
            if pooled and stock and (sentence := table.ratio(pooled, stock)):
                self.stdout.write(sentence)
        self.stdout.write("")

    def conclude(self, report, requested):
        """Say what became of the messages; anything but acceptance is an error."""
        for delivery in report.problems[:PROBLEMS_SHOWN]:
            self.stdout.write(f"{delivery.get_outcome_display()}: {delivery.subscriber}: {delivery.reply}")
        if (more := len(report.problems) - PROBLEMS_SHOWN) > 0:
            self.stdout.write(f"... and {more} more: they are in the admin, under deliveries.")
        if report.error:
            self.stdout.write(f"Stopped before the end: {type(report.error).__name__}: {report.error}")
        summary = f"{report.accepted} of {requested} messages were accepted"
        if report.accepted < requested:
            raise CommandError(f"{summary}.")
        self.stdout.write(self.style.SUCCESS(f"{summary}."))

    def interrupted(self):
        """Say what had become of the newsletter at Ctrl-C."""
        if self.report is None:
            return "Interrupted before anything was sent."
        said = f"Interrupted: {self.report.accepted} of {self.requested} messages were accepted"
        if self.report.attempted == self.requested:
            return f"{said}; the newsletter was through."
        doubt = sum(delivery.outcome == Outcome.UNKNOWN for delivery in self.report.problems)
        return f"{said}, {doubt} may have been or not; the others were refused, or not sent at all."


def real_server(options):
    """Return the mailer's options for --host and its friends."""
    if options["use_tls"] and options["use_ssl"]:
        raise CommandError("--use-tls and --use-ssl exclude each other.")
    server = {name: options[name] for name in ("host", "username", "use_tls", "use_ssl")}
    server["port"] = options["port"] or (465 if options["use_ssl"] else 587 if options["use_tls"] else 25)
    if options["username"]:
        # Not an option of the command line: that would show in the list of processes.
        server["password"] = os.environ.get(options["password_env"])
        if not server["password"]:
            raise CommandError(f"The environment has no {options['password_env']} for the user's password.")
    return server


def times(rounds):
    """Say how often."""
    return "once" if rounds == 1 else f"{rounds} times"


def label(alias, way):
    """Name a row."""
    if alias == mailers.STOCK:
        mailer = "stock Django"
    else:
        mailer = "django-smtp-pool" if mailers.is_pooled() else settings.SITE_BACKEND
    return f"{mailer}, {WAYS[way]}"


def fresh_file(path):
    """Return the absolute path of a file that does not exist, in a directory that does."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


@contextmanager
def progress(description, total):
    """Show a bar on a terminal; elsewhere, nothing (disable=None asks the stream)."""
    with tqdm(desc=description, total=total, unit=" messages", file=sys.stderr, disable=None) as bar:
        yield bar


def warm_up(alias, subscriber):
    """Import and compile what the first message would, without a connection: the clock is for mail only."""
    mailers.connection(alias)
    letter.render(subscriber).message().as_bytes()


def close_pool():
    """Close the default mailer's pool, as the stock backend closes its connections; tell how many."""
    pool = mailers.pool()
    if pool is None:
        return None
    opened = pool.stats().connections_opened
    pool.close()
    return opened
