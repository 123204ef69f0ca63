"""Send the newsletter to the people in a CSV file, and compare the time with Django's backend."""

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
The same messages were sent to a server of the same kind, which discarded them: in each way,
{rounds}. Each row is the median run.
"""

WAYS = {BATCH: "one send_messages()", EACH: "a send() each"}


class Command(BaseCommand):
    """Send the newsletter, by default to a mail server that the command starts."""

    help = (
        "Send the newsletter to the subscribers of a CSV file. Without --host, the mail goes to a server "
        "that the command starts on the loopback interface, and is kept in an mbox file."
    )
    # The command creates its database itself, so there may be none to check yet.
    requires_migrations_checks = False

    def add_arguments(self, parser):
        """Add the options."""
        parser.add_argument("--csv", type=Path, default=SUBSCRIBERS, help="columns name, email, language")
        parser.add_argument("--count", type=int, help="number of messages; the list is cut or repeated")
        parser.add_argument("--way", choices=WAYS, default=BATCH, help="one send_messages(), or a send() for each")
        own = parser.add_argument_group("the command's own server")
        own.add_argument(
            "--mbox", type=Path, default=settings.VAR_DIR / "newsletter.mbox", help="the file is overwritten"
        )
        own.add_argument("--refuse", action="append", default=[], metavar="ADDRESS", help="recipient to refuse")
        own.add_argument("--delay", type=float, default=5, metavar="MS", help="milliseconds before each reply")
        own.add_argument("--rounds", type=int, default=3, help="runs of each way in the comparison; default: 3")
        own.add_argument("--no-comparison", action="store_true", help="send once; leave the other ways out")
        real = parser.add_argument_group("a real server")
        real.add_argument("--host", help="send to this server: real mail to real people")
        real.add_argument("--port", type=int, help="25, or 587 with --use-tls, or 465 with --use-ssl")
        real.add_argument("--username", help="log in; the password comes from the environment")
        real.add_argument("--password-env", default="EXAMPLE_SMTP_PASSWORD", metavar="VARIABLE")
        real.add_argument("--use-tls", action="store_true", help="STARTTLS")
        real.add_argument("--use-ssl", action="store_true", help="TLS from the first byte")

    def handle(self, **options):
        """Run the command; end without a traceback on Ctrl-C."""
        self.report = self.requested = None  # of the newsletter, once there is one
        try:
            self.newsletter(options)
        except KeyboardInterrupt:
            raise CommandError(self.interrupted(), returncode=INTERRUPTED) from None
        except ImproperlyConfigured as error:  # for example a password without TLS to another machine
            raise CommandError(str(error)) from error

    def newsletter(self, options):
        """Send, compare, and print the report."""
        server = real_server(options) if options["host"] else None
        recipients = self.load_recipients(options, real=server is not None)
        own_server = {"refuse": options["refuse"], "delay_ms": options["delay"]}
        self.say(f"Sending the newsletter: {len(recipients)} messages ...")
        if server is None:
            mbox = fresh_file(options["mbox"])
            report, row = self.mail(recipients, options["way"], mbox=mbox, **own_server)
            self.stdout.write(f"The mail is in {options['mbox']}.")
            self.stdout.write(f"The server took {options['delay']:g} ms for each reply, like one in the same city.")
        else:
            report, row = self.mail(recipients, options["way"], server=server)
        self.say(f"Sent in {row.seconds:.2f} s.")
        rows = [row]
        if server is None and not options["no_comparison"] and report.error is None:
            rows = self.compare(recipients, options["way"], options["rounds"], **own_server)
        self.show(rows, options["rounds"])
        self.conclude(report, len(recipients))

    def load_recipients(self, options, *, real):
        """Create the database if there is none, import the CSV file, and return the recipients."""
        call_command("migrate", verbosity=0, interactive=False)
        try:
            people = csv_import.load(options["csv"])
        except (OSError, csv_import.BadFileError) as error:
            raise CommandError(str(error)) from error
        count = len(people) if options["count"] is None else options["count"]
        if options["rounds"] < 1:
            raise CommandError("--rounds must be at least 1.")
        if not people or count < 1:
            raise CommandError("There are no active subscribers.")
        if real and count > len(people):
            raise CommandError(f"{count} messages for {len(people)} people: with --host, each gets only one.")
        return list(islice(cycle(people), count))

    def mail(self, recipients, way, *, alias=mailers.DEFAULT, server=None, mbox=None, record=True, **own_server):
        """Send to all in one way; return the report and the row of the table."""
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
        """Send the same mail in each way, in turn, to a server that discards it; return the rows of the medians."""
        ways = [way, *(other for other in WAYS if other != way)]
        candidates = [(alias, each) for alias in (mailers.DEFAULT, mailers.STOCK) for each in ways]
        self.say(f"\nComparing: {times(rounds)} each. Django's backend is slower, so this takes a while.")
        runs = {candidate: [] for candidate in candidates}
        with tempfile.TemporaryDirectory() as directory:
            mbox = Path(directory) / "mbox"
            for number, (alias, each) in product(range(1, rounds + 1), candidates):
                row = self.mail(recipients, each, alias=alias, mbox=mbox, record=False, **own_server)[1]
                self.say(f"  {number}/{rounds}  {row.label}: {row.seconds:.2f} s")
                runs[alias, each].append(row)
        return [table.median(rows) for rows in runs.values()]

    def say(self, text):
        """Print a line immediately, even to a pipe."""
        self.stdout.write(text)
        self.stdout.flush()

    def show(self, rows, rounds):
        """Print the table, and a sentence that compares the rows."""
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
        """Print the outcomes of the messages; raise an error unless all were accepted."""
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
        """Return a text about the state of the newsletter after Ctrl-C."""
        if self.report is None:
            return "Interrupted before anything was sent."
        said = f"Interrupted: {self.report.accepted} of {self.requested} messages were accepted"
        if self.report.attempted == self.requested:
            return f"{said}; every message was tried."
        doubt = sum(delivery.outcome == Outcome.UNKNOWN for delivery in self.report.problems)
        return f"{said}, for {doubt} the outcome is unknown; the others were refused or not sent."


def real_server(options):
    """Return the mailer's options from --host and the related options."""
    if options["use_tls"] and options["use_ssl"]:
        raise CommandError("--use-tls and --use-ssl exclude each other.")
    server = {name: options[name] for name in ("host", "username", "use_tls", "use_ssl")}
    server["port"] = options["port"] or (465 if options["use_ssl"] else 587 if options["use_tls"] else 25)
    if options["username"]:
        # Not a command-line option: that would be visible in the list of processes.
        server["password"] = os.environ.get(options["password_env"])
        if not server["password"]:
            raise CommandError(f"The environment has no {options['password_env']} for the user's password.")
    return server


def times(rounds):
    """Return a number of times in words."""
    return "once" if rounds == 1 else f"{rounds} times"


def label(alias, way):
    """Return the label of a row."""
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
    """Show a progress bar on a terminal only (disable=None asks the stream)."""
    with tqdm(desc=description, total=total, unit=" messages", file=sys.stderr, disable=None) as bar:
        yield bar


def warm_up(alias, subscriber):
    """Import and compile what the first message needs, without a connection, so that only mail is timed."""
    mailers.connection(alias)
    letter.render(subscriber).message().as_bytes()


def close_pool():
    """Close the default mailer's pool, as Django's backend closes its connections; return their number."""
    pool = mailers.pool()
    if pool is None:
        return None
    opened = pool.stats().connections_opened
    pool.close()
    return opened
