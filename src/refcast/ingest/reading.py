"""What the spool holds, read again and again: a file that has not changed since, and will not, is read once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from refcast import spool
from refcast.errors import RecordError

Stamp = tuple[int, int, int]
"""What changes with a file: its inode, size, and time of modification in nanoseconds."""


class Reader:
    """Reads files of one spool. Keeps what they say for as long as they are there."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, spool.Entry]] = {}

    def read(self, path: Path) -> spool.Entry:
        """One file, with all its intents and records. Raises RecordError, or OSError if it cannot be opened."""
        stamp = stamp_of(path)
        known = self._known.get(path)
        if known and known[0] == stamp:
            return known[1]
        entry = spool.read(path)
        for part in entry.records:
            _check(path, part)
        # One that is not complete may be completed, or its push may end.
        if entry.complete:
            self._known[path] = stamp, entry
        return entry

    def keep(self, paths: Iterable[Path]) -> None:
        """Forget all files but these."""
        there = set(paths)
        for path in [path for path in self._known if path not in there]:
            del self._known[path]


def stamp_of(path: Path) -> Stamp:
    """Raises OSError."""
    info = os.lstat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns


def _check(path: Path, part: spool.Part) -> None:
    """git moves a ref once in a push. A record that says otherwise is not git's."""
    if len({update.ref for update in part.updates}) < len(part.updates):
        raise RecordError(f"{path}: a ref is updated more than once in one push")
