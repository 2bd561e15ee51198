"""A webhook receiver on loopback for the tests: a real HTTP server that keeps its own book.

It owns what an endpoint would see and say. It knows nothing of refcast, so that a test can judge what was
delivered from the receiver's side alone.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    """With the query."""
    headers: list[tuple[str, str]]
    body: bytes
    time: datetime
    monotonic: float

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in any case; None where it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, Iterable[tuple[str, str]], bytes]
"""Status, headers, body. Content-Length is added where the headers do not have it."""

Script = Callable[[Received], Answer | int | None]
"""What to answer to a request. A number is that status with no body; None drops the connection unanswered."""


def _ok(_: Received) -> int:
    return 200


class Receiver:
    """`with Receiver() as receiver:` serves from then on, and answers 200 until told otherwise.

    `port` 0 lets the system choose; the `port` of an earlier receiver stands for one that came back.
    With `tls`, a server context, it speaks https. A request enters the book before it is answered.
    An exception raised by `answer` is raised again when the receiver closes.
    """

    def __init__(self, answer: Script = _ok, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        """May be set at any time."""
        self.book: list[Received] = []
        """Every request, in the order of arrival. Append-only."""
        self.faults: list[BaseException] = []
        self._port = port
        self._tls = tls
        self._arrived = threading.Condition()
        self._free = threading.Event()
        self._free.set()

    @property
    def port(self) -> int:
        return self._port

    @property
    def connections(self) -> int:
        """How many have been made."""
        return self._server.connections

    def wait_for_end(self, timeout: float = 30) -> None:
        """Until no connection is open; AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._server.is_busy():
            assert time.monotonic() < deadline, f"connections are open after {timeout} s"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        """The base with a trailing slash: `http://127.0.0.1:4711/`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/"

    def answers(self, script: Iterable[Answer | int | None]) -> None:
        """Answer the next requests with these, one each, then 200."""
        rest = iter(list(script))
        lock = threading.Lock()

        def following(_: Received) -> Answer | int | None:
            with lock:
                return next(rest, 200)

        self.answer = following

    def hold(self) -> None:
        """Let requests arrive, but answer none until `release`."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def wait_for(self, n: int, timeout: float = 30) -> list[Received]:
        """A copy of the book once it has at least `n` requests; AssertionError after `timeout` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.book) >= n, timeout):
                came = [f"{r.method} {r.path} {r.body[:200]!r}" for r in self.book]
                raise AssertionError(f"{len(came)} of {n} requests came in {timeout} s: {came}")
            return list(self.book)

    def __enter__(self) -> Receiver:
        self._server = _Server(("127.0.0.1", self._port), self._handler(), self._tls, self.faults)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="receiver")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._free.set()
        self._server.hang_up()
        self._server.server_close()
        if error is None and self.faults:
            raise self.faults[0]

    def _respond(self, received: Received) -> Answer | int | None:
        with self._arrived:
            self.book.append(received)
            self._arrived.notify_all()
        self._free.wait()
        try:
            return self.answer(received)
        except BaseException as fault:
            self.faults.append(fault)
            return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = list(self.headers.items())
                received = Received(self.command, self.path, headers, body, datetime.now(UTC), time.monotonic())
                answer = receiver._respond(received)
                if answer is None:
                    self.close_connection = True
                else:
                    self.wfile.write(_bytes(answer, head_only=self.command == "HEAD"))

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _bytes(answer: Answer | int, *, head_only: bool) -> bytes:
    """An answer as it goes onto the wire, in one piece, so that no delayed ACK stands between its parts."""
    status, headers, body = (answer, (), b"") if isinstance(answer, int) else answer
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unheard Of"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    if (
        status >= 200
        and status not in {204, 304}
        and not any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in headers)
    ):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if head_only else head + body


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = False  # server_close joins them, so none outlives the test
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        tls: ssl.SSLContext | None,
        faults: list[BaseException],
    ) -> None:
        self._faults = faults
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.connections = 0
        super().__init__(address, handler)
        if tls is not None:
            # The handshake happens at the first read, in the connection's own thread.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def server_bind(self) -> None:
        # HTTPServer's own looks its address up in DNS, which a test must not depend on.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
            self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def is_busy(self) -> bool:
        with self._lock:
            return bool(self._open)

    def hang_up(self) -> None:
        """End the idle keep-alive connections, whose threads would wait for a next request."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client was faster
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are ordinary here; anything else is a fault of this file or of the test."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self._faults.append(fault)
