"""A dialogue held over one channel by hand, step by step: what a driver does, with a test in between."""

import contextlib
import selectors

from django_smtp_pool.core.delivery.channel import Channel as RealChannel
from django_smtp_pool.core.drivers import blocking, side_by_side


class Channel(RealChannel):
    """A channel that a test makes over a socket of its own; it is patient only when it is told how."""

    def __init__(self, transport=None):
        super().__init__({})
        self.transport = transport
        if transport is not None:
            self._wire = transport


class Run:
    """One dialogue under way."""

    def __init__(self, dialogue, channel, *, clock, patience, trace=None, **how):
        channel._patience, channel._trace = patience, trace
        self.channel = channel
        self.life = channel.hold(dialogue, clock, **how)
        self.need = None
        self.done = False
        self._result = self._error = None

    def start(self):
        """Do what can be done without waiting."""
        self.advance()

    def advance(self):
        """Go on, whether or not something is ready."""
        if not self.done:
            self._go_on(lambda: self.life.send(None))

    def abandon(self):
        """Stop half-way, as an interrupt does."""
        self.life.close()
        self.channel.close()

    def _go_on(self, resume):
        try:
            self.need = resume()
        except StopIteration as stop:
            self.done, self._result = True, stop.value
        except BaseException as error:
            self.done, self._error = True, error

    def result(self):
        """Return what the dialogue returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def until(self):
        """The instant at which the wait has taken too long."""
        return self.need.until

    def life_of(self):
        """Return the rest of the run as a generator for a driver."""
        while True:
            if self.need is not None:
                try:
                    yield self.need
                except BaseException as error:
                    self._go_on(lambda error=error: self.life.throw(error))
                    self.need = None
                    return self.result()
            self.advance()
            if self.done:
                return self.result()


def run_one(run, clock):
    """Run to the end by the blocking driver."""
    return blocking.run(run.life_of(), clock)


def run_many(runs, clock):
    """Run side by side to the end; ask each for its result afterwards."""

    def quietly(run):
        with contextlib.suppress(Exception):
            yield from run.life_of()

    side_by_side.run([quietly(run) for run in runs], side_by_side.StoppableClock(clock))


def wait_for(watched, seconds, clock):
    """Wait until one of these is ready."""
    with selectors.DefaultSelector() as selector:
        for sock, events in watched:
            selector.register(sock, events)
        clock.wait(selector.select, seconds)
