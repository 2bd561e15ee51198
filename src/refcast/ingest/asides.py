"""What is set aside: files of the spool that cannot be ingested, each with the reason.

Owns how many of one user's are kept by name, when one is tried again, and that what a pass finds is stored in one
transaction: a stranger can put thousands of files there, and each transaction waits for the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from refcast.model import printable
from refcast.spool.boxes import Look, user_in, user_of
from refcast.store import Store
from refcast.store.intake import Aside

log = logging.getLogger("refcast.ingest")

RETRY_SECONDS = 60.0
"""How long a repository or a file that cannot be read is left alone."""

MOST_RETRY_SECONDS = 3600.0
"""The same for a repository that was never there, once it has not been for so long."""

DOUBT_SECONDS = 3600.0
"""How long a record that is not believed is judged again. After that it rests until somebody has it tried again."""

MOST_ASIDES = 100
"""How many files of a stranger are named. The others are counted."""


class Asides:
    def __init__(self, store: Store, clock: Callable[[], float], is_trusted: Callable[[int], bool]) -> None:
        self._store = store
        self._clock = clock
        self._is_trusted = is_trusted
        self._known: dict[str, Aside] = {}
        self._changed: dict[str, Aside | None] = {}
        self._number: dict[Path, int] = {}
        self._more: dict[Path, set[Path]] = {}
        """By directory: the files that are not named any more."""

    def renew(self, look: Look) -> None:
        """Begin a pass: what commands have changed counts, what is not there any more does not."""
        self._known = {aside.path: aside for aside in self._store.intake.asides()}
        self._changed = {}
        self._number = {}
        for path in map(Path, self._known):
            self._number[path.parent] = self._number.get(path.parent, 0) + 1
        there = {path for paths in look.files.values() for path in paths}
        self._more = {box: left for box, paths in self._more.items() if (left := paths & there)}
        for box, error in look.closed.items():
            reason = f"{box}: {error.strerror}: its pushes wait; give the worker's group access to it again (2770)"
            known = self.get(box)
            if known is None or known.reason != printable(reason) or self.is_due(known):
                self.set(box, reason, retry_at=self.later(box))
        for name in list(self._known):
            path = Path(name)
            try:
                os.lstat(path)
                if path not in look.boxes or path in look.closed or path in self._more:
                    continue
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError:
                continue  # its directory is closed to us
            self.forget(path)

    def get(self, path: Path) -> Aside | None:
        return self._known.get(str(path))

    def is_counted(self, path: Path) -> bool:
        """Whether a file is one of those that have no name here any more."""
        return path in self._more.get(path.parent, ())

    def is_due(self, aside: Aside) -> bool:
        if aside.retry_at is None:
            return False
        # One that lies further ahead than its wait allows was noted before the clock was set back.
        return not self._clock() < aside.retry_at <= self._clock() + self._wait(aside.since)

    def soon(self) -> float:
        return self._clock() + RETRY_SECONDS

    def later(self, path: Path) -> float:
        """When to try again what may never be there: the longer it has not been, the later."""
        known = self.get(path)
        return self._clock() + self._wait(known.since if known else self._clock())

    def _wait(self, since: float) -> float:
        return min(max(RETRY_SECONDS, self._clock() - since), MOST_RETRY_SECONDS)

    def set(self, path: Path, reason: str, *, retry_at: float | None, uid: int = 0) -> None:
        """Set a file of a user aside, or a directory."""
        reason = printable(reason)
        known = self.get(path)
        if known is None and not self._is_trusted(uid):
            if self._number.get(path.parent, 0) >= MOST_ASIDES:
                self._more.setdefault(path.parent, set()).add(path)
                return
            self._number[path.parent] = self._number.get(path.parent, 0) + 1
        if known is None or known.reason != reason:
            log.warning("set aside %s: %s", printable(str(path)), reason)
        since = known.since if known else self._clock()
        self._known[str(path)] = self._changed[str(path)] = Aside(str(path), reason, since, retry_at)

    def set_file(self, path: Path, reason: str, *, retry_at: float | None) -> None:
        self.set(path, reason, retry_at=retry_at, uid=user_of(path.parent))

    def doubt(self, path: Path, reason: str) -> None:
        """Set aside what is not believed."""
        # A push that is under way, or a group that is just being changed, can make it true.
        lasting = not self.is_fresh(path, DOUBT_SECONDS)
        known = self.get(path)
        if known is None or (known.reason, known.retry_at is None) != (printable(reason), lasting):
            self.set_file(path, reason, retry_at=None if lasting else self.soon())

    def is_fresh(self, path: Path, seconds: float = RETRY_SECONDS) -> bool:
        """Whether a file may still be written to, by a process that cannot be seen from here: in a container."""
        try:
            return abs(self._clock() - path.lstat().st_mtime) < seconds
        except OSError:
            return False

    def is_retrying(self) -> bool:
        """Whether something is set aside that is worth staying for: of what a stranger's files are, an hour long."""
        return any(
            aside.retry_at is not None
            and (self._is_trusted(user_in(Path(aside.path))) or abs(self._clock() - aside.since) < DOUBT_SECONDS)
            for aside in self._store.intake.asides()
        )

    def forget(self, path: Path) -> None:
        if self._known.pop(str(path), None):
            self._changed[str(path)] = None

    def store(self) -> None:
        """Have it all written, in one transaction. Until then it is as if this pass had not been."""
        for box, paths in self._more.items():
            reason = f"{box}: and {len(paths)} more of user {user_of(box)} cannot be ingested either"
            known = self.get(box)
            if known is None or known.reason != printable(reason):
                self.set(box, reason, retry_at=None)
        if self._changed:
            self._store.intake.note_asides(self._changed)
            self._changed = {}
