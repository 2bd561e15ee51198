"""How what is finished is forgotten: deliveries with their attempts and contents, then events and records.

Owns what may go and what else must stay for it; how old or how much is handed down. Each step is one short transaction,
and the generators yield between two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.schema import attempt_deliveries, attempts, contents, covered, deliveries, events, records

ROWS = 100
"""Deliveries, events or records that one transaction prunes, or has expire, at most."""
LINKS = 400
"""Attempts that one transaction prunes at most: a delivery may have thousands."""
BYTES = 4 * 1024 * 1024
"""Payloads that one transaction prunes at most, but at least one."""
SLICE = 1000
"""Rows that one step looks at."""

REACHED = ("delivered", "canceled")
UNREACHED = ("refused", "expired")
"""The states of what is finished. What reached nobody is kept longer where the size decides."""


def prune(database: Database, states: Collection[str], before: float, excess: int = BYTES) -> tuple[int, int]:
    """Forget the oldest of what finished before that time; how many deliveries were looked at, and bytes freed.

    It stops when `excess` bytes are free. One with very many attempts loses some of them first."""
    picked: list[int] = []
    with database.read() as connection:
        rows = [row for state in states for row in connection.execute(_finished(state, before))]
    size = 0
    for row in sorted(rows, key=lambda row: (row.finished_at, row.position))[:ROWS]:
        picked.append(row.position)
        size += row.size
        if size >= min(excess, BYTES):
            break
    if not picked:
        return 0, 0
    with database.write() as connection:
        # Somebody may have asked for one again meanwhile.
        still = sa.select(deliveries.c.position).where(
            deliveries.c.position.in_(picked), deliveries.c.state.in_(states), deliveries.c.finished_at < before
        )
        gone = list(connection.execute(still).scalars())
        freed = forget(connection, gone)
    return len(picked), freed


def forget(connection: sa.Connection, positions: Sequence[int]) -> int:
    """Forget some deliveries with their attempts, and the contents that no other has; bytes freed.

    Where they have very many attempts some of these go, and the rest is left for the next time."""
    here = attempt_deliveries.c.position.in_(positions)
    links = connection.execute(sa.select(attempt_deliveries).where(here).limit(LINKS)).all()
    freed = _forget_attempts(connection, [(row.attempt_id, row.position) for row in links])
    if len(links) < LINKS:
        freed += _forget_deliveries(connection, positions)
    return freed


def measure(database: Database) -> Generator[None, None, tuple[int, int]]:
    """Bytes that are finished, and bytes that wait. Contents that no delivery has (any more) go on the way."""
    finished = waiting = last = 0
    while True:
        mine = sa.exists().where(deliveries.c.content_id == contents.c.id)
        size = sa.func.length(contents.c.payload)
        query = sa.select(contents.c.id, size.label("size"), waits(contents.c.id).label("waits"), mine.label("has"))
        with database.read() as connection:
            rows = connection.execute(query.where(contents.c.id > last).order_by(contents.c.id).limit(SLICE)).all()
        waiting += sum(row.size for row in rows if row.waits)
        finished += sum(row.size for row in rows if row.has and not row.waits)
        orphans = [row.id for row in rows if not row.has]
        for start in range(0, len(orphans), ROWS):
            yield
            with database.write() as connection:
                some = contents.c.id.in_(orphans[start : start + ROWS])
                connection.execute(sa.delete(contents).where(some, ~mine))
        yield
        if len(rows) < SLICE:
            break
        last = rows[-1].id
    last = 0
    while True:
        # An attempt for several deliveries counts with the first of them.
        state = (
            sa.select(sa.func.min(deliveries.c.finished_at.is_not(None)))
            .join(attempt_deliveries, attempt_deliveries.c.position == deliveries.c.position)
            .where(attempt_deliveries.c.attempt_id == attempts.c.id)
            .scalar_subquery()
        )
        sizes = sa.select(attempts.c.id, _attempt_size().label("size"), state.label("finished"))
        with database.read() as connection:
            rows = connection.execute(sizes.where(attempts.c.id > last).order_by(attempts.c.id).limit(SLICE)).all()
        finished += sum(row.size for row in rows if row.finished)
        if len(rows) < SLICE:
            return finished, waiting
        last = rows[-1].id
        yield


def forget_events(database: Database, before: float) -> Iterator[None]:
    """Events of that age that no content belongs to. Those of a record that is stored in part stay."""
    last = 0
    begun = sa.exists().where(records.c.id == events.c.record_id, records.c.ingested_at.is_(None))
    used = sa.exists().where(contents.c.event_id == events.c.id)
    old = events.c.received_at < before
    while True:
        query = sa.select(events.c.id, old.label("old"), sa.and_(old, ~used, ~begun).label("free"))
        with database.read() as connection:
            rows = connection.execute(query.where(events.c.id > last).order_by(events.c.id).limit(SLICE)).all()
        gone = [row.id for row in rows if row.free]
        for start in range(0, len(gone), ROWS):
            yield
            with database.write() as connection:
                some = gone[start : start + ROWS]
                unlinked = sa.update(covered).where(covered.c.event_id.in_(some)).values(event_id=None)
                connection.execute(unlinked)
                connection.execute(sa.delete(events).where(events.c.id.in_(some), ~used))
        if len(rows) < SLICE or not any(row.old for row in rows):  # they are stored in the order of time, nearly
            return
        last = rows[-1].id
        yield


def forget_records(database: Database, before: float) -> Iterator[None]:
    """Records of that age, ingested whole, that no event belongs to."""
    told = sa.exists().where(events.c.record_id == records.c.id)
    last, number = 0, sa.literal_column("records.rowid", sa.Integer).label("number")
    while True:
        old = sa.func.max(records.c.received_at, records.c.ingested_at) < before  # NULL where it is stored in part
        query = sa.select(number, records.c.id, old.label("old"), sa.and_(old, ~told).label("free"))
        with database.read() as connection:
            rows = connection.execute(query.where(number > last).order_by(number).limit(SLICE)).all()
        gone = [row.id for row in rows if row.free]
        for start in range(0, len(gone), ROWS):
            yield
            with database.write() as connection:
                some = gone[start : start + ROWS]
                connection.execute(sa.delete(covered).where(covered.c.record_id.in_(some)))
                connection.execute(sa.delete(records).where(records.c.id.in_(some)))
        if len(rows) < SLICE or not any(row.old for row in rows):
            return
        last = rows[-1].number
        yield


def waits(content_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    return sa.exists().where(deliveries.c.content_id == content_id, deliveries.c.finished_at.is_(None))


def _finished(state: str, before: float) -> sa.Select[tuple[int, float | None, int]]:
    return (
        sa.select(deliveries.c.position, deliveries.c.finished_at, sa.func.length(contents.c.payload).label("size"))
        .join(contents, contents.c.id == deliveries.c.content_id)
        .where(deliveries.c.state == state, deliveries.c.finished_at < before)
        .order_by(deliveries.c.finished_at, deliveries.c.position)
        .limit(ROWS)
    )


def _attempt_size() -> sa.ColumnElement[int]:
    columns = (attempts.c.url, attempts.c.request_headers, attempts.c.response_headers, attempts.c.response_body)
    size: sa.ColumnElement[int] = sa.func.length(attempts.c.error)
    for column in columns:
        size = size + sa.func.length(column)
    return size


def _forget_attempts(connection: sa.Connection, links: Sequence[tuple[int, int]]) -> int:
    """Unlink attempts from deliveries, and forget those that are left with none; bytes freed."""
    if not links:
        return 0
    here = sa.and_(
        attempt_deliveries.c.attempt_id == sa.bindparam("gone"), attempt_deliveries.c.position == sa.bindparam("from")
    )
    connection.execute(
        sa.delete(attempt_deliveries).where(here), [{"gone": attempt, "from": position} for attempt, position in links]
    )
    linked = sa.exists().where(attempt_deliveries.c.attempt_id == attempts.c.id)
    lonely = sa.and_(attempts.c.id.in_({attempt for attempt, _ in links}), ~linked)
    freed = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(_attempt_size()), 0)).where(lonely)).scalar_one()
    connection.execute(sa.delete(attempts).where(lonely))
    return freed


def _forget_deliveries(connection: sa.Connection, positions: Sequence[int]) -> int:
    """Forget deliveries without attempts, and the contents that are left with none; bytes freed."""
    mine = sa.select(deliveries.c.content_id).where(deliveries.c.position.in_(positions))
    content_ids = set(connection.execute(mine).scalars())
    connection.execute(sa.delete(deliveries).where(deliveries.c.position.in_(positions)))
    shared = sa.exists().where(deliveries.c.content_id == contents.c.id)
    lonely = sa.and_(contents.c.id.in_(content_ids), ~shared)
    size = sa.func.coalesce(sa.func.sum(sa.func.length(contents.c.payload)), 0)
    freed: int = connection.execute(sa.select(size).where(lonely)).scalar_one()
    connection.execute(sa.delete(contents).where(lonely))
    return freed
