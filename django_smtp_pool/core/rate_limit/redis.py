"""The window of a rate limit in Redis, where all processes and hosts that send as one account share it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ..interrupts import from_signal_handler
from ..options import extras
from ..options.options import ServerOptions
from ..options.storage_uri import StorageURI

EXTRA = "ratelimit"
MODULES = ("limits", "redis")  # what the extra brings
TIMEOUT = 1.0  # seconds to connect, and for each answer, unless the URI says otherwise
PATIENCE = 30.0  # seconds: whoever waits for longer asks in between, so that nobody waits for those who have gone
GRACE = 2.0  # seconds that a place in line is kept for who does not come back in time
ROUNDING = 0.001  # seconds: nobody comes back a moment too early

# Redis runs it as one step, by its own clock: hosts need not agree about the time. In microseconds.
#
# `taken` is a sorted set with the instant of each message, and is kept for the longest window that anybody
# uses. Who is refused stands in `line`, in order, and is told when it is his turn, by how many are
# ahead of him: so nobody asks in vain, and nobody overtakes. `promises` says until when a place is kept.
SCRIPT = """
local taken, line, promises, longest = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local patience, grace = tonumber(ARGV[3]), tonumber(ARGV[4])
local who, message = ARGV[5], ARGV[6]

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function text(number)
  return string.format('%.0f', number)
end

local function milliseconds(number)
  return text(math.ceil(number / 1000))
end

local function drop(from, to)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', promises, from, to)) do
    redis.call('ZREM', line, gone)
    redis.call('ZREM', promises, gone)
  end
end

drop('-inf', '(' .. text(now))
-- What is further ahead was written before the clock was set back.
drop('(' .. text(now + patience + grace), '+inf')
redis.call('ZREMRANGEBYSCORE', taken, '(' .. text(now + window), '+inf')

local since = '(' .. text(now - window)
local count = redis.call('ZCOUNT', taken, since, '+inf')
local ahead = redis.call('ZRANK', line, who) or redis.call('ZCARD', line)

if count + ahead < limit then
  redis.call('ZREM', line, who)
  redis.call('ZREM', promises, who)
  redis.call('ZADD', taken, text(now), message)
  local keep = tonumber(redis.call('GET', longest) or '0')
  if window >= keep then
    keep = window
    redis.call('SET', longest, text(keep), 'PX', milliseconds(keep))
  end
  redis.call('ZREMRANGEBYSCORE', taken, '-inf', text(now - keep))
  redis.call('PEXPIRE', taken, milliseconds(keep))
  return 0
end

-- Each goes a window after the one who is `limit` places further ahead.
local wait = math.floor(ahead / limit) * window
local leaving = ahead % limit + 1 + count - limit -- so many leave the window before those of his round
if leaving > 0 then
  local last = redis.call('ZRANGEBYSCORE', taken, since, '+inf', 'WITHSCORES', 'LIMIT', leaving - 1, 1)
  wait = wait + last[2] + window - now
end
wait = math.ceil(math.min(wait, patience))
local last = redis.call('ZREVRANGE', line, 0, 0, 'WITHSCORES')[2] or 0
redis.call('ZADD', line, 'NX', text(math.max(now, last + 1)), who)
redis.call('ZADD', promises, text(now + wait + grace), who)
redis.call('PEXPIRE', line, milliseconds(patience + grace))
redis.call('PEXPIRE', promises, milliseconds(patience + grace))
return wait
"""


class StorageFailed(Exception):
    """The store gave no answer; the text says why, and holds no secret."""


class RedisWindow:
    """One account's window in Redis. For one thread at a time; connects when it is first asked.

    Arguments:
        key: who the limit is for, the beginning of the names of all keys.
        limit: messages in a window.
        window: its length in seconds.
    """

    def __init__(self, uri: StorageURI, key: str, *, limit: int, window: float) -> None:
        self.place = uri.place
        self._uri = uri
        self._keys = [f"{key}:{name}" for name in ("taken", "line", "promises", "longest")]
        self._rule = [limit, *map(_microseconds, (window, PATIENCE, GRACE))]
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the connection, which is the parent's, and stand in line as somebody else."""
        self._script: Any = None
        self._who = os.urandom(8).hex()
        self._numbers = itertools.count()

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        script, self._script = self._script, None
        if script is not None:
            with contextlib.suppress(Exception):  # nobody wants to hear of it
                script.registered_client.connection_pool.disconnect()

    def take(self) -> float:
        """Take a message's place in the window and return 0, or return the seconds until it is our turn.

        Raises StorageFailed.
        """
        message = f"{self._who}:{next(self._numbers)}"
        wait = self._ask(lambda script: int(script(keys=self._keys, args=[*self._rule, self._who, message])))
        return wait / 1_000_000 + ROUNDING if wait else 0.0

    def check(self) -> None:
        """Find out whether the store answers, and take nothing; raises StorageFailed."""
        self._ask(lambda script: script.registered_client.ping())

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            if self._script is None:
                self._script = _registered(self._uri)
            return question(self._script)
        except Exception as error:
            if from_signal_handler(error):
                raise
            # Whatever the library raises, or the network.
            problem = StorageFailed(self._uri.scrubbed(f"{type(error).__name__}: {error}"))
        raise problem  # and not the one that it came from: that one's frames hold the password


def _registered(uri: StorageURI) -> Any:
    """Return the script, as a function that calls it."""
    from limits.storage import storage_from_string
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    how: dict[str, Any] = {
        "socket_connect_timeout": TIMEOUT,
        "socket_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),  # the client's own would hold a message for many times as long
    }
    if uri.scheme == "redis+sentinel":
        how["sentinel_kwargs"] = dict(how)
    storage: Any = storage_from_string(uri.reveal(), **how)
    return storage.get_connection().register_script(SCRIPT)


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000_000))


def key_of(server: ServerOptions) -> str:
    """Return the name of a server's account in the store: all who log in as it keep one limit together."""
    user = server.username or (server.oauth2.account if server.oauth2 is not None else None)
    account = quote(user, safe="@") if user and server.has_login else ""
    # In braces, so that a proxy or a cluster keeps the keys of one account together.
    return f"django-smtp-pool:{{{quote(server.host.lower(), safe=':[]')}:{server.port}:{account}}}"


def missing_extra() -> str | None:
    """Return what to install for the option `rate_storage`, None where it is there."""
    return extras.missing(MODULES, EXTRA)
