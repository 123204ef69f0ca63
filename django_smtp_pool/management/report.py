"""Texts that `manage.py smtp_pool` prints: reports of `verify`, providers, statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..core.pool.stats import Stats
from ..services import Service
from ..status import SmtpPoolStatus
from ..verify.verification import Report


def facts(report: Report) -> list[tuple[str, str]]:
    """Return the facts that a verification found, as (name, text)."""
    found = []
    if report.tls is not None:
        found.append(("TLS", f"{report.tls.version}, {report.tls.cipher}"))
        found.append(("certificate", _certificate(report)))
    if report.extensions:
        found.append(("extensions", ", ".join(report.extensions)))
    found.append(("limits", ", ".join(f"{key}={value}" for key, value in report.limits.items() if value is not None)))
    return found


def _certificate(report: Report) -> str:
    if report.tls is None or not report.tls.expires:
        return "not checked (tls_options)"
    whose = report.tls.subject or ", ".join(report.tls.names)
    return f"{whose}; until {report.tls.expires}, in {report.days_left} days"


def provider(service: Service) -> str:
    """Return a provider's server, aliases and options on one line."""
    tls = {"implicit": "TLS", "starttls": "STARTTLS", "none": "no TLS"}[service.tls]
    parts = [f"{service.host}:{service.port} {tls}", service.description]
    names = (*service.aliases, *service.domains)
    if names:
        parts.append(f"also {', '.join(names)}")
    parts += [f"{key}={value}" for key, value in service.options.items()]
    return "; ".join(parts)


def figures(stats: Stats) -> dict[str, Any]:
    """Return a pool's statistics by name."""
    values = {field.name: getattr(stats, field.name) for field in fields(stats)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def outcome(status: SmtpPoolStatus) -> dict[str, Any]:
    """Return the outcome of a message as plain values."""
    recipients = {
        each.address: {"outcome": each.outcome, "reply": str(each.reply) if each.reply else None}
        for each in status.recipients.values()
    }
    return {
        "outcome": status.outcome,
        "queue_id": status.queue_id,
        "reply": str(status.reply) if status.reply else None,
        "error": str(status.error) if status.error else None,
        "attempts": status.attempts,
        "seconds": {name: round(getattr(status, name), 4) for name in ("waited", "connected", "sent")},
        "recipients": recipients,
    }


def outcome_lines(status: SmtpPoolStatus) -> Iterator[str]:
    """Return the outcome of a message as lines of text."""
    for each in status.recipients.values():
        yield f"{each.outcome:8}  {each.address}  {each.reply or ''}".rstrip()
    if status.queue_id:
        yield f"queued as {status.queue_id}"
    yield f"connected in {status.connected:.2f} s, sent in {status.sent:.2f} s"
