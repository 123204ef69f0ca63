"""The asyncio driver: runs lives in the event loop; used by `asend_messages()`.

A life never blocks, so the loop is free between two of its needs. A `Call` may block and runs in a thread, with a copy
of the context; cancelling does not wait for it. If a task is cancelled, CancelledError is raised in its life, which
records the outcome and gives back what it holds before the task goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import os
import selectors
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..clock import Clock
from ..interrupts import ignoring
from ..needs import Bell, Call, HasFileno, Life, Need, Servable, T, Wait


def can_watch() -> bool:
    """Return whether the running loop can watch a socket; the ProactorEventLoop of Windows cannot."""
    return not isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ()))


async def run(life: Life[T], clock: Clock) -> T:
    """Run a life to its end and return its result, or raise what it raises.

    An exception while it waits, above all CancelledError, is raised in the life and then here.
    """
    result: T = await _Runner(life, clock).run()
    return result


async def run_until_first(lives: Iterable[Life[None]], clock: Clock) -> None:
    """Run each life in a separate task until the first life in the list has ended; then the others are closed.

    An exception from one of them, or in this task, ends all of them and is raised.
    """
    runners = [_Runner(life, clock) for life in lives]
    tasks = [asyncio.ensure_future(runner.run()) for runner in runners]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # At once and without waiting: the outcome of each message is known before another task runs.
        try:
            _end(iter(runners))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _end(runners: Iterator[_Runner]) -> None:
    """End all; an interrupt that occurs meanwhile is raised when all have ended."""
    for runner in runners:
        try:
            runner.end()
        except BaseException:
            _end(runners)
            raise


class _Runner:
    """Runs one life."""

    def __init__(self, life: Life[Any], clock: Clock) -> None:
        self._life = life
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._watched: dict[int, tuple[HasFileno, int]] = {}  # by descriptor: what the loop watches for this life
        self._awaited: asyncio.Future[None] | None = None

    async def run(self) -> Any:
        """Run the life to its end."""
        life = self._life
        try:
            need = next(life)
            while True:
                try:
                    answer = await self._meet(need)
                except BaseException as error:  # noqa: BLE001 - from a call, or a cancellation: the life decides
                    self._watch({})  # before a socket is closed and its number is reused
                    need = life.throw(error)
                else:
                    need = life.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            self.end()

    def end(self) -> None:
        """Close the life, even in the middle."""
        self._watch({})
        with ignoring(Exception):
            self._life.close()

    async def _meet(self, need: Need) -> Any:
        """Wait until a need is met or its instant has passed; return the answer to a call."""
        if isinstance(need, Wait):
            self._watch({sock.fileno(): (sock, events) for sock, events in need.watched})
            return await self._until(need.until)
        self._watch({})
        if isinstance(need, Call):
            return await self._call(need)
        return await self._until(need.until, need.waiter)

    async def _until(self, until: float, waiter: Servable | None = None) -> None:
        """Wait until a watched socket is ready, the waiter is served, or an instant has come."""
        awaited = self._awaited = self._loop.create_future()
        if waiter is not None:
            waiter.wake = _alarm(self._loop, awaited, waiter)
            if waiter.served:
                waiter.wake()
        timer = None
        if until < math.inf:
            timer = self._loop.call_later(max(0.0, until - self._clock.monotonic()), _set, awaited)
        try:
            await awaited
        finally:
            if timer is not None:
                timer.cancel()

    async def _call(self, call: Call) -> Any:
        if not call.is_quick:
            return await _in_thread(call.function)
        answer = call.function()
        if inspect.isawaitable(answer):
            return await answer
        await asyncio.sleep(0)  # many quick calls in a row must not block the loop
        return answer

    # -- sockets ---------------------------------------------------------------------------------------

    def _watch(self, wanted: dict[int, tuple[HasFileno, int]]) -> None:
        """Let the loop watch these and nothing else; only changes are registered."""
        if self._watched == wanted:
            return
        for descriptor, (sock, events) in list(self._watched.items()):
            # A closed socket has left the kernel's list, and its number may belong to another socket by now.
            if wanted.get(descriptor, (None, 0))[0] is not sock or events & ~wanted[descriptor][1]:
                self._forget(descriptor)
        for descriptor, (_, events) in wanted.items():
            if self._watched.get(descriptor) != wanted[descriptor]:
                if events & selectors.EVENT_READ:
                    self._loop.add_reader(descriptor, self._ready)
                if events & selectors.EVENT_WRITE:
                    self._loop.add_writer(descriptor, self._ready)
        self._watched = wanted

    def _forget(self, descriptor: int) -> None:
        del self._watched[descriptor]
        if os.getpid() != self._pid:  # the parent process shares the kernel's list
            return
        for remove in (self._loop.remove_reader, self._loop.remove_writer):
            with ignoring(OSError, RuntimeError):  # the socket is closed, or the loop is
                remove(descriptor)

    def _ready(self) -> None:
        if self._awaited is not None:
            _set(self._awaited)


async def _in_thread(function: Callable[[], T]) -> T:
    """Call a function in a separate thread, with a copy of the context.

    Not in the loop's executor: all its threads may wait for the connection that this life holds.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    called: asyncio.Future[T] = loop.create_future()

    def _work() -> None:
        try:
            answer: Any = context.run(function)
        except BaseException as error:  # noqa: BLE001 - raised in the life
            settle = partial(_settle, called.set_exception, error)
        else:
            settle = partial(_settle, called.set_result, answer)
        with ignoring(RuntimeError):  # the loop is closed, so no life waits any more
            loop.call_soon_threadsafe(settle)

    def _settle(set_answer: Callable[[Any], None], answer: Any) -> None:
        if not called.done():  # it may have been cancelled
            set_answer(answer)

    threading.Thread(target=_work, name="django-smtp-pool-call", daemon=True).start()
    return await called


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _alarm(loop: asyncio.AbstractEventLoop, awaited: asyncio.Future[None], waiter: Servable) -> Callable[[], None]:
    """Return the function that wakes a life: for a bell, from the same loop; otherwise from any thread."""
    if isinstance(waiter, Bell):
        return lambda: _set(awaited)

    def wake() -> None:
        with ignoring(RuntimeError):  # the loop is closed, so no life waits any more
            loop.call_soon_threadsafe(_set, awaited)

    return wake
