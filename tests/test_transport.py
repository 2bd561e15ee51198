"""Every guard against a real socket on loopback: good endpoints, rude ones, and none at all."""

from __future__ import annotations

import base64
import gzip
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests import PreparedRequest
from requests.adapters import HTTPAdapter

from receiver import Receiver
from refcast.model import Request, Response
from refcast.transport import BODY_KEPT, BODY_READ, HEADER_BYTES_KEPT, Transport
from refcast.transport.exchange import PARTS_READ
from rude import Script, drips, full_queue, nobody, raw, reset, says, silent, take

SHORT = 0.5
"""Seconds that an exchange gets which cannot end by itself."""
LONGER = 2.0
"""... and of which something has to get across before, on a busy machine too."""


def send(
    url: str, *headers: tuple[str, str], body: bytes = b"{}", timeout: float = 30, verify: bool = True
) -> Response:
    transport = Transport()
    response = transport.send(Request(url, headers, body, timeout, verify))
    transport.close()
    return response


class TestAnswers:
    def test_2xx(self) -> None:
        with Receiver() as receiver:
            receiver.answers([(201, [("X-Id", "7"), ("X-Id", "8")], b"made")])
            response = send(receiver.url + "hook?a=b%20c")
            assert receiver.book[0].path == "/hook?a=b%20c"
            assert receiver.book[0].method == "POST"
        assert response.ok
        assert (response.status, response.body, response.error_class, response.error) == (201, b"made", "", "")
        assert response.headers[:2] == (("X-Id", "7"), ("X-Id", "8"))
        assert response.duration > 0

    @pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
    def test_an_answer_outside_2xx_is_kept(self, status: int) -> None:
        with Receiver(lambda _: (status, [("Retry-After", "9")], b"no")) as receiver:
            response = send(receiver.url)
        assert (response.status, response.body) == (status, b"no")
        assert (response.error_class, response.error) == ("status", f"HTTP {status}")
        assert ("Retry-After", "9") in response.headers

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, status: int) -> None:
        with Receiver() as receiver:
            receiver.answers([(status, [("Location", receiver.url + "login")], b"")])
            assert send(receiver.url).error_class == "status"
            assert len(receiver.book) == 1

    def test_503_with_retry_after_is_not_repeated_by_a_library(self) -> None:
        with Receiver(lambda _: (503, [("Retry-After", "1")], b"")) as receiver:
            send(receiver.url)
            assert len(receiver.book) == 1

    def test_a_dropped_request_is_not_repeated_by_a_library(self) -> None:
        with Receiver(lambda _: None) as receiver:
            response = send(receiver.url)
            assert len(receiver.book) == 1
        assert response.status is None
        assert (response.error_class, response.error) == (
            "protocol",
            "the connection was closed before an answer came",
        )

    def test_a_2xx_whose_body_breaks_off_is_still_a_2xx(self) -> None:
        with raw(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")) as url:
            response = send(url)
        assert response.ok
        assert (response.body, response.error_class) == (b"half", "")
        assert response.error == "the body broke off"

    def test_an_answer_before_the_whole_body_was_taken(self) -> None:
        def early(connection: socket.socket) -> None:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            silent(connection)

        with raw(early) as url:
            assert send(url, body=b"x" * 1_000_000).status == 413

    def test_an_answer_from_one_that_hangs_up_on_a_large_body(self) -> None:
        def curt(connection: socket.socket) -> None:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

        with raw(curt) as url:
            for size in (2000, 5_000_000):
                assert send(url, body=b"x" * size).status == 413

    def test_interim_answers_come_before(self) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 3
        with raw(says(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + b"HTTP/1.1 201 Made\r\nX-A: b\r\n\r\nok")) as url:
            response = send(url)
        assert (response.status, response.body, response.headers) == (201, b"ok", (("X-A", "b"),))

    def test_a_folded_header_is_one_line(self) -> None:
        with raw(says(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\t c\r\n  d\r\nX-E: f\r\n\r\n")) as url:
            assert send(url).headers == (("X-A", "b c d"), ("X-E", "f"))

    def test_requests_makes_the_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[object] = []
        real = HTTPAdapter.send

        def seen(self: HTTPAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> object:
            sent.append((request.method, request.body))
            return real(self, request, *args, **kwargs)

        monkeypatch.setattr(HTTPAdapter, "send", seen)
        with Receiver() as receiver:
            assert send(receiver.url, body=b"b").ok
        assert sent == [("POST", b"b")]

    def test_many_threads_share_one_transport(self) -> None:
        transport = Transport()

        def one(number: int) -> bytes:
            body = b"%d" % number
            return transport.send(Request(receiver.url, (), body, 30)).body

        with Receiver(lambda received: (200, (), received.body)) as receiver, ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(100))) == [b"%d" % number for number in range(100)]


class TestRequest:
    def test_only_the_given_headers_go_out(self) -> None:
        given = (("User-Agent", "GogsServer"), ("X-Gogs-Event", "push"), ("X-Twice", "1"), ("X-Twice", "2"))
        with Receiver() as receiver:
            assert send(receiver.url, *given, body='{"ü":1}'.encode()).ok
            (received,) = receiver.book
        assert received.body == '{"ü":1}'.encode()
        framing = {"Host": f"127.0.0.1:{receiver.port}", "Content-Length": "8"}
        framing |= {"Connection": "close", "Accept-Encoding": "identity"}
        rest = received.headers
        for pair in framing.items():
            rest.remove(pair)
        assert sorted(rest) == sorted(given)

    def test_no_user_agent_of_a_library(self) -> None:
        with Receiver() as receiver:
            assert send(receiver.url).ok
            assert receiver.book[0].header("User-Agent") is None

    @pytest.mark.parametrize(
        ("place", "sent"),
        [
            ("", "/"),
            ("?a=b", "/?a=b"),
            ("/a%2Fb/%7Ec?d=%20&e=f/g", "/a%2Fb/%7Ec?d=%20&e=f/g"),
            ('/ü/100%?q=é<>"', "/%C3%BC/100%25?q=%C3%A9%3C%3E%22"),
            ("/a/.//%7e%2f?%c3%bc", "/a/.//%7e%2f?%c3%bc"),
            ("/a/../b;c=d,e:@!$&'()*+[]", "/a/../b;c=d,e:@!$&'()*+[]"),
        ],
    )
    def test_a_path_goes_out_as_it_is_written(self, place: str, sent: str) -> None:
        with Receiver() as receiver:
            assert send(receiver.url.removesuffix("/") + place).ok
            assert receiver.book[0].path == sent

    def test_an_empty_body_has_a_length(self) -> None:
        with Receiver() as receiver:
            assert send(receiver.url, body=b"").ok
            assert receiver.book[0].header("Content-Length") == "0"

    @pytest.mark.parametrize(
        ("userinfo", "credentials"),
        [("user:pass", b"user:pass"), ("us%40r:p%3Aa%2Fss", b"us@r:p:a/ss"), ("t%C3%B6ken", "töken:".encode())],
    )
    def test_userinfo_becomes_basic_authentication(self, userinfo: str, credentials: bytes) -> None:
        with Receiver() as receiver:
            assert send(f"http://{userinfo}@127.0.0.1:{receiver.port}/").ok
            (received,) = receiver.book
        assert received.header("Authorization") == "Basic " + base64.b64encode(credentials).decode()
        assert received.header("Host") == f"127.0.0.1:{receiver.port}"

    def test_an_authorization_header_comes_first(self) -> None:
        with Receiver() as receiver:
            assert send(f"http://a:b@127.0.0.1:{receiver.port}/", ("authorization", "Bearer x")).ok
            assert [v for n, v in receiver.book[0].headers if n.lower() == "authorization"] == ["Bearer x"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-Token", "s3cret\r\nX-Evil: 1"),
            ("X-Token", "s3cret\n"),
            ("X-Token", "s3cret\x00"),
            ("X-Token", "s3cret €"),
            ("X-Tok en", "s3cret"),
            ("X-Tok\n", "s3cret"),
            ("", "s3cret"),
            ("Content-Length", "3"),
            ("transfer-encoding", "chunked"),
            ("Connection", "keep-alive"),
            ("Host", "s3cret"),
            ("Proxy-Authorization", "s3cret"),
        ],
    )
    def test_a_header_that_cannot_be_sent_is_refused(self, name: str, value: str) -> None:
        with Receiver() as receiver:
            response = send(receiver.url, (name, value))
            assert not receiver.book
        assert response.error_class == "protocol"
        assert response.error.isprintable()
        assert "s3cret" not in response.error

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "http://127.0.0.1:0/", "http://a b/", "http://["])
    def test_a_url_that_cannot_be_used_is_refused(self, url: str) -> None:
        assert send(url).error_class == "protocol"

    def test_nothing_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1/")
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password s3cret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with Receiver() as receiver:
            assert send(receiver.url).ok
            assert receiver.book[0].header("Authorization") is None


class TestDeadline:
    @pytest.mark.parametrize(
        "script",
        [
            silent,
            drips(b"", b"H"),
            drips(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"a"),
            drips(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
            drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ],
        ids=["never answers", "status line", "one header", "many headers", "continue"],
    )
    def test_an_endpoint_that_does_not_answer_in_time(self, script: Script) -> None:
        with raw(script) as url:
            response = send(url, timeout=SHORT)
        assert response.status is None
        assert (response.error_class, response.error) == ("timeout", "no answer within 0.5 s")

    def test_an_endpoint_that_does_not_read(self) -> None:
        free = threading.Event()

        def deaf(_: socket.socket) -> None:
            free.wait()

        with raw(deaf) as url:
            response = send(url, body=bytes(30_000_000), timeout=SHORT)
            free.set()
        assert response.error_class == "timeout"

    @pytest.mark.parametrize(("status", "error_class"), [(200, ""), (500, "status")])
    @pytest.mark.parametrize("framing", ["Content-Length: 100000\r\n", ""])
    def test_a_dripping_body_ends_and_the_status_stands(self, status: int, error_class: str, framing: str) -> None:
        with raw(drips(f"HTTP/1.1 {status} X\r\n{framing}\r\n".encode(), b"z")) as url:
            response = send(url, timeout=LONGER)
        assert (response.status, response.error_class) == (status, error_class)
        assert response.body.startswith(b"zz")
        assert "deadline" in response.error or status == 500

    def test_a_dripping_chunked_body_ends(self) -> None:
        with raw(drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n")) as url:
            response = send(url, timeout=LONGER)
        assert response.ok
        assert response.body.startswith(b"zz")

    def test_a_connection_that_is_not_taken(self) -> None:
        with full_queue() as url:
            response = send(url, timeout=SHORT)
        assert response.error_class == "timeout"

    def test_a_tls_handshake_that_is_not_answered(self) -> None:
        with raw(silent) as url:
            response = send(url.replace("http", "https"), timeout=SHORT)
        assert (response.error_class, "TLS" in response.error) == ("timeout", True)

    def test_a_tls_handshake_that_drips(self) -> None:
        with raw(drips(b"\x16\x03\x03\x40\x00", b"\x02")) as url:
            assert send(url.replace("http", "https"), timeout=SHORT).error_class == "timeout"


class TestBounds:
    def test_an_endless_body_is_cut(self) -> None:
        sent = 0

        def endless(connection: socket.socket) -> None:
            nonlocal sent
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                sent += connection.send(b"z" * 65536)

        with raw(endless) as url:
            response = send(url)
        assert response.ok
        assert response.body == b"z" * BODY_KEPT
        # What the client did not read can only be in the buffers of the two sockets.
        assert sent < BODY_READ + 20_000_000

    def test_a_compressed_body_is_not_unpacked(self) -> None:
        bomb = gzip.compress(bytes(20_000_000))
        with Receiver(lambda _: (200, [("Content-Encoding", "gzip")], bomb)) as receiver:
            response = send(receiver.url)
            assert receiver.book[0].header("Accept-Encoding") == "identity"
        assert response.ok
        assert response.body == bomb[:BODY_KEPT]

    @pytest.mark.parametrize(("hints", "status"), [(100, 200), (101, None)])
    def test_interim_answers_are_counted(self, hints: int, status: int | None) -> None:
        with raw(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * hints + b"HTTP/1.1 200 OK\r\n\r\n")) as url:
            assert send(url).status == status

    def test_a_body_of_the_smallest_chunks_is_cut(self) -> None:
        with raw(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nz\r\n" * 20_000)) as url:
            response = send(url)
        assert (response.status, response.error) == (200, "")
        assert response.body == b"z" * PARTS_READ

    def test_headers_are_kept_in_bounds_and_small_ones_survive(self) -> None:
        headers = [("X-Large", "z" * 20_000), *[("X-Mid", "z" * 1000)] * 12, ("Retry-After", "5")]
        with Receiver(lambda _: (503, headers, b"")) as receiver:
            response = send(receiver.url)
        assert ("Retry-After", "5") in response.headers
        assert 7000 < sum(len(n) + len(v) for n, v in response.headers) <= HEADER_BYTES_KEPT

    @pytest.mark.parametrize("flood", [b"a: b\r\n" * 1000, b"a: " + b"b" * 100_000 + b"\r\n", b"b" * 100_000])
    def test_a_flood_of_headers_is_refused(self, flood: bytes) -> None:
        with raw(says(b"HTTP/1.1 200 OK\r\n" + flood + b"\r\n\r\n")) as url:
            response = send(url)
        assert (response.status, response.error_class) == (None, "protocol")


class TestFailures:
    def test_a_name_that_does_not_resolve(self) -> None:
        response = send("http://nonexistent.invalid/hook?token=s3cret")
        assert response.error_class == "dns"
        assert response.error.startswith("the name nonexistent.invalid does not resolve")

    def test_a_refused_connection(self) -> None:
        with nobody() as url:
            response = send(url)
        assert response.error_class == "connect"
        assert response.error.startswith("no connection to 127.0.0.1 port ")
        assert response.error.endswith(": Connection refused")

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (reset, "closed before an answer"),
            (says(b""), "closed before an answer"),
            (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1 abc OK\r\n\r\n"), "not proper HTTP"),
            (says(b"HTTP/1.1 99 OK\r\n\r\n"), "not proper HTTP"),
            (says(b"\x00\xff" * 200), "not proper HTTP"),
            (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx"), ""),
        ],
        ids=["reset", "empty", "ssh", "no number", "small number", "binary", "two lengths"],
    )
    def test_what_is_no_answer(self, script: Script, words: str) -> None:
        with raw(script) as url:
            response = send(url)
        assert (response.status, response.error_class) == (None, "protocol")
        assert words in response.error

    def test_no_secret_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        scripts = [
            reset,
            says(b""),
            says(b"s3cret\r\n"),
            says(b"HTTP/1.1 s3cret s3cret\r\n\r\n"),
            says(b"HTTP/1.1 500 s3cret\r\n\r\n"),
            says(b"HTTP/1.1 500 X\r\ns3cret\r\nContent-Length: 1,s3cret\r\n\r\n"),
            drips(b"HTTP/1.1 200 OK\r\n", b""),
        ]
        errors = []
        for script in scripts:
            with raw(script) as url:
                address = url.removeprefix("http://")
                for scheme in ("http", "https"):
                    hook = f"{scheme}://s3cret:s3cret@{address}?token=s3cret"
                    errors.append(send(hook, ("X-Token", "s3cret"), timeout=SHORT).error)
        errors.append(send("http://s3cret:s3cret@nonexistent.invalid/?s3cret").error)
        errors.append(send("http://s3cret:s3cret@[::1/?s3cret").error)
        errors.append(send("http://s3cret:s3cret/@host/?s3cret").error)
        assert all(error and error.isprintable() for error in errors)
        told = "\n".join([*errors, caplog.text])
        assert "s3cret" not in told
        assert base64.b64encode(b"s3cret:s3cret").decode() not in told

    def test_any_bytes_make_a_response(self) -> None:
        answers: list[bytes] = []

        def script(connection: socket.socket) -> None:
            take(connection)
            connection.sendall(answers[-1])

        line = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 500", b"HTTP/1.1 204 N", b"HTTP/1.1 301 M", b""])
        header = st.sampled_from(
            [
                *(b"Content-Length: -1", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
                *(b"Content-Encoding: gzip", b"Content-Encoding: zstd, br", b"Location: http://["),
                *(b"Content-Type: a; charset=\xff", b"Set-Cookie: a=b; expires=x; max-age=y"),
                *(b"Connection: keep-alive", b" folded", b"no colon", b": "),
            ]
        )
        answer = st.builds(
            lambda start, headers, rest: b"\r\n".join([start, *headers, b"", rest]),
            line,
            st.lists(header | st.binary(max_size=20), max_size=4),
            st.binary(max_size=40) | st.just(b"5\r\nhello\r\n0\r\n\r\n"),
        )

        with raw(script) as url:

            @settings(deadline=None)
            @given(answer | st.binary(max_size=100))
            def any_answer(answer: bytes) -> None:
                answers.append(answer)
                response = send(url)
                assert response.status is not None or response.error_class == "protocol"
                assert response.error.isprintable()

            any_answer()
