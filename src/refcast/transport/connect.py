"""Connections under one deadline: TCP to an address that the network rules allow, and TLS. Knows nothing of HTTP.

Every operation on a socket gets the time that is left until the deadline, and no time limit of its own: an
endpoint cannot win time by sending a byte now and then. What is read has a bound, too.

A name is looked up once for a connection, each of its addresses is judged, and the connection goes to the very
address that was judged. What the name server says the next time does not matter.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from refcast.model import NetworkRules
from refcast.networks import refusal
from refcast.transport.failure import DeadlineError, Failure
from refcast.transport.lookup import Lookups, literal


class EnoughError(Exception):
    """As much was read as may be."""


def left(deadline: float) -> float:
    """The seconds until a deadline of time.monotonic; DeadlineError once it has come."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise DeadlineError
    return seconds


def reason(error: ssl.SSLError) -> str:
    """OpenSSL's own word for what went wrong, such as `wrong version number`."""
    return (error.reason or "no reason given").replace("_", " ").lower()


T = TypeVar("T")


def _in_time(bounded: PlainSocket | TLSSocket, operation: Callable[..., T], *args: Any) -> T:
    bounded.settimeout(left(bounded.deadline))
    try:
        return operation(*args)
    except TimeoutError:
        raise DeadlineError from None


def _in_bounds(bounded: PlainSocket | TLSSocket, came: int) -> int:
    bounded.room -= came
    if bounded.room < 0:
        raise EnoughError
    return came


class PlainSocket(socket.socket):
    """A socket with a deadline and a bound, in the operations that this room uses."""

    deadline = math.inf
    room: float = math.inf
    """How many bytes more may be read."""
    at_rest = False
    """An answer was read to its end, after which another request may follow."""

    def recv_into(self, *args: Any) -> int:
        return _in_bounds(self, _in_time(self, super().recv_into, *args))

    def sendall(self, *args: Any) -> None:
        _in_time(self, super().sendall, *args)


class TLSSocket(ssl.SSLSocket):
    """The same over TLS, where sendall is a loop of send."""

    deadline = math.inf
    room: float = math.inf
    at_rest = False

    def recv_into(self, *args: Any) -> int:
        return _in_bounds(self, _in_time(self, super().recv_into, *args))

    def send(self, *args: Any) -> int:
        return _in_time(self, super().send, *args)


Connection = PlainSocket | TLSSocket


def check_literal(host: str, port: int, rules: NetworkRules) -> None:
    """Raise Failure of the class `blocked` where `host` is an address that is refused. Names pass."""
    for _, address in literal(host, port):
        if why := refusal(str(address[0]), rules):
            raise Failure("blocked", why)


def dial(host: str, port: int, deadline: float, rules: NetworkRules, lookups: Lookups) -> PlainSocket:
    """A connection to the first of the host's allowed addresses that takes it; each gets its share of the time.

    The deadline holds for as long as the connection lives. Raises Failure, and DeadlineError when the time is up.
    """
    allowed, why = [], ""
    for found in lookups.addresses(host, port, deadline):
        if refused := refusal(str(found[1][0]), rules):
            why = why or (refused if host == found[1][0] else f"{host}: {refused}")
        else:
            allowed.append(found)
    failure = Failure("blocked", why)
    for index, (family, address) in enumerate(allowed):
        where = f"{address[0]} port {port}"
        try:
            connection = PlainSocket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptors left, or a family that this host lacks
            failure = Failure("connect", f"no connection to {where}: {error.strerror}")
            continue
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(left(deadline) / (len(allowed) - index))
            with suppress(ConnectionResetError):
                # It was taken, and reset since, which what follows would have found out a moment later.
                connection.connect(address)
        except TimeoutError:
            connection.close()
            failure = Failure("timeout", f"{where} did not take the connection in time")
        except OSError as error:
            connection.close()
            failure = Failure("connect", f"no connection to {where}: {error.strerror}")
        except BaseException:
            connection.close()
            raise
        else:
            connection.deadline = deadline
            return connection
    raise failure


def secured(connection: PlainSocket, context: ssl.SSLContext, host: str) -> TLSSocket:
    """TLS on a connection, which is closed if that fails. The time limit at hand bounds a handshake as a whole."""
    deadline = connection.deadline
    # Neither belongs into a certificate's name or an SNI: a scope (RFC 6874), a trailing dot (RFC 6066 3).
    name = host.partition("%")[0].removesuffix(".")
    try:
        connection.settimeout(left(deadline))
        wrapped = context.wrap_socket(connection, server_hostname=name)
    except TimeoutError:
        raise Failure("timeout", f"the TLS handshake with {host} did not end in time") from None
    except ssl.SSLCertVerificationError as error:
        raise Failure("tls", f"the certificate of {host} is refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise Failure("tls", f"the TLS handshake with {host} failed: {reason(error)}") from None
    except (OSError, ValueError):
        raise Failure("tls", f"{host} closed the connection during the TLS handshake") from None
    finally:
        connection.close()  # a wrapped socket has taken the descriptor over: this closes one that failed
    assert isinstance(wrapped, TLSSocket)
    if wrapped.version() is None:
        # Over a connection that is gone already, ssl leaves the handshake for later, and sends without until then.
        wrapped.close()
        raise Failure("tls", f"{host} closed the connection during the TLS handshake")
    wrapped.deadline = deadline
    return wrapped
