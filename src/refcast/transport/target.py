"""A URL taken apart into what a request needs of it. Opens nothing."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes, urlsplit

from refcast.errors import BadInput
from refcast.transport.failure import Failure
from refcast.urls import check_proxy, check_url

_SENT = "!#$%&'()*+,/:;=?@[]~"
"""What stays as it is written in a path or query: RFC 3986's reserved characters, and percent signs."""
_LONE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` and `credentials` may be secret."""

    tls: bool
    host: str
    """For a look-up and a certificate: ASCII, no brackets."""
    port: int
    path: str = field(repr=False)
    """With the query, percent-encoded."""
    credentials: str = field(repr=False)
    """The userinfo as the value of an Authorization header (RFC 7617, UTF-8); empty for none."""

    @property
    def authority(self) -> str:
        """`host:port` as CONNECT wants it: always with the port."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def host_header(self) -> str:
        """Without the port where it is the scheme's own."""
        return _bracketed(self.host) if self.port == (443 if self.tls else 80) else self.authority

    @property
    def absolute(self) -> str:
        """The URL without its userinfo, as a proxy wants it (RFC 9112 3.2.2)."""
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.path}"


@lru_cache(maxsize=256)
def target(url: str) -> Target:
    """Raises Failure of the class `protocol` where the URL cannot be sent to."""
    try:
        check_url(url)
    except BadInput as error:
        raise Failure("protocol", str(error)) from None
    return _split(url)


@lru_cache(maxsize=64)
def proxy_target(proxy: str) -> Target:
    """The proxy `http://[user:password@]host:port`. Raises Failure of the class `proxy` where it is none."""
    try:
        check_proxy(proxy)
    except BadInput as error:
        raise Failure("proxy", str(error)) from None
    return _split(proxy)


def _split(url: str) -> Target:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    # A scope's percent sign is written as one of a URL (RFC 6874 2).
    host = host.replace("%25", "%", 1) if ":" in host else host.encode("idna").decode("ascii")
    userinfo = parts.netloc.rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    basic = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    return Target(
        tls=tls,
        host=host,
        port=parts.port or (443 if tls else 80),
        path=quote(_LONE.sub("%25", path), safe=_SENT),
        credentials="Basic " + base64.b64encode(basic).decode() if userinfo else "",
    )


def _bracketed(host: str) -> str:
    return f"[{host.partition('%')[0]}]" if ":" in host else host
