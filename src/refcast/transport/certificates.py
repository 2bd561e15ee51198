"""Until when a certificate is valid. Trusts nothing and verifies nothing: that is `tls`.

The standard library tells a certificate's dates only of one that it has verified, and of no file; so the few fields
up to them are read here.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from refcast.errors import BadInput

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_VERSION = 0x30, 0x17, 0x18, 0xA0
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def ends(path: str) -> list[datetime]:
    """The last moments of the certificates in a PEM file, in their order; aware, UTC. BadInput, naming the file, where
    it cannot be read, or holds none."""
    try:
        blocks = _BLOCK.findall(Path(path).read_bytes())
        found = [end(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))) for block in blocks]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{path} holds a certificate that cannot be read") from None
    if not found:
        raise BadInput(f"{path} holds no certificate in PEM form")
    return found


def end(der: bytes) -> datetime:
    """The last moment of a certificate in DER (RFC 5280, sections 4.1 and 4.1.2.5); aware, UTC. ValueError for what is
    none."""
    at, _ = _inside(der, 0)
    at, _ = _inside(der, at)
    if der[at : at + 1] == bytes([_EXPLICIT_VERSION]):
        at = _field(der, at)[2]
    for _ in ("serial number", "signature", "issuer"):
        at = _field(der, at)[2]
    at, _ = _inside(der, at)
    kind, start, stop = _field(der, _field(der, at)[2])  # behind the first moment
    text = der[start:stop].decode("ascii")
    if kind == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(der: bytes, at: int) -> tuple[int, int]:
    kind, start, stop = _field(der, at)
    if kind != _SEQUENCE:
        raise ValueError
    return start, stop


def _field(der: bytes, at: int) -> tuple[int, int, int]:
    """Kind, start and end of the value that begins at `at` (X.690, section 8.1)."""
    try:
        kind, length, start = der[at], der[at + 1], at + 2
    except IndexError:
        raise ValueError from None
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if start + length > len(der):
        raise ValueError
    return kind, start, start + length
