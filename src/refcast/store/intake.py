"""What ingest writes: events with their contents and deliveries, the ledger's new tips, records set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from refcast.model import Event
from refcast.store.database import Database
from refcast.store.holding import held_behind
from refcast.store.recoveries import Covered, LateRecord, Recovery, covered_by, note_covered, recoveries
from refcast.store.schema import asides, contents, deliveries, events, lanes, ledger, records

NUDGE_SECONDS = 60.0
"""A new event brings the next try of a failing lane to now, at most once in this time."""

HELD = "beyond the events of one push that the endpoint takes"
HELD_BEHIND = "an earlier event of its ref is held"
"""Why deliveries are held when they are made."""

_VALUES = 1000
"""How many values one statement may name; SQLite has a limit."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    id: str
    endpoint_id: int
    content_type: str
    signing: str
    headers: Mapping[str, str]
    window: float = 0.0
    """Seconds that the first of several waits for the others; 0 where each goes alone."""
    held: bool = False
    """Beyond what its endpoint takes of one push: it goes out when somebody releases it."""


@dataclass(frozen=True, slots=True)
class NewContent:
    dialect: str
    kind: str
    payload: bytes
    deliveries: Sequence[NewDelivery]


@dataclass(frozen=True, slots=True)
class NewEvent:
    event: Event
    contents: Sequence[NewContent] = ()
    passed_over: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Why the other endpoints do not get it: their names, and one line for each reason."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of one record that is stored in one transaction."""

    record_id: str
    repository_id: int
    pusher: str
    received_at: float
    events: Sequence[NewEvent] = ()
    tips: Mapping[str, str | None] = field(default_factory=dict)
    """The ledger's new tips; None for a ref that is gone."""
    last: bool = False
    """The record is ingested whole with this batch."""
    place: str = ""
    """Where git keeps the refs of this push: refs/namespaces/…/, or empty."""
    covered: Sequence[Covered] = ()
    """What the record tells late, and events have announced."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event that is stored."""

    ref: str
    old: str
    new: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class Aside:
    """A file of the spool that cannot be ingested."""

    path: str
    reason: str
    since: float
    retry_at: float | None


class Intake:
    def __init__(self, database: Database) -> None:
        self._database = database

    def done(self, record_ids: Sequence[str]) -> set[str]:
        """Which of these records have been ingested whole."""
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(record_ids), _VALUES):
                some = records.c.id.in_(record_ids[start : start + _VALUES])
                whole = sa.select(records.c.id).where(some, records.c.ingested_at.is_not(None))
                found.update(connection.execute(whole).scalars())
        return found

    def begun(self, repository_id: int) -> set[str]:
        """The ids of records of which only a part is stored: ingest was interrupted there."""
        query = sa.select(records.c.id).where(records.c.repository_id == repository_id, records.c.ingested_at.is_(None))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def told(self, record_id: str) -> list[Told]:
        """The events that are stored of a record, in their order."""
        query = (
            sa.select(events.c.ref, events.c.old, events.c.new, events.c.recovered)
            .where(events.c.record_id == record_id)
            .order_by(events.c.id)
        )
        with self._database.read() as connection:
            return [Told(**row._mapping) for row in connection.execute(query)]

    def recoveries(self, repository_id: int, place: str, ref: str, *, but: str) -> list[Recovery]:
        """The recovered events of a ref, newest first, but for what the record `but` itself has told."""
        with self._database.read() as connection:
            return recoveries(connection, repository_id, place, ref, but)

    def covered_by(self, event_id: int) -> list[LateRecord]:
        """The late records that told of what a recovered event had announced, oldest first."""
        with self._database.read() as connection:
            return covered_by(connection, event_id)

    def is_told(self, repository_id: int, place: str, ref: str, tip: str) -> bool:
        """Whether the newest event of a ref has brought it to this id; the zero id for a ref that is gone."""
        query = sa.select(events.c.new).where(
            events.c.repository_id == repository_id, events.c.ref == ref, events.c.place == place
        )
        with self._database.read() as connection:
            return connection.execute(query.order_by(events.c.id.desc()).limit(1)).scalar() == tip

    def add(self, batch: Batch, now: float) -> None:
        """Store a batch. What an earlier, interrupted try has stored of it is left as it is."""
        with self._database.write() as connection:
            refs = {new.event.update.ref for new in batch.events if new.event.update}
            done = sa.select(events.c.ref, events.c.recovered).where(
                events.c.record_id == batch.record_id, events.c.ref.in_(refs)
            )
            known = {(ref, recovered) for ref, recovered in connection.execute(done)}
            fresh = [
                new
                for new in batch.events
                if new.event.update and (new.event.update.ref, new.event.recovered) not in known
            ]
            if fresh:
                _insert(connection, batch, fresh, now)
            _move_tips(connection, batch.repository_id, batch.tips)
            _note_record(connection, batch, now)
            note_covered(connection, batch.record_id, batch.covered)

    def set_aside(self, path: str, reason: str, now: float, retry_at: float | None) -> None:
        """Note why a file cannot be ingested. A second note keeps the time of the first."""
        self.note_asides({path: Aside(path, reason, now, retry_at)})

    def note_asides(self, changed: Mapping[str, Aside | None]) -> None:
        """The same for many files, by their paths, in one transaction; None for one that is set aside no longer."""
        with self._database.write() as connection:
            for path, aside in changed.items():
                here = asides.c.path == path
                if aside is None:
                    connection.execute(sa.delete(asides).where(here))
                    continue
                known = sa.update(asides).where(here).values(reason=aside.reason, retry_at=aside.retry_at)
                if not connection.execute(known).rowcount:
                    connection.execute(sa.insert(asides).values(**asdict(aside)))

    def asides(self) -> list[Aside]:
        """What is set aside, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(asides).order_by(asides.c.since))
            return [Aside(**row._mapping) for row in rows]

    def retry_aside(self, path: str | None, now: float) -> int:
        """Let the next ingest try again what is set aside: one file, or all of them. How many that are."""
        change = sa.update(asides).values(retry_at=now)
        with self._database.write() as connection:
            return connection.execute(change if path is None else change.where(asides.c.path == path)).rowcount

    def no_longer_aside(self, path: str) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(asides).where(asides.c.path == path))


def _note_record(connection: sa.Connection, batch: Batch, now: float) -> None:
    ingested_at = now if batch.last else None
    known = sa.update(records).where(records.c.id == batch.record_id).values(ingested_at=ingested_at)
    if not connection.execute(known).rowcount:
        connection.execute(
            sa.insert(records).values(
                id=batch.record_id,
                repository_id=batch.repository_id,
                pusher=batch.pusher,
                received_at=batch.received_at,
                ingested_at=ingested_at,
            )
        )


def _insert(connection: sa.Connection, batch: Batch, fresh: Sequence[NewEvent], now: float) -> None:
    event_rows = []
    for new in fresh:
        update = new.event.update
        assert update is not None
        event_rows.append(
            {
                "record_id": batch.record_id,
                "repository_id": batch.repository_id,
                "kind": new.event.kind,
                "ref": update.ref,
                "old": update.old,
                "new": update.new,
                # A gap that a record shows was not its own pusher's doing.
                "pusher": new.event.pusher.username,
                "received_at": new.event.time.timestamp(),
                "recovered": new.event.recovered,
                "incomplete": new.event.incomplete,
                "passed_over": {name: list(reasons) for name, reasons in new.passed_over.items()},
                "place": batch.place,
            }
        )
    event_ids = _ids(connection, events, event_rows)
    flat = [(event_id, content) for event_id, new in zip(event_ids, fresh, strict=True) for content in new.contents]
    content_ids = _ids(
        connection,
        contents,
        [{"event_id": event_id, "dialect": c.dialect, "kind": c.kind, "payload": c.payload} for event_id, c in flat],
    )
    lane_of = {
        endpoint_id: lane for lane, endpoint_id in connection.execute(sa.select(lanes.c.id, lanes.c.endpoint_id))
    }
    behind = held_behind(connection, batch.repository_id, batch.place, {str(row["ref"]) for row in event_rows})
    rows: list[dict[str, object]] = []
    windows: dict[int, float] = {}
    ref_of = dict(zip(event_ids, (str(row["ref"]) for row in event_rows), strict=True))
    for content_id, (event_id, content) in zip(content_ids, flat, strict=True):
        for delivery in content.deliveries:
            lane = lane_of.get(delivery.endpoint_id)
            if lane is None:
                continue  # one that was removed a moment ago wants nothing
            reason = ""
            if delivery.held:
                reason = HELD
            elif (delivery.endpoint_id, ref_of[event_id]) in behind:
                reason = HELD_BEHIND
            elif delivery.window:
                windows[lane] = delivery.window
            rows.append(
                {
                    "id": delivery.id,
                    "content_id": content_id,
                    "endpoint_id": delivery.endpoint_id,
                    "lane_id": lane,
                    "content_type": delivery.content_type,
                    "signing": delivery.signing,
                    "headers": dict(delivery.headers),
                    "state": "held" if reason else "waiting",
                    "reason": reason,
                    "created_at": now,
                }
            )
    if rows:
        open_windows(connection, windows, now)
        connection.execute(sa.insert(deliveries), rows)
        nudge(connection, {row["lane_id"] for row in rows if row["state"] == "waiting"}, now)


def open_windows(connection: sa.Connection, windows: Mapping[int, float], now: float) -> None:
    """Have lanes in which nothing waits yet send what comes now when their window is over. One that fails sleeps on."""
    waiting = sa.exists().where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
    for lane_id, window in windows.items():
        connection.execute(
            sa.update(lanes)
            .where(lanes.c.id == lane_id, lanes.c.failing_since.is_(None), ~waiting)
            .values(due_at=now + window, scheduled_at=now + window)
        )


def _ids(connection: sa.Connection, table: sa.Table, rows: list[dict[str, object]]) -> list[int]:
    """Insert rows and return their numbers, in the order of the rows."""
    if not rows:
        return []
    made = connection.execute(sa.insert(table).returning(table.c.id, sort_by_parameter_order=True), rows)
    return list(made.scalars())


def nudge(connection: sa.Connection, lane_ids: set[object], now: float) -> None:
    """A recovered endpoint must not wait for days behind a head that sleeps: a new event has it tried now, or when it
    has asked to be tried."""
    connection.execute(
        sa.update(lanes)
        .where(
            lanes.c.id.in_(lane_ids),
            lanes.c.failing_since.is_not(None),
            lanes.c.due_at > now,
            # One that lies ahead was noted before the clock was set back.
            sa.or_(lanes.c.nudged_at <= now - NUDGE_SECONDS, lanes.c.nudged_at > now),
        )
        .values(due_at=sa.func.max(now, lanes.c.not_before), nudged_at=now)
    )


def _move_tips(connection: sa.Connection, repository_id: int, tips: Mapping[str, str | None]) -> None:
    if not tips:
        return
    here = sa.and_(ledger.c.repository_id == repository_id, ledger.c.ref == sa.bindparam("moved"))
    connection.execute(sa.delete(ledger).where(here), [{"moved": ref} for ref in tips])
    rows = [{"repository_id": repository_id, "ref": ref, "tip": tip} for ref, tip in tips.items() if tip is not None]
    if rows:
        connection.execute(sa.insert(ledger), rows)
