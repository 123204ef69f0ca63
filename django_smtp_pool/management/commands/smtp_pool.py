"""`manage.py smtp_pool services [QUERY]`: the well-known providers."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...services import Service, search


class Command(BaseCommand):
    """Tools for the pooled SMTP backend."""

    help = "Tools for the pooled SMTP backend."
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django spells it

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        tools = parser.add_subparsers(dest="tool", required=True)
        services = tools.add_parser("services", help="list the well-known providers, or search them")
        services.add_argument("query", nargs="*", help="words of a name, domain, host or description")

    def handle(self, *args: Any, tool: str, **options: Any) -> None:  # noqa: ARG002 - a signature of Django's
        """Run a subcommand."""
        getattr(self, f"_{tool}")(**options)

    def _services(self, *, query: list[str], **options: Any) -> None:  # noqa: ARG002
        found = search(" ".join(query))
        if not found:
            raise CommandError(f"no provider is known by {' '.join(query)!r}: set host and port instead of service")
        width = max(len(service.name) for service in found)
        for service in found:
            self.stdout.write(f"{service.name:{width}}  {_described(service)}")


def _described(service: Service) -> str:
    tls = {"implicit": "TLS", "starttls": "STARTTLS", "none": "no TLS"}[service.tls]
    parts = [f"{service.host}:{service.port} {tls}", service.description]
    names = (*service.aliases, *service.domains)
    if names:
        parts.append(f"also {', '.join(names)}")
    parts += [f"{key}={value}" for key, value in service.options.items()]
    return "; ".join(parts)
