"""One request and its answer over a connection that stands: HTTP/1.1, within bounds. Opens no connection.

requests' adapter makes the exchange, on urllib3's connection, and is handed the socket. It is used without a Session,
which would follow, remember and heed the environment. What it would do besides is left out here: pools, cookies,
retries, unpacking, a URL written anew. urllib3 is not even told where the request goes, so that no error or log of
its can tell.

Of the answer's head a line (64 KiB) and the number of lines (100) are bounded by http.client beneath; all of it,
interim answers included, and the body here.
"""

from __future__ import annotations

import copy
import logging
import re
import ssl
from collections.abc import Iterable
from http.client import HTTPException, HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from refcast.model import Response
from refcast.transport.connect import Connection, EnoughError, reason
from refcast.transport.failure import DeadlineError, Failure

HEAD_READ = 256 * 1024
"""Bytes of the status line and the headers, those of interim answers (100, 103) included."""
INTERIM_READ = 100
"""Interim answers other than 100. To take one apart costs as much as an answer."""
BODY_READ = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
PARTS_READ = 4096
"""... and the pieces in which they come. Chunks of a byte each cost more than a body is worth."""
BODY_KEPT = 16 * 1024
HEADERS_KEPT = 100
HEADER_BYTES_KEPT = 8 * 1024

_FRAMING = {"connection", "content-length", "transfer-encoding", "host", "proxy-authorization"}
"""Headers that say where a request ends and to whom it goes: the transport's, or a request could hide another."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5, in latin-1
_FOLD = re.compile(r"[ \t]*[\r\n]+[ \t]*")  # RFC 9112 5.2
_TOGETHER = 64 * 1024
"""Up to here a body goes out in one piece with the head."""

# urllib3 writes into its log what an endpoint answered.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)


def fields(
    host: str, given: Iterable[tuple[str, str]], more: Iterable[tuple[str, str]], size: int, *, last: bool
) -> HTTPHeaderDict:
    """A request's headers: those `given`, and those of `more` that are not among them. After the `last` request the
    connection is to be closed.

    Raises Failure of the class `protocol` where a header cannot be sent.
    """
    headers = HTTPHeaderDict()
    headers.add("Host", host)
    for name, value in given:
        if not _TOKEN.fullmatch(name):
            raise Failure("protocol", "a header's name has a character that HTTP does not allow")
        if not _VALUE.fullmatch(value):
            raise Failure("protocol", f"the header {name} has a line break or a character outside latin-1")
        if name.lower() in _FRAMING:
            raise Failure("protocol", f"the header {name} cannot be set: it belongs to the connection")
        headers.add(name, value)
    # Where the request names nobody, urllib3 would name itself.
    for name, value in (*more, ("User-Agent", SKIP_HEADER)):
        headers.setdefault(name, value)
    headers.add("Content-Length", str(size))
    if last:
        headers.add("Connection", "close")
    return headers


def exchange(adapter: Adapter, connection: Connection, place: str, headers: HTTPHeaderDict, body: bytes) -> Response:
    """POST to `place`, byte for byte as it is written, and return the answer, bounded.

    The caller closes the connection, or uses it again if it is at rest. Raises Failure, and DeadlineError when the
    time is up before the answer's head is there.
    """
    connection.at_rest = False
    connection.room = HEAD_READ
    try:
        answer = adapter.send(_Prepared(connection, place, headers, body), stream=True)
    except EnoughError:
        raise Failure("protocol", f"the answer's head does not end within {HEAD_READ // 1024} KiB") from None
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        raise _failure(error) from None
    connection.room = 2 * BODY_READ  # chunks have lines of their own
    try:
        response = _read(answer)
        # A length or a last chunk has shown where it ends, and neither side is to close now.
        ended, beneath = answer.raw.closed, answer.raw._original_response
        connection.at_rest = ended and not response.error and beneath is not None and not beneath.will_close
        return response
    finally:
        answer.raw.close()


class _Prepared(requests.PreparedRequest):
    """A request as it goes out, and the connection for it. What requests itself prepares has a URL written anew."""

    def __init__(self, connection: Connection, place: str, headers: HTTPHeaderDict, body: bytes) -> None:
        super().__init__()
        self.method = "POST"
        self.url = "/"
        self.headers = headers  # type: ignore[assignment]  # its own type would drop repeated headers
        self.body = body
        self.connection = connection
        self.place = place


class _Answer(HTTPResponse):
    """http.client's, which takes 103 for the last word, and of several lengths the first."""

    def begin(self) -> None:
        """Read up to the final status and its headers. Interim answers come before (RFC 9110 15.2)."""
        for _ in range(1 + INTERIM_READ):
            self.headers = None  # type: ignore[assignment]  # has it begin anew
            super().begin()
            if not 100 <= self.status < 200 or self.status == 101:
                break
        else:
            raise Failure("protocol", f"no answer came after {INTERIM_READ} interim ones")
        # RFC 9112 6.3: with lengths that differ, nothing of an answer can be relied upon.
        lengths = {one.strip() for value in self.headers.get_all("Content-Length", []) for one in value.split(",")}
        if len(lengths) > 1 or not all(one.isascii() and one.isdigit() for one in lengths):
            raise ValueError


class _Connection(HTTPConnection):
    """urllib3's connection over a socket that stands. What goes wrong there becomes a Failure, which nobody wraps."""

    response_class = _Answer

    def __init__(self, prepared: _Prepared) -> None:
        super().__init__("endpoint")
        self._prepared = prepared
        self._waits = 0 < len(prepared.body or b"") <= _TOGETHER
        self._head = b""

    def connect(self) -> None:
        self.sock = self._prepared.connection

    def close(self) -> None:
        """Let go of the socket, which is the caller's."""
        self.sock = None
        super().close()

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        super().putrequest(method, self._prepared.place, *args, **kwargs)

    def send(self, data: Any) -> None:
        """Send the head, and then the body; together where it is small."""
        if self._waits:
            self._head, self._waits = data, False
            return
        data, self._head = self._head + data, b""
        try:
            super().send(data)
        except ConnectionError:
            pass  # it may have answered before it closed: 413 is often said so
        except OSError as error:
            raise _failure(error) from None

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except (HTTPException, OSError, ValueError) as error:
            raise _failure(error) from None


class _Pool(HTTPConnectionPool):
    """urllib3's pool, without keeping anything: it makes the one connection of one request."""

    prepared: _Prepared

    def _get_conn(self, *_: Any, **__: Any) -> _Connection:
        return _Connection(self.prepared)

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.close()


class Adapter(HTTPAdapter):
    """requests' adapter over a connection that comes with the request. All threads share one.

    It retries nothing: that is the default, and relied upon.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pool = _Pool("endpoint")

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> HTTPConnectionPool:
        pool = copy.copy(self._pool)  # to make one takes ten times as long
        pool.prepared = request
        return pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Nothing to add: TLS stands."""

    def request_url(self, *_: Any) -> str:
        return "/"

    def build_response(self, _: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The bare answer; requests' own would also parse its cookies and its encoding."""
        response = requests.Response()
        response.status_code = resp.status
        response.raw = resp
        return response


def _read(answer: requests.Response) -> Response:
    """The bounded answer. Reads until the body ends, is long enough, breaks off, or the deadline comes."""
    body, trouble = b"", ""
    try:
        for _ in range(PARTS_READ):
            part = answer.raw.read1(BODY_READ - len(body), decode_content=False)
            body += part
            if not part or len(body) == BODY_READ:
                break
    except EnoughError:
        pass
    except DeadlineError:
        trouble = "the body did not end before the deadline"
    except (HTTPError, HTTPException, OSError, ValueError):
        trouble = "the body broke off"
    kept: list[tuple[str, str]] = []
    room = HEADER_BYTES_KEPT
    for name, value in answer.raw.headers.items():
        # One that is too large must not push out the small ones after it, such as Retry-After.
        if len(kept) < HEADERS_KEPT and len(name) + len(value) <= room:
            kept.append((name, _FOLD.sub(" ", value)))
            room -= len(name) + len(value)
    ok = 200 <= answer.status_code < 300
    return Response(
        duration=0,
        status=answer.status_code,
        headers=tuple(kept),
        body=body[:BODY_KEPT],
        error_class="" if ok else "status",
        error=trouble if ok else f"HTTP {answer.status_code}",
    )


def _failure(error: Exception) -> Failure:
    """What happened to a connection that stood. An exception's own text may hold an answer: its class alone counts."""
    # An end of file comes as both: closed connections first.
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        return Failure("protocol", "the connection was closed before an answer came")
    if isinstance(error, ssl.SSLError):
        # With TLS 1.3 a server refuses a client only after the handshake.
        return Failure("tls", f"TLS failed: {reason(error)}")
    return Failure("protocol", f"the answer is not proper HTTP ({type(error).__name__})")
