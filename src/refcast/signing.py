"""How a request proves where it comes from: bytes and secrets in, headers out.

Each scheme is one line of `SCHEMES`, or of `FAMILIES` where whoever receives names the header. This room owns
no clock (`now` is an argument), keeps no secret, and says in `SECRET_HEADERS` which headers must not be
written down.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
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

Digests are not among them: they reveal nothing that the body and a long secret do not. Nor are the headers of
`token:<header>`, which can have any name: a record masks what `spellings` lists wherever it stands."""

RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
"""Lower-case names of headers that say how the request is read, so that no scheme may take them."""

FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.1."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a signature may cover."""

    secrets: tuple[str, ...] = field(repr=False)
    """The newest first, at least one. Only a scheme that can sign with several uses more than that one."""
    payload: bytes
    """The JSON."""
    body: bytes
    """What is sent: the JSON, or a form that holds it."""
    delivery_id: str
    now: datetime
    """When the request is made, aware."""

    @property
    def secret(self) -> str:
        return self.secrets[0]


Signer = Callable[[Material], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Scheme:
    signed: Signer
    """The headers for an endpoint with a secret."""
    unsigned: Mapping[str, str] = field(default_factory=dict)
    """The headers for one without."""
    rotates: bool = False
    """Whether one request can be signed with several secrets, so that the old one stays valid for a while."""


def the_body(material: Material) -> bytes:
    """What most systems sign: the bytes as they are sent."""
    return material.body


def the_json(material: Material) -> bytes:
    """What some systems sign instead: the JSON, also where a form holds it."""
    return material.payload


def token(header: str, prefix: str = "") -> Signer:
    """The secret itself in a header. What is not ASCII goes out as the bytes of its UTF-8."""

    def signed(material: Material) -> dict[str, str]:
        secret = material.secret
        if secret != secret.strip() or not without_controls(secret):
            raise BadInput(
                f"the secret cannot be sent in the header {header}: remove white space at its ends, "
                "line breaks and control characters"
            )
        return {header: prefix + key(secret).decode("latin-1")}

    return signed


def basic(material: Material) -> dict[str, str]:
    """HTTP's basic authentication, in UTF-8; the secret is `user:password` (RFC 7617, section 2)."""
    if ":" not in material.secret or not without_controls(material.secret):
        raise BadInput(
            "the secret cannot be used for basic authentication: write user:password, without control characters"
        )
    return {"Authorization": f"Basic {base64.b64encode(key(material.secret)).decode('ascii')}"}


def digest(header: str, algorithm: str, *, over: Callable[[Material], bytes] = the_body, prefix: str = "") -> Signer:
    """An HMAC in lower-case hexadecimal, by one of hashlib's algorithms (RFC 2104)."""
    return lambda material: {header: prefix + hmac.new(key(material.secret), over(material), algorithm).hexdigest()}


def together(*signers: Signer) -> Signer:
    """The headers of all of them."""
    return lambda material: {name: value for signer in signers for name, value in signer(material).items()}


def standard_webhooks(material: Material) -> dict[str, str]:
    """Standard Webhooks 1.0.0, "Signature scheme": HMAC-SHA256, in base64, once for each secret.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    stamp = str(int(material.now.timestamp()))
    signed = f"{material.delivery_id}.{stamp}.".encode() + material.body
    digests = (hmac.digest(standard_key(secret), signed, "sha256") for secret in material.secrets)
    return {
        "webhook-id": material.delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode('ascii')}" for one in digests),
    }


def standard_key(secret: str) -> bytes:
    """`whsec_` and the key in base64, padded or not; any other secret is the key as it stands.

    The libraries of Standard Webhooks call the latter a raw secret. They take base64 without `whsec_` too, which
    here nobody could tell from a password made of letters.
    """
    if not secret.startswith("whsec_"):
        return key(secret)
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        decoded = b""
    if not decoded:
        raise BadInput("the secret begins with whsec_, but no key in base64 follows: copy it whole, or use another")
    return decoded


SCHEMES: dict[str, Scheme] = {
    "none": Scheme(lambda _: {}),
    "basic": Scheme(basic),
    "bearer": Scheme(token("Authorization", "Bearer ")),
    "standard-webhooks": Scheme(standard_webhooks, rotates=True),
    "hub-sha1": Scheme(digest("X-Hub-Signature", "sha1", prefix="sha1=")),
    "hub-sha256": Scheme(digest("X-Hub-Signature-256", "sha256", prefix="sha256=")),
    "codescoring-token": Scheme(token("X-CodeScoring-Authentication")),
    "codeup-token": Scheme(token("X-Codeup-Token")),
    "gitcode-token": Scheme(token("X-GitCode-Token")),
    "gitcode-signature": Scheme(digest("X-GitCode-Signature-256", "sha256", prefix="sha256=")),
    "gitlab-token": Scheme(token("X-Gitlab-Token")),
    "github": Scheme(
        together(
            digest("X-Hub-Signature", "sha1", prefix="sha1="),
            digest("X-Hub-Signature-256", "sha256", prefix="sha256="),
        )
    ),
    # Gogs sends the header empty where there is no secret, and receivers tell its requests by it.
    "gogs": Scheme(digest("X-Gogs-Signature", "sha256", over=the_json), {"X-Gogs-Signature": ""}),
    # So does Gitea, and Forgejo, each with its prefix and no digits.
    "gitea": Scheme(
        together(
            *(digest(f"X-{family}-Signature", "sha256", over=the_json) for family in ("Forgejo", "Gitea", "Gogs")),
            digest("X-Hub-Signature", "sha1", over=the_json, prefix="sha1="),
            digest("X-Hub-Signature-256", "sha256", over=the_json, prefix="sha256="),
        ),
        {
            "X-Forgejo-Signature": "",
            "X-Gitea-Signature": "",
            "X-Gogs-Signature": "",
            "X-Hub-Signature": "sha1=",
            "X-Hub-Signature-256": "sha256=",
        },
    ),
}

FAMILIES: dict[str, Callable[[str, str], Signer]] = {
    "token": token,
    "hmac-sha1": lambda header, prefix: digest(header, "sha1", prefix=prefix),
    "hmac-sha256": lambda header, prefix: digest(header, "sha256", prefix=prefix),
}
"""Schemes for receivers with a header of their own, spelled `family:header` or `family:header:prefix`: the prefix
stands before the value. A digest is of the body as it is sent, in lower-case hexadecimal."""


def get(name: str) -> Scheme:
    """The scheme of this name. BadInput, naming those there are, when there is none, or its header cannot be."""
    if name in SCHEMES:
        return SCHEMES[name]
    family, _, rest = name.partition(":")
    if family not in FAMILIES or not rest:
        known = [*sorted(SCHEMES), *(f"{one}:<header>[:<prefix>]" for one in FAMILIES)]
        raise BadInput(f"unknown signing scheme {name!r}: use one of {', '.join(known)}")
    header, _, prefix = rest.partition(":")
    if not FIELD_NAME.fullmatch(header):
        raise BadInput(f"{header!r} cannot name a header, in the signing scheme {name!r}: use letters, digits, hyphens")
    if header.lower() in RESERVED_HEADERS:
        raise BadInput(f"the signing scheme {name!r} cannot use the header {header}: it says how the request is read")
    if prefix != prefix.lstrip() or not prefix.isascii() or not without_controls(prefix):
        raise BadInput(f"{prefix!r} cannot stand before a header's value, in the signing scheme {name!r}: use ASCII")
    return Scheme(FAMILIES[family](header, prefix))


def sign(
    scheme: str, *, secrets: Sequence[str], payload: bytes, body: bytes, delivery_id: str, now: datetime
) -> dict[str, str]:
    """The headers that sign one request; what the scheme sends unsigned where there is no secret but empty ones.

    `secrets` are in force, the newest first. BadInput, which does not show the secret, for an unknown scheme and
    for a secret that it cannot use.
    """
    found = get(scheme)
    used = tuple(secret for secret in secrets if secret)
    if not used:
        return dict(found.unsigned)
    return found.signed(Material(used, payload, body, delivery_id, now))


def check(scheme: str, secret: str) -> set[str]:
    """The names of the headers that `sign` will give, and BadInput where it would raise it: for whoever takes the
    secret in, before anything is sent."""
    return set(
        sign(scheme, secrets=[secret], payload=b"", body=b"", delivery_id="", now=datetime(2000, 1, 1, tzinfo=UTC))
    )


def spellings(secret: str) -> set[str]:
    """The texts by which a header, sent or echoed, gives the secret away: itself, its UTF-8 as HTTP's bytes, Basic's
    base64, and the password of a `user:password`."""
    found = {secret, secret.partition(":")[2], base64.b64encode(key(secret)).decode("ascii")}
    return {text for one in found for text in (one, key(one).decode("latin-1"))} - {""}


def key(secret: str) -> bytes:
    """The secret's bytes, as they were typed (PEP 383)."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadInput("the secret is not valid Unicode: use another") from None


def without_controls(text: str) -> bool:
    return not any(character < " " or character == "\x7f" for character in text)
