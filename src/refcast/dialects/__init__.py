"""The dialects: the shapes in which receivers understand an event, and one visible table of them.

A dialect is a module here: it turns an Event into Messages and names the headers that go with them.
This file owns what all of them share, the encoding of a payload into a body. It does not own
signatures (`signing`) nor anything that a single system does its own way.

Adding one: a module with the names of `Dialect`, one line in `DIALECTS`, golden files (docs/dialects.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote_plus

from refcast.dialects import codeup, gogs
from refcast.errors import BadInput
from refcast.model import Event, Message


class Dialect(Protocol):
    """What a module in this package has."""

    NAME: str
    CONTENT_TYPES: tuple[str, ...]
    """What the system's own settings offer, of `json` and `form`; the first is the default."""
    SIGNING: str
    """A key of `signing.SCHEMES`."""

    def render(self, event: Event) -> list[Message]:
        """The requests that the system would make of this event, in sending order; none if it has none."""

    def test(self) -> Message:
        """What the system's own test button sends."""

    def headers(self, kind: str, delivery_id: str) -> dict[str, str]:
        """The headers of a message of this kind but for content type and signature."""


DIALECTS: dict[str, Dialect] = {
    codeup.NAME: codeup,
    gogs.NAME: gogs,
}

SURROGATES = re.compile("[\ud800-\udfff]")


def get(name: str) -> Dialect:
    """The dialect of this name; BadInput, naming those there are, when there is none."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise BadInput(f"unknown dialect {name!r}: use one of {', '.join(sorted(DIALECTS))}") from None


def encode(payload: Mapping[str, object]) -> bytes:
    """The payload as compact JSON in UTF-8: the same bytes for the same payload, its keys in their own order.

    A surrogate, which UTF-8 cannot carry, becomes U+FFFD.
    """
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return SURROGATES.sub("\ufffd", text).encode()


def body(json_bytes: bytes, content_type: str) -> tuple[str, bytes]:
    """The Content-Type header's value and the body for a payload that `encode` made.

    `form` puts the JSON into one field, `payload`. BadInput for any other word than `json` and `form`.
    """
    if content_type == "json":
        return "application/json", json_bytes
    if content_type == "form":
        return "application/x-www-form-urlencoded", b"payload=" + quote_plus(json_bytes).encode("ascii")
    raise BadInput(f"unknown content type {content_type!r}: use json or form")
