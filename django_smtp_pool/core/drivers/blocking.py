"""The blocking driver: runs one life in the calling thread; used by `send_mail()`."""

from __future__ import annotations

from typing import TypeVar

from ..clock import Alarm, Clock
from ..needs import Call, Life, Need, Sleep, Turn, Wait
from .polling import Poller

T = TypeVar("T")


def run(life: Life[T], clock: Clock) -> T:
    """Run a life to its end and return its result, or raise what it raises.

    An exception that occurs while the thread waits is raised in the life, which records the outcome and gives back
    what it holds, and then here.
    """
    waits = _Waits(clock)
    try:
        need = next(life)
        while True:
            try:
                answer = waits.meet(need)
            except BaseException as error:  # noqa: BLE001 - from a call, or an interrupt: the life decides
                need = life.throw(error)
            else:
                need = life.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        life.close()  # an interrupt may have come between two lines of this function


class _Waits:
    """Meets the needs of one life, by blocking."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._poller: Poller | None = None
        self._watched: set[int] = set()

    def meet(self, need: Need) -> object:
        """Block until a need is met or its instant has passed; return the answer to a call."""
        if isinstance(need, Wait):
            self._wait(need)
        elif isinstance(need, Call):
            return need.function()
        else:
            self._wait_for_turn(need)
        return None

    def _wait(self, need: Wait) -> None:
        poller = self._poller
        if poller is None:
            poller = self._poller = Poller()
        watched = {sock.fileno(): events for sock, events in need.watched}
        for descriptor in self._watched - watched.keys():
            poller.forget(descriptor)
        for descriptor, events in watched.items():
            poller.watch(descriptor, events)
        self._watched = set(watched)
        self._clock.wait(poller.wait, max(0.0, need.until - self._clock.monotonic()))

    def _wait_for_turn(self, need: Turn | Sleep) -> None:
        alarm = Alarm()  # not an Event: a finaliser in this same thread may be the waker
        need.waiter.wake = alarm.wake
        if not need.waiter.served:
            alarm.wait(self._clock, need.until - self._clock.monotonic())
