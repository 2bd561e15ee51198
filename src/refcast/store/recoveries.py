"""Recovered events, and the late records that they covered: what both say of the moves of one ref.

Queries of `store.intake`, which opens their transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from refcast.store.schema import covered, events, records

_MOST = 100
"""How many events of a ref are looked at for what a late record tells of; a mirror has one for each of its updates."""


@dataclass(frozen=True, slots=True)
class Covered:
    """A move that a record told late, for a recovered event had announced it."""

    ref: str
    old: str
    new: str
    event_id: int


@dataclass(frozen=True, slots=True)
class LateRecord:
    """The record of a push that came when a recovered event had announced its move, in whole or in part."""

    record_id: str
    pusher: str
    received_at: float
    ref: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovered event, with the moves that late records have told of it since."""

    event_id: int
    old: str
    new: str
    received_at: float
    """When its push was made, as far as that is known."""
    found_at: float
    """When it was stored."""
    told: tuple[tuple[str, str], ...] = ()
    """Old and new id of each."""
    since: frozenset[str] = frozenset()
    """The ids between which the ref has moved since, by its later events."""


def recoveries(connection: sa.Connection, repository_id: int, place: str, ref: str, but: str) -> list[Recovery]:
    """The recovered events of a ref, newest first, but for what the record `but` itself has told."""
    here = sa.and_(events.c.repository_id == repository_id, events.c.ref == ref, events.c.place == place)
    rows = connection.execute(
        sa.select(
            events.c.id,
            events.c.old,
            events.c.new,
            events.c.received_at,
            sa.func.coalesce(records.c.ingested_at, events.c.received_at).label("found_at"),
        )
        .outerjoin(records, records.c.id == events.c.record_id)
        .where(here, events.c.recovered, events.c.record_id != but)
        .order_by(events.c.id.desc())
        .limit(_MOST)
    ).all()
    moves: dict[int, list[tuple[str, str]]] = {}
    told = sa.select(covered.c.event_id, covered.c.old, covered.c.new)
    for event_id, old, new in connection.execute(told.where(covered.c.event_id.in_([row.id for row in rows]))):
        moves.setdefault(event_id, []).append((old, new))
    newest = sa.select(events.c.id, events.c.old, events.c.new).where(here).order_by(events.c.id.desc()).limit(_MOST)
    later = connection.execute(newest).all()
    return [
        Recovery(
            event_id=row.id,
            old=row.old,
            new=row.new,
            received_at=row.received_at,
            found_at=row.found_at,
            told=tuple(moves.get(row.id, ())),
            since=frozenset(end for one in later if one.id > row.id for end in (one.old, one.new)),
        )
        for row in rows
    ]


def covered_by(connection: sa.Connection, event_id: int) -> list[LateRecord]:
    """The late records that told of what a recovered event had announced, oldest first."""
    rows = connection.execute(
        sa.select(covered.c.record_id, records.c.pusher, records.c.received_at, covered.c.ref, covered.c.old)
        .add_columns(covered.c.new)
        .join(records, records.c.id == covered.c.record_id)
        .where(covered.c.event_id == event_id)
        .order_by(records.c.received_at, covered.c.record_id)
    )
    return [LateRecord(**row._mapping) for row in rows]


def note_covered(connection: sa.Connection, record_id: str, moves: Sequence[Covered]) -> None:
    known = set(connection.execute(sa.select(covered.c.ref).where(covered.c.record_id == record_id)).scalars())
    rows = [
        {"record_id": record_id, "ref": one.ref, "old": one.old, "new": one.new, "event_id": one.event_id}
        for one in moves
        if one.ref not in known
    ]
    if rows:
        connection.execute(sa.insert(covered), rows)
