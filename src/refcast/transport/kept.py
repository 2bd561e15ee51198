"""A connection that stays open for the request that follows at once. Knows nothing of HTTP.

It may end at any time by the other end's will, so it is looked at before it is used, and used for a second at most:
servers let an idle one stay for longer, and one that serves a single connection at a time has others waiting.
"""

from __future__ import annotations

import select
import ssl
import time

from refcast.model import NetworkRules
from refcast.transport.connect import Connection, TLSSocket

SECONDS = 1.0
"""How long a connection is used, from its first answer on."""

Way = tuple[bool, str, int, str, NetworkRules, ssl.SSLContext | None]
"""All that decides where a connection leads and whether it may: TLS, host, port, proxy, network rules, TLS settings."""


class Kept:
    """At most one connection, of one thread, for requests that follow one another. The owner closes it at the end."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._way: Way | None = None
        self._until = 0.0

    def take(self, way: Way) -> Connection | None:
        """The connection, which is the caller's now, if it leads there and can be used; None if there is none."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        if way == self._way and time.monotonic() < self._until and _is_quiet(connection):
            return connection
        connection.close()
        return None

    def put(self, connection: Connection, way: Way, *, new: bool) -> None:
        """Keep a connection that is at rest; `new` unless it was taken from here."""
        if new:
            self._until = time.monotonic() + SECONDS
        self._connection, self._way = connection, way

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_quiet(connection: Connection) -> bool:
    """Whether the other end has neither closed a connection nor said anything that nobody asked for."""
    if isinstance(connection, TLSSocket) and connection.pending():
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)
