"""From the spool into the store: records -> Push -> Events -> the deliveries that endpoints want.

Owns the order of records and the ledger's moves; what an event says is `history`'s and the dialects' business.
A record's file goes last, after its events are committed, so that a crash anywhere means reading it again.
"""

from __future__ import annotations

import logging
import pwd
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from refcast import dialects, spool
from refcast.errors import RecordError, RefcastError, RepositoryError
from refcast.history import History, Limits
from refcast.model import ZERO_ID, Endpoint, Event, Push, Pusher, RefUpdate, Repository, is_zero, printable
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Batch, NewContent, NewDelivery, NewEvent

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long a repository that cannot be read is left alone."""

BATCH_EVENTS = 100
BATCH_BYTES = 4 * 1024 * 1024
"""What one transaction stores at most: a push of ten thousand refs must not lock the store for seconds."""

_NAMESPACE = uuid.UUID("7a1c2b1e-6d0f-4c57-9f43-4e1e2f0a9d55")
"""Delivery ids are made of what they identify, so that ingesting a record again makes the same ones."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the spool, with the file that it came in."""

    entry: spool.Entry
    part: spool.Part

    @property
    def prefix(self) -> str:
        """Where git really keeps the refs of a push into a GIT_NAMESPACE (gitnamespaces(7))."""
        namespace = dict(self.part.facts).get("GIT_NAMESPACE", "")
        return "".join(f"refs/namespaces/{name}/" for name in namespace.split("/") if name)


class Ingest:
    """One pass after another over the spool. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, spool_dir: Path, clock: Callable[[], float]) -> None:
        self._store = store
        self._spool = spool_dir
        self._clock = clock
        self._settings = Settings()

    def run(self, settings: Settings) -> int:
        """Ingest every record that can be ingested now. How many that were; the reasons of the others are stored."""
        self._settings = settings
        self._forget_asides_of_missing_files()
        resting = {aside.path for aside in self._store.intake.asides() if not self._is_due(aside.retry_at)}
        waiting: defaultdict[str, list[Record]] = defaultdict(list)
        moving: defaultdict[str, set[str]] = defaultdict(set)
        for path in spool.files(self._spool):
            if str(path) in resting:
                continue
            try:
                entry = spool.read(path)
            except FileNotFoundError:
                continue
            except (RecordError, OSError) as error:
                self._set_aside(path, str(error), retry_at=None)
                continue
            for part in entry.records:
                waiting[part.repository].append(Record(entry, part))
            if not entry.complete and entry.alive:
                for part in entry.intents:
                    moving[part.repository] |= {update.ref for update in part.updates}
        return sum(self._ingest_repository(records, moving[path]) for path, records in waiting.items())

    def _ingest_repository(self, records: list[Record], moving: set[str]) -> int:
        """The records of one repository, in the order in which its refs moved. How many were ingested."""
        count = 0
        path = records[0].part.repository
        try:
            with History.open(path) as history:
                number = self._known(path, history, records)
                while record := self._next(number, records, moving):
                    records.remove(record)
                    try:
                        self._ingest(number, record, history)
                    except (RepositoryError, OSError):
                        records.insert(0, record)
                        raise
                    except RefcastError as error:
                        self._set_aside(record.entry.path, str(error), retry_at=None)
                        continue
                    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
                        # A bug. It must not hold up the pushes behind it, nor lose this one.
                        log.exception("a bug in refcast met the record %s", record.entry.path)
                        self._set_aside(record.entry.path, f"a bug in refcast: {error!r}", retry_at=None)
                        continue
                    count += 1
                    if not any(other.entry is record.entry for other in records):
                        spool.remove(record.entry.path)
                        self._store.intake.no_longer_aside(str(record.entry.path))
        except (RepositoryError, OSError) as error:
            for record in records:
                self._set_aside(record.entry.path, str(error), retry_at=self._clock() + RETRY_SECONDS)
        return count

    def _known(self, path: str, history: History, records: list[Record]) -> int:
        """The repository's number. One first met takes as its ledger its present refs, with these pushes undone."""
        number = self._store.repositories.find(path)
        if number is not None:
            return number
        tips = history.tips()
        for record in reversed(records):
            for update in record.part.updates:
                _move(tips, record.prefix + update.ref, update.old)
        return self._store.repositories.add(path, tips, self._clock())

    def _next(self, number: int, records: list[Record], moving: set[str]) -> Record | None:
        """The record whose turn it is: the chain of each ref's ids decides, not clocks and not file names.

        One that fits no tip waits while a push of the same ref is under way. None: nothing can be ingested now."""
        begun = self._store.intake.begun()
        for record in records:
            if record.part.id in begun:
                return record
        if not records:
            return None
        tips = self._store.repositories.tips(number)
        for record in records:
            if not self._gaps(record, tips):
                return record
        oldest = records[0]
        if any(update.ref in moving for update in self._gaps(oldest, tips)):
            return None
        return oldest

    @staticmethod
    def _gaps(record: Record, tips: Mapping[str, str]) -> list[RefUpdate]:
        """From the tips in the ledger to the old ids of the record, where they differ."""
        gaps = []
        for update in record.part.updates:
            tip = tips.get(record.prefix + update.ref, _zero_like(update.old))
            if tip != update.old:
                gaps.append(RefUpdate(tip, update.old, update.ref))
        return gaps

    def _ingest(self, number: int, record: Record, history: History) -> None:
        part = record.part
        if self._store.intake.is_done(part.id):
            return
        tips = self._store.repositories.tips(number)
        if part.id in self._store.intake.begun():
            # What an interrupted try has moved is moved back: events are told against the ledger before the push.
            for update in part.updates:
                if tips.get(record.prefix + update.ref, ZERO_ID) == update.new or is_zero(update.new):
                    _move(tips, record.prefix + update.ref, update.old)
        received_at = record.entry.time.timestamp()
        gaps = self._gaps(record, tips)
        new_of = {update.ref: update.new for update in part.updates}
        covered = {
            gap.ref
            for gap in gaps
            if gap.old == new_of[gap.ref] or self._store.intake.is_recovered(number, gap.ref, received_at)
        }
        pusher = self._pusher(record)
        push = Push(part.id, part.repository, pusher.username, record.entry.time, (), part.options)
        missed = tuple(gap for gap in gaps if gap.ref not in covered)
        told = tuple(update for update in part.updates if update.ref not in covered)
        endpoints = self._store.endpoints.all()
        repository = describe(self._settings, history, part.repository, number)
        events = self._events(history, push, missed, told, tips, record.prefix, repository, pusher, endpoints)
        self._store_events(number, record, push, told, (self._rendered(e, push, endpoints) for e in events))

    def _events(
        self,
        history: History,
        push: Push,
        missed: tuple[RefUpdate, ...],
        told: tuple[RefUpdate, ...],
        tips: dict[str, str],
        prefix: str,
        repository: Repository,
        pusher: Pusher,
        endpoints: list[Endpoint],
    ) -> Iterator[Event]:
        limits = Limits(commits=self._settings.commits, files=self._settings.files)
        other_refs = any(endpoint.other_refs for endpoint in endpoints)
        if missed:
            gap = replace(push, updates=missed)
            for event in history.events(gap, tips, repository, pusher, limits, other_refs=other_refs):
                yield replace(event, recovered=True)
            for update in missed:
                _move(tips, prefix + update.ref, update.new)
        yield from history.events(replace(push, updates=told), tips, repository, pusher, limits, other_refs=other_refs)

    def _store_events(
        self, number: int, record: Record, push: Push, told: tuple[RefUpdate, ...], events: Iterable[NewEvent]
    ) -> None:
        """Store the events in bounded transactions; the ledger moves with them, the record is done with the last."""

        def batch(part: list[NewEvent], *, last: bool) -> Batch:
            moved = [new.event.update for new in part if new.event.update]
            # The last one also moves the refs that make no event.
            updates = [*moved, *told] if last else moved
            tips = {record.prefix + u.ref: None if u.deleted else u.new for u in updates}
            return Batch(push.id, number, push.pusher, push.time.timestamp(), part, tips, last)

        part: list[NewEvent] = []
        size = 0
        for event in events:
            part.append(event)
            size += sum(len(content.payload) for content in event.contents)
            if len(part) >= BATCH_EVENTS or size >= BATCH_BYTES:
                self._store.intake.add(batch(part, last=False), self._clock())
                part, size = [], 0
        self._store.intake.add(batch(part, last=True), self._clock())

    def _rendered(self, event: Event, push: Push, endpoints: list[Endpoint]) -> NewEvent:
        """The event with a content for each dialect that an endpoint wants it in, and a delivery for each endpoint."""
        update = event.update
        wanting: defaultdict[str, list[Endpoint]] = defaultdict(list)
        for endpoint in endpoints:
            if endpoint.wants(event):
                wanting[endpoint.dialect].append(endpoint)
        contents = []
        for name, those in wanting.items():
            dialect = dialects.get(name)
            for index, message in enumerate(dialect.render(event)):
                deliveries = []
                for endpoint in those:
                    what = (push.id, update.ref if update else event.kind, event.recovered, endpoint.id, index)
                    delivery_id = str(uuid.uuid5(_NAMESPACE, repr(what)))
                    headers = dialect.headers(message.kind, delivery_id)
                    deliveries.append(
                        NewDelivery(delivery_id, endpoint.id, endpoint.content_type, dialect.SIGNING, headers)
                    )
                contents.append(NewContent(name, message.kind, dialects.encode(message.payload), deliveries))
        return NewEvent(event, contents)

    def _pusher(self, record: Record) -> Pusher:
        """Who pushed: what a front end says, if the push came by the account that owns the state, else the account."""
        facts = dict(record.part.facts)
        name = ""
        if record.entry.uid == self._spool.stat().st_uid:
            name = facts.get("GL_USER") or facts.get("REMOTE_USER") or ""
        name = printable(name or account_name(record.entry.uid))
        return Pusher(username=name, name=name, id=self._store.repositories.user_id(name))

    def _set_aside(self, path: Path, reason: str, *, retry_at: float | None) -> None:
        log.warning("set aside %s: %s", path, printable(reason))
        self._store.intake.set_aside(str(path), printable(reason), self._clock(), retry_at)

    def _is_due(self, retry_at: float | None) -> bool:
        return retry_at is not None and retry_at <= self._clock()

    def _forget_asides_of_missing_files(self) -> None:
        for aside in self._store.intake.asides():
            if not Path(aside.path).exists():
                self._store.intake.no_longer_aside(aside.path)


def describe(settings: Settings, history: History, path: str, number: int) -> Repository:
    """What receivers are told of the open repository at `path`, whose number in the store is `number`."""
    try:
        with (Path(path) / "description").open("rb") as file:
            text = file.read(4096).decode("utf-8", "replace").strip()
    except OSError:
        text = ""
    if text.startswith("Unnamed repository"):  # what `git init` leaves there
        text = ""
    return settings.describe(path, id=number, description=text, default_branch=history.default_branch())


def account_name(uid: int) -> str:
    """The name of a unix account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _zero_like(object_id: str) -> str:
    return "0" * len(object_id)


def _move(tips: dict[str, str], ref: str, tip: str) -> None:
    if is_zero(tip):
        tips.pop(ref, None)
    else:
        tips[ref] = tip
