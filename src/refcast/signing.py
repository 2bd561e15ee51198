"""How a request proves where it comes from: bytes and a secret in, headers out.

Each scheme is one line of `SCHEMES`. This room owns no clock (`now` is an argument), keeps no secret,
and says in `SECRET_HEADERS` which headers must not be written down.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from refcast.errors import BadInput

SECRET_HEADERS = frozenset(
    {
        "authorization",
        "cookie",
        "private-token",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
        "x-codescoring-authentication",
        "x-codeup-token",
        "x-gitcode-token",
        "x-gitee-token",
        "x-gitlab-token",
    }
)
"""Lower-case names of headers, sent or received, whose values a record shows masked.

Digests are not among them: they reveal nothing that the body and a long secret do not."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a signature may cover."""

    secret: str = field(repr=False)
    payload: bytes
    """The JSON."""
    body: bytes
    """What is sent: the JSON, or a form that holds it."""
    delivery_id: str
    now: datetime
    """When the request is made, aware."""


Signer = Callable[[Material], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Scheme:
    signed: Signer
    """The headers for an endpoint with a secret."""
    unsigned: Mapping[str, str] = field(default_factory=dict)
    """The headers for one without."""


def token(header: str) -> Signer:
    """The secret itself in a header. What is not ASCII goes out as the bytes of its UTF-8."""

    def signed(material: Material) -> dict[str, str]:
        secret = material.secret
        if secret != secret.strip() or any(character < " " or character == "\x7f" for character in secret):
            raise BadInput(
                f"the secret cannot be sent in the header {header}: remove white space at its ends, "
                "line breaks and control characters"
            )
        return {header: key(secret).decode("latin-1")}

    return signed


def digest(header: str, algorithm: str, *, over: Callable[[Material], bytes], prefix: str = "") -> Signer:
    """An HMAC in lower-case hexadecimal, by one of hashlib's algorithms (RFC 2104)."""
    return lambda material: {header: prefix + hmac.new(key(material.secret), over(material), algorithm).hexdigest()}


SCHEMES: dict[str, Scheme] = {
    "none": Scheme(lambda _: {}),
    "codeup-token": Scheme(token("X-Codeup-Token")),
    # Gogs sends the header empty where there is no secret, and receivers tell its requests by it.
    "gogs": Scheme(digest("X-Gogs-Signature", "sha256", over=lambda m: m.payload), {"X-Gogs-Signature": ""}),
}


def sign(scheme: str, *, secret: str, payload: bytes, body: bytes, delivery_id: str, now: datetime) -> dict[str, str]:
    """The headers that sign one request; what the scheme sends unsigned where `secret` is empty.

    BadInput, which does not show the secret, for an unknown scheme and for a secret that it cannot use.
    """
    if scheme not in SCHEMES:
        raise BadInput(f"unknown signing scheme {scheme!r}: use one of {', '.join(sorted(SCHEMES))}")
    if not secret:
        return dict(SCHEMES[scheme].unsigned)
    return SCHEMES[scheme].signed(Material(secret, payload, body, delivery_id, now))


def check(scheme: str, secret: str) -> None:
    """BadInput where `sign` would raise it: for whoever takes the secret in, before anything is sent."""
    sign(scheme, secret=secret, payload=b"", body=b"", delivery_id="", now=datetime(2000, 1, 1, tzinfo=UTC))


def key(secret: str) -> bytes:
    """The secret's bytes, as they were typed (PEP 383)."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadInput("the secret is not valid Unicode: use another") from None
