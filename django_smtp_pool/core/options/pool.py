"""The rules of a pool, as options. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .fields import check_fields, choice, option, seconds, seconds_or, whole
from .quotas import Quota, quotas
from .storage_uri import StorageURI, storage_uri

ACQUIRE_TIMEOUT = "acquire_timeout"  # the default of `rate_wait` is the value of this option


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """The rules of the pool."""

    max_connections: int = option(5, whole(minimum=1), "maximum number of connections, in each process")
    max_messages: int = option(100, whole(), "maximum number of messages per connection; 0 = no limit")
    min_connections: int = option(0, whole(), "number of connections to keep open while the pool is in use")
    idle_timeout: float = option(
        60.0, seconds(zero="never"), "time after which an unused connection is closed; 0 = never"
    )
    max_lifetime: float = option(
        600.0, seconds(zero="never"), "time after which a connection is replaced, shortened at random; 0 = never"
    )
    acquire_timeout: float = option(30.0, seconds(), "maximum wait for a free connection; then `PoolTimeout` is raised")
    max_waiting: int = option(
        0, whole(), "number of waiting messages above which `PoolFull` is raised at once; 0 = no limit"
    )
    delivery_timeout: float = option(
        120.0,
        seconds(),
        "time limit for one message: waiting, connecting, all attempts and the pauses between them; "
        "it does not shorten the wait for the reply to the end of the data",
    )
    max_requeues: int = option(
        5, whole(), "further attempts, on other connections, for a message that was certainly not sent"
    )
    rate_limit: int | None = option(
        None, whole(minimum=1), "maximum number of messages in any window of `rate_delta` seconds; None = no limit"
    )
    rate_delta: float = option(1.0, seconds(), "length of the window for `rate_limit`")
    rate_limits: tuple[Quota, ...] = option(
        (), quotas, "list of limits, such as '30/minute', '100 per 2 hours' or '10000/day recipients'"
    )
    rate_wait: float | str = option(
        ACQUIRE_TIMEOUT,
        seconds_or(ACQUIRE_TIMEOUT),
        "maximum wait for the rate limit; a longer wait raises `RateLimited`. None = no limit",
    )
    rate_storage: StorageURI | None = option(
        None,
        storage_uri,
        "URI of a Redis in which all processes and hosts share one rate limit for each account; None = do not share",
    )
    on_rate_storage_failure: str = option(
        "open",
        choice("open", "closed"),
        "if Redis does not answer: 'open' (each process applies the limit by itself) or 'closed' (nothing is sent)",
    )

    def __post_init__(self) -> None:
        check_fields(self, self._problems)

    def _problems(self) -> Iterator[str]:
        if self.min_connections > self.max_connections:
            yield (
                f"min_connections must not be above max_connections: {self.min_connections} > {self.max_connections}"
            )
        if self.rate_storage is not None and not self.quotas:
            yield "rate_storage needs rate_limit or rate_limits: set one of them, or remove it"

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """All rate limits."""
        short = () if self.rate_limit is None else (Quota(limit=self.rate_limit, seconds=self.rate_delta),)
        return tuple(dict.fromkeys((*short, *self.rate_limits)))

    @property
    def rate_patience(self) -> float:
        """Maximum wait for the rate limit, in seconds."""
        return self.acquire_timeout if isinstance(self.rate_wait, str) else self.rate_wait
