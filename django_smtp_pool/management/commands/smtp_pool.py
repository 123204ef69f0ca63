"""`manage.py smtp_pool`: `verify`, `send`, `services` and `stats`."""

from __future__ import annotations

import argparse
import json
import os
from argparse import ArgumentParser
from dataclasses import asdict, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from ...backend import PooledBackend
from ...mailers import aliases, backend_of
from ...message.render import envelope_of
from ...registry import registry
from ...services import search
from ...status import status_of
from ...verify.verification import Report, patient
from .. import report as words
from .. import trial_message

EXAMPLES = """examples:
  manage.py smtp_pool verify                          connect, TLS, login; sends nothing
  manage.py smtp_pool verify --to me@example.com      ... and send a test message
  manage.py smtp_pool send me@example.com --attach report.pdf --dsn failure
  manage.py smtp_pool services ses europe             find a provider's preset
  manage.py smtp_pool stats --json                    statistics of the pool in this process
"""
OF_THIS_PROCESS = (
    "These are the statistics of this command's own process ({pid}). Every process has its own pool: to see the "
    "statistics of your web server or workers, call get_pool().stats() in them."
)


class _Formatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples."""


class Command(BaseCommand):
    """Tools for the pooled SMTP backend."""

    help = "Test a mailer, send a test message, find a provider's preset, or show the pool's statistics."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's spelling

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return Django's parser, with the examples after the options."""
        return super().create_parser(prog_name, subcommand, formatter_class=_Formatter, epilog=EXAMPLES, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the subcommands."""
        self._parser = parser
        tools = parser.add_subparsers(dest="tool", title="subcommands")
        verify = tools.add_parser("verify", help="test a mailer: connect, TLS, login, QUIT")
        verify.add_argument("--to", metavar="ADDR", help="also send one test message, to this address")
        verify.add_argument(
            "--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="maximum wait for the server; default: 5"
        )
        send = tools.add_parser("send", help="send a test message")
        trial_message.add_arguments(send)
        services = tools.add_parser("services", help="list the well-known providers, or search them")
        services.add_argument("query", nargs="*", help="words of a name, domain, host or description")
        stats = tools.add_parser("stats", help="show the statistics of the pool in this process")
        for tool in (verify, send, stats):
            tool.add_argument(
                "--using", metavar="ALIAS", help="alias of a mailer in MAILERS; default: the default mailer"
            )
        for tool in (verify, send, services, stats):
            tool.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def handle(self, *args: Any, tool: str | None = None, **options: Any) -> None:  # noqa: ARG002 - Django's
        """Run a subcommand; without one, print the help."""
        if tool is None:
            self.stdout.write(self._parser.format_help())
            return
        getattr(self, f"_{tool}")(options)

    def _verify(self, options: dict[str, Any]) -> None:
        backend = _backend(options["using"])
        finishers, prepare = backend.config.mailer.finishers, getattr(backend, "prep_address", None)
        try:
            message = trial_message.short(options["to"]) if options["to"] else None
            envelope = envelope_of(message, prepare, finishers) if message else None
        except ValueError as error:
            raise CommandError(str(error)) from None
        config = replace(backend.config, server=patient(backend.config.server, options["timeout"]))
        report = registry.verification(config, envelope).run()
        if options["as_json"]:
            self._json({"ok": report.ok, **asdict(report)})
        else:
            self._show(report)
        if not report.ok:
            raise CommandError(f"{report.server} does not work as configured")

    def _show(self, report: Report) -> None:
        for step in report.steps:
            style = self.style.SUCCESS if step.ok else self.style.ERROR
            self.stdout.write(style(f"{'ok' if step.ok else 'FAIL':4}  {step.name:13}  {step.detail}".rstrip()))
        if report.advice:
            self.stdout.write(f"      {'fix':13}  {report.advice}")
        for name, text in words.facts(report):
            self.stdout.write(f"      {name:13}  {text}")

    def _send(self, options: dict[str, Any]) -> None:
        backend = _backend(options["using"])
        try:
            message = trial_message.described(options)
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from None
        problem: Exception | None = None
        try:
            backend.send_messages([message])
        except Exception as error:  # noqa: BLE001 - shown below
            problem = error
        status = status_of(message)
        if status is None:
            raise CommandError(str(problem)) from None
        if options["as_json"]:
            self._json({"ok": problem is None, **words.outcome(status)})
        else:
            for line in words.outcome_lines(status):
                self.stdout.write(line)
        if problem is not None:
            raise CommandError(f"{status.outcome}: {problem}") from None

    def _services(self, options: dict[str, Any]) -> None:
        query = " ".join(options["query"])
        found = search(query)
        if not found:
            raise CommandError(f"no provider matches {query!r}: set host and port instead of service")
        if options["as_json"]:
            self._json([asdict(service) for service in found])
            return
        width = max(len(service.name) for service in found)
        for service in found:
            self.stdout.write(f"{service.name:{width}}  {words.provider(service)}")

    def _stats(self, options: dict[str, Any]) -> None:
        backend = _backend(options["using"])
        figures = words.figures(backend.pool.stats())
        if options["as_json"]:
            self._json({"server": backend.config.server.place, "process": os.getpid(), **figures})
            return
        self.stdout.write(f"{backend.config.server.place}")
        for name, value in figures.items():
            shown = ", ".join(f"{key}: {each}" for key, each in value.items()) if isinstance(value, dict) else value
            self.stdout.write(f"  {name:21}  {'-' if shown == '' else shown}")
        self.stdout.write(OF_THIS_PROCESS.format(pid=os.getpid()))

    def _json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


def _backend(using: str | None) -> PooledBackend:
    try:
        return backend_of(using)
    except (ImproperlyConfigured, ValueError) as error:
        if isinstance(error, KeyError):  # Django's MailerDoesNotExist, whose text is in quotes
            known = ", ".join(aliases()) or "none"
            raise CommandError(f"there is no mailer {using}; MAILERS has: {known}") from None
        raise CommandError(str(error)) from None
