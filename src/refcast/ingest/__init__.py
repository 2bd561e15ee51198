"""From the spool into the store: records -> Push -> Events -> the deliveries that endpoints want.

Owns the way of a record and the ledger's moves. Which record comes next is told by `order`, what is stored of an event
by `rendering`; what an event says is `history`'s and the dialects' business. A record's file goes last, after its
events are committed, so that a crash anywhere means reading it again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from refcast import spool
from refcast.errors import RecordError, RepositoryError, StateError
from refcast.history import History
from refcast.ingest import order
from refcast.ingest.order import Record
from refcast.ingest.rendering import rendered, widest
from refcast.model import Endpoint, Event, Push, Pusher, RefUpdate, Repository, printable
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Aside, Batch, NewEvent

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long a repository or a file that cannot be read is left alone."""

BATCH_EVENTS = 100
BATCH_BYTES = 4 * 1024 * 1024
"""What one transaction stores at most: a push of ten thousand refs must not lock the store for seconds."""


def _go_on() -> bool:
    return True


class Ingest:
    """One pass after another over the spool. `clock` gives seconds since the epoch. `between` is called whenever
    something is stored; where it says False, the pass ends before the next record."""

    def __init__(
        self, store: Store, spool_dir: Path, clock: Callable[[], float], between: Callable[[], bool] = _go_on
    ) -> None:
        self._store = store
        self._spool = spool_dir
        self._clock = clock
        self._between = between
        self._settings = Settings()
        self._asides: dict[str, Aside] = {}

    def run(self, settings: Settings) -> int:
        """Ingest every record that can be ingested now. How many that were; the reasons of the others are stored."""
        self._settings = settings
        self._asides = {aside.path: aside for aside in self._store.intake.asides()}
        self._forget_asides_of_missing_files()
        waiting, moving = self._read()
        count = 0
        for path, records in waiting.items():
            if not self._rests(records):
                count += self._ingest_repository(path, records, moving[path])
        return count

    def _read(self) -> tuple[dict[str, list[Record]], dict[str, set[str]]]:
        """By repository: the records in the spool, oldest first, and the refs that pushes are moving just now."""
        waiting: defaultdict[str, list[Record]] = defaultdict(list)
        moving: defaultdict[str, set[str]] = defaultdict(set)
        for path in spool.files(self._spool):
            aside = self._asides.get(str(path))
            if aside and aside.retry_at is None:
                continue
            try:
                entry = spool.read(path)
                for part in entry.records:
                    _check(path, part)
            except FileNotFoundError:
                continue
            except (RecordError, OSError) as error:
                if aside is None or self._is_due(aside):
                    lasting = isinstance(error, RecordError) and not self._is_fresh(path)
                    self._set_aside(path, _reason(path, error), retry_at=None if lasting else self._soon())
                continue
            for part in entry.records:
                waiting[part.repository].append(Record(entry, part))
            if not entry.complete and entry.alive:
                for part in entry.intents:
                    moving[part.repository] |= {order.prefix(part) + update.ref for update in part.updates}
        return waiting, moving

    def _rests(self, records: list[Record]) -> bool:
        """Whether the repository is left alone for now. What has come meanwhile then waits with the others, or it
        would be ingested before them."""
        aside = [self._asides[path] for record in records if (path := str(record.entry.path)) in self._asides]
        if not aside or any(map(self._is_due, aside)):
            return False
        for record in records:
            if str(record.entry.path) not in self._asides:
                self._set_aside(record.entry.path, aside[0].reason, retry_at=aside[0].retry_at)
        return True

    def _ingest_repository(self, path: str, records: list[Record], moving: set[str]) -> int:
        """The records of one repository, in the order in which its refs moved. How many were ingested."""
        count = 0
        try:
            with History.open(path) as history:
                number = self._known(path, history, records)
                done = self._store.intake.done([record.part.id for record in records])
                for known in [record for record in records if record.part.id in done]:
                    records.remove(known)
                    self._finish(known, records)
                tips = self._store.repositories.tips(number)
                begun = self._store.intake.begun(number)
                while self._between():
                    # One that an interruption has left half told comes first.
                    half_told = next((one for one in records if one.part.id in begun), None)
                    record = half_told or order.following(records, tips, moving)
                    if record is None:
                        break
                    try:
                        tips = self._ingest(number, record, tips, history)
                    except (StateError, RepositoryError, OSError):
                        raise
                    except Exception as error:
                        # A bug. It must not hold up the pushes behind it, nor lose this one.
                        log.exception("a bug in refcast met the record %s", record.entry.path)
                        self._set_aside(record.entry.path, f"a bug in refcast: {error!r}", retry_at=None)
                        records.remove(record)
                        tips = self._store.repositories.tips(number)
                        continue
                    records.remove(record)
                    count += 1
                    self._finish(record, records)
        except StateError:
            raise
        except Exception as error:
            if not isinstance(error, (RepositoryError, OSError)):
                log.exception("a bug in refcast met the repository %s", printable(path))
            for record in records:
                self._set_aside(record.entry.path, str(error), retry_at=self._soon())
        return count

    def _known(self, path: str, history: History, records: list[Record]) -> int:
        """The repository's number. One first met takes as its ledger its present refs, with these pushes undone."""
        number = self._store.repositories.find(path)
        if number is not None:
            return number
        return self._store.repositories.add(path, order.beginning(records, history.tips()), self._clock())

    def _ingest(self, number: int, record: Record, ledger: dict[str, str], history: History) -> dict[str, str]:
        """Store what one record tells, and return the ledger as it is then."""
        part, prefix = record.part, record.prefix
        tips = dict(ledger)
        for stored in reversed(self._store.intake.told(part.id)):
            # What an interrupted try has moved is moved back: events are told against the ledger before the push.
            order.move(tips, prefix + stored.ref, stored.old)
        missed: list[RefUpdate] = []
        told: list[RefUpdate] = []
        for ref, update in record.moves():
            tip = order.tip(tips, ref, update.old)
            if tip != update.old:
                if self._is_late(number, record, ref, update, tip, history):
                    log.info("%s tells late of %s, which is announced already", part.id, printable(update.ref))
                    continue
                if tip == update.new:
                    # The ledger was made when this ref had moved already.
                    order.move(tips, ref, update.old)
                else:
                    missed.append(RefUpdate(tip, update.old, update.ref))
            told.append(update)
        pusher = self._pusher(record)
        push = Push(part.id, part.repository, pusher.username, record.entry.time, tuple(told), part.options)
        endpoints = self._store.endpoints.all()
        repository = describe(self._settings, history, part.repository, number)
        events = self._events(history, push, tuple(missed), tips, prefix, repository, pusher, endpoints)
        self._store_events(
            number, push, prefix, (rendered(event, push.id, endpoints, self._settings) for event in events)
        )
        for update in told:
            order.move(tips, prefix + update.ref, update.new)
        return tips

    def _is_late(self, number: int, record: Record, ref: str, update: RefUpdate, tip: str, history: History) -> bool:
        """Whether an update that does not begin at the ledger's tip lies before it: a gap was announced as recovered,
        and this is the record that was missing then."""
        recovered_at = self._store.intake.recovered_at(number, update.ref, but=record.part.id)
        if recovered_at is None:
            return False
        present = order.tip(history.tips(), ref, update.old)
        # The ref is where the ledger has it, so nothing newer is left to tell. If it has moved on, clocks must decide.
        return present == tip or (present != update.new and record.entry.time.timestamp() <= recovered_at)

    def _events(
        self,
        history: History,
        push: Push,
        missed: tuple[RefUpdate, ...],
        tips: dict[str, str],
        prefix: str,
        repository: Repository,
        pusher: Pusher,
        endpoints: list[Endpoint],
    ) -> Iterator[Event]:
        limits = widest(endpoints, self._settings)
        other_refs = any(endpoint.other_refs for endpoint in endpoints)
        if missed:
            gap = replace(push, updates=missed)
            for event in history.events(gap, tips, repository, pusher, limits, other_refs=other_refs):
                yield replace(event, recovered=True)
            for update in missed:
                order.move(tips, prefix + update.ref, update.new)
        yield from history.events(push, tips, repository, pusher, limits, other_refs=other_refs)

    def _store_events(self, number: int, push: Push, prefix: str, events: Iterable[NewEvent]) -> None:
        """Store the events in bounded transactions; the ledger moves with them, the record is done with the last."""

        def add(part: list[NewEvent], *, last: bool) -> None:
            moved = [new.event.update for new in part if new.event.update]
            # The last one also moves the refs that make no event.
            updates = [*moved, *push.updates] if last else moved
            tips = {prefix + update.ref: None if update.deleted else update.new for update in updates}
            batch = Batch(push.id, number, push.pusher, push.time.timestamp(), part, tips, last)
            self._store.intake.add(batch, self._clock())
            self._between()

        part: list[NewEvent] = []
        size = 0
        for event in events:
            part.append(event)
            size += sum(len(content.payload) for content in event.contents)
            if len(part) >= BATCH_EVENTS or size >= BATCH_BYTES:
                add(part, last=False)
                part, size = [], 0
        add(part, last=True)

    def _pusher(self, record: Record) -> Pusher:
        """Who pushed: what a front end says, if the push came by the account that owns the state, else the account."""
        facts = dict(record.part.facts)
        name = ""
        if record.entry.uid == self._spool.stat().st_uid:
            name = facts.get("GL_USER") or facts.get("REMOTE_USER") or ""
        name = printable(name or account_name(record.entry.uid))
        return Pusher(username=name, name=name, id=self._store.repositories.user_id(name))

    def _finish(self, record: Record, others: list[Record]) -> None:
        """Remove the file of an ingested record, unless it holds another one, or is still being written."""
        path = record.entry.path
        if not record.entry.complete or any(other.entry is record.entry for other in others):
            return
        try:
            spool.remove(path)
        except OSError as error:
            # Only its own pusher can have caused that; the others' pushes go on.
            reason = f"{path}: it is ingested, but the file cannot be removed: {error.strerror}"
            self._set_aside(path, reason, retry_at=None)
            return
        if str(path) in self._asides:
            self._store.intake.no_longer_aside(str(path))

    def _set_aside(self, path: Path, reason: str, *, retry_at: float | None) -> None:
        reason = printable(reason)
        known = self._asides.get(str(path))
        if known is None or known.reason != reason:
            log.warning("set aside %s: %s", printable(str(path)), reason)
        self._store.intake.set_aside(str(path), reason, self._clock(), retry_at)

    def _soon(self) -> float:
        return self._clock() + RETRY_SECONDS

    def _is_fresh(self, path: Path) -> bool:
        """Whether a file may still be written to, by a process that cannot be seen from here: in a container."""
        try:
            return abs(self._clock() - path.lstat().st_mtime) < RETRY_SECONDS
        except OSError:
            return False

    def _is_due(self, aside: Aside) -> bool:
        return aside.retry_at is not None and not self._clock() < aside.retry_at <= self._clock() + RETRY_SECONDS

    def _forget_asides_of_missing_files(self) -> None:
        for path in list(self._asides):
            try:
                os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                self._store.intake.no_longer_aside(path)
                del self._asides[path]
            except OSError:
                continue  # its directory is closed to us


def describe(settings: Settings, history: History, path: str, number: int) -> Repository:
    """What receivers are told of the open repository at `path`, whose number in the store is `number`."""
    text = ""
    description = Path(path) / "description"
    # To open what is no file may block.
    with contextlib.suppress(OSError):
        if description.is_file():
            with description.open("rb") as file:
                text = file.read(4096).decode("utf-8", "replace").strip()
    if text.startswith("Unnamed repository"):  # what `git init` leaves there
        text = ""
    return settings.describe(path, id=number, description=text, default_branch=history.default_branch())


def account_name(uid: int) -> str:
    """The name of a unix account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reason(path: Path, error: RecordError | OSError) -> str:
    return str(error) if isinstance(error, RecordError) else f"{path}: {error.strerror}"


def _check(path: Path, part: spool.Part) -> None:
    """git moves a ref once in a push. A record that says otherwise is not git's."""
    if len({update.ref for update in part.updates}) < len(part.updates):
        raise RecordError(f"{path}: a ref is updated more than once in one push")
