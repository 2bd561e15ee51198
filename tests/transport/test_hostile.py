"""The worst servers on earth in one table: each costs a bounded time, memory and number of bytes, under its class."""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import resource
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority, outdated, server
from receiver import Receiver
from refcast.model import Request
from refcast.transport import Transport
from rude import (
    Script,
    drips,
    floods,
    full_queue,
    hang_up,
    nobody,
    raw,
    reset,
    reset_at_once,
    reset_midway,
    resets,
    says,
    silent,
)

SHORT = 0.5
"""Seconds for an exchange that only its deadline ends."""
LONG = 30.0
"""... and for one that ends by itself."""
MEMORY = 3 * 1024 * 1024
"""Bytes, those that the server in this process takes included."""
TRAFFIC = 12 * 1024 * 1024
"""Bytes that a server can get rid of: what is read, and what fits into the buffers of two sockets."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LOOP = b"HTTP/1.1 302 Found\r\nLocation: /hook\r\nContent-Length: 0\r\n\r\n"
BOMB = OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(30_000_000))


@dataclass
class World:
    """What a bad endpoint is made of."""

    folder: Path
    trusted: Authority
    sent: int = 0
    """Bytes that it got rid of."""

    def plain(self, script: Script, tls: ssl.SSLContext | None = None) -> AbstractContextManager[str]:
        return raw(lambda connection: script(_Counting(connection, self)), tls)  # type: ignore[arg-type]

    def secure(self, script: Script) -> AbstractContextManager[str]:
        return self.plain(script, server(self.trusted.issue("good")))

    def badly(self, context: ssl.SSLContext) -> AbstractContextManager[str]:
        return raw(says(OK + b"\r\n"), context)


class _Counting:
    def __init__(self, connection: socket.socket, world: World) -> None:
        self._connection = connection
        self._world = world

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)
        self._world.sent += len(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@contextlib.contextmanager
def https(endpoint: AbstractContextManager[str]) -> Iterator[str]:
    with endpoint as url:
        yield url.replace("http://", "https://")


@contextlib.contextmanager
def http(endpoint: AbstractContextManager[str]) -> Iterator[str]:
    with endpoint as url:
        yield url.replace("https://", "http://")


def self_signed(world: World) -> ssl.SSLContext:
    lone = Authority(world.folder, "lone")
    return server(lone.issue("lone"))


@dataclass(frozen=True)
class Row:
    endpoint: Callable[[World], AbstractContextManager[str]]
    error_class: str
    status: int | None = None
    timeout: float = LONG


def ends(script: Script, error_class: str, status: int | None = None) -> Row:
    """An endpoint that brings the exchange to an end by itself."""
    return Row(lambda world: world.plain(script), error_class, status)


def lasts(script: Script, error_class: str = "timeout", status: int | None = None) -> Row:
    """An endpoint that only the deadline ends. One with a status has to get it across before, on a busy machine too."""
    return Row(lambda world: world.plain(script), error_class, status, SHORT if status is None else 4 * SHORT)


def shows(context: Callable[[World], ssl.SSLContext]) -> Row:
    """An endpoint of which something about its TLS is wrong."""
    return Row(lambda world: world.badly(context(world)), "tls")


TABLE = {
    # Nothing, or a little at a time.
    "never answers": lasts(silent),
    "drips its status line": lasts(drips(b"", b"H")),
    "drips a header": lasts(drips(OK + b"X: ", b"a")),
    "drips headers": lasts(drips(OK, b"a: b\r\n")),
    "drips interim answers": lasts(drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "drips early hints": lasts(drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    "drips a body": lasts(drips(OK + b"\r\n", b"z"), "", 200),
    "drips a body of known length": lasts(drips(OK + b"Content-Length: 9999\r\n\r\n", b"z"), "", 200),
    "drips chunks": lasts(drips(CHUNKED, b"1\r\nz\r\n"), "", 200),
    "drips a chunk's length": lasts(drips(CHUNKED, b"0"), "", 200),
    "drips an error's body": lasts(drips(b"HTTP/1.1 500 X\r\n\r\n", b"z"), "status", 500),
    # Without end.
    "endless status line": ends(floods(b"HTTP/1.1 200 ", b"z" * 65536), "protocol"),
    "endless header": ends(floods(OK + b"X: ", b"z" * 65536), "protocol"),
    "endless headers": ends(floods(OK, b"a: b\r\n" * 10_000), "protocol"),
    "endless large headers": ends(floods(OK, b"a: " + b"b" * 65_000 + b"\r\n"), "protocol"),
    "endless folded header": ends(floods(OK + b"X: a\r\n", b" b\r\n" * 10_000), "protocol"),
    "endless 100": ends(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "protocol"),
    "endless 103": ends(floods(b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 1000), "protocol"),
    "endless body": ends(floods(OK + b"\r\n", b"z" * 65536), "", 200),
    "endless body of an error": ends(floods(b"HTTP/1.1 500 X\r\n\r\n", b"z" * 65536), "status", 500),
    "endless chunks": ends(floods(CHUNKED, b"ffff\r\n" + b"z" * 0xFFFF + b"\r\n"), "", 200),
    "endless small chunks": ends(floods(CHUNKED, b"1\r\nz\r\n" * 10_000), "", 200),
    "endless chunk length": ends(floods(CHUNKED, b"0" * 65536), "", 200),
    "endless chunk extension": ends(floods(CHUNKED + b"1;", b"x" * 65536), "", 200),
    "endless trailers": ends(floods(CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000), "", 200),
    "gzip bomb": ends(says(BOMB), "", 200),
    "redirect loop": ends(says(LOOP), "status", 302),
    # What is no answer.
    "garbage": ends(says(b"\x00\xff" * 200), "protocol"),
    "another protocol": ends(says(b"SSH-2.0-OpenSSH_9.6\r\n"), "protocol"),
    "HTTP/2": ends(says(b"HTTP/2 200\r\n\r\n"), "protocol"),
    "no number for a status": ends(says(b"HTTP/1.1 OK OK\r\n\r\n"), "protocol"),
    "a status of two digits": ends(says(b"HTTP/1.1 20 OK\r\n\r\n"), "protocol"),
    "a status of four digits": ends(says(b"HTTP/1.1 2000 OK\r\n\r\n"), "protocol"),
    "another protocol from now on": ends(says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "status", 101),
    "two lengths": ends(says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nz"), "protocol"),
    "two lengths in one": ends(says(OK + b"Content-Length: 1, 2\r\n\r\nz"), "protocol"),
    "a negative length": ends(says(OK + b"Content-Length: -1\r\n\r\nz"), "protocol"),
    "a length and chunks": ends(says(CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n1\r\nz\r\n0\r\n\r\n"), "", 200),
    "a huge length": ends(says(OK + b"Content-Length: 99999999999999999999\r\n\r\nz"), "", 200),
    "chunks that are none": ends(says(CHUNKED + b"zzzz\r\nzz"), "", 200),
    "a huge chunk": ends(says(CHUNKED + b"f" * 40 + b"\r\nzz"), "", 200),
    "a negative chunk": ends(says(CHUNKED + b"-5\r\nzz"), "", 200),
    # Gone, at every stage.
    "resets at once": ends(reset_at_once, "protocol"),
    "resets during the request": ends(reset_midway, "protocol"),
    "resets after the request": ends(reset, "protocol"),
    "resets in the status line": ends(resets(b"HTTP/1.1 2"), "protocol"),
    "resets in the headers": ends(resets(OK + b"X: "), "protocol"),
    "hangs up at once": ends(hang_up, "protocol"),
    "hangs up after the request": ends(says(b""), "protocol"),
    "hangs up in the status line": ends(says(b"HTTP/1.1 2"), "protocol"),
    "hangs up in the body": ends(says(OK + b"Content-Length: 9\r\n\r\nz"), "", 200),
    "takes no connections": Row(lambda _: full_queue(), "timeout", None, SHORT),
    "is not there": Row(lambda _: nobody(), "connect"),
    # TLS.
    "expired": shows(lambda world: server(world.trusted.issue("expired", start=-2, end=-1))),
    "not yet valid": shows(lambda world: server(world.trusted.issue("early", start=1, end=2))),
    "another name": shows(lambda world: server(world.trusted.issue("named", "hook.test"))),
    "another address": shows(lambda world: server(world.trusted.issue("other", "127.0.0.2"))),
    "unknown authority": shows(self_signed),
    "TLS 1.0 alone": shows(lambda world: outdated(world.trusted.issue("old"))),
    "no TLS": Row(lambda world: https(world.plain(_takes_tls_for_http)), "tls"),
    "TLS for http": Row(lambda world: http(world.secure(says(OK + b"\r\n"))), "protocol"),
    "hangs in the handshake": Row(lambda world: https(world.plain(silent)), "timeout", None, SHORT),
    "drips the handshake": Row(
        lambda world: https(world.plain(drips(b"\x16\x03\x03\x40\x00", b"\2"))), "timeout", None, SHORT
    ),
    "floods the handshake": Row(lambda world: https(world.plain(_floods_at_once(b"\x16\x03\x03\x40\x00"))), "tls"),
    "resets before the handshake": Row(lambda world: https(world.plain(reset_at_once)), "tls"),
    "resets in the handshake": Row(lambda world: https(world.plain(reset_midway)), "tls"),
    "hangs up in the handshake": Row(lambda world: https(world.plain(hang_up)), "tls"),
    "drips headers over TLS": Row(lambda world: world.secure(drips(OK, b"a: b\r\n")), "timeout", None, SHORT),
    "endless body over TLS": Row(lambda world: world.secure(floods(OK + b"\r\n", b"z" * 65536)), "", 200),
    "endless 100 over TLS": Row(
        lambda world: world.secure(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)), "protocol"
    ),
    "hangs up after the request over TLS": Row(lambda world: world.secure(says(b"")), "protocol"),
}


def _takes_tls_for_http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _floods_at_once(start: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"\2" * 65536)

    return script


def _descriptors() -> set[int]:
    return {int(one.name) for one in Path("/proc/self/fd").iterdir()}


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_endpoint(name: str, trusted: Authority, tmp_path: Path) -> None:
    row = TABLE[name]
    world = World(tmp_path, trusted)
    transport = Transport()
    gc.collect()
    descriptors, threads = _descriptors(), set(threading.enumerate())
    with row.endpoint(world) as url:
        request = Request(url, (("X-A", "b"),), b"{}", row.timeout, ca_file=str(trusted.file))
        tracemalloc.start()
        response = transport.send(request)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (response.status, response.error_class) == (row.status, row.error_class), response.error
    assert response.ok or response.error
    assert response.error.isprintable()
    assert memory < MEMORY
    assert world.sent < TRAFFIC
    assert response.duration < 20
    assert set(threading.enumerate()) <= threads
    assert _descriptors() <= descriptors


def test_sixty_that_never_answer_hold_up_no_other() -> None:
    """Decided by order, not by time: the healthy one is done while all the others are still under way."""
    transport = Transport()
    with Receiver() as dead, Receiver() as healthy, ThreadPoolExecutor(60) as pool:
        dead.hold()
        waiting = [pool.submit(transport.send, Request(dead.url, (), b"", 60)) for _ in range(60)]
        dead.wait_for(60)
        assert all(transport.send(Request(healthy.url, (), b"", 60)).ok for _ in range(20))
        assert not any(one.done() for one in waiting)
        dead.release()
        assert all(one.result().ok for one in waiting)


def test_no_descriptor_left_is_a_failure_like_another() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    transport = Transport()
    with Receiver() as receiver:
        used = max(_descriptors())
        held = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            response = transport.send(Request(receiver.url, (), b"", 30))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in held:
                os.close(descriptor)
        assert (response.status, response.error_class) == (None, "connect")
        assert "Too many open files" in response.error
        assert transport.send(Request(receiver.url, (), b"", 30)).ok
