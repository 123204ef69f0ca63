"""`manage.py smtp_pool services [QUERY]` and `manage.py smtp_pool verify`."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.management.base import BaseCommand, CommandError

from ...mailers import backend_of
from ...message.render import envelope_of
from ...registry import registry
from ...services import Service, search
from ...verify.verification import Report


class Command(BaseCommand):
    """Tools for the pooled SMTP backend."""

    help = "Tools for the pooled SMTP backend."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django spells it

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        tools = parser.add_subparsers(dest="tool", required=True)
        services = tools.add_parser("services", help="list the well-known providers, or search them")
        services.add_argument("query", nargs="*", help="words of a name, domain, host or description")
        verify = tools.add_parser("verify", help="try a mailer: connect, TLS, login, QUIT")
        verify.add_argument("--using", metavar="ALIAS", help="a mailer of MAILERS; the default one unless given")
        verify.add_argument("--to", metavar="ADDR", help="also send one test message, to this address")
        verify.add_argument("--json", action="store_true", dest="as_json", help="say it as JSON")

    def handle(self, *args: Any, tool: str, **options: Any) -> None:  # noqa: ARG002 - a signature of Django's
        """Run a subcommand."""
        if tool == "services":
            self._services(options["query"])
        else:
            self._verify(options["using"], options["to"], as_json=options["as_json"])

    def _services(self, query: list[str]) -> None:
        found = search(" ".join(query))
        if not found:
            raise CommandError(f"no provider is known by {' '.join(query)!r}: set host and port instead of service")
        width = max(len(service.name) for service in found)
        for service in found:
            self.stdout.write(f"{service.name:{width}}  {_described(service)}")

    def _verify(self, using: str | None, to: str | None, *, as_json: bool) -> None:
        try:
            backend = backend_of(using)
            finishers, prepare = backend.config.mailer.finishers, getattr(backend, "prep_address", None)
            envelope = envelope_of(_test_message(to), prepare, finishers) if to else None
        except (ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from None
        report = registry.verification(backend.config, envelope).run()
        if as_json:
            self.stdout.write(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))
        else:
            self._show(report)
        if not report.ok:
            raise CommandError(f"{report.server} does not work as configured")

    def _show(self, report: Report) -> None:
        for step in report.steps:
            style = self.style.SUCCESS if step.ok else self.style.ERROR
            self.stdout.write(style(f"{'ok' if step.ok else 'FAIL':4}  {step.name:13}  {step.detail}".rstrip()))
        if report.advice:
            self.stdout.write(f"      {'now':13}  {report.advice}")
        for name, text in _facts(report):
            self.stdout.write(f"      {name:13}  {text}")


def _test_message(to: str) -> EmailMessage:
    return EmailMessage(
        "A test of django-smtp-pool", "This is a test message, sent by manage.py smtp_pool verify.\n", to=[to]
    )


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = []
    if report.tls is not None:
        facts.append(("TLS", f"{report.tls.version}, {report.tls.cipher}"))
        facts.append(("certificate", _certificate(report)))
    if report.extensions:
        facts.append(("extensions", ", ".join(report.extensions)))
    facts.append(("limits", ", ".join(f"{key}={value}" for key, value in report.limits.items() if value is not None)))
    return facts


def _certificate(report: Report) -> str:
    if report.tls is None or not report.tls.expires:
        return "not checked (tls_options)"
    whose = report.tls.subject or ", ".join(report.tls.names)
    return f"{whose}; until {report.tls.expires}, in {report.days_left} days"


def _described(service: Service) -> str:
    tls = {"implicit": "TLS", "starttls": "STARTTLS", "none": "no TLS"}[service.tls]
    parts = [f"{service.host}:{service.port} {tls}", service.description]
    names = (*service.aliases, *service.domains)
    if names:
        parts.append(f"also {', '.join(names)}")
    parts += [f"{key}={value}" for key, value in service.options.items()]
    return "; ".join(parts)
