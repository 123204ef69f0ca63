"""One sliding window: how much of a quota is used, and how long it takes until there is room."""

from __future__ import annotations

from bisect import bisect_left

from ..options.quotas import Quota

GRAIN = 10_000  # parts of a window that are distinguished, so at most about this many entries are kept
SWEPT = 1_000  # entries that have left the window, before they are deleted


class Window:
    """The units of a quota that were used within the last `seconds`. The caller holds a lock.

    Units within a ten-thousandth of the window form one entry, with the time of the last. They leave the window a
    little later than necessary, so no window ever holds more than the quota. All costs are O(log n).
    """

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._grain = quota.seconds / GRAIN
        self._began_at = float("-inf")  # instant of the first unit in the last entry
        self._instants: list[float] = []
        self._totals: list[int] = []  # units used up to each entry, since the beginning
        self._start = 0  # index of the first entry that is still in the window
        self._left = 0  # units that have left the window, since the beginning

    def wait(self, now: float, need: int) -> float:
        """Return the seconds until there is room for `need` more units, 0 if there is now.

        If `need` is larger than the quota, the units go in several rounds, one window apart.
        """
        excess = self._used(now) + need - self.quota.limit
        if excess <= 0:
            return 0.0
        rounds = (need - 1) // self.quota.limit
        leaving = excess - rounds * self.quota.limit  # how many leave the window before the last round
        if leaving <= 0:
            return rounds * self.quota.seconds
        last = bisect_left(self._totals, self._left + leaving, self._start)
        return rounds * self.quota.seconds + (self._instants[last] + self.quota.seconds - now)

    def rounds(self, need: int) -> float:
        """Return the seconds between the first and the last of `need` units, even if the window is empty."""
        return (need - 1) // self.quota.limit * self.quota.seconds

    def add(self, now: float, units: int) -> None:
        """Use so many units."""
        total = (self._totals[-1] if self._totals else self._left) + units
        if self._instants:
            now = max(now, self._instants[-1])  # threads read the clock before they have the lock
        if self._start < len(self._instants) and now - self._began_at < self._grain:
            self._instants[-1], self._totals[-1] = now, total
            return
        self._began_at = now
        self._instants.append(now)
        self._totals.append(total)

    def free(self, now: float) -> int:
        """Return how many units may still be used."""
        return max(0, self.quota.limit - self._used(now))

    def is_empty(self, now: float) -> bool:
        """Return whether no unit is in the window."""
        return not self._used(now)

    def _used(self, now: float) -> int:
        while self._start < len(self._instants) and self._instants[self._start] + self.quota.seconds <= now:
            self._left = self._totals[self._start]
            self._start += 1
        if self._start >= SWEPT and self._start * 2 > len(self._instants):
            del self._instants[: self._start], self._totals[: self._start]
            self._start = 0
        return self._totals[-1] - self._left if self._start < len(self._totals) else 0
