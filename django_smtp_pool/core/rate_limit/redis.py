"""The window of a rate limit in Redis, shared by all processes and hosts that send with one account."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from ..interrupts import from_signal_handler, ignoring
from ..options.options import ServerOptions
from ..options.quotas import Quota
from ..options.storage_uri import StorageURI
from .line import GRACE

TIMEOUT = 1.0  # seconds to connect, and for each answer, unless the URI sets other values
PATIENCE = 30.0  # seconds, after which a process asks again: the processes ahead of it may have ended
ROUNDING = 0.001  # seconds, added so that no process asks slightly too early

# Redis runs the script as one step and with its clock, so the clocks of the hosts do not matter. In microseconds.
#
# `taken` is a sorted set with the instant of each message. A member begins with the sums of messages and of recipients
# up to it, so the content of a window is the difference of two members. It is kept for the longest window that any
# process uses. A process that is refused waits in `line`, in order, with the number of its message's recipients in
# `sizes`. The number of processes ahead decides when it asks again, so it neither asks too often nor overtakes others.
# `promises` has the instant until which a process keeps its position.
SCRIPT = """
local taken, line, promises, longest, sizes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local patience, grace = tonumber(ARGV[1]), tonumber(ARGV[2])
local who, message, recipients = ARGV[3], ARGV[4], tonumber(ARGV[5])

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
    redis.call('HDEL', sizes, gone)
  end
end

local quotas, widest = {}, 0
for i = 6, #ARGV, 3 do
  local quota = {limit = tonumber(ARGV[i]), window = tonumber(ARGV[i + 1]), sum = tonumber(ARGV[i + 2])}
  quotas[#quotas + 1] = quota
  widest = math.max(widest, quota.window)
end

drop('-inf', '(' .. text(now))
-- Later instants were written before the clock was set back.
drop('(' .. text(now + patience + grace), '+inf')
redis.call('ZREMRANGEBYSCORE', taken, '(' .. text(now + widest), '+inf')

-- The sums up to the entry of a rank: messages, recipients.
local function sums(rank)
  local entry = redis.call('ZRANGE', taken, rank, rank)[1]
  if not entry then
    return {0, 0}
  end
  return {tonumber(string.sub(entry, 1, 15)), tonumber(string.sub(entry, 17, 31))}
end

local function own(entry, sum)
  return sum == 1 and 1 or tonumber(string.sub(entry, 33, 41))
end

local last = redis.call('ZRANGE', taken, -1, -1, 'WITHSCORES')
local total = sums(-1)

-- How many units are in a window, the rank of its first entry, and the sum before that.
local function used(quota)
  local first = redis.call('ZCOUNT', taken, '-inf', text(now - quota.window))
  local entry = redis.call('ZRANGE', taken, first, first)[1]
  if not entry then
    return 0, first, total[quota.sum]
  end
  local before = sums(first)[quota.sum] - own(entry, quota.sum)
  return total[quota.sum] - before, first, before
end

-- The instant of the entry with which the sum reaches a number.
local function instant_of(number, first, sum)
  local low, high = first, redis.call('ZCARD', taken) - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sums(middle)[sum] < number then
      low = middle + 1
    else
      high = middle
    end
  end
  return tonumber(redis.call('ZRANGE', taken, low, low, 'WITHSCORES')[2])
end

local ahead = {redis.call('ZRANK', line, who) or redis.call('ZCARD', line), 0}
for _, quota in ipairs(quotas) do
  if quota.sum == 2 and ahead[1] > 0 and ahead[2] == 0 then
    for _, other in ipairs(redis.call('ZRANGE', line, 0, ahead[1] - 1)) do
      ahead[2] = ahead[2] + tonumber(redis.call('HGET', sizes, other) or '1')
    end
  end
end

local wait, left = 0, {}
for i, quota in ipairs(quotas) do
  local size = quota.sum == 1 and 1 or recipients
  local count, first, before = used(quota)
  left[i] = quota.limit - count
  local need = ahead[quota.sum] + size
  if count + need > quota.limit then
    -- Each unit goes one window after the unit that is `limit` units ahead of it.
    local rounds = math.floor((need - 1) / quota.limit)
    local pause = rounds * quota.window
    local leaving = count + need - (rounds + 1) * quota.limit -- how many leave the window before the last round
    if leaving > 0 then
      pause = pause + instant_of(before + leaving, first, quota.sum) + quota.window - now
    end
    wait = math.max(wait, pause)
  end
end

if wait == 0 then
  redis.call('ZREM', line, who)
  redis.call('ZREM', promises, who)
  redis.call('HDEL', sizes, who)
  local sum = string.format('%015d:%015d:%09d:', total[1] + 1, total[2] + recipients, recipients)
  redis.call('ZADD', taken, text(math.max(now, last[2] or 0)), sum .. message)
  local keep = tonumber(redis.call('GET', longest) or '0')
  if widest >= keep then
    keep = widest
    redis.call('SET', longest, text(keep), 'PX', milliseconds(keep))
  end
  redis.call('ZREMRANGEBYSCORE', taken, '-inf', text(now - keep))
  redis.call('PEXPIRE', taken, milliseconds(keep))
  for i, quota in ipairs(quotas) do
    left[i] = left[i] - (quota.sum == 1 and 1 or recipients)
  end
  return {0, unpack(left)}
end

local again_after = math.ceil(math.min(wait, patience))
local behind = redis.call('ZREVRANGE', line, 0, 0, 'WITHSCORES')[2] or 0
redis.call('ZADD', line, 'NX', text(math.max(now, behind + 1)), who)
redis.call('ZADD', promises, text(now + again_after + grace), who)
redis.call('HSET', sizes, who, recipients)
for _, key in ipairs({line, promises, sizes}) do
  redis.call('PEXPIRE', key, milliseconds(patience + grace))
end
return {math.ceil(wait), unpack(left)}
"""


class StorageFailed(Exception):
    """The storage did not answer; the text says why, without secrets."""


class RedisWindow:
    """The window of one account in Redis. For one thread at a time; it connects at the first use.

    Arguments:
        key: identifies the account; the names of all keys begin with it.
    """

    def __init__(self, uri: StorageURI, key: str, quotas: Sequence[Quota]) -> None:
        self.place = uri.place
        self.left: dict[str, int] = {}  # for each quota, what may still be used, as of the last answer
        self._uri = uri
        self._keys = [f"{key}:{name}" for name in ("taken", "line", "promises", "longest", "sizes")]
        self._quotas = tuple(quotas)
        self._rule = [each for q in quotas for each in (q.limit, _microseconds(q.seconds), 2 if q.of_recipients else 1)]
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's connection, and use another name in the line."""
        self._script: Any = None
        self._who = os.urandom(8).hex()
        self._numbers = itertools.count()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        script, self._script = self._script, None
        if script is not None:
            with ignoring(Exception):  # an error on closing does not matter
                script.registered_client.connection_pool.disconnect()

    def take(self, recipients: int) -> float:
        """Use a message's units and return 0, or return the seconds until the message may go.

        If these are more than PATIENCE, ask again after PATIENCE. Raises StorageFailed.
        """
        message = f"{self._who}:{next(self._numbers)}"
        args = [*map(_microseconds, (PATIENCE, GRACE)), self._who, message, recipients, *self._rule]
        wait, *left = self._ask(lambda script: list(map(int, script(keys=self._keys, args=args))))
        self.left = dict(zip(map(str, self._quotas), left, strict=True))
        return wait / 1_000_000 + ROUNDING if wait else 0.0

    def check(self) -> None:
        """Check that the storage answers, without using units; raises StorageFailed."""
        self._ask(lambda script: script.registered_client.ping())

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            if self._script is None:
                self._script = _registered(self._uri)
            return question(self._script)
        except Exception as error:
            if from_signal_handler(error):
                raise
            # Any exception of the library or the network.
            problem = StorageFailed(self._uri.scrubbed(f"{type(error).__name__}: {error}"))
        raise problem  # outside of `except`: the frames of the original exception hold the password


def _registered(uri: StorageURI) -> Any:
    """Return the registered script, which can be called."""
    from limits.storage import storage_from_string
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    how: dict[str, Any] = {
        "socket_connect_timeout": TIMEOUT,
        "socket_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),  # the client's default retries would delay a message many times longer
    }
    if uri.scheme == "redis+sentinel":
        how["sentinel_kwargs"] = dict(how)
    storage: Any = storage_from_string(uri.reveal(), **how)
    return storage.get_connection().register_script(SCRIPT)


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000_000))


def key_of(server: ServerOptions) -> str:
    """Return the name of a server's account in the storage; all processes with this account share one limit."""
    user = server.username or (server.oauth2.account if server.oauth2 is not None else None)
    account = quote(user, safe="@") if user and server.has_login else ""
    # In braces, so that a proxy or a cluster stores the keys of one account on one node.
    return f"django-smtp-pool:{{{quote(server.host.lower(), safe=':[]')}:{server.port}:{account}}}"
