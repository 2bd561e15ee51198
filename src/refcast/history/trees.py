"""File changes: two trees -> the paths that differ between them.

Owns the reading and comparing of raw tree objects, and nothing else: which two trees, and why, is its caller's
business. libgit2's own comparison visits every directory; this one descends only where the ids differ, and
within a directory it skips what is equal in strides, so that its cost is close to that of reading the objects.

A raw tree is a row of entries, `mode SP name NUL id`, where the twenty bytes of an id may be anything, NUL and
digits included. Therefore an entry's beginning is only ever found by walking whole entries from a known one,
never by looking for a separator.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pygit2 import Oid
from pygit2.enums import ObjectType

from refcast.history.objects import GoneError, Objects
from refcast.model import FileChanges

_ENTRY = re.compile(rb"0*([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_ENTRIES = re.compile(rb"(?:[^\0]++\0.{20})*+", re.DOTALL)
"""As many whole entries as there are: possessive, so that nothing is ever tried twice."""

_STRIDE = 2048
"""How many bytes are compared at first; doubled as long as they are equal."""

_KEPT = 32 * 1024 * 1024
"""Bytes of raw trees kept: commit n's parent's trees are those of commit n-1."""

_AT_ONCE = 100
"""How many paths are read ahead of one who may want no more."""

_DIRECTORY = b"40000"


@dataclass(slots=True)
class _Pair:
    """A directory being compared: its two raw trees (empty where there is none) and how far each is read."""

    path: bytes
    old: bytes
    new: bytes
    i: int = 0
    j: int = 0


@dataclass(slots=True)
class _Found:
    added: list[bytes] = field(default_factory=list)
    modified: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)

    @property
    def lists(self) -> tuple[list[bytes], list[bytes], list[bytes]]:
        return self.added, self.modified, self.removed

    def __len__(self) -> int:
        return len(self.added) + len(self.modified) + len(self.removed)


class Trees:
    """The trees of one repository, by raw id. Keeps the most recently used ones."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    def changes(self, old: bytes | None, new: bytes | None, limit: int) -> FileChanges:
        """The paths that differ between two trees given by raw id; None is the empty tree.

        At most `limit` paths in all three lists together; where there are more, the first ones in git's order
        and `cut`. The same where a tree is so deep in empty directories that no end is in sight.
        Raises GoneError where a tree is missing or malformed.
        """
        found = _Found()
        visits = 16 * limit + 1000
        stack = [_Pair(b"", self._read(old), self._read(new))] if old != new else []
        while stack and visits and len(found) <= limit:
            child = self._step(stack[-1], found, limit)
            if child is None:
                stack.pop()
            else:
                stack.append(child)
            visits -= 1
        over = len(found) > limit
        if over:
            max((paths for paths in found.lists if paths), key=lambda paths: paths[-1]).pop()
        added, modified, removed = map(_texts, found.lists)
        return FileChanges(added, modified, removed, cut=over or bool(stack))

    def differing(self, old: bytes | None, new: bytes | None, enter: Callable[[str], bool]) -> Iterator[str]:
        """The same without a limit, one by one, and only in the directories (`docs/api/`) that `enter` lets in.

        Raises GoneError where a tree is missing or malformed.
        """
        stack = [_Pair(b"", self._read(old), self._read(new))] if old != new else []
        while stack:
            found = _Found()
            child = self._step(stack[-1], found, _AT_ONCE, enter)
            if child is not None:
                stack.append(child)
            elif len(found) <= _AT_ONCE:
                stack.pop()
            for paths in found.lists:
                yield from _texts(paths)

    def _step(
        self, pair: _Pair, found: _Found, limit: int, enter: Callable[[str], bool] = lambda _: True
    ) -> _Pair | None:
        """Compare on to the end of the directory, or to one path over the limit (both None), or to a
        subdirectory that must be compared first, and that `enter` lets in.

        The order is git's: by name, where a directory's name ends in a slash.
        """
        old, new, path = pair.old, pair.new, pair.path
        i, j = pair.i, pair.j
        while len(found) <= limit:
            i, j = _skip_equal(old, i, new, j)
            left = _entry(old, i)
            right = _entry(new, j)
            if left is None and right is None:
                return None
            order = _order(left, right)
            if order <= 0:
                assert left is not None
                i = left.end()
            if order >= 0:
                assert right is not None
                j = right.end()
            child = self._differ(path, left if order <= 0 else None, right if order >= 0 else None, found, enter)
            if child is not None:
                pair.i, pair.j = i, j
                return child
        pair.i, pair.j = i, j
        return None

    def _differ(
        self,
        path: bytes,
        left: re.Match[bytes] | None,
        right: re.Match[bytes] | None,
        found: _Found,
        enter: Callable[[str], bool],
    ) -> _Pair | None:
        """Note an entry that exists on one side, or on both with the same name and, as bytes, not the same."""
        one = left or right
        assert one is not None
        name = path + one[2]
        if one[1] == _DIRECTORY:
            before = left[3] if left else None
            after = right[3] if right else None
            if before == after or not enter(_text(name + b"/")):  # equal if the mode was spelt in two ways
                return None
            return _Pair(name + b"/", self._read(before), self._read(after))
        if left and right:
            if left[3] != right[3] or _kind(left[1]) != _kind(right[1]):
                found.modified.append(name)
        elif right:
            found.added.append(name)
        else:
            found.removed.append(name)
        return None

    def _read(self, raw_id: bytes | None) -> bytes:
        if raw_id is None:
            return b""
        data = self._kept.get(raw_id)
        if data is not None:
            self._kept.move_to_end(raw_id)
            return data
        kind, data = self._objects.read(Oid(raw=raw_id))
        if kind != ObjectType.TREE:
            raise GoneError(f"tree {raw_id.hex()}")
        if len(data) <= _KEPT // 4:
            self._kept[raw_id] = data
            self._size += len(data)
            while self._size > _KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest)
        return data


def _skip_equal(old: bytes, i: int, new: bytes, j: int) -> tuple[int, int]:
    """The beginnings of the first entries, from `i` and `j` on, that are not the same on both sides.

    `i` and `j` are beginnings of entries. Near a difference it may stop a few equal entries early, which
    its caller tells from unequal ones by looking.
    """
    start, size = i, _STRIDE
    while True:
        ours, theirs = old[i : i + size], new[j : j + size]
        if ours != theirs:
            break
        if not ours:
            return i, j
        i += len(ours)
        j += len(theirs)
        size *= 2
    low, high = 0, min(len(ours), len(theirs))
    while high - low > 16:
        middle = (low + high) // 2
        if ours[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle
    whole = _ENTRIES.match(old, start, i + low)
    assert whole is not None
    skipped = whole.end() - start
    return start + skipped, start + skipped + (j - i)


def _entry(tree: bytes, at: int) -> re.Match[bytes] | None:
    """The entry at `at`; None at the end. Raises GoneError where bytes remain that are no entry."""
    entry = _ENTRY.match(tree, at)
    if entry is None and at < len(tree):
        raise GoneError("malformed tree")
    return entry


def _order(left: re.Match[bytes] | None, right: re.Match[bytes] | None) -> int:
    """Below 0 where the left entry comes first in git's order, above 0 where the right one does, else 0."""
    if left is None or right is None:
        return 1 if left is None else -1
    a, b = left[2], right[2]
    if left[1] == _DIRECTORY:
        a += b"/"
    if right[1] == _DIRECTORY:
        b += b"/"
    return (a > b) - (a < b)


def _kind(mode: bytes) -> int:
    """What git makes of a mode: of a file's permissions only the owner's right to execute counts."""
    bits = int(mode, 8)
    return bits & 0o170100 if bits & 0o170000 == 0o100000 else bits & 0o170000


def _texts(paths: list[bytes]) -> tuple[str, ...]:
    return tuple(map(_text, paths))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
