"""Attributes that are set after construction count, as with Django's backend; and what is remembered is still right."""

import cProfile
import gc
import pickle
import weakref

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_smtp_pool import registry as registries
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.remembered import MOST, Memory, frozen
from tests.backend.project import HAS_MAILERS, mailer, project
from tests.mailing import backend_for, message
from tests.servers import FaultServer

USERS = {"alice": "pw-a", "bob": "pw-b"}


@pytest.fixture
def two():
    """Two servers that want a login."""
    with FaultServer(users=USERS, require_auth=True) as one, FaultServer(users=USERS, require_auth=True) as other:
        yield one, other
        registries.reset()


def users(server):
    return [each.user for each in server.accepted]


@pytest.mark.parametrize("many", [1, 3])
def test_the_account_and_the_server_are_those_of_the_moment(two, many):
    old, new = two
    backend = backend_for(old, username="alice", password="pw-a")
    backend.send_messages([message()])
    backend.username, backend.password, backend.port = "bob", "pw-b", new.port
    assert backend.send_messages([message(number) for number in range(many)]) == many
    assert (users(old), users(new)) == (["alice"], ["bob"] * many)


def test_the_connection_follows_as_well(two):
    old, new = two
    backend = backend_for(old, username="alice", password="pw-a")
    backend.open()
    backend.username, backend.password, backend.port = "bob", "pw-b", new.port
    backend.connection.sendmail("a@example.com", ["b@example.com"], b"Subject: x\r\n\r\ny\r\n")
    assert (users(old), users(new)) == ([], ["bob"])


class OfATenant(PooledBackend):
    """Reads the account from a database, after Django's own way to construct a backend."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.username, self.password = "bob", "pw-b"
        self.timeout = "7"
        self.max_connections = 2


def test_a_subclass_sets_them_after_the_constructor(two):
    backend = backend_for(two[0], OfATenant)
    assert backend.send_messages([message()]) == 1
    assert users(two[0]) == ["bob"]
    assert (backend.config.server.timeout, backend.pool.options.max_connections) == (7, 2)


def test_a_subclass_may_complete_what_alone_would_be_an_error(two):
    class Late(PooledBackend):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, oauth2_token="t", **kwargs)
            self.username = "bob"

    assert backend_for(two[0], Late).config.server.username == "bob"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timeout", 7, lambda config: config.server.timeout == 7),
        ("use_tls", True, lambda config: config.server.use_tls),
        ("use_ssl", 1, lambda config: config.server.use_ssl),
        ("ssl_certfile", "x.pem", lambda config: config.server.ssl_certfile == "x.pem"),
        ("password", None, lambda config: config.server.password is None),
        ("max_messages", 3, lambda config: config.pool.max_messages == 3),
        ("local_hostname", "other.example", lambda config: config.server.local_hostname == "other.example"),
        ("on_partial_refusal", "raise", lambda config: config.mailer.on_partial_refusal == "raise"),
    ],
)
def test_every_option_is_an_attribute(server, name, value, said):
    backend = backend_for(server, username="user", password="secret")
    before = backend.pool
    assert not said(backend.config)
    setattr(backend, name, value)
    assert said(backend.config)
    assert (backend.pool is before) is (name == "on_partial_refusal")


def test_a_bad_attribute_is_told_when_it_counts(server):
    backend = backend_for(server, password="of the vault")
    backend.timeout = "soon"
    with pytest.raises(ImproperlyConfigured, match="timeout must be") as caught:
        backend.send_messages([message()])
    backend.timeout = 5
    assert backend.send_messages([message()]) == 1
    frames = []
    traceback = caught.value.__traceback__
    while traceback:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    ours = [frame for frame in frames if "django_smtp_pool" in frame.f_code.co_filename]
    assert "of the vault" not in repr([frame.f_locals for frame in ours])


# -- what is remembered ---------------------------------------------------------------------------------------


def calls_of(work):
    profile = cProfile.Profile()
    profile.enable()
    work()
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


def test_the_second_construction_costs_next_to_nothing(settings, server):
    project(settings, server, username="user", password="secret")
    registries.reset()
    first = calls_of(mailer)
    assert calls_of(mailer) < first / 4
    assert mailer().config is mailer().config


@pytest.mark.parametrize("value", [{"ca_file": "a"}, ["a"], (("a", ["b"]),), {"a"}], ids=repr)
def test_a_key_does_not_change_with_what_it_was_made_of(value):
    before = frozen([value])
    assert before == frozen([value])
    if isinstance(value, dict):
        value["ca_file"] = "b"
        assert before != frozen([value])


def test_keys_tell_types_apart():
    assert len({frozen([value]) for value in (1, True, 1.0, "1", b"1", (1,), (True,))}) == 7


def test_an_equal_object_is_another_one():
    class Everyone:
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    assert frozen([Everyone()]) != frozen([Everyone()])


def test_the_memory_is_bounded_and_lets_go():
    memory, alive = Memory(), weakref.WeakSet()

    class Thing:
        pass

    for _ in range(3 * MOST):
        thing = Thing()
        alive.add(thing)
        memory.keep(frozen([thing]), {})
    del thing
    gc.collect()
    assert len(alive) <= MOST
    memory.forget()
    gc.collect()
    assert not alive


def test_a_nested_option_that_is_changed_in_place_counts(server):
    tls = {"verify": True}
    backend = backend_for(server, tls_options=tls)
    assert backend.config.server.tls_options.verify
    tls["verify"] = False
    assert not backend.config.server.tls_options.verify
    assert not backend_for(server, tls_options=tls).config.server.tls_options.verify


@pytest.mark.parametrize("way", ["override", "assign", "delete"])
def test_changed_settings_count_for_the_next_backend(settings, server, way):
    project(settings, server)
    settings.EMAIL_POOL_MAX_MESSAGES = 5
    before = mailer()
    assert before.config.pool.max_messages == 5
    if way == "override":
        with override_settings(EMAIL_POOL_MAX_MESSAGES=7):
            assert mailer().config.pool.max_messages == 7
    elif way == "assign":
        from django.conf import settings as djangos  # without the signal that a test runner sends

        djangos.EMAIL_POOL_MAX_MESSAGES = 7
        assert mailer().config.pool.max_messages == 7
        djangos.EMAIL_POOL_MAX_MESSAGES = 5
    else:
        del settings.EMAIL_POOL_MAX_MESSAGES
        assert mailer().config.pool.max_messages == 100
        return
    assert mailer().config.pool.max_messages == 5
    assert before.config.pool.max_messages == 5


@pytest.mark.skipif(HAS_MAILERS, reason="under MAILERS settings say nothing of the account")
def test_the_settings_of_the_time_of_construction_count(settings, server):
    project(settings, server)
    with override_settings(EMAIL_LOCAL_HOSTNAME="then.example"):
        backend = mailer()
    assert backend.config.server.local_hostname == "then.example"
    assert mailer().config.server.local_hostname is None


def test_settings_of_somebody_elses_kind(settings, server, monkeypatch):
    from django.conf import settings as djangos

    class Wrapped:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return 9 if name == "EMAIL_POOL_MAX_MESSAGES" else getattr(self._inner, name)

    monkeypatch.setitem(vars(djangos), "_wrapped", Wrapped(vars(djangos)["_wrapped"]))
    assert backend_for(server).config.pool.max_messages == 9


def test_a_backend_holds_no_lock_of_ours(server):
    """A subclass that leaves Django's lock out pickles, as it does over Django's backend."""
    backend = backend_for(server, username="user")
    backend.send_messages([message()])
    state = {key: value for key, value in vars(backend).items() if key != "_lock"}
    assert pickle.loads(pickle.dumps(state)) == state


def test_a_backend_without_secrets_says_nothing_that_is_secret(server):
    assert "secret" not in repr(backend_for(server, username="user", password="secret"))
