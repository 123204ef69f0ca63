"""The line of messages that wait for a rate limit: first come, first served."""

from __future__ import annotations

import itertools
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

GRACE = 2.0  # seconds for which a ticket keeps its position in line if it does not ask again in time


class Waiting(Protocol):
    """A ticket in line."""

    number: int | None  # its number in the line, or None if it is not in line
    due: float  # instant (monotonic) at which it should ask again
    recipients: int


class Line:
    """Tickets that were refused, in order. The caller holds a lock, except for `leave`.

    A ticket that is garbage, or that does not ask again in time, does not block the tickets behind it.
    """

    def __init__(self) -> None:
        self._count = itertools.count()
        self._numbers: list[int] = []
        self._tickets: dict[int, weakref.ref[Waiting]] = {}
        self._leaving: deque[int] = deque()  # filled without a lock, also by finalisers

    def leave(self, ticket: Waiting) -> None:
        """Give up a ticket's position; takes no lock."""
        number, ticket.number = ticket.number, None
        if number is not None:
            self._leaving.append(number)

    def sweep(self, now: float) -> None:
        """Remove the tickets that have left, and those at the head that have not asked again in time."""
        while self._leaving:
            self._remove(self._leaving.popleft())
        while self._numbers and not self._comes_back(self._numbers[0], now):
            self._remove(self._numbers[0])

    def _comes_back(self, number: int, now: float) -> bool:
        ticket = self._tickets[number]()
        if ticket is None or ticket.number != number:
            return False
        if ticket.due + GRACE >= now:
            return True
        ticket.number = None
        return False

    def ahead_of(self, ticket: Waiting) -> int:
        """Return how many tickets are ahead of a ticket; ahead of one that is not in line, all are."""
        if ticket.number is None or ticket.number not in self._tickets:
            return len(self._numbers)
        return bisect_left(self._numbers, ticket.number)

    def recipients_of(self, count: int) -> int:
        """Return how many recipients the first `count` messages in line have together."""
        return sum(ticket.recipients for ticket in self._first(count))

    def _first(self, count: int) -> Iterator[Waiting]:
        for number in itertools.islice(self._numbers, count):
            ticket = self._tickets[number]()
            if ticket is not None:
                yield ticket

    def keep(self, ticket: Waiting, due: float) -> None:
        """Keep a ticket in line until some time after `due`; add it at the end if it is not in line."""
        ticket.due = due
        if ticket.number is None or ticket.number not in self._tickets:
            number = ticket.number = next(self._count)
            self._tickets[number] = weakref.ref(ticket, _leaver(self._leaving, number))
            self._numbers.append(number)

    def remove(self, ticket: Waiting) -> None:
        """Remove a ticket from the line, because its message may go or is refused."""
        number, ticket.number = ticket.number, None
        if number is not None:
            self._remove(number)

    def _remove(self, number: int) -> None:
        if self._tickets.pop(number, None) is not None:
            del self._numbers[bisect_left(self._numbers, number)]

    def __len__(self) -> int:
        return len(self._numbers)


def _leaver(leaving: deque[int], number: int) -> Callable[[object], None]:
    return lambda _: leaving.append(number)
