"""Options: what each takes, and that two that differ in anything tell pools apart."""

import pickle
import re
import ssl
import traceback
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from django_smtp_pool.core.options.host import is_loopback
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions, TLSOptions

PASSWORD = "hunter2"
GRANT = {"client_id": "app", "refresh_token": "r", "token_url": "https://example.com/token", "user": "u@example.com"}

# For every option: values that are good and differ from the default, and values that are not good.
SERVER = {
    "host": (
        ["mail.example", "192.0.2.1", "::1", "mail.example.", "my_host", "b\u00fcro.example", "fe80::1%eth0"],
        ["", None, 1, "a\r\nb", "a b", "smtp://a.example", "a.example:25", "a..b", ".a", "x" * 64, "a." * 130, "u:p@h"],
    ),
    "port": ([587, "587", 1, 65535], [0, 65536, -1, "", "smtp", 25.0, True, None]),
    "username": (["u", "u@example.com"], [1, b"u", "a\nb", "a\0b"]),
    "password": (["p", "p\n"], [1, b"p", "p\0"]),
    "use_tls": ([True, 1], ["yes", 2, None]),
    "use_ssl": ([True, 1], ["yes", 2, None]),
    "timeout": ([1, 0.5, "30"], [0, -1, None, "x", True, float("inf")]),
    "opportunistic_tls": ([True, 1], ["yes", 2, None]),
    "ssl_certfile": (["c.pem"], ["", 1]),
    "tls_options": ([{"verify": False}, TLSOptions(ca_file="ca.pem")], [None, 1, "x", {"verfy": False}, {"verify": 3}]),
    "local_hostname": (
        ["client.example", "[192.0.2.1]", "[IPv6:::1]", "my_host"],
        ["", 1, "a\r\nQUIT", "x y", "b\u00fcro.example", "x" * 602, "a.example:25", "[x]", "http://a"],
    ),
    "source_address": (["127.0.0.1", ("127.0.0.1", 25), "::1"], [1, "", "mail.example", ("127.0.0.1", 70000)]),
    "connection_timeout": ([1], [0, -1, None]),
    "greeting_timeout": ([1], [0, -1, None]),
    "data_timeout": ([1], [0, -1, "x"]),
    "auth_method": (["PLAIN", "login", "cram-md5", "SCRAM-SHA-256", "scram-sha-1"], ["", "XYZ", 1]),
    "oauth2_token": ([], [1, "a\0b"]),  # it needs a username too
    "oauth2_generator": ([len, "project.mail.access_token"], ["", "token", 1, {}]),
    "oauth2": ([GRANT, {**GRANT, "client_id": "other"}], [1, "x", {}, {**GRANT, "token_url": "http://example.com"}]),
    "allow_insecure_auth": ([True], ["no", None]),
    "proxy": (
        ["socks5://proxy.example:1080", "http://user:password@proxy.example:8080"],
        [1, "", "proxy.example:1080", "https://proxy.example:443", "socks5://proxy.example"],
    ),
    "pipelining": ([False, 0], ["no", None]),
    "chunking": ([False, 0], ["no", None]),
    "lmtp": ([True, 1], ["no", None]),
    "debug": ([True], ["no", None]),
}
POOL = {
    "max_connections": ([1, "7"], [0, -1, None, 1.5, True]),
    "max_messages": ([0, 1], [-1, None, "x"]),
    "min_connections": ([1, 5], [-1, None]),
    "idle_timeout": ([0, 1], [-1, None]),
    "max_lifetime": ([0, 1], [-1, None]),
    "acquire_timeout": ([1], [0, -1, None]),
    "max_waiting": ([1], [-1, None]),
    "delivery_timeout": ([1], [0, -1, None]),
    "max_requeues": ([0, 1], [-1, None]),
    "rate_limit": ([1], [0, -1, "x"]),
    "rate_delta": ([2], [0, -1, None]),
    "rate_limits": (
        [["30/minute"], ("10000/day recipients", "5 per 2 hours"), "1/second, 9/hour"],
        [
            "x",
            1,
            ["30"],
            ["0/minute"],
            ["5/0 hours"],
            ["5/fortnight"],
            ["5/minute bytes"],
            [None],
            {"30/minute": 1},
            None,
        ],
    ),
    "rate_wait": ([1, None, float("inf")], [0, -1, "x", True]),
    "rate_storage": ([], ["", "cache.example.com", "memcached://h:1", 1]),  # it needs a rate_limit too
    "on_rate_storage_failure": (["closed"], ["", "Open", True, None]),
}
TLS = {
    "ca_file": (["ca.pem"], ["", 1]),
    "verify": ([False, 0], [None, "no"]),
    "minimum_version": (["TLSv1.3"], ["TLSv1.0", "SSLv3", None, 1.2]),
    "ciphers": (["HIGH"], ["", 1]),
    "server_hostname": (["mail.example", "192.0.2.1"], ["", 1, "a\nb", "a b", "a.example:465", "https://a.example"]),
    "context": (
        [ssl.create_default_context(), ssl.create_default_context, "project.tls.context"],
        ["", "context", 1, {}],
    ),
}
CLASSES = [(ServerOptions, SERVER), (PoolOptions, POOL), (TLSOptions, TLS)]
GOOD = [(kind, key, value) for kind, table in CLASSES for key, (good, _) in table.items() for value in good]
BAD = [
    (kind, key, value)
    for kind, table in CLASSES
    for key, (_, bad) in table.items()
    for value in bad
    if not (value is None and kind.__dataclass_fields__[key].default is None)
]


@pytest.mark.parametrize(("kind", "table"), CLASSES)
def test_every_option_is_tested_here(kind, table):
    assert {spec.name for spec in fields(kind)} - {"ssl_keyfile"} == set(table)


@pytest.mark.parametrize(("kind", "key", "value"), GOOD)
def test_a_good_value_is_taken_and_tells_apart(kind, key, value):
    options = kind(**{key: value})
    assert options != kind()
    assert options == kind(**{key: value})
    assert hash(options) == hash(kind(**{key: value}))
    assert len({options, kind()}) == 2


@pytest.mark.parametrize(("kind", "key", "value"), BAD)
def test_a_bad_value_is_refused_by_name(kind, key, value):
    with pytest.raises(ValueError, match=rf"^{key} "):
        kind(**{key: value})


@pytest.mark.parametrize("kind", [ServerOptions, PoolOptions, TLSOptions])
def test_an_unknown_option_is_refused(kind):
    with pytest.raises(TypeError, match=r"max_conections"):
        kind(max_conections=1)


@pytest.mark.parametrize("kind", [ServerOptions, PoolOptions, TLSOptions])
def test_options_are_frozen(kind):
    with pytest.raises(FrozenInstanceError):
        setattr(kind(), next(iter(kind.__dataclass_fields__)), "x")


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("mail.example:587", r"host must not contain the port: set host to 'mail\.example', and port to 587$"),
        ("smtp://user:hunter2@mail.example:25", "host must be only the name of a host, without a URL or user"),
        ("user:hunter2@mail.example", "host must be only the name of a host, without a URL or user"),
        ("x" * 300, r"host must be a host name such as .*, not 'x{79}\.\.\.$"),
    ],
)
def test_a_host_that_cannot_be_one_is_told_with_what_was_probably_meant(host, text):
    with pytest.raises(ValueError, match=text) as caught:
        ServerOptions(host=host)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(("host", "name"), [("a.example:25", "a.example"), ("[::1]:25", r"\[::1\]")])
def test_a_host_with_a_port_is_told_apart(host, name):
    with pytest.raises(ValueError, match=f"must not contain the port: set host to '{name}', and port to 25"):
        ServerOptions(host=host)
    for odd in ("[::1", "::1]"):
        with pytest.raises(ValueError, match="must be a host name"):
            ServerOptions(host=odd)


def test_hosts_in_one_form():
    assert ServerOptions(host="[::1]").host == "::1"
    assert ServerOptions(local_hostname="client.example.").local_hostname == "client.example"


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match="port must") as caught:
        ServerOptions(port=0, host="a b", tls_options={"verify": 3, "minimum_version": 1}, oauth2={"timeout": 0})
    names = [re.split(" must| needs", problem)[0] for problem in caught.value.problems]
    tls = ["tls_options verify", "tls_options minimum_version"]
    assert names == ["host", "port", *tls, "oauth2 timeout", "oauth2 for refresh_token"]
    assert str(caught.value) == "; ".join(caught.value.problems)
    with pytest.raises(ValueError, match="use_tls and use_ssl") as caught:
        ServerOptions(use_tls=True, use_ssl=True, ssl_keyfile="k.pem", oauth2_token="t")
    assert len(caught.value.problems) == 3


def test_what_follows_from_a_wrong_value_is_not_said():
    with pytest.raises(ValueError, match="port must") as caught:
        ServerOptions(port=0, ssl_keyfile="k.pem", username=1, oauth2_token="t")
    assert len(caught.value.problems) == 3
    assert caught.value.problems[-1] == "ssl_keyfile needs ssl_certfile: set it, or remove ssl_keyfile"
    with pytest.raises(ValueError, match="tls_options") as caught:
        ServerOptions(tls_options={"verfy": True, "verify": 3})
    assert [problem.split()[1] for problem in caught.value.problems] == ["has", "verify"]
    with pytest.raises(ValueError, match=r"not 'x', 'y', '0/day' and 1 more$"):
        PoolOptions(rate_limits=["x", "1/day", "y", "0/day", 3])


class Rude:
    """Answers nothing that one may ask an object."""

    def __eq__(self, other):
        raise ArithmeticError("not to be compared")

    def __hash__(self):
        raise ArithmeticError("not to be hashed")

    def __bool__(self):
        raise ArithmeticError("neither true nor false")

    def __repr__(self):
        raise ArithmeticError("not to be shown")


WRONG = [Rude(), object(), object, b"secret", bytearray(b"secret"), 1j, {1: "secret"}, [{}], [[b"secret"]], {b"secret"}]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("part", [ServerOptions, PoolOptions])
def test_a_value_of_any_type_is_an_error_that_names_the_option(part, value):
    callable_ones = {"oauth2_generator"}
    for spec in fields(part):
        if callable(value) and spec.name in callable_ones:
            continue
        with pytest.raises(ValueError, match=rf"^{spec.name} (must|has)") as caught:
            part(**{spec.name: value})
        assert "secret" not in str(caught.value).replace("client_secret", "")


@pytest.mark.parametrize("part", [ServerOptions, PoolOptions])
@pytest.mark.parametrize("value", ["smtp://user:hunter2@mail.example.com:25", "user:hunter2@mail", "x:/hunter2?a@b"])
def test_a_url_in_the_wrong_place_does_not_show_its_password(part, value):
    free = {"username", "password", "oauth2_token", "ssl_certfile", "ssl_keyfile"}
    for name in {spec.name for spec in fields(part)} - free:
        with pytest.raises(ValueError, match=f"^{name} ") as caught:
            part(**{name: value})
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("part", [ServerOptions, PoolOptions])
def test_long_values_are_shortened(part):
    for name in {spec.name for spec in fields(part)} - {"username", "password", "oauth2_token"}:
        if name in {"ssl_certfile", "ssl_keyfile"}:  # whether there is such a file is seen later
            continue
        with pytest.raises(ValueError, match=f"^{name} ") as caught:
            part(**{name: "x:" * 50_000})
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "value", [{"name": PASSWORD}, [PASSWORD], (PASSWORD,), {PASSWORD}, PASSWORD.encode(), object()]
)
def test_a_value_of_another_type_is_not_shown(value):
    for key in ("host", "port", "timeout", "use_tls", "tls_options", "proxy", "auth_method"):
        with pytest.raises(ValueError, match=rf"^{key} ") as caught:
            ServerOptions(**{key: value})
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_ways_to_write_the_same_are_the_same_options():
    written = ServerOptions(port="587", use_tls=1, timeout="60", auth_method="plain", tls_options={"verify": 1})
    assert written == ServerOptions(port=587, use_tls=True, timeout=60.0, auth_method="PLAIN")
    assert hash(written) == hash(ServerOptions(port=587, use_tls=True, timeout=60.0, auth_method="PLAIN"))


@pytest.mark.parametrize("one", [True, 1])
def test_both_tls_modes_at_once_are_refused(one):
    with pytest.raises(ValueError, match=r"use_tls and use_ssl exclude each other.*587.*465"):
        ServerOptions(use_tls=one, use_ssl=one)


def test_a_key_needs_a_certificate():
    with pytest.raises(ValueError, match=r"ssl_keyfile needs ssl_certfile"):
        ServerOptions(ssl_keyfile="k.pem")
    options = ServerOptions(ssl_keyfile="k.pem", ssl_certfile="c.pem")
    assert options != ServerOptions(ssl_certfile="c.pem")


def test_more_connections_kept_than_allowed_are_refused():
    with pytest.raises(ValueError, match=r"min_connections must not be above max_connections: 6 > 5"):
        PoolOptions(min_connections=6)


def test_a_place_to_keep_the_limit_needs_a_limit():
    with pytest.raises(ValueError, match=r"rate_storage needs rate_limit"):
        PoolOptions(rate_storage="redis://cache.example.com")
    options = PoolOptions(rate_limit=1, rate_storage="redis://cache.example.com")
    assert options == PoolOptions(rate_limit=1, rate_storage="redis://cache.example.com")
    others = (None, "redis://cache.example.com:6380", "redis://:p@cache.example.com", "redis://:q@cache.example.com")
    assert len({options, *(PoolOptions(rate_limit=1, rate_storage=other) for other in others)}) == 5


def test_unknown_tls_options_are_named():
    with pytest.raises(ValueError, match=r"tls_options has unknown keys: verfy; known are ca_file, verify"):
        ServerOptions(tls_options={"verfy": False})


@pytest.mark.parametrize(
    ("username", "password", "has_login"),
    [(None, None, False), ("u", None, False), (None, "p", False), ("", "p", False), ("u", "", False), ("u", "p", True)],
)
def test_a_login_takes_name_and_password(username, password, has_login):
    assert ServerOptions(username=username, password=password).has_login is has_login


EXTERNAL = {"auth_method": "external", "ssl_certfile": "c.pem", "use_tls": True}


def test_external_is_a_login_without_name_and_password():
    for options in (EXTERNAL, {**EXTERNAL, "use_tls": False, "use_ssl": True}, {**EXTERNAL, "password": "p"}):
        assert ServerOptions(**options).has_login
        assert ServerOptions(**options).uses_certificate
    own_context = {"tls_options": {"context": "project.tls.context"}}
    assert ServerOptions(**{**EXTERNAL, **own_context, "ssl_certfile": None}).uses_certificate


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ssl_certfile": None}, "needs ssl_certfile"),
        ({"use_tls": False}, "needs use_tls or use_ssl"),
        ({"use_tls": False, "opportunistic_tls": True}, "needs use_tls or use_ssl"),
        ({"username": "u", "oauth2_token": "t"}, "exclude each other"),
        ({"oauth2_generator": len}, "exclude each other"),
    ],
)
def test_external_needs_a_certificate_and_tls_to_show_it(changes, text):
    with pytest.raises(ValueError, match=rf"^auth_method EXTERNAL .*{text}"):
        ServerOptions(**{**EXTERNAL, **changes})


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"username": "u"}, True),
        ({"password": ""}, True),
        ({"ssl_certfile": None}, False),
        ({"password": "p"}, False),
        ({"username": "u", "password": "p"}, False),
        ({"username": "u", "oauth2_token": "t"}, False),
        ({"oauth2_generator": len}, False),
        ({"auth_method": "PLAIN"}, False),
    ],
)
def test_a_certificate_is_a_login_where_there_is_nothing_else(changes, may):
    options = ServerOptions(**{"ssl_certfile": "c.pem", "use_tls": True, **changes})
    assert options.may_use_certificate is may
    assert not options.uses_certificate


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        ({}, (30, 30, 60, 120)),
        ({"timeout": 60}, (60, 60, 60, 60)),
        ({"timeout": 5}, (5, 5, 5, 5)),
        ({"timeout": 5, "data_timeout": 300}, (5, 5, 5, 300)),
        ({"timeout": 5, "greeting_timeout": 9, "connection_timeout": 7}, (7, 9, 5, 5)),
        ({"connection_timeout": 7, "data_timeout": 11}, (7, 30, 60, 11)),
    ],
)
def test_timeout_bounds_every_wait_that_has_no_option_of_its_own(given, waits):
    found = ServerOptions(**given).waits
    assert (found.connect, found.greeting, found.reply, found.end_of_data) == waits


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "unix:/run/x"])
def test_this_host_is_this_machine(host):
    assert is_loopback(host)
    assert ServerOptions(host=host).may_reveal_secret


@pytest.mark.parametrize(
    "host", ["mail.example", "localhost.example", "127.0.0.1.example", "192.0.2.1", "0.0.0.0", "::", "127.1"]
)
def test_this_host_is_not(host):
    assert not is_loopback(host)
    assert not ServerOptions(host=host).may_reveal_secret
    assert ServerOptions(host=host, allow_insecure_auth=True).may_reveal_secret


def test_a_password_is_in_no_print_of_options():
    options = ServerOptions(username="u", password="hunter2")
    for shown in (repr(options), str(options), repr(asdict_shallow(options)), repr(replace(options, port=26))):
        assert "hunter2" not in shown


def test_a_user_name_that_is_the_password_is_in_no_print_either():
    options = ServerOptions(username="hunter2", password="hunter2")
    assert "hunter2" not in repr(options)
    assert options.shown_username == "***"
    assert "username='u', password='***'" in repr(ServerOptions(username="u", password="hunter2"))


def asdict_shallow(options):
    return {spec.name: getattr(options, spec.name) for spec in fields(options)}


def test_a_password_does_not_leave_by_pickle_or_asdict():
    options = ServerOptions(password="hunter2")
    with pytest.raises(TypeError):
        pickle.dumps(options)
    with pytest.raises(TypeError):
        asdict(options)


@pytest.mark.parametrize("wrong", [{"port": 0}, {"use_tls": True, "use_ssl": True}, {"password": PASSWORD + "\0"}])
def test_a_password_is_in_no_error(wrong):
    with pytest.raises(ValueError, match=r"port|use_tls|password") as caught:
        ServerOptions(**{"password": PASSWORD, **wrong})
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_passwords_tell_apart():
    assert ServerOptions(password="a") != ServerOptions(password="b")
    assert ServerOptions(password="a") == ServerOptions(password="a")
    assert ServerOptions(password="a") != ServerOptions()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"host": "unix:lmtp"}, "absolute path"),
        ({"host": "unix:"}, "absolute path"),
        ({"host": "unix:/" + "x" * 200}, "at most 103 octets"),
        ({"host": "unix:/run/lmtp", "source_address": "127.0.0.1"}, "source_address"),
        ({"host": "unix:/run/lmtp", "use_tls": True}, "server_hostname"),
        ({"host": "unix:/run/lmtp", "opportunistic_tls": True}, "server_hostname"),
        ({"host": "unix:/run/lmtp", "proxy": "socks5://proxy.example:1080"}, "proxy cannot be used with a unix socket"),
    ],
)
def test_a_unix_socket_that_cannot_be_meant(given, problem):
    with pytest.raises(ValueError, match=problem):
        ServerOptions(**given)


def test_a_unix_socket_is_this_machine():
    server = ServerOptions(host="unix:/run/lmtp", username="user", password="secret")
    assert server.may_reveal_secret
    assert (server.place, server.detour) == ("unix:/run/lmtp", "")
    ServerOptions(host="unix:/run/smtp", use_tls=True, tls_options={"server_hostname": "mail.example.com"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_through_a_proxy_localhost_is_not_this_machine(host):
    server = ServerOptions(host=host, proxy="socks5://127.0.0.1:1080")
    assert not server.may_reveal_secret
    assert replace(server, allow_insecure_auth=True).may_reveal_secret


def test_the_server_sees_the_address_of_the_proxy():
    with pytest.raises(ValueError, match=r"^proxy and source_address exclude each other"):
        ServerOptions(proxy="socks5://proxy.example:1080", source_address="127.0.0.1")


def test_the_password_of_a_proxy_is_in_no_print_of_options():
    server = ServerOptions(proxy=f"socks5://user:{PASSWORD}@proxy.example:1080")
    assert PASSWORD not in repr(server)
    assert server.detour == " through the proxy socks5://proxy.example:1080"
    assert server != ServerOptions(proxy="socks5://user:other@proxy.example:1080")
