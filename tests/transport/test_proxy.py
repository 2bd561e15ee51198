"""Through a proxy: what it is told, what it is not, and what it may do wrong."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from certificates import Authority, server
from receiver import Receiver
from refcast.model import NetworkRules, Request, Response
from refcast.transport import Transport
from rude import Proxy, Script, drips, floods, full_queue, hang_up, nobody, raw, reset, reset_at_once, says, silent

SHORT = 0.5
PASSWORD = base64.b64encode(b"me:p\xc3\xa4ss").decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return server(authority.issue("good"))


def send(
    url: str,
    proxy: str,
    *headers: tuple[str, str],
    ca_file: Path | None = None,
    timeout: float = 30,
    rules: NetworkRules | None = None,
) -> Response:
    rules = rules or NetworkRules()
    request = Request(url, headers, b"{}", timeout, rules=rules, proxy=proxy, ca_file=str(ca_file or ""))
    return Transport().send(request)


class TestPlain:
    def test_the_proxy_is_asked_for_the_whole_url(self) -> None:
        with Proxy() as proxy:
            response = send("http://u:p@nowhere.invalid:8080/a/..//%2f?b=c", proxy.url, ("X-A", "b"))
        assert response.body == b"by proxy!"
        (head,) = proxy.heads
        place = "http://nowhere.invalid:8080/a/..//%2f?b=c"
        assert head.startswith(f"POST {place} HTTP/1.1\r\nHost: nowhere.invalid:8080\r\n")
        assert "X-A: b" in head
        assert "Proxy-Authorization" not in head

    def test_its_password_goes_to_it(self) -> None:
        with Proxy(PASSWORD) as proxy:
            assert send("http://nowhere.invalid/", proxy.url.replace("//", "//me:p%C3%A4ss@")).ok
            response = send("http://nowhere.invalid/", proxy.url)
        assert (response.status, response.error_class) == (None, "proxy")
        assert "--proxy-file" in response.error

    def test_a_status_behind_it_is_a_status(self) -> None:
        with raw(says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")) as url:
            response = send("http://nowhere.invalid/", url.removesuffix("/hook"))
        assert (response.status, response.error_class) == (502, "status")


class TestTunnel:
    def test_tls_goes_through_it_to_the_endpoint(self, authority: Authority, tls: ssl.SSLContext) -> None:
        with Receiver(tls=tls) as receiver, Proxy(PASSWORD) as proxy:
            response = send(receiver.url + "s3cret", proxy.url.replace("//", "//me:p%C3%A4ss@"), ca_file=authority.file)
            assert response.ok
            (received,) = receiver.book
        (head,) = proxy.heads
        address = f"127.0.0.1:{receiver.port}"
        assert head.split("\r\n") == [
            f"CONNECT {address} HTTP/1.1",
            f"Host: {address}",
            f"Proxy-Authorization: Basic {PASSWORD}",
            "",
        ]
        assert received.path == "/s3cret"
        assert received.header("Proxy-Authorization") is None
        assert received.header("Host") == address

    def test_the_certificate_is_the_endpoints(self, tls: ssl.SSLContext) -> None:
        with Receiver(tls=tls) as receiver, Proxy() as proxy:
            response = send(receiver.url, proxy.url)
            assert not receiver.book
        assert response.error_class == "tls"

    def test_a_request_cannot_bring_headers_for_it(self) -> None:
        with Proxy() as proxy:
            response = send("http://nowhere.invalid/", proxy.url, ("proxy-authorization", "Basic s3cret"))
            assert not proxy.heads
        assert response.error_class == "protocol"
        assert "s3cret" not in response.error

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (says(b"HTTP/1.1 407 s3cret\r\n\r\n"), "wants a user name"),
            (says(b"HTTP/1.1 403 s3cret\r\n\r\n"), "does not connect to nowhere.invalid:443: HTTP 403"),
            (says(b"HTTP/1.1 302 Found\r\nLocation: http://s3cret\r\n\r\n"), "HTTP 302"),
            (says(b"HTTP/1.1 100 Continue\r\n\r\n"), "HTTP 100"),
            (says(b"s3cret\r\n\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1 2\xb2\xb2 s3cret\r\n\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1 2000 s3cret\r\n\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1\r\n\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1 200 OK\r\n\r\ns3cret"), "sent something after"),
            (says(b""), "closed the connection"),
            (says(b"HTTP/1.1 200 OK\r\n"), "closed the connection"),
            (reset, "closed the connection"),
            (reset_at_once, "closed the connection"),
            (hang_up, "closed the connection"),
            (floods(b"", b"s3cret" * 10_000), "does not end within 16 KiB"),
            (floods(b"HTTP/1.1 200 OK\r\n", b"s3cret: a\r\n" * 1000), "does not end within 16 KiB"),
        ],
    )
    def test_what_it_may_do_wrong(self, script: Script, words: str) -> None:
        with raw(script) as url:
            response = send("https://nowhere.invalid/", url.removesuffix("/hook").replace("//", "//s3cret:s3cret@"))
        assert (response.status, response.error_class) == (None, "proxy")
        assert words in response.error
        assert "s3cret" not in response.error

    @pytest.mark.parametrize("script", [silent, drips(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), drips(b"", b"H")])
    def test_the_deadline_holds(self, script: Script) -> None:
        with raw(script) as url:
            assert send("https://nowhere.invalid/", url.removesuffix("/hook"), timeout=SHORT).error_class == "timeout"

    def test_what_is_no_tls_behind_it(self) -> None:
        with Receiver() as receiver, Proxy() as proxy:
            assert send(receiver.url.replace("http", "https"), proxy.url).error_class == "tls"


class TestReach:
    def test_a_proxy_that_is_not_there(self) -> None:
        with nobody() as url:
            response = send("http://nowhere.invalid/", url.rstrip("/"))
        assert response.error_class == "proxy"
        assert response.error.startswith("the proxy: no connection to 127.0.0.1 port ")

    def test_a_proxy_that_does_not_take_connections(self) -> None:
        with full_queue() as url:
            assert send("http://nowhere.invalid/", url.rstrip("/"), timeout=4 * SHORT).error_class == "proxy"

    def test_the_rules_hold_for_the_proxy(self) -> None:
        with Proxy() as proxy:
            response = send("http://nowhere.invalid/", proxy.url, rules=NetworkRules(refuse=("127.0.0.0/8",)))
            assert not proxy.heads
        assert response.error_class == "blocked"
        assert response.error.startswith("the proxy: 127.0.0.1 is in 127.0.0.0/8")

    @pytest.mark.parametrize("url", ["http://169.254.169.254/", "https://2852039166/", "https://[::ffff:a9fe:a9fe]/"])
    def test_the_rules_hold_for_an_address_behind_it(self, url: str) -> None:
        with Proxy() as proxy:
            assert send(url, proxy.url).error_class == "blocked"
            assert not proxy.heads

    @pytest.mark.parametrize(
        "proxy", ["https://127.0.0.1:1", "socks5://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1", "none"]
    )
    def test_what_is_no_proxy(self, proxy: str) -> None:
        assert send("http://127.0.0.1:1/", proxy).error_class == "proxy"
