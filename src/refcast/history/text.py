"""Raw commit and tag objects -> idents and text. Pure: bytes in, the model's words out, and it never fails.

What git writes is regular, but what other programs have written over the years is not, and an object cannot be
mended once it is in a history. So every field has something to fall back on: an ident without its brackets has
an empty e-mail, a date that cannot be read is 1970, an offset that no clock has is UTC.
"""

from __future__ import annotations

import re
from codecs import lookup
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import takewhile

from refcast.model import Ident

_IDENT = re.compile(rb"([^<]*)(?:<([^>]*))?")
_DATE = re.compile(rb"\s(-?[0-9]{1,20})(?:\s+([+-][0-9]{1,4}))?\s*\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")

_LATEST = 253_402_128_000
"""9999-12-30T00:00:00Z: the last time that is a datetime at every offset."""

_NOT_FOR_TEXT = {"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"}
"""Codecs of Python's that are no character encoding, and slow or noisy on bytes not made for them."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The first of each header of a commit or a tag, without continuation lines, and the message."""

    fields: dict[bytes, bytes]
    parents: tuple[str, ...]
    """The `parent` lines that follow the `tree`, as git reads them: others are none."""
    body: bytes

    def text(self, raw: bytes) -> str:
        return decode(raw, self.fields.get(b"encoding", b""))

    @property
    def tree(self) -> str:
        return self.fields.get(b"tree", b"").decode("ascii", "replace")

    @property
    def message(self) -> str:
        return self.text(self.body)

    def ident(self, key: bytes) -> Ident:
        """The ident in a header; one without name, e-mail and date where there is none."""
        raw = self.fields.get(key, b"")
        # The date stands behind the last bracket: names and addresses may hold anything.
        who, bracket, tail = raw.rpartition(b">")
        date = _DATE.search(tail if bracket else b" " + raw)
        if not bracket:
            who = raw[: max(date.start() - 1, 0)] if date else raw
        match = _IDENT.match(who)
        assert match is not None
        name, email = match[1], match[2] or b""
        time = _time(int(date[1]), date[2] or b"+0000") if date else _time(0, b"+0000")
        return Ident(self.text(name).strip(), self.text(email).strip(), time)


def parse(raw: bytes) -> Headers:
    """The headers and the message of a raw commit or tag."""
    head, _, body = raw.partition(b"\n\n")
    lines = [line.partition(b" ") for line in head.split(b"\n")]
    fields: dict[bytes, bytes] = {}
    for key, _, value in lines:
        if key:  # a line that begins with a space continues the one before, such as a signature
            fields.setdefault(key, value)
    parents = takewhile(lambda line: line[0] == b"parent", lines[1:])
    return Headers(fields, tuple(value.decode("ascii", "replace") for _, _, value in parents), body)


def decode(raw: bytes, encoding: bytes = b"") -> str:
    """`raw` as text: by the encoding that the commit declares, else as UTF-8; what remains becomes U+FFFD.

    Without NUL and lone surrogates, which neither a database nor a receiver takes.
    """
    codec = _codec(encoding)
    try:
        text = raw.decode(codec)
    except UnicodeError:
        try:
            text = raw.decode("utf-8")
        except UnicodeError:
            text = raw.decode(codec, "replace")
    return _SURROGATE.sub("\ufffd", text.replace("\0", ""))


@lru_cache(maxsize=64)
def _codec(encoding: bytes) -> str:
    """The name of Python's codec for a declared encoding; utf-8 for none, and for what Python does not know."""
    try:
        name = lookup(encoding.decode("ascii").strip()).name
    except (LookupError, ValueError):
        return "utf-8"
    if name.replace("-", "_") in _NOT_FOR_TEXT:
        return "utf-8"
    try:
        b"a".decode(name)
    except LookupError:  # makes no text of bytes, such as hex
        return "utf-8"
    except UnicodeError:  # one byte is no text in UTF-16
        pass
    return name


def _time(seconds: int, offset: bytes) -> datetime:
    """The time at an offset such as `+0130`. Before 1970, which git has not, is 1970."""
    number = int(offset[1:])
    minutes = number // 100 * 60 + number % 100
    if number % 100 >= 60 or minutes >= 24 * 60:
        minutes = 0
    zone = timezone(timedelta(minutes=-minutes if offset[:1] == b"-" else minutes)) if minutes else UTC
    return datetime.fromtimestamp(min(max(seconds, 0), _LATEST), zone)
