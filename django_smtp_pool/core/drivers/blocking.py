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
    try:
        need = next(life)
        while True:
            try:
                answer = _meet(need, clock)
            except BaseException as error:  # noqa: BLE001 - from a call, or an interrupt: the life decides
                need = life.throw(error)
            else:
                need = life.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        life.close()  # an interrupt may have come between two lines of this function


def _meet(need: Need, clock: Clock) -> object:
    """Block until a need is met or its instant has passed; return the answer to a call."""
    if isinstance(need, Wait):
        clock.wait(Poller(need.watched).wait, max(0.0, need.until - clock.monotonic()))
    elif isinstance(need, Call):
        return need.function()
    else:
        _wait_until_served(need, clock)
    return None


def _wait_until_served(need: Turn | Sleep, clock: Clock) -> None:
    alarm = Alarm()  # not an Event: a finaliser in this same thread may be the waker
    need.waiter.wake = alarm.wake
    if not need.waiter.served:
        alarm.wait(clock, need.until - clock.monotonic())
