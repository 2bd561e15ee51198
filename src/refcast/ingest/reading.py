"""What the spool holds, read again and again: a file that has not changed since, and will not, is read once.

Of a stranger's large file only the head is read before its user is believed: to parse it all costs seconds and hundreds
of megabytes, and everybody can write one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from refcast import spool
from refcast.errors import RecordError
from refcast.ingest.order import Record
from refcast.ingest.trust import DOUBT, Trust

LARGE_BYTES = 256 * 1024
"""Beyond this a stranger's file is judged by its head first: a push of a thousand refs has less."""

HEAD_REFS = 10

Stamp = tuple[int, int, int, int]
"""What changes with a file: its inode, size, times of modification and of change in nanoseconds."""


class DoubtError(RecordError):
    """A file of somebody who is not believed. That may change."""


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: Stamp
    alive: bool
    found: spool.Entry | RecordError


class Reader:
    """Reads files of one spool. Keeps what they say, or why they cannot be read, for as long as they are there.

    With `spoiled`, it finds the intents in front of a record that cannot be read."""

    def __init__(self, trust: Trust, is_known: Callable[[str], bool], *, spoiled: bool = False) -> None:
        self._trust = trust
        self._is_known = is_known
        self._spoiled = spoiled
        self._known: dict[Path, _Known] = {}
        self._heads: dict[Path, tuple[Stamp, spool.Entry]] = {}
        """Of large files: whether they are believed is asked in each pass."""

    def read(self, path: Path) -> tuple[spool.Entry, Stamp]:
        """One file, with all its intents and records. Raises RecordError, or OSError if it cannot be opened."""
        stamp = stamp_of(path)
        known = self._known.get(path)
        if known is None or known.stamp != stamp or self._has_ended(known, path):
            alive = spool.is_alive(path)
            try:
                found: spool.Entry | RecordError = self._read(path, stamp)
            except DoubtError:
                self._known.pop(path, None)
                raise
            except RecordError as error:
                found = RecordError(str(error))  # without its traceback, which holds the file
            known = self._known[path] = _Known(stamp, alive, found)
        if isinstance(known.found, RecordError):
            raise RecordError(str(known.found))
        return known.found, stamp

    def is_bad(self, path: Path) -> bool:
        """Whether a file was read in vain and is as it was then."""
        known = self._known.get(path)
        if known is None or not isinstance(known.found, RecordError) or self._has_ended(known, path):
            return False
        try:
            return known.stamp == stamp_of(path)
        except OSError:
            return False

    def is_torn(self, path: Path) -> bool:
        """Whether a file was read, and found to be spoiled."""
        known = self._known.get(path)
        return known is not None and isinstance(known.found, spool.Entry) and known.found.torn

    def keep(self, paths: Iterable[Path]) -> None:
        """Forget all files but these."""
        there = set(paths)
        for known in (self._known, self._heads):
            for path in [path for path in known if path not in there]:
                del known[path]

    @staticmethod
    def _has_ended(known: _Known, path: Path) -> bool:
        """Whether the push has ended since: what it left becomes stale, or turns out to be torn."""
        complete = isinstance(known.found, spool.Entry) and known.found.complete
        return known.alive and not complete and not spool.is_alive(path)

    def _read(self, path: Path, stamp: Stamp) -> spool.Entry:
        limit, only = spool.MAX_BYTES, ""
        if stamp[1] > LARGE_BYTES:
            head = self._head(path, stamp)
            if not self._trust.is_trusted(head.uid):
                limit, only = spool.STRANGER_BYTES, self._believed(head)
        entry = spool.read_intents(path, limit) if self._spoiled else spool.read(path, limit)
        for part in (*entry.intents, *entry.records):
            if only and part.repository != only:
                raise RecordError(f"{path}: so large a file is of one push, and this one is of several repositories")
        if not self._spoiled:
            for part in entry.records:
                _check(path, part)
        return entry

    def _head(self, path: Path, stamp: Stamp) -> spool.Entry:
        known = self._heads.get(path)
        if known is None or known[0] != stamp:
            head = spool.read_head(path)
            # git let its pusher move each of them, so a few are enough to judge by.
            intents = tuple(replace(part, updates=part.updates[:HEAD_REFS]) for part in head.intents)
            known = self._heads[path] = stamp, replace(head, intents=intents)
        return known[1]

    def _believed(self, head: spool.Entry) -> str:
        """The repository that a file begins with. Raises DoubtError where its user is not believed."""
        (part,) = head.intents
        why = self._trust.against_user(Record(head, part), self._is_known)
        if not why and not os.path.isdir(part.repository):  # noqa: PTH112 (Path's raises for a name that is too long)
            why = f"{head.path} {DOUBT}there is no {part.repository}"
        if why:
            raise DoubtError(why)
        return part.repository


def stamp_of(path: Path) -> Stamp:
    """Raises OSError."""
    info = os.lstat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _check(path: Path, part: spool.Part) -> None:
    """git moves a ref once in a push. A record that says otherwise is not git's."""
    if len({update.ref for update in part.updates}) < len(part.updates):
        raise RecordError(f"{path}: a ref is updated more than once in one push")
