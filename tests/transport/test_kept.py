"""Requests that follow one another over one connection: when they may, and what befalls them there."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Authority, server
from receiver import Receiver
from refcast.model import NetworkRules, Request
from refcast.transport import BODY_READ, SENT_TWICE, Kept, Transport, kept
from rude import Proxy, drips, raw, take

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
WAIT = b"wait"
"""In place of an answer: be silent until the client hangs up."""
NONE = b""
"""In place of an answer: close the connection."""

SHORT = 0.5


class Talks:
    """A server that gives each connection its own answers, and closes it after the last of them.

    `book` has the bodies of the requests that came, by connection."""

    def __init__(self, *connections: list[bytes], tls: ssl.SSLContext | None = None) -> None:
        self.book: list[list[bytes]] = []
        self.heads: list[bytes] = []
        self.over = threading.Semaphore(0)
        """Released for each connection that has ended."""
        self._left = list(connections)
        self._tls = tls
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Talks:
        self.url = self._stack.enter_context(raw(self._serve, self._tls))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(self, connection: socket.socket) -> None:
        mine: list[bytes] = []
        self.book.append(mine)
        try:
            for answer in self._left.pop(0):
                came = connection.recv(65536)  # a small request comes in one piece
                if not came:
                    return
                self.heads.append(came.partition(b"\r\n\r\n")[0])
                mine.append(came.partition(b"\r\n\r\n")[2])
                if answer == WAIT:
                    connection.recv(65536)
                elif answer:
                    connection.sendall(answer)
            if isinstance(connection, ssl.SSLSocket):
                connection.unwrap()  # as servers close; it also waits for the client to have read
        finally:
            connection.close()
            self.over.release()


@pytest.fixture
def line() -> Iterator[Kept]:
    with contextlib.closing(Kept()) as made:
        yield made


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def request(url: str, body: bytes = b"1", timeout: float = 30, **more: str) -> Request:
    return Request(url, (("X-A", "b"),), body, timeout, **more)  # type: ignore[arg-type]


class TestTogether:
    def test_requests_in_a_row_have_one_connection(self, transport: Transport, line: Kept) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        with Talks([OK, EMPTY, chunked, OK, WAIT]) as talks:
            answers = [transport.send(request(talks.url, b"%d" % number), line) for number in range(4)]
            line.close()
        assert talks.book == [[b"0", b"1", b"2", b"3"]]
        assert [(one.status, one.body, one.error) for one in answers] == [
            (200, b"ok", ""),
            (204, b"", ""),
            (200, b"ok", ""),
            (200, b"ok", ""),
        ]
        assert not any(b"Connection" in head for head in talks.heads)

    def test_without_it_each_request_has_its_own_and_says_so(self, transport: Transport) -> None:
        with Talks([OK, OK], [OK, OK]) as talks:
            assert transport.send(request(talks.url)).ok
            assert transport.send(request(talks.url)).ok
        assert talks.book == [[b"1"], [b"1"]]
        assert all(b"\r\nConnection: close" in head for head in talks.heads)

    def test_over_tls(self, transport: Transport, line: Kept, authority: Authority) -> None:
        with Talks([OK, OK, WAIT], tls=server(authority.issue("good"))) as talks:
            assert transport.send(request(talks.url, ca_file=str(authority.file)), line).ok
            assert transport.send(request(talks.url, ca_file=str(authority.file)), line).ok
            line.close()
        assert talks.book == [[b"1", b"1"]]

    def test_through_a_tunnel(self, transport: Transport, line: Kept, authority: Authority) -> None:
        with Talks([OK, OK, WAIT], tls=server(authority.issue("good"))) as talks, Proxy() as proxy:
            for _ in range(2):
                assert transport.send(request(talks.url, ca_file=str(authority.file), proxy=proxy.url), line).ok
            line.close()
        assert talks.book == [[b"1", b"1"]]
        assert len(proxy.heads) == 1

    def test_its_end_is_the_connections(self, transport: Transport) -> None:
        with Talks([OK, OK]) as talks, contextlib.closing(Kept()) as line:
            transport.send(request(talks.url), line)
            assert not talks.over.acquire(timeout=0.1)
            line.close()
            assert talks.over.acquire(timeout=30)


class TestApart:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (BODY_READ + 1, b"z" * (BODY_READ + 1)),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nno chunk\r\n",
        ],
        ids=["close", "close among others", "of 1.0", "500", "302", "longer than is read", "badly framed"],
    )
    def test_after_an_answer_that_does_not_lead_on(self, transport: Transport, line: Kept, answer: bytes) -> None:
        with Talks([answer, OK], [OK]) as talks:
            transport.send(request(talks.url), line)
            response = transport.send(request(talks.url), line)
        assert (response.ok, response.error) == (True, "")
        assert talks.book == [[b"1"], [b"1"]]

    def test_after_a_body_that_broke_off(self, transport: Transport, line: Kept) -> None:
        with Talks([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"], [OK]) as talks:
            assert transport.send(request(talks.url), line).error == "the body broke off"
            assert transport.send(request(talks.url), line).error == ""
        assert talks.book == [[b"1"], [b"1"]]

    def test_what_comes_unasked_is_no_answer(self, transport: Transport, line: Kept) -> None:
        with Talks([OK + b"HTTP/1.1 500 No\r\n" + b"X: y\r\n" * 3000, OK], [OK]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url), line)
        assert (response.ok, response.error) == (True, "")
        assert len(talks.book) == 2

    def test_when_it_has_been_used_for_long(
        self, transport: Transport, line: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept, "SECONDS", 0.3)
        with Talks([OK] * 99, [OK] * 99) as talks:
            until = time.monotonic() + 0.45
            while time.monotonic() < until:
                transport.send(request(talks.url), line)
                time.sleep(0.02)
            line.close()
        assert len(talks.book) == 2, "it is not younger for having been used"

    def test_to_another_place(self, transport: Transport, line: Kept) -> None:
        with Receiver() as one, Receiver() as two:
            assert transport.send(request(one.url), line).ok
            assert transport.send(request(two.url), line).ok
            assert (len(one.book), len(two.book)) == (1, 1)

    def test_under_other_rules(self, transport: Transport, line: Kept) -> None:
        with Receiver() as receiver:
            assert transport.send(request(receiver.url), line).ok
            refusing = NetworkRules(refuse=("127.0.0.0/8",))
            response = transport.send(Request(receiver.url, (), b"", 30, rules=refusing), line)
            assert response.error_class == "blocked"
            assert len(receiver.book) == 1

    def test_through_a_proxy_and_not(self, transport: Transport, line: Kept) -> None:
        with Receiver() as receiver, Proxy() as proxy:
            assert transport.send(request(receiver.url), line).body == b""
            assert transport.send(request(receiver.url, proxy=proxy.url), line).body == b"by proxy!"
            assert len(receiver.book) == 1

    def test_when_certificates_have_changed(
        self, transport: Transport, line: Kept, authority: Authority, tmp_path: Path
    ) -> None:
        trusted = tmp_path / "ca.pem"
        shutil.copy(authority.file, trusted)
        with Receiver(tls=server(authority.issue("good"))) as receiver:
            assert transport.send(request(receiver.url, ca_file=str(trusted)), line).ok
            (tmp_path / "other").mkdir()
            shutil.copy(Authority(tmp_path / "other", "other").file, tmp_path / "new")
            (tmp_path / "new").replace(trusted)
            assert transport.send(request(receiver.url, ca_file=str(trusted)), line).error_class == "tls"


class TestTrouble:
    def test_one_that_was_closed_meanwhile_is_not_used(self, transport: Transport, line: Kept) -> None:
        with Talks([OK], [OK, WAIT]) as talks:
            assert transport.send(request(talks.url), line).ok
            assert talks.over.acquire(timeout=30)
            response = transport.send(request(talks.url, b"2"), line)
            line.close()
        assert (response.ok, response.error) == (True, "")
        assert talks.book == [[b"1"], [b"2"]]

    def test_nor_is_one_of_tls(self, transport: Transport, line: Kept, authority: Authority) -> None:
        with Talks([OK], [OK, WAIT], tls=server(authority.issue("good"))) as talks:
            assert transport.send(request(talks.url, ca_file=str(authority.file)), line).ok
            time.sleep(0.1)  # for its notice to come, for which it waits for ours
            response = transport.send(request(talks.url, b"2", ca_file=str(authority.file)), line)
            line.close()
        assert (response.ok, response.error) == (True, "")
        assert talks.book == [[b"1"], [b"2"]]

    def test_what_it_did_not_answer_is_sent_again_at_once_and_that_is_told(
        self, transport: Transport, line: Kept
    ) -> None:
        with Talks([OK, NONE], [OK, WAIT]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url, b"2"), line)
            line.close()
        assert (response.status, response.error_class, response.error) == (200, "", SENT_TWICE)
        assert talks.book == [[b"1", b"2"], [b"2"]]

    def test_but_only_once(self, transport: Transport, line: Kept) -> None:
        with Talks([OK, NONE], [NONE], [OK]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url, b"2"), line)
        assert (response.status, response.error_class) == (None, "protocol")
        assert talks.book == [[b"1", b"2"], [b"2"]]

    def test_what_comes_of_the_second_is_what_counts(self, transport: Transport, line: Kept) -> None:
        with Talks([OK, NONE], [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url, b"2"), line)
        assert (response.status, response.error_class, response.error) == (503, "status", f"HTTP 503; {SENT_TWICE}")

    @pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 2"])
    def test_one_that_has_begun_to_answer_is_not_asked_again(
        self, transport: Transport, line: Kept, begun: bytes
    ) -> None:
        with Talks([OK, begun], [OK]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url, b"2"), line)
        assert (response.status, response.error_class) == (None, "protocol")
        assert talks.book == [[b"1", b"2"]]

    def test_nor_is_one_that_is_slow_and_the_deadline_holds(self, transport: Transport, line: Kept) -> None:
        with Talks([OK, WAIT], [OK]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url, b"2", timeout=SHORT), line)
        assert (response.status, response.error_class) == (None, "timeout")
        assert SHORT <= response.duration < SHORT + 2
        assert talks.book == [[b"1", b"2"]]

    def test_the_deadline_is_the_requests_own(self, transport: Transport, line: Kept) -> None:
        with Talks([OK, OK, WAIT]) as talks:
            assert transport.send(request(talks.url, timeout=SHORT), line).ok
            time.sleep(SHORT)
            assert transport.send(request(talks.url), line).ok
            line.close()
        assert talks.book == [[b"1", b"1"]]

    def test_a_dripping_answer_ends(self, transport: Transport, line: Kept) -> None:
        def script(connection: socket.socket) -> None:
            take(connection)
            connection.sendall(OK)
            drips(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")(connection)

        with raw(script) as url:
            assert transport.send(request(url), line).ok
            response = transport.send(request(url, timeout=SHORT), line)
        assert (response.status, response.error_class) == (None, "timeout")

    def test_the_bounds_of_an_answer_hold(self, transport: Transport, line: Kept) -> None:
        flood = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (one, b"y" * 60_000) for one in range(9))
        with Talks([OK, flood]) as talks:
            assert transport.send(request(talks.url), line).ok
            response = transport.send(request(talks.url), line)
        assert (response.status, response.error) == (None, "the answer's head does not end within 256 KiB")

    def test_a_server_that_takes_a_few_on_each_connection_gets_each_once(
        self, transport: Transport, line: Kept
    ) -> None:
        with Talks(*[[OK] * 3] * 40) as talks:
            answers = [transport.send(request(talks.url, b"%d" % number), line) for number in range(100)]
            line.close()
        assert all(one.ok for one in answers)
        assert [body for connection in talks.book for body in connection] == [b"%d" % one for one in range(100)]
