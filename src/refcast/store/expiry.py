"""What waits too long, or is too much, expires: it is finished by that, with a reason, and can be sent again.

Owns which that may be: nothing that is under way. Each step is one short transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

import sqlalchemy as sa

from refcast.store.claims import BATCH_COUNT
from refcast.store.database import Database
from refcast.store.pruning import ROWS, SLICE, waits
from refcast.store.schema import contents, deliveries, lanes

log = logging.getLogger(__name__)

UNFINISHED = ("waiting", "aside", "held")


def expire_old(database: Database, now: float, before: float, reason: str) -> Iterator[None]:
    since = sa.func.coalesce(deliveries.c.asked_at, deliveries.c.created_at)
    expired = 0
    for state in UNFINISHED:
        last = 0
        while True:
            query = (
                sa.select(deliveries.c.position, since.label("since"))
                .where(deliveries.c.state == state, deliveries.c.finished_at.is_(None), deliveries.c.position > last)
                .order_by(deliveries.c.position)
                .limit(SLICE)
            )
            with database.read() as connection:
                rows = connection.execute(query).all()
            old = [row.position for row in rows if row.since < before]
            for start in range(0, len(old), ROWS):
                yield
                with database.write() as connection:
                    expired += len(_expire(connection, old[start : start + ROWS], now, reason))
            if len(rows) < SLICE:
                break
            last = rows[-1].position
            yield
    tell(expired, reason)


def expire_oldest(database: Database, now: float, excess: int, reason: str) -> tuple[int, int]:
    """Have the oldest of what waits expire; how many, and bytes of payloads that wait no longer."""
    with database.write() as connection:
        flying = _in_flight(connection)
        rows = [
            row
            for state in UNFINISHED
            for row in connection.execute(
                sa.select(deliveries.c.position, deliveries.c.content_id)
                .where(deliveries.c.state == state, deliveries.c.finished_at.is_(None))
                .order_by(deliveries.c.position)
                .limit(ROWS + len(flying))
            )
            if row.position not in flying
        ]
        rows = sorted(rows, key=lambda row: row.position)[:ROWS]
        length = sa.select(contents.c.id, sa.func.length(contents.c.payload))
        length = length.where(contents.c.id.in_({row.content_id for row in rows}))
        sizes = {number: size for number, size in connection.execute(length)}  # noqa: C416 (a row is no pair to mypy)
        picked, seen, size = [], set[int](), 0
        for row in rows:
            picked.append(row.position)
            size += 0 if row.content_id in seen else sizes[row.content_id]
            seen.add(row.content_id)
            if size >= excess:
                break
        gone = _expire(connection, picked, now, reason)
        mine = sa.select(deliveries.c.content_id).where(deliveries.c.position.in_(gone))
        freed = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(contents.c.payload)), 0)).where(
            contents.c.id.in_(mine), ~waits(contents.c.id)
        )
        return len(gone), connection.execute(freed).scalar_one()


def tell(expired: int, reason: str) -> None:
    if expired:
        log.warning("%d deliveries expired: %s; `refcast delivery list --state expired` shows them", expired, reason)


def _in_flight(connection: sa.Connection) -> set[int]:
    """What may be under way: of a claimed lane what is aside, and as many of its first as one request carries."""
    flying: set[int] = set()
    for lane_id in connection.execute(sa.select(lanes.c.id).where(lanes.c.claimed)).scalars().all():
        mine = sa.select(deliveries.c.position).where(deliveries.c.lane_id == lane_id)
        first = mine.where(deliveries.c.state == "waiting").order_by(deliveries.c.position).limit(BATCH_COUNT)
        flying.update(connection.execute(first).scalars())
        flying.update(connection.execute(mine.where(deliveries.c.state == "aside")).scalars())
    return flying


def _expire(connection: sa.Connection, positions: Collection[int], now: float, reason: str) -> list[int]:
    """Have deliveries expire, but for what is under way; which did. Their lanes go on with what is next."""
    still = sa.select(deliveries.c.position).where(
        deliveries.c.position.in_(set(positions) - _in_flight(connection)), deliveries.c.state.in_(UNFINISHED)
    )
    gone = list(connection.execute(still).scalars())
    if gone:
        values = {"state": "expired", "finished_at": now, "reason": reason}
        connection.execute(sa.update(deliveries).where(deliveries.c.position.in_(gone)).values(values))
        connection.execute(sa.update(lanes).where(lanes.c.aside.in_(gone)).values(aside=None))
    return gone
