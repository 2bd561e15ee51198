"""Endpoints that behave badly, written byte by byte, and what goes with them: a proxy, and a name server in effect.

Owns their behaviour alone; what refcast makes of it, the tests say.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

Script = Callable[[socket.socket], None]


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
    """Read a whole request. To close on unread bytes would be a reset."""
    came = b""
    while b"\r\n\r\n" not in came and (part := connection.recv(65536)):
        came += part
    head, _, body = came.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    left = (int(length[1]) if length else 0) - len(body)
    while left > 0 and (part := connection.recv(65536)):
        left -= len(part)


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
    _linger_not(connection)


def resets(answer: bytes) -> Script:
    """Read the request, send this part of an answer, and reset the connection."""

    def script(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(answer)
        _linger_not(connection)

    return script


def floods(start: bytes, more: bytes) -> Script:
    """Read the request, begin the answer, and go on as fast as it can until the client hangs up."""

    def script(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return script


def reset_at_once(connection: socket.socket) -> None:
    _linger_not(connection)


def reset_midway(connection: socket.socket) -> None:
    connection.recv(10)
    _linger_not(connection)


def hang_up(connection: socket.socket) -> None:
    """Close on unread bytes, or on none."""


def _linger_not(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@contextlib.contextmanager
def full_queue(address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[str]:
    """The URL of a server that accepts nothing, and whose queue is full: a connection is neither taken nor refused."""
    with socket.create_server(address, backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        # Only when one is in the queue can the next not get in.
        select.select([listener], [], [])
        yield f"http://{address[0]}:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """A URL at which connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"


class Proxy:
    """A proxy that passes on what `CONNECT` asks for, and answers everything else itself.

    `heads` holds the first lines of each request as they came.
    """

    def __init__(self, password: str = "") -> None:
        self.heads: list[str] = []
        self._wanted = f"\r\nProxy-Authorization: Basic {password}\r\n" if password else ""
        self._stack = contextlib.ExitStack()
        self.url = ""

    def __enter__(self) -> Proxy:
        self.url = self._stack.enter_context(raw(self._serve)).removesuffix("/hook")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(self, connection: socket.socket) -> None:
        came = b""
        while b"\r\n\r\n" not in came:
            part = connection.recv(65536)
            if not part:
                return
            came += part
        head = came.partition(b"\r\n\r\n")[0].decode() + "\r\n"
        self.heads.append(head)
        if self._wanted and self._wanted not in head:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, place, _ = head.split("\r\n", 1)[0].split(" ")
        if method != "CONNECT":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nby proxy!")
            return
        host, _, port = place.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(onward, connection))
            back.start()
            _pass_on(connection, onward)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


Words = list[str] | OSError | threading.Event
"""What a name server says: addresses, an error, or nothing until the event is set."""


class NameServer:
    """Stands in for socket.getaddrinfo where it is asked for a name; an address it leaves to the real one.

    A look-up that stalls cannot be had otherwise without the configuration of the host."""

    def __init__(self) -> None:
        self.names: dict[str, list[Words]] = {}
        """What to say of a name, the first time, the second, and so on; the last is said for ever."""
        self.asked: list[str] = []
        self.was_asked = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: int, *, type: int = 0, flags: int = 0) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            return list(self._real(host, port, type=type, flags=flags))
        self.asked.append(host)
        self.was_asked.set()
        answers = self.names[host]
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(answer, threading.Event):
            answer.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if isinstance(answer, OSError):
            raise answer
        return [one for address in answer for one in self._real(address, port, type=type, flags=socket.AI_NUMERICHOST)]
