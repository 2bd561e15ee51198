"""The sweep: a repository's refs compared with the ledger. What moved without a record is announced as recovered.

Owns when a repository is swept, what is left alone, and what becomes of stale intents. How moves are announced is
`announcing`'s business. Reads refs first, then intents, then records: a push under way whose ref has moved already has
its intent in the spool, and one that is over its record, so neither is announced here. Whoever calls it must hold the
worker's lock, and run no ingest at the same time.

It infers nothing from a repository that is missing, will not open or is another one, nor from a ref that cannot be
read: a ref is gone if a look at its own name says so, and has moved if its new object is there.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from refcast.errors import RepositoryError, StateError
from refcast.history import History
from refcast.ingest import order
from refcast.ingest.announcing import UNKNOWN, Announcement, Announcer, Origin
from refcast.ingest.asides import RETRY_SECONDS
from refcast.ingest.lending import Lenders, intended
from refcast.ingest.reading import Stamp
from refcast.ingest.stale import Stale
from refcast.ingest.trust import is_doubt
from refcast.model import Push, RefUpdate, printable
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.repositories import Found, Sweepable

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
"""How often each watched repository is swept."""

START_SECONDS = 600.0
"""A worker that starts sweeps what has not been swept for so long."""

SLICE = 200
"""How many refs one turn looks at: records and other repositories must not wait for a mirror of ten thousand."""

NAMED = 100
"""How many refs the store keeps the names of, of those that a sweep has announced."""


@dataclass(slots=True)
class _Running:
    """A sweep that is under way, a turn at a time."""

    repository: Sweepable
    began_at: float
    stale: dict[Path, Stamp]
    """The stale intents that were there before its refs were read."""
    pending: list[str] | None = None
    """Refs, by their full names, that differ and were not looked at yet; None before the first turn."""
    symbolic: dict[str, str] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    recovered: list[str] = field(default_factory=list)
    left: int = 0


class Sweep:
    """`clock` gives seconds since the epoch. Its making is the start of a worker."""

    def __init__(self, store: Store, spool_dir: Path, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._announcer = Announcer(store, spool_dir, clock)
        self._trust = self._announcer.trust
        self._started_at = clock()
        self._running: _Running | None = None
        self._stale = Stale(spool_dir, clock, self._trust, lambda path: store.repositories.find(path) is not None)
        self._failed: dict[str, tuple[float, str]] = {}
        """By path: when a repository could not be swept, and why."""

    def step(self, settings: Settings) -> bool:
        """Sweep the one repository that is due first, or a part of it. Whether there is more to do now."""
        self._announcer.settings = settings
        self._trust.renew()
        if self._running is None:
            self._stale.remove_strangers()
            due = self._due()
            if not due:
                return False
            repository, stale = due[0]
            self._running = _Running(repository, self._clock(), stale)
        running, self._running = self._running, None
        if self._turn(running):
            self._running = running
        return self.is_due()

    def is_due(self) -> bool:
        """Whether there is anything to sweep now."""
        return self._running is not None or bool(self._due())

    def one(self, path: str, settings: Settings) -> Found:
        """Sweep one repository from beginning to end, due or not; what was found."""
        self._announcer.settings = settings
        self._trust.renew()
        (repository,) = [one for one in self._store.repositories.sweepable() if one.path == path]
        running = _Running(repository, self._clock(), self._stale.by_repository().get(path, {}))
        while self._turn(running):
            pass
        (repository,) = [one for one in self._store.repositories.sweepable() if one.path == path]
        return repository.found or Found()

    def _due(self) -> list[tuple[Sweepable, dict[Path, Stamp]]]:
        """What is to be swept now, the most urgent first, each with its stale intents."""
        now = self._clock()
        stale = self._stale.by_repository()
        fresh = {path: self._stale.is_unheeded(files) for path, files in stale.items()}
        known = {one.path: one for one in self._store.repositories.sweepable()}
        for path in fresh:
            # Who pushes can write of repositories that are nowhere, as many as they like.
            if path not in known and not self._stale.is_nowhere(path):
                known[path] = Sweepable(0, path, watched=True, swept_at=now, asked_at=None, found=None)
        found = []
        for path, one in known.items():
            asked = one.asked_at is not None
            failed_at = self._failed.get(path, (None,))[0]
            if not asked and failed_at is not None and failed_at <= now < failed_at + RETRY_SECONDS:
                continue
            late = one.swept_at is None or not self._latest_start(now) <= one.swept_at <= now
            if fresh.get(path) or asked or (one.watched and late):
                urgency = 0 if asked else 1 if fresh.get(path) else 2
                found.append((urgency, one.swept_at or 0.0, path))
        return [(known[path], stale.get(path, {})) for _, _, path in sorted(found)]

    def _latest_start(self, now: float) -> float:
        """Before what time the last sweep of a repository must have been for the next to be due."""
        return max(now - EVERY_SECONDS, min(self._started_at, now) - START_SECONDS)

    def _turn(self, running: _Running) -> bool:
        """Look at the next refs, and announce what has moved. Whether any are left."""
        repository, began = running.repository, time.monotonic()
        try:
            with History.open(repository.path) as history:
                more = self._compare(running, history)
        except StateError:
            raise
        except Exception as error:
            if not isinstance(error, (RepositoryError, OSError)):
                log.exception("a bug in refcast met the repository %s", printable(repository.path))
            reason = printable(str(error))
            if self._failed.get(repository.path, (0.0, ""))[1] != reason:
                path = printable(repository.path)
                log.warning("cannot sweep %s: %s", path, reason, extra={"repository": path})
            self._failed[repository.path] = self._clock(), reason
            self._note(running, reason)
            return False
        if more:
            return True
        self._failed.pop(repository.path, None)
        self._stale.remove(running.stale)
        self._note(running)
        if running.recovered:
            log.info(
                "%s: %d moves had no record and are announced as recovered (the last turn took %.1f s)",
                printable(repository.path),
                len(running.recovered),
                time.monotonic() - began,
            )
        return False

    def _compare(self, running: _Running, history: History) -> bool:
        repository = running.repository
        present, running.symbolic = history.refs.all()
        number = repository.number or self._meet(running, present)
        if number is None:
            return False
        ledger = self._store.repositories.tips(number)
        if running.pending is None:
            if ledger and not any(history.refs.has(tip) for tip in ledger.values()):
                raise RepositoryError(
                    f"{repository.path}: it has none of the objects that its refs named: is another repository in its "
                    "place? If that is meant, `refcast uninstall` and `refcast install` it"
                )
            running.pending = sorted(
                ref for ref in ledger.keys() | present.keys() if ledger.get(ref) != present.get(ref)
            )
        some, running.pending = running.pending[:SLICE], running.pending[SLICE:]
        moved: dict[str, str] = {}
        for ref in some:
            now = _look_up(history, ref)
            if now is None:
                running.left += 1
            elif now != ledger.get(ref, ""):
                moved[ref] = now
        if moved:
            self._announce(running, number, history, ledger, moved)
        return bool(running.pending)

    def _meet(self, running: _Running, present: dict[str, str]) -> int | None:
        """The number of a repository whose first push was killed: its ledger is its refs, with that undone.

        None where nothing that is told of has happened: then it stays unknown."""
        path = running.repository.path
        entries = [entry for entry, _ in self._stale.entries() if entry.stale]
        moves = [(ref, update) for ref, update, _, _ in intended(entries, path, self._real(running), self._trust)]
        before = order.undone(present, moves)
        if before == present:
            return None
        number = self._store.repositories.add(path, before, self._clock())
        running.repository = replace(running.repository, number=number)
        return number

    @staticmethod
    def _real(running: _Running) -> Callable[[str], str]:
        return lambda ref: running.symbolic.get(ref, ref)

    def _announce(
        self, running: _Running, number: int, history: History, ledger: dict[str, str], moved: dict[str, str]
    ) -> None:
        """Announce what has moved, but for what a push under way or a record in the spool is to tell."""
        path, real = running.repository.path, self._real(running)
        entries = [entry for entry, _ in self._stale.entries()]
        over = list(intended((entry for entry in entries if entry.stale), path, real, self._trust))
        under_way = (entry for entry in entries if entry.alive and not entry.complete)
        protected = {ref for ref, *_ in intended(under_way, path, real, self._trust)}
        doubted = self._doubted()
        for entry in entries:
            for part in entry.records:
                if part.repository == path and str(entry.path) not in doubted:
                    place = order.prefix(part)
                    protected |= {real(place + update.ref) for update in part.updates}
        running.left += len(protected & moved.keys())
        mine = moved.keys() - protected
        if not running.repository.watched:
            # Its hooks were taken out: only what was pushed before is to be told.
            mine &= {ref for ref, *_ in over}
        lenders = Lenders(over)
        unknown = Origin(UNKNOWN, datetime.fromtimestamp(self._clock(), UTC))
        groups: dict[tuple[str, Origin], list[RefUpdate]] = {}
        for ref in sorted(mine):
            place, name = order.parted(ref)
            new = moved[ref] or "0" * len(ledger[ref])
            old = ledger.get(ref) or "0" * len(new)
            origin = lenders.origin(self._announcer, ref, old, new) or unknown
            groups.setdefault((place, origin), []).append(RefUpdate(old, new, name))
        for (place, origin), updates in sorted(groups.items(), key=lambda group: (group[0][1].time, group[0][0])):
            push = Push(str(uuid.uuid4()), path, origin.pusher.username, origin.time, ())
            missed = [(origin, update) for update in updates]
            what = Announcement(number, push, origin.pusher, place, missed, sweep=True, counts=running.counts)
            for _ in self._announcer.announce(history, what, ledger):
                pass
            running.recovered += [place + update.ref for update in updates]

    def _doubted(self) -> set[str]:
        """The files that are not believed, and were not a while ago. Should it turn out that they told the truth, their
        records come late."""
        until = self._clock() - RETRY_SECONDS
        return {one.path for one in self._store.intake.asides() if is_doubt(one.reason) and one.since <= until}

    def _note(self, running: _Running, error: str = "") -> None:
        repository = running.repository
        if repository.number:
            refs = tuple(running.recovered[:NAMED])
            found = Found(len(running.recovered), running.left, refs, error)
            self._store.repositories.swept(repository.number, found, began_at=running.began_at, now=self._clock())


def _look_up(history: History, ref: str) -> str | None:
    """What a ref names now, empty where there is none; None where it is to be left alone."""
    try:
        found = history.refs.look_up(ref)
    except RepositoryError:
        return None
    # One whose object is missing was spoiled, by a power cut perhaps.
    return found if not found or history.refs.has(found) else None
