"""URIs of a Redis: which are taken, and that nobody reads what is secret in one."""

import pickle
import traceback

import pytest

from django_smtp_pool.core.options import extras
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.options.storage_uri import storage_uri
from django_smtp_pool.core.rate_limit.redis import RedisWindow, StorageFailed, key_of

PLACES = {
    "redis://cache.example.com": "redis://cache.example.com",
    "redis://cache.example.com:6379/0": "redis://cache.example.com:6379/0",
    "redis://user:hid%2Fden@cache.example.com:6380/2?socket_timeout=3": "redis://cache.example.com:6380/2",
    "rediss://:hidden@[2001:db8::1]:6379": "rediss://[2001:db8::1]:6379",
    "redis+unix:///run/redis/redis.sock": "redis+unix:///run/redis/redis.sock",
    "redis+unix://:hidden@/run/redis.sock?db=1": "redis+unix:///run/redis.sock",
    "redis+sentinel://:hidden@a.example.com:26379,b.example.com:26379/mymaster": (
        "redis+sentinel://a.example.com:26379,b.example.com:26379/mymaster"
    ),
}
BAD = [
    "",
    "cache.example.com",
    "redis:cache.example.com",
    "memcached://cache.example.com:11211",
    "redis+cluster://:hidden@a.example.com:6379",
    "redis://",
    "redis://:hidden@",
    "redis://:hidden@/0",
    "redis://:hidden@cache.example.com:port/0",
    "redis://:hidden@cache.example.com:65536/0",
    "redis://:hidden@cache.example.com:0/0",
    "redis://:hidden@cache.example.com/mail",
    "redis://:hid/den@cache.example.com:6379",
    "redis://:hid@den@cache.example.com:6379",
    "redis://user:12/hidden@cache.example.com:6379",
    "redis://user:12?hidden@cache.example.com:6379",
    "redis://:hid#den@cache.example.com:6379",
    "redis://:hid[den@cache.example.com:6379",
    "redis://:hidden@a.example.com:1,b.example.com:1/0",
    "redis://:hidden@cache.example.com\n",
    "redis://:hid den@cache.example.com",
    "redis+unix://:hidden@cache.example.com/run/redis.sock",
    "redis+unix://:hidden@",
    "redis+sentinel://:hidden@a.example.com/mymaster",
    "redis+sentinel://:hidden@a.example.com:26379",
    "redis+sentinel://:hidden@a.example.com:26379,/mymaster",
    "redis+sentinel://:hidden@a.example.com:26379,b.example.com:99999/mymaster",
]


@pytest.mark.parametrize("written", PLACES)
def test_a_good_one_says_where_it_is_and_no_more(written):
    uri = storage_uri(written)
    assert uri.reveal() == written
    assert uri.place == PLACES[written]
    assert storage_uri(uri) is uri
    assert "hid" not in f"{uri!r} {uri} {PoolOptions(rate_limit=1, rate_storage=uri)!r}"


@pytest.mark.parametrize("written", [*BAD, None, 1, b"redis://cache.example.com"])
def test_a_bad_one_is_refused_and_not_quoted(written):
    with pytest.raises(ValueError, match="must ") as caught:
        storage_uri(written)
    assert not [part for part in ("hid", "den", "12", "cache.example.com") if part in str(caught.value)]


def test_the_error_tells_what_there_is():
    with pytest.raises(ValueError, match="supported are redis://, rediss://, redis\\+unix://, redis\\+sentinel://"):
        storage_uri("memcached://cache.example.com:11211")
    with pytest.raises(ValueError, match=r"like 'redis://host:6379/0'; in a password, .* are written %2F"):
        storage_uri("redis://:hid/den@cache.example.com")


def test_passwords_tell_apart_and_are_not_pickled():
    uri = storage_uri("redis://:hidden@cache.example.com")
    assert uri == storage_uri("redis://:hidden@cache.example.com")
    assert uri != storage_uri("redis://:other@cache.example.com")
    with pytest.raises(TypeError):
        pickle.dumps(uri)


@pytest.mark.parametrize(
    "written",
    ["redis://:h%2Fdden@cache.example.com", "redis://cache.example.com?password=h%2Fdden", "redis://u:h%2Fdden@a/0"],
)
def test_a_text_of_somebody_elses_is_scrubbed(written):
    text = storage_uri(written).scrubbed(f"{written}: cannot log in by h/dden (h%2Fdden)")
    assert "dden" not in text
    assert "cannot log in" in text


def test_a_redis_that_is_not_there_tells_no_secret():
    window = RedisWindow(storage_uri("redis://:hidden@127.0.0.1:1/0"), "key", [Quota(limit=1, seconds=1)])
    with pytest.raises(StorageFailed, match=r"ConnectionError: .*127\.0\.0\.1:1\b") as caught:
        window.take(1)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "hidden" not in "".join(shown.format())


def test_who_a_limit_is_for():
    def key(**options):
        return key_of(ServerOptions(**{"host": "SMTP.example.com", "port": 587, **options}))

    grant = {"client_id": "a", "refresh_token": "hidden", "token_url": "https://example.com/", "user": "u@example.com"}
    assert key() == "django-smtp-pool:{smtp.example.com:587:}"
    assert key(username="u@example.com", password="hidden") == "django-smtp-pool:{smtp.example.com:587:u@example.com}"
    assert key(username="u@example.com", password="other", use_tls=True) == key(oauth2=grant)
    assert key(username="u}:{", password="p") == "django-smtp-pool:{smtp.example.com:587:u%7D%3A%7B}"
    assert key(username="nobody logs in") == key()
    assert len({key(), key(port=25), key(host="other.example.com"), key(username="U", password="p")}) == 4


def test_what_the_extra_brings_is_here():
    assert extras.missing("ratelimit") is None
