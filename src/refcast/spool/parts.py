"""The fields of a file of the spool, and what a hook run tells by them. The format is described in the package.

Owns what a record can say: whatever git cannot have made is refused here. Values only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refcast.errors import RecordError
from refcast.model import RefUpdate

_HEAD = re.compile(r"refcast ([0-9]{1,9}) (intent|push)\Z")
_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|\.\Z")
"""What git has in the name of no ref (git-check-ref-format(1)), and so nowhere below `refs`."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one hook run tells of a push. An intent has no id and no options."""

    repository: str
    updates: tuple[RefUpdate, ...]
    id: str = ""
    options: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """Environment variables, as the hook found them."""


def split(path: Path, data: bytes) -> Iterator[tuple[str, bool, list[tuple[str, str]]]]:
    """The parts of a file: kind, whether the end mark stands behind it, and its fields.

    Raises RecordError for what cannot be part of a record. Outside a record it is passed over."""
    kind, fields = "", list[tuple[str, str]]()
    begin = 0
    # What stands behind the last NUL is a field that is still being written, or nothing.
    while (end := data.find(b"\0", begin)) >= 0:
        field = data[begin:end].decode("utf-8", "surrogateescape")
        begin = end + 1
        name, equals, value = field.partition("=")
        if head := _HEAD.match(field):
            if kind:
                yield kind, False, fields
            if head[1] != "1":
                raise RecordError(f"{path}: {field[:40]!r} is of another version of the hooks; install them again")
            kind, fields = head[2], []
        elif field == "end" and kind == "push":
            yield kind, True, fields
            kind, fields = "", []
        elif equals:
            fields.append((name, value))
        elif kind == "push":
            raise RecordError(f"{path}: {field[:40]!r} is not a field of a record")
    if kind:
        yield kind, False, fields


def intent(path: Path, fields: list[tuple[str, str]]) -> Part:
    return Part(
        repository=_one(path, fields, "repository"),
        updates=tuple(
            _update(path, line)
            for name, value in fields
            if name in ("update", "updates")
            for line in _lines(value)
            if line
        ),
        facts=_facts(path, fields),
    )


def record(path: Path, fields: list[tuple[str, str]]) -> Part:
    record_id = _one(path, fields, "id")
    if not _UUID.match(record_id):
        raise RecordError(f"{path}: {record_id[:40]!r} is not the id of a record")
    lines = _one(path, fields, "updates")
    return Part(
        repository=_one(path, fields, "repository"),
        updates=tuple(_update(path, line) for line in _lines(lines)),
        id=record_id,
        options=tuple(value for name, value in fields if name == "option"),
        facts=_facts(path, fields),
    )


def _lines(text: str) -> Iterator[str]:
    """One after another: a list of them all would take several times as much room."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        yield text[begin:end]
        begin = end + 1


def _facts(path: Path, fields: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    facts = tuple((name, value) for name, value in fields if name.isupper())
    for name, value in facts:
        # git passes over empty parts of it (gitnamespaces(7)).
        if name == "GIT_NAMESPACE" and not all(_can_be(part) for part in value.split("/") if part):
            raise RecordError(f"{path}: {value[:120]!r} is not a namespace that git can have")
    return facts


def _one(path: Path, fields: list[tuple[str, str]], wanted: str) -> str:
    values = [value for name, value in fields if name == wanted]
    if len(values) != 1 or (wanted == "repository" and not values[0].startswith("/")):
        raise RecordError(f"{path}: a record needs exactly one {wanted}, this one has {len(values)}")
    # Hooks write where they are, resolved. The same place by another name would be another repository.
    if wanted == "repository" and (values[0].startswith("//") or os.path.normpath(values[0]) != values[0]):
        raise RecordError(f"{path}: {values[0][:120]!r} is not a path that a hook writes")
    return values[0]


def _update(path: Path, line: str) -> RefUpdate:
    old, _, rest = line.partition(" ")
    new, _, ref = rest.partition(" ")
    if not (_ID.match(old) and _ID.match(new) and ref.startswith("refs/") and _can_be(ref)):
        raise RecordError(f"{path}: {line[:120]!r} is not a ref update (old id, new id, ref)")
    return RefUpdate(old, new, ref)


def _can_be(name: str) -> bool:
    """Whether git can have a ref of this name, or of one below it. A record of another would lead who looks for its
    place out of the repository, or to none."""
    return not _FORBIDDEN_IN_REF.search(name) and all(
        part
        and not part.startswith(".")
        and not part.endswith(".lock")
        and len(part.encode("utf-8", "surrogateescape")) <= 255
        for part in name.split("/")
    )
