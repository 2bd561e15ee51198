"""One HTTP exchange, Request -> Response, under every guard.

`Transport.send` makes it; `Transport.probe` goes the same way as far as TLS, and sends nothing. `target` takes a URL
apart, `lookup` finds a name's addresses, `connect` owns sockets and the deadline, `tls` what is trusted and shown,
`certificates` until when one is valid, `proxy` the tunnel through one, `exchange` the request, which requests makes
over the connection that stands, and what is kept of the answer, `kept` a connection for the request that follows.
Judges nothing (that is `retry`), stores nothing, and never raises for what a network or an endpoint does.

The guards:

* No redirect is followed: a 3xx is an answer outside 2xx. No cookies. No answer has anything sent again.
* Nothing comes from the environment: no proxies, no .netrc, no CA bundle, no TLS key log.
* One deadline holds for the whole exchange, look-up included; no single read or write has a limit of its own, with
  which an endpoint that drips its headers would hold it for ever.
* A connection goes to an address that the network rules allow, judged after the look-up. A proxy's address is judged
  like an endpoint's; what the proxy then connects to is its own affair, unless the URL names an address.
* What is read is bounded, and less is kept. A compressed body is not asked for, and not unpacked when it comes.
* A connection serves one request, or those that follow one another at once and go the same way (`kept`). One that was
  used may turn out closed when the next request is on its way; if not a byte of an answer came, that is sent again
  over a new connection, at once (RFC 9112 9.3.1), and `error` says so: as after any answer that did not come, the
  endpoint may have got it, and tells by its id.
"""

from __future__ import annotations

import ssl
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

from refcast.model import Request, Response
from refcast.transport.certificates import end, ends
from refcast.transport.connect import Connection, TLSSocket, check_literal, dial, secured
from refcast.transport.exchange import (
    BODY_KEPT,
    BODY_READ,
    HEAD_READ,
    HEADER_BYTES_KEPT,
    HEADERS_KEPT,
    Adapter,
    exchange,
    fields,
)
from refcast.transport.failure import DeadlineError, Failure
from refcast.transport.kept import Kept
from refcast.transport.lookup import Lookups
from refcast.transport.proxy import WANTS_CREDENTIALS, open_tunnel
from refcast.transport.target import Target, proxy_target, target
from refcast.transport.tls import Contexts, Files, check_files

__all__ = [
    "BODY_KEPT",
    "BODY_READ",
    "HEADERS_KEPT",
    "HEADER_BYTES_KEPT",
    "SENT_TWICE",
    "Kept",
    "Probe",
    "Transport",
    "check_files",
    "ends",
]


SENT_TWICE = "the connection kept from the request before was closed, so it was sent again over a new one"


@dataclass(frozen=True, slots=True)
class Probe:
    """What stands at the other end, or why it was not reached."""

    address: str = ""
    """What was connected to: the endpoint, or the proxy before it."""
    certificate_ends: datetime | None = None
    """The last moment of the endpoint's certificate; aware. None without TLS."""
    error_class: str = ""
    """As in Response; empty if it was reached."""
    error: str = ""


class Transport:
    """Sends requests; one serves all of a worker's threads. Making one touches nothing."""

    def __init__(self) -> None:
        self._adapter = Adapter()
        self._contexts = Contexts()
        self._lookups = Lookups()

    @property
    def abandoned_lookups(self) -> int:
        """How many look-ups of names hang that nobody waits for any more."""
        return self._lookups.abandoned

    def send(self, request: Request, kept: Kept | None = None) -> Response:
        """POST `request` and return what came back, or why nothing did. With `kept`, over the connection of the request
        before if that can be, and leaving one for the next if this is answered with 2xx.

        Userinfo in the URL becomes basic authentication (RFC 7617, UTF-8) unless the request has an
        Authorization header. Besides the request's own headers go out only Host, Content-Length, without `kept`
        Connection: close and, unless the request has one, Accept-Encoding: identity; to a proxy also
        Proxy-Authorization.

        A 2xx whose body breaks off or outlasts the deadline is still a 2xx, and `error` says what happened:
        the endpoint has answered, and sending again would deliver twice.
        """
        started = time.monotonic()
        try:
            answer = self._exchange(request, started + request.timeout, kept)
        except Failure as failure:
            answer = Response(0, error_class=failure.error_class, error=failure.error)
        except DeadlineError:
            answer = Response(0, error_class="timeout", error=f"no answer within {request.timeout:g} s")
        return replace(answer, duration=time.monotonic() - started)

    def probe(self, request: Request) -> Probe:
        """Connect as `send` would, under the same rules, TLS included; send nothing, and hang up."""
        try:
            there = target(request.url)
            proxy = proxy_target(request.proxy) if request.proxy else None
            context = self._context(request) if there.tls else None
            deadline = time.monotonic() + request.timeout
            with closing(self._connection(request, there, proxy, context, deadline)) as connection:
                shown = connection.getpeercert(binary_form=True) if isinstance(connection, TLSSocket) else None
                return Probe(str(connection.getpeername()[0]), end(shown) if shown else None)
        except Failure as failure:
            return Probe(error_class=failure.error_class, error=failure.error)
        except DeadlineError:
            return Probe(error_class="timeout", error=f"no connection within {request.timeout:g} s")
        except OSError:
            return Probe(error_class="connect", error="it hung up as soon as the connection stood")
        except ValueError:
            return Probe(error_class="tls", error="its certificate has no date that can be read")

    def close(self) -> None:
        """Forget the TLS settings.

        Requests in flight are left to their deadlines: to cut one off is to not know whether it arrived.
        """
        self._contexts.clear()

    def _exchange(self, request: Request, deadline: float, kept: Kept | None) -> Response:
        there = target(request.url)
        proxy = proxy_target(request.proxy) if request.proxy else None
        more = [("Accept-Encoding", "identity")]
        if there.credentials:
            more.append(("Authorization", there.credentials))
        if proxy is None or there.tls:
            place = there.path
        else:
            place = there.absolute
            if proxy.credentials:
                more.append(("Proxy-Authorization", proxy.credentials))
        headers = fields(there.host_header, request.headers, more, len(request.body), last=kept is None)
        context = self._context(request) if there.tls else None
        way = (there.tls, there.host, there.port, request.proxy, request.rules, context)
        trouble = ""
        while True:
            used = kept.take(way) if kept is not None else None
            connection = used or self._connection(request, there, proxy, context, deadline)
            connection.deadline = deadline
            try:
                answer = exchange(self._adapter, connection, place, headers, request.body)
                break
            except Failure:
                if used is None or connection.room < HEAD_READ:  # it had begun to answer
                    raise
                trouble = SENT_TWICE
            finally:
                if kept is not None and connection.at_rest:
                    kept.put(connection, way, new=used is None)
                else:
                    connection.close()
        if answer.status == 407 and proxy is not None and not there.tls:
            raise Failure("proxy", WANTS_CREDENTIALS)
        return replace(answer, error="; ".join(filter(None, (answer.error, trouble)))) if trouble else answer

    def _context(self, request: Request) -> ssl.SSLContext:
        return self._contexts.get(Files(request.verify_tls, request.ca_file, request.client_cert, request.client_key))

    def _connection(
        self,
        request: Request,
        there: Target,
        proxy: Target | None,
        context: ssl.SSLContext | None,
        deadline: float,
    ) -> Connection:
        """A connection that leads to the endpoint."""
        if proxy is None:
            plain = dial(there.host, there.port, deadline, request.rules, self._lookups)
        else:
            check_literal(there.host, there.port, request.rules)
            try:
                plain = dial(proxy.host, proxy.port, deadline, request.rules, self._lookups)
            except Failure as failure:
                error_class = failure.error_class if failure.error_class == "blocked" else "proxy"
                raise Failure(error_class, f"the proxy: {failure.error}") from None
        if context is None:
            return plain
        try:
            if proxy is not None:
                open_tunnel(plain, there, proxy)
            return secured(plain, context, there.host)
        except BaseException:
            plain.close()
            raise
