"""A rate limit, as an option: a number of messages or recipients in a number of seconds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .fields import all_shown, shown

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 30 * 86400, "year": 360 * 86400}
EXAMPLES = "'30/minute', '100 per 2 hours' or '10000/day recipients'"
# The syntax of the library `limits`, and then what is counted.
_FORM = re.compile(
    rf"([0-9]{{1,12}})\s*(?:/|per)\s*(?:([0-9]{{1,6}})\s*)?({'|'.join(SECONDS)})s?(?:\s+(messages?|recipients?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """At most `limit` messages, or recipients of messages, in any window of `seconds`."""

    limit: int
    seconds: float
    of_recipients: bool = False

    def units(self, recipients: int) -> int:
        """Return how much of the quota a message with this number of recipients uses."""
        return recipients if self.of_recipients else 1

    def __str__(self) -> str:
        # The longest unit that the window is a multiple of, as in "30/minute".
        unit, length = max(((u, s) for u, s in SECONDS.items() if not self.seconds % s), key=_length, default=("", 0))
        number = self.seconds / length if length else self.seconds
        window = unit if number == 1 else f"{number:g} {unit or 'second'}s"
        return f"{self.limit}/{window}{' recipients' if self.of_recipients else ''}"


def _length(unit: tuple[str, int]) -> int:
    return unit[1]


def quotas(value: Any) -> tuple[Quota, ...]:
    """Accept a list of texts such as "30/minute", or one text with commas or semicolons between them."""
    each = re.split(r"[,;]", value) if isinstance(value, str) else value
    if not isinstance(each, Iterable) or isinstance(each, (bytes, dict)):
        raise ValueError(f"must be a list of limits such as {EXAMPLES}, not {shown(value)}")
    each = list(each)
    found = list(map(_quota, each))
    if wrong := [one for one, quota in zip(each, found, strict=True) if quota is None]:
        raise ValueError(
            f"must be limits such as {EXAMPLES}, of at least 1 in a window of at least a second, not {all_shown(wrong)}"
        )
    return tuple(quota for quota in found if quota is not None)


def _quota(value: Any) -> Quota | None:
    if isinstance(value, Quota):
        return value
    found = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    limit, number, unit, counted = found.groups()
    quota = Quota(
        limit=int(limit),
        seconds=float(int(number or 1) * SECONDS[unit.lower()]),
        of_recipients=(counted or "").lower().startswith("recipient"),
    )
    return quota if quota.limit and quota.seconds else None
