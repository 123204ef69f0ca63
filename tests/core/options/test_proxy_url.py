"""The URL of a proxy: what it takes, what is read out of it, and that nobody sees its password."""

import pickle
import traceback

import pytest

from django_smtp_pool.core.options.proxy_url import ProxyURL, proxy_url

# URL: (is HTTP, resolves, host, port, user, password, what is shown)
GOOD = {
    "socks5://127.0.0.1:1080": (False, False, "127.0.0.1", 1080, None, None, "socks5://127.0.0.1:1080"),
    "socks5h://proxy.example:1080/": (False, True, "proxy.example", 1080, None, None, "socks5h://proxy.example:1080"),
    "http://[2001:db8::1]:3128": (True, True, "2001:db8::1", 3128, None, None, "http://[2001:db8::1]:3128"),
    "socks5://ann:hidden@proxy.example:9": (
        False,
        False,
        "proxy.example",
        9,
        "ann",
        "hidden",
        "socks5://proxy.example:9",
    ),
    "http://ann:@proxy.example:80": (True, True, "proxy.example", 80, "ann", "", "http://proxy.example:80"),
    "http://a%40b:hid%2Fden%3A%25@p:8080": (True, True, "p", 8080, "a@b", "hid/den:%", "http://p:8080"),
    "http://a:hid:den@p:8080": (True, True, "p", 8080, "a", "hid:den", "http://p:8080"),
    "http://%C3%A9:hidden@p:8080": (True, True, "p", 8080, "é", "hidden", "http://p:8080"),
}

BAD = [
    "proxy.example:1080",
    "//proxy.example:1080",
    "socks4://proxy.example:1080",
    "https://ann:hidden@proxy.example:443",
    "ftp://ann:hidden@proxy.example:21",
    "socks5://proxy.example",
    "socks5://:1080",
    "socks5://ann:hidden@:1080",
    "socks5://proxy.example:0",
    "socks5://proxy.example:65536",
    "socks5://proxy.example:x",
    "socks5://ann:hidden@proxy.example:1080/path",
    "socks5://ann:hidden@proxy.example:1080?query",
    "socks5://ann:hidden@proxy.example:1080#fragment",
    "socks5://ann:hid/den@proxy.example:1080",
    "socks5://ann:hid#den@proxy.example:1080",
    "socks5://ann:hid@den@proxy.example:1080",
    "socks5://ann:hid den@proxy.example:1080",
    "socks5://ann:hidden@proxy.example:1080\n",
    "socks5://ann:hidden@proxy\r\n.example:1080",
    "socks5://ann:hid\\den@proxy.example:1080",
    "socks5://ann:hidäden@proxy.example:1080",
    "socks5://ann:hidden@[::1:1080",
    "socks5://ann@proxy.example:1080",
    "socks5://ann:@proxy.example:1080",
    "socks5://:hidden@proxy.example:1080",
    "http://:hidden@proxy.example:1080",
    "http://hidden@proxy.example:1080",
    "http://a%3Ab:hidden@proxy.example:1080",
    "http://%E9:hidden@proxy.example:1080",
    "http://ann:hidden%E2%82%AC@proxy.example:1080",
    "socks5://ann:hidden%C3%A9@proxy.example:1080",
    f"socks5://ann:{'hidden' * 50}@proxy.example:1080",
    f"socks5://{'a' * 256}:hidden@proxy.example:1080",
    "",
]


@pytest.mark.parametrize(("url", "read"), GOOD.items())
def test_what_is_read_out_of_a_url(url, read):
    it = proxy_url(url)
    assert (it.is_http, it.resolves, it.host, it.port, it.username, it.password, it.place) == read
    assert it == proxy_url(it) == ProxyURL(url)
    assert hash(it) == hash(proxy_url(url))


@pytest.mark.parametrize("url", GOOD)
def test_nobody_sees_the_password(url):
    it = proxy_url(url)
    for shown in (repr(it), str(it), it.place):
        assert "hid" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(it)


@pytest.mark.parametrize("url", [*BAD, None, 1, b"socks5://proxy.example:1080"])
def test_what_is_no_good(url):
    with pytest.raises(ValueError, match=r"^(must|needs) ") as caught:
        proxy_url(url)
    assert "hid" not in "".join(traceback.format_exception(caught.value))
