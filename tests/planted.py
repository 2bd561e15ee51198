"""Secrets that are easy to find wherever they get to, and the worst server to trust with them: it says all it hears.

Owns how a secret is made and in what spellings it is looked for, and what the server answers. Knows nothing of refcast.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

NASTY = ' "/+&é<%'
"""What is written in one way here and in another there."""
SHOWN = 9
"""Letters of a secret that nobody may see, even where the rest is cut off."""


def core(kind: str) -> str:
    """Sixteen letters and digits that no escape needs to change and that stand nowhere else."""
    return base64.b32encode(hashlib.sha256(kind.encode()).digest()).decode()[:16].lower()


def secret(kind: str) -> str:
    """A secret for this use, the same in each run: its core and what has to be escaped."""
    return core(kind) + NASTY


def fragments(kind: str) -> Iterator[bytes]:
    """What is left of a secret in whatever spelling, of its first letters at least."""
    first = core(kind)[:SHOWN]
    yield first.encode()
    for before in range(3):
        # At each of the three places in which a letter can stand in base64; what its neighbours share is cut off.
        encoded = base64.b64encode(b"x" * before + first.encode()).decode().rstrip("=")
        yield encoded[(0, 2, 3)[before] : -1].encode()
    raw = first.encode()
    for one in (raw.hex(), every("%{:02x}", first), every("\\u{:04x}", first), every("&#x{:x};", first)):
        yield one.encode()
    yield every("&#{};", first).encode()


def every(form: str, text: str) -> str:
    """The text with each of its bytes written in this form."""
    return "".join(form.format(one) for one in text.encode())


def found(kinds: Iterable[str], text: bytes) -> set[str]:
    """The kinds of secret of which anything is in the text, capital letters or not."""
    lower = text.lower()
    return {kind for kind in kinds if any(one.lower() in lower for one in fragments(kind))}


@dataclass(frozen=True)
class Heard:
    """One request: its line and headers as they came, and its body."""

    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")


class Echo:
    """Within a `with`, at `port` of loopback: answers each request with all that it holds, in every spelling.

    The first part of the path says how: a status; `cut`, `straddle`, `long`, `garbage`, `drop`, `hang`.
    A CONNECT, such as a proxy gets, is refused by 407.
    """

    def __init__(self) -> None:
        self.book: list[Heard] = []
        """Append-only."""
        self._free = threading.Event()

    def __enter__(self) -> Echo:
        echo = self

        class Handler(socketserver.StreamRequestHandler):
            rbufsize = 0

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    if heard := self.heard():
                        echo.book.append(heard)
                        echo.answer(heard, self.connection)

            def heard(self) -> Heard | None:
                """None for what is no HTTP, such as the beginning of TLS."""
                data = b""
                while b"\r\n\r\n" not in data:
                    part = self.connection.recv(65536)
                    data += part
                    if not part or not re.match(rb"[A-Z]", data):
                        return None
                head, _, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *([0-9]+)", head)
                while length and len(body) < int(length[1]):
                    body += self.connection.recv(65536)
                return Heard(head, body)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.request_queue_size = 128
        self._server.daemon_threads = False
        self._server.server_bind()
        self._server.server_activate()
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="echo")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, heard: Heard, connection: socket.socket) -> None:
        how = "407" if heard.head.startswith(b"CONNECT ") else heard.target.split("/")[1]
        if how == "hang":
            self._free.wait()
            return
        if how == "drop":
            return
        texts = list(said(heard))
        line = " ".join(texts).encode("latin-1", "replace")[:4000]
        if how == "garbage":
            connection.sendall(line + b" is not HTTP\r\n\r\n")
            return
        body = "\n".join(form for text in texts for form in forms(text)).encode("latin-1", "replace")
        if how in ("straddle", "long"):
            # The end of what is kept, or read, falls into the middle of each text in turn.
            end = 16 * 1024 if how == "straddle" else 64 * 1024
            body = b"x" * (end - len(line) + len(texts[-1]) // 2) + line + body
        status = how if how.isdigit() else "200"
        head = [f"HTTP/1.1 {status} ".encode() + line]
        head += [b"X-Echo-%d: " % number + text.encode("latin-1", "replace") for number, text in enumerate(texts)]
        head += [b"Location: http://elsewhere.example" + quoted(heard.target) + b"&said=" + quoted(" ".join(texts))]
        head += [b"Set-Cookie: said=" + quoted(texts[-1]), b'WWW-Authenticate: Basic realm="' + line[:900] + b'"']
        head += [b"Content-Length: %d" % len(body), b"Connection: close"]
        if how == "cut":
            body = line[: -len(texts[-1]) // 2]
        connection.sendall(b"\r\n".join([*head, b"", body]))


def said(heard: Heard) -> Iterator[str]:
    """The texts of a request in which a secret may stand: target, the values of headers, what is in Basic's base64."""
    yield heard.target
    yield unquote(heard.target, "latin-1")
    for line in heard.head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        if name.lower() in ("host", "content-length", "content-type", "connection", "accept-encoding", "user-agent"):
            continue
        yield value
        if value.startswith("Basic "):
            told = base64.b64decode(value[6:]).decode("latin-1")
            yield told
            yield told.partition(":")[2] or told


def forms(text: str) -> Iterator[str]:
    """A text, as programs show it that escape it in one way or another."""
    yield text
    yield json.dumps(text)
    yield json.dumps(text, ensure_ascii=False)
    yield json.dumps(text).replace("/", "\\/")
    yield quote(text, safe="", encoding="latin-1")
    yield html.escape(text)
    yield repr(text)
    for form in ("%{:02X}", "%{:02x}", "\\u{:04x}", "&#x{:x};", "&#{};"):
        yield "".join(form.format(ord(one)) for one in text)


def quoted(text: str) -> bytes:
    return quote(text, safe="/:?=", encoding="latin-1", errors="replace").encode()
