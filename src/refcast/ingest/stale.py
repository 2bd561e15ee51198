"""What the spool tells a sweep: intents of pushes that ended without a record, and what records are still to tell.

Owns how long such intents are kept. Those that can be removed go when a sweep has found what they led to, or when they
cannot lead anywhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from refcast import spool
from refcast.errors import RecordError, StateError
from refcast.ingest.asides import RETRY_SECONDS
from refcast.ingest.queue import MOST_FILES
from refcast.ingest.reading import Reader, Stamp, stamp_of
from refcast.ingest.trust import Trust
from refcast.model import printable
from refcast.spool import boxes

log = logging.getLogger("refcast.ingest.sweep")

NOWHERE_SECONDS = 3600.0
"""How long intents of a repository that is nowhere are kept: it may be made, or mounted, yet."""


class Stale:
    """`clock` gives seconds since the epoch."""

    def __init__(
        self, spool_dir: Path, clock: Callable[[], float], trust: Trust, is_known: Callable[[str], bool]
    ) -> None:
        self._spool = spool_dir
        self._clock = clock
        self._trust = trust
        self._is_known = is_known
        self._reader = Reader(trust, is_known, spoiled=True)
        self._seen: dict[Path, Stamp] = {}
        """Stale intents that a sweep has heeded, but that are too fresh to be removed, or cannot be."""
        self._kept: set[Path] = set()
        """Those that cannot be removed. Another sweep would change nothing: they are tried again with the next one."""

    def by_repository(self) -> dict[str, dict[Path, Stamp]]:
        """By repository: the files with intents of pushes that ended without a record."""
        found: dict[str, dict[Path, Stamp]] = {}
        for entry, stamp in self.entries():
            if entry.stale:
                for repository in {part.repository for part in entry.intents}:
                    found.setdefault(repository, {})[entry.path] = stamp
        return found

    def is_unheeded(self, files: dict[Path, Stamp]) -> bool:
        """Whether one of these was not there in the last sweep, or can be removed behind another."""
        return any(
            self._seen.get(path) != stamp or (self._is_old(stamp, path) and path not in self._kept)
            for path, stamp in files.items()
        )

    def entries(self) -> Iterator[tuple[spool.Entry, Stamp]]:
        """What the spool holds, spoiled files with their intents, but for what strangers have put there.

        A file that has not changed is read once."""
        look = spool.look(self._spool, lambda uid: not self._trust.is_trusted(uid))
        there = {path for paths in look.files.values() for path in paths}
        self._reader.keep(there)
        for gone in [path for path in self._seen if path not in there]:
            self._seen.pop(gone, None)
            self._kept.discard(gone)
        for path in self._newest(look):
            try:
                entry, stamp = self._reader.read(path)
            except (RecordError, FileNotFoundError, PermissionError):
                continue  # what its own pusher has spoiled must not keep anybody's moves from being found
            except OSError as error:
                raise StateError(f"cannot read {path}: {error.strerror}; refs are not compared meanwhile") from error
            yield self._trust.believed(entry, self._is_known), stamp

    def remove(self, files: dict[Path, Stamp]) -> None:
        """Forget those that were there before the refs were read: what they led to is found."""
        for path, stamp in files.items():
            try:
                if stamp_of(path) != stamp:
                    continue
                if self._is_old(stamp, path):
                    spool.remove(path)
                else:
                    self._seen[path] = stamp
            except FileNotFoundError:
                continue
            except OSError as error:
                self._seen[path] = stamp
                self._kept.add(path)
                log.warning("cannot remove %s: %s", printable(str(path)), error.strerror)

    def remove_strangers(self) -> None:
        """Remove old intents that do not count, or are of what is nowhere: they decide nothing, and would be read in
        each pass."""
        for believed, stamp in list(self.entries()):
            path = believed.path
            try:
                whole, _ = self._reader.read(path)
            except (RecordError, OSError):
                continue  # it has changed, or gone, since
            if not whole.stale or not self._is_old(stamp, path) or path in self._kept:
                continue
            is_late = abs(self._clock() - stamp[2] / 1e9) >= NOWHERE_SECONDS
            if believed.intents and not (is_late and all(self.is_nowhere(part.repository) for part in whole.intents)):
                continue
            try:
                if stamp_of(path) == stamp:
                    spool.remove(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._kept.add(path)
                log.warning("cannot remove %s: %s", printable(str(path)), error.strerror)

    def is_nowhere(self, path: str) -> bool:
        """Whether a repository is neither known nor there."""
        return not self._is_known(path) and not os.path.isdir(path)  # noqa: PTH112 (Path's raises for too long a name)

    def _is_old(self, stamp: Stamp, path: Path) -> bool:
        """Whether nothing writes to a file any more, not even a process that cannot be seen from here: in a container.
        A torn one stays for a person."""
        return not self._reader.is_torn(path) and abs(self._clock() - stamp[2] / 1e9) >= RETRY_SECONDS

    def _newest(self, look: boxes.Look) -> list[Path]:
        """The files that are looked at. What a stranger leaves lying must not hide what the same user pushes now."""
        some = {uid: paths if self._trust.is_trusted(uid) else paths[-MOST_FILES:] for uid, paths in look.files.items()}
        return boxes.Look(some).in_turns()
