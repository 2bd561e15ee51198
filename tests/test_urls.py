"""Which URLs can be sent to, and that a shown one keeps its secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcast.errors import BadInput
from refcast.urls import check_proxy, check_url, masked


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example",
        "https://hooks.example/a/b?c=d&e",
        "HTTPS://Hooks.Example:8443/",
        "http://127.0.0.1:8080/x",
        "http://[::1]:8080/x",
        "http://build_host/x",
        "http://user:p%40ss@hooks.example/",
        "https://bücher.example/ö",
        "http://hooks.example./",
    ],
)
def test_a_usable_url_passes(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "http://"),
        ("hooks.example/x", "http://"),
        ("ftp://hooks.example/x", "http://"),
        ("http:/hooks.example", "http://"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://user:s3cret@/", "host"),
        ("http://:80/", "host"),
        ("http://a..b/", "host"),
        ("http://a<b>/", "host"),
        ("http://" + "a" * 64 + ".example/", "host"),
        ("http://[::1/", "host"),
        ("http://[s3cret]/", "host"),
        ("http://host:0/", "port"),
        ("http://host:65536/", "port"),
        ("http://host:s3cret/", "port"),
        ("http://user:s3cret/more@host/", "port"),
        ("http://host/#s3cret", "#"),
        ("http://user:s3#cret@host/", "#"),
        ("http://host/a b", "space"),
        ("http://host/a\nb", "space"),
        ("http://host/\x00", "control"),
        ("http://host/\u3000", "space"),
        ("http://good\\@host/", "backslash"),
        (" http://host/", "space"),
        ("http://straße.example/", "xn--"),
    ],
)
def test_an_unusable_one_is_refused_in_one_line(url: str, word: str) -> None:
    with pytest.raises(BadInput) as raised:
        check_url(url)
    message = str(raised.value)
    assert word in message
    assert "\n" not in message
    assert "s3cret" not in message


@given(st.text())
def test_any_text_is_judged_and_shown(text: str) -> None:
    assert masked(text).isprintable()
    try:
        check_url(text)
    except BadInput as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/a/b", "https://hooks.example/a/b"),
        ("http://user:s3cret@host:8080/a", "http://***@host:8080/a"),
        ("http://s3cret@host/@scope/a", "http://***@host/@scope/a"),
        ("https://host/a?token=s3cret&s3cret&b=", "https://host/a?token=***&***&b=***"),
        ("https://host?t=s3=cret", "https://host?t=***"),
        ("http://user:p@s3cret@host/", "http://***@host/"),
        ("http://user:s3cret/more@host/", "***"),
        ("user:s3cret@host", "***"),
        ("https://host/#s3cret", "https://host/"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_masked_hides_userinfo_and_query_values(url: str, shown: str) -> None:
    assert masked(url) == shown


@given(st.from_regex(r"[A-Za-z0-9%._~!$&'()*+,;=:-]{1,20}", fullmatch=True))
def test_no_userinfo_is_shown(userinfo: str) -> None:
    assert masked(f"https://{userinfo}@host.example/path") == "https://***@host.example/path"


class TestProxy:
    @pytest.mark.parametrize(
        "proxy", ["http://proxy:3128", "http://proxy:3128/", "http://user:p%40ss@10.0.0.1:80", "http://[::1]:8080"]
    )
    def test_a_usable_one_passes(self, proxy: str) -> None:
        check_proxy(proxy)

    @pytest.mark.parametrize(
        ("proxy", "word"),
        [
            ("", "http://"),
            ("proxy:3128", "http://"),
            ("https://s3cret:s3cret@proxy:3128", "http://host:port"),
            ("socks5://s3cret@proxy:1080", "http://"),
            ("http://s3cret@proxy", "http://host:port"),
            ("http://proxy:3128/s3cret", "without a path"),
            ("http://proxy:3128/?s3cret", "without a path"),
            ("http://proxy:3128?", "without a path"),
            ("http://proxy:s3cret", "port"),
        ],
    )
    def test_another_is_refused_in_one_line_that_tells_no_secret(self, proxy: str, word: str) -> None:
        with pytest.raises(BadInput) as caught:
            check_proxy(proxy)
        message = str(caught.value)
        assert word in message
        assert "s3cret" not in message
        assert "\n" not in message
