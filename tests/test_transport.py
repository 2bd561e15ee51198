"""Every guard against a real socket on loopback: good endpoints, rude ones, and none at all."""

from __future__ import annotations

import base64
import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver import Receiver
from refcast.model import Request, Response
from refcast.transport import BODY_KEPT, BODY_READ, HEADER_BYTES_KEPT, Transport
from refcast.transport.connect import tls_context

SHORT = 0.5
"""Seconds that an exchange gets which cannot end by itself."""

Script = Callable[[socket.socket], None]


def send(
    url: str, *headers: tuple[str, str], body: bytes = b"{}", timeout: float = 30, verify: bool = True
) -> Response:
    transport = Transport()
    response = transport.send(Request(url, headers, body, timeout, verify))
    transport.close()
    return response


@contextlib.contextmanager
def raw(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL of a server that runs `script` on each connection, one after the other, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    if tls is None:
                        script(connection)
                    else:
                        with tls.wrap_socket(connection, server_side=True) as wrapped:
                            script(wrapped)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/hook"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def take(connection: socket.socket) -> None:
    """Read a request whose body is `{}`. To close on unread bytes would be a reset."""
    came = b""
    while not came.endswith(b"\r\n\r\n{}") and (part := connection.recv(65536)):
        came += part


def says(answer: bytes) -> Script:
    """Read the request, answer with these bytes, and close."""

    def script(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(answer)

    return script


def drips(start: bytes, drop: bytes) -> Script:
    """Read the request, begin the answer, and go on byte by byte until the client hangs up."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        connection.settimeout(0.02)
        while True:
            connection.sendall(drop)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return

    return script


def silent(connection: socket.socket) -> None:
    """Take whatever comes until the client hangs up."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    take(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


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
            response = send(url, timeout=SHORT)
        assert (response.status, response.error_class) == (status, error_class)
        assert response.body.startswith(b"zz")
        assert "deadline" in response.error or status == 500

    def test_a_dripping_chunked_body_ends(self) -> None:
        with raw(drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n")) as url:
            response = send(url, timeout=SHORT)
        assert response.ok
        assert response.body.startswith(b"zz")

    def test_a_connection_that_is_not_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
            for _ in range(4):  # fill its queue
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
            response = send(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=SHORT)
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
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))  # and does not listen
            port = held.getsockname()[1]
            response = send(f"http://127.0.0.1:{port}/")
        assert response.error_class == "connect"
        assert response.error == f"no connection to 127.0.0.1 port {port}: Connection refused"

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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=refcast test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def secure(server: ssl.SSLContext) -> Iterator[Receiver]:
    with Receiver(tls=server) as receiver:
        yield receiver


class TestTLS:
    def test_an_untrusted_certificate_is_refused(self, secure: Receiver) -> None:
        response = send(secure.url)
        assert not secure.book
        assert response.error_class == "tls"
        assert response.error == "the certificate of 127.0.0.1 is refused: self-signed certificate"

    def test_the_environment_cannot_make_it_trusted(
        self, secure: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(certificate[0]))
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        assert send(secure.url).error_class == "tls"
        assert send(secure.url, verify=False).ok
        assert not (tmp_path / "keys").exists()

    def test_unless_the_endpoint_says_so(self, secure: Receiver) -> None:
        secure.answer = lambda received: (200, (), received.body)
        body = b"z" * 10_000
        response = send(secure.url + "hook", ("X-A", "b"), body=body, verify=False)
        assert (response.status, response.body) == (200, body)
        assert secure.book[0].header("Host") == f"127.0.0.1:{secure.port}"

    def test_one_verified_and_one_unverified_do_not_mix(self, secure: Receiver) -> None:
        transport = Transport()
        verdicts = [
            transport.send(Request(secure.url, (), b"", 30, verify)).ok for verify in (False, True, False, True)
        ]
        assert verdicts == [True, False, True, False]

    def test_a_trusted_certificate_is_accepted_for_its_name_alone(
        self, secure: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = tls_context(verify=True)
        context.load_verify_locations(cafile=certificate[0])
        transport = Transport()
        monkeypatch.setattr(transport, "_context", lambda verify: context)
        assert transport.send(Request(secure.url, (), b"", 30)).ok
        response = transport.send(Request(secure.url.replace("127.0.0.1", "localhost"), (), b"", 30))
        assert response.error_class == "tls"
        assert "mismatch" in response.error

    def test_no_tls_at_the_other_end(self) -> None:
        with Receiver() as receiver:
            response = send(receiver.url.replace("http", "https"))
        assert response.error_class == "tls"

    def test_plain_http_to_a_tls_port(self, secure: Receiver) -> None:
        assert send(secure.url.replace("https", "http")).status is None

    def test_a_client_certificate_is_wanted(self, server: ssl.SSLContext) -> None:
        server.verify_mode = ssl.CERT_REQUIRED
        with raw(silent, server) as url:
            assert send(url, verify=False).error_class in {"tls", "protocol"}

    def test_a_dripping_answer_over_tls_ends(self, server: ssl.SSLContext) -> None:
        with raw(drips(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"a"), server) as url:
            assert send(url, timeout=SHORT, verify=False).error_class == "timeout"
        with raw(drips(b"HTTP/1.1 200 OK\r\n\r\n", b"z"), server) as url:
            assert send(url, timeout=SHORT, verify=False).body.startswith(b"zz")

    def test_an_endpoint_that_does_not_read_over_tls(self, server: ssl.SSLContext) -> None:
        free = threading.Event()

        def deaf(_: socket.socket) -> None:
            free.wait()

        with raw(deaf, server) as url:
            response = send(url, body=bytes(30_000_000), timeout=SHORT, verify=False)
            free.set()
        assert response.error_class == "timeout"
