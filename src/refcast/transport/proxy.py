"""Through an HTTP proxy: a tunnel to an https endpoint (RFC 9110 9.3.6). Plain http needs none of this.

The proxy is told the endpoint's host and port. Its own password goes to it alone.
"""

from __future__ import annotations

from refcast.transport.connect import EnoughError, PlainSocket
from refcast.transport.failure import Failure
from refcast.transport.target import Target

ANSWER_READ = 16 * 1024
"""Bytes of a proxy's answer that are read."""

WANTS_CREDENTIALS = (
    "the proxy wants a user name and password, or others (407): refcast endpoint edit NAME --proxy-file FILE"
)


def open_tunnel(connection: PlainSocket, target: Target, proxy: Target) -> None:
    """Have the proxy at the other end of `connection` pass everything on to `target`.

    Raises Failure of the class `proxy`, and DeadlineError when the time is up.
    """
    lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}"]
    if proxy.credentials:
        lines.append(f"Proxy-Authorization: {proxy.credentials}")
    try:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        head, _, rest = _head(connection).partition(b"\r\n\r\n")
    except EnoughError:
        raise Failure("proxy", f"the proxy's answer does not end within {ANSWER_READ // 1024} KiB") from None
    except OSError:
        raise Failure("proxy", "the proxy closed the connection before it answered") from None
    version, _, status = head.partition(b"\r\n")[0].partition(b" ")
    if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not status[:3].isdigit() or len(status.split(b" ")[0]) != 3:
        raise Failure("proxy", "the proxy's answer is not proper HTTP")
    if status[:3] == b"407":
        raise Failure("proxy", WANTS_CREDENTIALS)
    if status[:1] != b"2":
        raise Failure("proxy", f"the proxy does not connect to {target.authority}: HTTP {status[:3].decode()}")
    if rest:
        # In TLS the client speaks first, so these are not the endpoint's words.
        raise Failure("proxy", "the proxy sent something after its answer")


def _head(connection: PlainSocket) -> bytes:
    """What comes up to the empty line, and perhaps more."""
    came = bytearray()
    part = memoryview(bytearray(4096))
    connection.room = ANSWER_READ
    while b"\r\n\r\n" not in came:
        size = connection.recv_into(part)
        if not size:
            raise ConnectionError
        came += part[:size]
    return bytes(came)
