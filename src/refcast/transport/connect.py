"""Connections under one deadline: look-up, TCP and TLS. Knows nothing of HTTP.

Every operation on a socket gets the time that is left until the deadline, and no time limit of its own: an
endpoint cannot win time by sending a byte now and then.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from requests.utils import DEFAULT_CA_BUNDLE_PATH


class Failure(Exception):
    """Why there is no answer. No OSError, so that neither requests nor urllib3 wraps it."""

    def __init__(self, error_class: str, error: str) -> None:
        super().__init__(error)
        self.error_class = error_class
        self.error = error


class DeadlineError(Exception):
    """The time is up."""


def tls_context(verify: bool) -> ssl.SSLContext:
    """Client settings for `connected`. Reading the CA certificates takes some 20 ms.

    Trusted are the system's, which its administrator keeps; where it has none, those that come with requests.
    ssl.create_default_context is not used: it heeds SSLKEYLOGFILE, and OpenSSL's defaults heed SSL_CERT_FILE.
    Raises Failure.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _TLSSocket
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    paths = ssl.get_default_verify_paths()
    try:
        if Path(paths.openssl_cafile).is_file():
            context.load_verify_locations(cafile=paths.openssl_cafile)
        elif Path(paths.openssl_capath).is_dir() and any(Path(paths.openssl_capath).iterdir()):
            context.load_verify_locations(capath=paths.openssl_capath)
        else:
            context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
    except OSError as error:
        raise Failure("tls", f"the CA certificates of this host cannot be read: {error.strerror}") from None
    return context


def connected(host: str, port: int, deadline: float, tls: ssl.SSLContext | None) -> socket.socket:
    """A connection that the deadline (of time.monotonic) holds for as long as it lives; with `tls`, over TLS.

    Raises Failure, and DeadlineError when the time is up.
    """
    plain = _dial(host, port, deadline)
    return plain if tls is None else _wrap(plain, tls, host)


def reason(error: ssl.SSLError) -> str:
    """OpenSSL's own word for what went wrong, such as `wrong version number`."""
    return (error.reason or "no reason given").replace("_", " ").lower()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineError
    return left


T = TypeVar("T")


def _in_time(bounded: _PlainSocket | _TLSSocket, operation: Callable[..., T], *args: Any) -> T:
    bounded.settimeout(_left(bounded.deadline))
    try:
        return operation(*args)
    except TimeoutError:
        raise DeadlineError from None


class _PlainSocket(socket.socket):
    """A socket with a deadline, in the two operations that http.client uses."""

    deadline = math.inf

    def recv_into(self, *args: Any) -> int:
        return _in_time(self, super().recv_into, *args)

    def sendall(self, *args: Any) -> None:
        _in_time(self, super().sendall, *args)


class _TLSSocket(ssl.SSLSocket):
    """The same over TLS, where sendall is a loop of send."""

    deadline = math.inf

    def recv_into(self, *args: Any) -> int:
        return _in_time(self, super().recv_into, *args)

    def send(self, *args: Any) -> int:
        return _in_time(self, super().send, *args)


def _dial(host: str, port: int, deadline: float) -> _PlainSocket:
    """A connection to the first of the host's addresses that takes it, each getting its share of the time."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a valid name"
        raise Failure("dns", f"the name {host} does not resolve: {why}") from None
    failure = Failure("connect", f"the name {host} has no address")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        where = f"{address[0]} port {port}"
        try:
            connection = _PlainSocket(family, kind, protocol)
        except OSError as error:  # no descriptors left, or a family that this host lacks
            failure = Failure("connect", f"no connection to {where}: {error.strerror}")
            continue
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_left(deadline) / (len(found) - index))
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


def _wrap(connection: _PlainSocket, context: ssl.SSLContext, host: str) -> _TLSSocket:
    """TLS on a connection. The time limit at hand bounds a handshake as a whole."""
    deadline = connection.deadline
    try:
        connection.settimeout(_left(deadline))
        wrapped = context.wrap_socket(connection, server_hostname=host)
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
    assert isinstance(wrapped, _TLSSocket)
    wrapped.deadline = deadline
    return wrapped
