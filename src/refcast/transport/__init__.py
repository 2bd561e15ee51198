"""One HTTP exchange, Request -> Response, under every guard. The only room that knows requests.

Owns the exchange, what is kept of an answer, and the words of what went wrong; `connect` beside it owns
sockets, TLS and the deadline. Judges nothing (that is `retry`), stores nothing, and never raises for what
a network or an endpoint does.

The guards:

* No redirect is followed: a 3xx is an answer outside 2xx. No cookies. Nothing is sent twice.
* Nothing comes from the environment: no proxies, no .netrc, no CA bundle, no TLS key log. requests reads
  those in its Session, so its adapter is used without one.
* One deadline holds for the whole exchange. requests' own timeout bounds each read, so that an endpoint that
  drips its headers holds it for ever. The one step that cannot be interrupted is the look-up of a name, which
  the resolver's own time limit bounds.
* Of an answer, 100 headers of 64 KiB a line are read at most (http.client's bounds), and 64 KiB of body; less
  is kept. A compressed body is not asked for, and not unpacked when it comes.
* A connection serves one request. A kept one may turn out dead when the request is on its way, and whether
  the endpoint got it is then unknown: it would be sent twice, or late.
"""

from __future__ import annotations

import base64
import logging
import re
import ssl
import time
from dataclasses import replace
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from refcast.errors import BadInput
from refcast.model import Request, Response
from refcast.transport.connect import DeadlineError, Failure, connected, reason, tls_context
from refcast.urls import check_url

BODY_READ = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
BODY_KEPT = 16 * 1024
HEADERS_KEPT = 100
HEADER_BYTES_KEPT = 8 * 1024

_FRAMING = {"connection", "content-length", "transfer-encoding"}
"""Headers that say where a request ends. They are the transport's, or a request could hide another."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5, in latin-1

# urllib3 writes URLs into its log, whose queries are secrets, and what an endpoint answered.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)


class Transport:
    """Sends requests; one serves all of a worker's threads. Making one touches nothing."""

    def __init__(self) -> None:
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def send(self, request: Request) -> Response:
        """POST `request` and return what came back, or why nothing did.

        Userinfo in the URL becomes basic authentication (RFC 7617, UTF-8) unless the request has an
        Authorization header. Besides the request's own headers go out only Host, Content-Length,
        Connection: close and, unless the request has one, Accept-Encoding: identity.

        A 2xx whose body breaks off or outlasts the deadline is still a 2xx, and `error` says what happened:
        the endpoint has answered, and sending again would deliver twice.
        """
        started = time.monotonic()
        try:
            url, headers = _prepared(request)
            answer = self._exchange(url, headers, request, started + request.timeout)
        except Failure as failure:
            answer = Response(0, error_class=failure.error_class, error=failure.error)
        return replace(answer, duration=time.monotonic() - started)

    def close(self) -> None:
        """Forget the TLS settings, so that a next request reads the CA certificates anew.

        Requests in flight are left to their deadlines: to cut one off is to not know whether it arrived.
        """
        self._contexts.clear()

    def _exchange(self, url: str, headers: HTTPHeaderDict, request: Request, deadline: float) -> Response:
        tls = self._context(request.verify_tls) if url.lower().startswith("https:") else None
        adapter = _Adapter(deadline, tls)
        try:
            prepared = requests.Request("POST", url, data=request.body).prepare()
            headers["Content-Length"] = str(len(request.body))
            prepared.headers = headers  # type: ignore[assignment]  # its own type would drop repeated headers
            answer = adapter.send(prepared, stream=True)
            try:
                return _read(answer)
            finally:
                answer.close()
        except DeadlineError:
            raise Failure("timeout", f"no answer within {request.timeout:g} s") from None
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
            raise _failure(error) from None
        finally:
            adapter.close()

    def _context(self, verify: bool) -> ssl.SSLContext:
        """The settings for all connections of a kind. That two threads may make the same does no harm."""
        context = self._contexts.get(verify)
        if context is None:
            context = self._contexts[verify] = tls_context(verify)
        return context


def _prepared(request: Request) -> tuple[str, HTTPHeaderDict]:
    """The URL without its userinfo, and the headers that go out (Content-Length comes later)."""
    try:
        check_url(request.url)
    except BadInput as error:
        raise Failure("protocol", str(error)) from None
    # SKIP_HEADER keeps urllib3 from naming itself where the request names nobody.
    headers = HTTPHeaderDict({"User-Agent": SKIP_HEADER, "Accept-Encoding": "identity"})
    seen = set()
    for name, value in request.headers:
        if not _TOKEN.fullmatch(name):
            raise Failure("protocol", "a header's name has a character that HTTP does not allow")
        if not _VALUE.fullmatch(value):
            raise Failure("protocol", f"the header {name} has a line break or a character outside latin-1")
        if name.lower() in _FRAMING:
            raise Failure("protocol", f"the header {name} cannot be set: it belongs to the connection")
        if name.lower() not in seen:
            headers.discard(name)
        seen.add(name.lower())
        headers.add(name, value)
    parts = urlsplit(request.url)
    userinfo, _, host = parts.netloc.rpartition("@")
    if userinfo and "authorization" not in seen:
        user, _, password = userinfo.partition(":")
        credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
    headers["Connection"] = "close"
    return urlunsplit(parts._replace(netloc=host)), headers


def _read(answer: requests.Response) -> Response:
    """The bounded answer. Reads until the body ends, is long enough, breaks off, or the deadline comes."""
    body, trouble = b"", ""
    try:
        while len(body) < BODY_READ and (part := answer.raw.read1(BODY_READ - len(body), decode_content=False)):
            body += part
    except DeadlineError:
        trouble = "the body did not end before the deadline"
    except (HTTPError, HTTPException, OSError, ValueError):
        trouble = "the body broke off"
    kept: list[tuple[str, str]] = []
    room = HEADER_BYTES_KEPT
    for name, value in answer.raw.headers.items():
        # One that is too large must not push out the small ones after it, such as Retry-After.
        if len(kept) < HEADERS_KEPT and len(name) + len(value) <= room:
            kept.append((name, value))
            room -= len(name) + len(value)
    status = answer.status_code
    ok = 200 <= status < 300
    return Response(
        duration=0,
        status=status,
        headers=tuple(kept),
        body=body[:BODY_KEPT],
        error_class="" if ok else "status",
        error=trouble if ok else f"HTTP {status}",
    )


def _failure(error: BaseException) -> Failure:
    """What happened to a connection that stood. An exception's own text may hold the URL, so only its class counts."""
    causes: list[BaseException] = []
    queue: list[object] = [error]
    while queue and len(causes) < 20:
        cause = queue.pop(0)
        if isinstance(cause, BaseException):
            causes.append(cause)
            queue += [*cause.args, cause.__cause__, cause.__context__]
    for cause in causes:
        # An end of file comes as both: closed connections first.
        if isinstance(cause, ConnectionError | ssl.SSLEOFError):
            return Failure("protocol", "the connection was closed before an answer came")
        if isinstance(cause, ssl.SSLError):
            # With TLS 1.3 a server refuses a client only after the handshake.
            return Failure("tls", f"TLS failed: {reason(cause)}")
    what = next((cause for cause in causes if isinstance(cause, HTTPException)), error)
    return Failure("protocol", f"the answer is not proper HTTP ({type(what).__name__})")


class _Connection(HTTPConnection):
    """urllib3's connection, over a socket of this room's."""

    def __init__(self, *args: Any, deadline: float, tls: ssl.SSLContext | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = deadline
        self._tls = tls
        if tls is not None:
            self.default_port = 443  # type: ignore[misc]  # decides whether Host names the port

    def connect(self) -> None:
        self.sock = connected(self.host, self.port, self._deadline, self._tls)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """requests' adapter for one exchange. It retries nothing: that is the default, and relied upon."""

    def __init__(self, deadline: float, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._deadline = deadline
        self._tls = tls
        self._pool: _Pool | None = None

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> HTTPConnectionPool:
        parts = urlsplit(request.url)
        port = parts.port or (443 if self._tls else 80)
        self._pool = _Pool(parts.hostname or "", port, maxsize=1, deadline=self._deadline, tls=self._tls)
        return self._pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Nothing to add: the connection has its TLS settings."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The bare answer; requests' own would also parse its cookies and its encoding."""
        response = requests.Response()
        response.request = req
        response.status_code = resp.status
        response.raw = resp
        return response

    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.close()
