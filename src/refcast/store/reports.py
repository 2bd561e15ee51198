"""What people look at: deliveries with their attempts, backlogs, counts. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.outcomes import Attempt
from refcast.store.recoveries import LateRecord, covered_by
from refcast.store.schema import (
    attempt_deliveries,
    attempts,
    contents,
    deliveries,
    endpoints,
    events,
    lanes,
    repositories,
)
from refcast.store.selection import EVERY, LEFT, Selection, position_of, positions, shown_state


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery in a list."""

    id: str
    endpoint: str
    kind: str
    repository: str
    """The resolved path. Empty, as are ref, ids and pusher, for a notice about another endpoint."""
    ref: str
    old: str
    new: str
    pusher: str
    state: str
    """One of `selection.STATES`."""
    reason: str
    """Why it is in this state, where that needs a word."""
    created_at: float
    finished_at: float | None
    attempts: int
    last_status: int | None
    last_error_class: str
    last_error: str


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """One delivery with all that was sent and answered."""

    row: DeliveryRow
    dialect: str
    content_type: str
    signing: str
    headers: dict[str, str]
    payload: bytes
    incomplete: str
    recovered: bool
    late: list[LateRecord]
    """What told of its event afterwards, if that was recovered."""
    attempts: list[Attempt]
    together: list[list[str]]
    """For each attempt the ids of the other deliveries that went in the same request, in order."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still to be sent to one endpoint, and what asks for a person."""

    name: str
    state: str
    waiting: int
    """With those that stepped aside; none while the endpoint is disabled."""
    aside: int
    """Of those that wait: refused, and tried again after the next."""
    held: int
    """Beyond the limit of a push; everything that waits, while the endpoint is disabled."""
    refused: int
    expired: int
    oldest: float | None
    """When the oldest of what waits or is held was stored."""
    next_try: float | None
    failing_since: float | None
    last_error: str


_MAY_LACK = ("repository", "ref", "old", "new", "pusher", "last_error_class", "last_error")
"""Texts that a row has only where it has an event, or an attempt."""


class Reports:
    def __init__(self, database: Database) -> None:
        self._database = database

    def deliveries(self, chosen: Selection = EVERY, *, before: str = "", limit: int = 50) -> list[DeliveryRow]:
        """The newest of what is chosen, or the newest of those older than the delivery `before`; newest first.

        BadInput for an id that is none."""
        with self._database.read() as connection:
            query = positions(connection, chosen)
            if before:
                query = query.where(deliveries.c.position < position_of(connection, before))
            # Found by position alone: what else belongs to a row is read for those that are shown.
            found = query.order_by(deliveries.c.position.desc()).limit(limit)
            rows = _rows().where(deliveries.c.position.in_(found)).order_by(deliveries.c.position.desc())
            return [_row(row) for row in connection.execute(rows)]

    def delivery(self, delivery_id: str) -> DeliveryDetails:
        """One delivery, by its id or the beginning of it. BadInput if there is none, or more than one."""
        with self._database.read() as connection:
            position = position_of(connection, delivery_id)
            found = connection.execute(
                _rows(
                    contents.c.dialect,
                    contents.c.payload,
                    deliveries.c.content_type,
                    deliveries.c.signing,
                    deliveries.c.headers,
                    events.c.incomplete,
                    events.c.recovered,
                    events.c.id.label("event_id"),
                ).where(deliveries.c.position == position)
            ).one()
            tries = connection.execute(
                sa.select(attempts)
                .join(attempt_deliveries, attempt_deliveries.c.attempt_id == attempts.c.id)
                .where(attempt_deliveries.c.position == position)
                .order_by(attempts.c.id)
            ).all()
            others = (
                sa.select(deliveries.c.id)
                .join(attempt_deliveries, attempt_deliveries.c.position == deliveries.c.position)
                .where(deliveries.c.position != position)
                .order_by(deliveries.c.position)
            )
            together = [
                list(connection.execute(others.where(attempt_deliveries.c.attempt_id == row.id)).scalars())
                for row in tries
            ]
            return DeliveryDetails(
                row=_row(found),
                dialect=found.dialect,
                content_type=found.content_type,
                signing=found.signing,
                headers=found.headers,
                payload=found.payload,
                incomplete=found.incomplete or "",
                recovered=bool(found.recovered),
                late=covered_by(connection, found.event_id) if found.recovered else [],
                attempts=[_attempt(row) for row in tries],
                together=together,
            )

    def told(self, repository_id: int, ref: str, old: str, new: str) -> tuple[str, float, str] | None:
        """Who made this move, when it was received, and its record, if it has been announced; the newest of several."""
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(events.c.pusher, events.c.received_at, events.c.record_id)
                .where(
                    events.c.repository_id == repository_id,
                    events.c.ref == ref,
                    events.c.old == old,
                    events.c.new == new,
                )
                .order_by(events.c.id.desc())
                .limit(1)
            ).first()
            return None if row is None else (row.pusher, row.received_at, row.record_id)

    def repositories(self) -> dict[str, int]:
        """Every repository that was ever known: resolved path -> number."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(repositories.c.path, repositories.c.id))
            return {row.path: row.id for row in rows}

    def backlog(self) -> list[Backlog]:
        """What is still to be sent, for every endpoint, in the order in which they were added."""
        mine = sa.and_(deliveries.c.lane_id == lanes.c.id, deliveries.c.state.in_((*LEFT, "refused", "expired")))
        numbers = (
            sa.select(lanes.c.id.label("lane_id"), deliveries.c.state, sa.func.count().label("number"))
            .select_from(lanes)
            .join(deliveries, mine)
            .group_by(lanes.c.id, deliveries.c.state)
        )
        left = sa.and_(deliveries.c.lane_id == lanes.c.id, deliveries.c.state.in_(LEFT))
        first = sa.select(sa.func.min(deliveries.c.position)).where(left).correlate(lanes).scalar_subquery()
        oldest = sa.select(deliveries.c.created_at).where(deliveries.c.position == first)
        query = (
            sa.select(
                lanes.c.id,
                endpoints.c.name,
                endpoints.c.state,
                lanes.c.due_at,
                lanes.c.failing_since,
                lanes.c.last_error,
                oldest.correlate(lanes).scalar_subquery().label("oldest"),
            )
            .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
            .order_by(endpoints.c.id)
        )
        with self._database.read() as connection:
            counted = {(lane, state): number for lane, state, number in connection.execute(numbers)}
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            waiting, aside, held, refused, expired = (
                counted.get((row.id, state), 0) for state in (*LEFT, "refused", "expired")
            )
            active = row.state == "active"
            found.append(
                Backlog(
                    name=row.name,
                    state=row.state,
                    waiting=waiting + aside if active else 0,
                    aside=aside if active else 0,
                    held=held if active else waiting + aside + held,
                    refused=refused,
                    expired=expired,
                    oldest=row.oldest,
                    next_try=row.due_at if active and waiting + aside else None,
                    failing_since=row.failing_since,
                    last_error=row.last_error,
                )
            )
        return found

    def oldest(self) -> DeliveryRow | None:
        """What has waited longest of all that is still to be sent, or is held."""
        first = sa.select(sa.func.min(deliveries.c.position)).where(deliveries.c.finished_at.is_(None))
        with self._database.read() as connection:
            firsts = [connection.execute(first.where(deliveries.c.state == state)).scalar() for state in LEFT]
            found = [position for position in firsts if position is not None]
            if not found:
                return None
            return _row(connection.execute(_rows().where(deliveries.c.position == min(found))).one())

    def newest_event(self) -> float | None:
        """When the newest event was received, seconds since the epoch; None if there is none."""
        with self._database.read() as connection:
            newest = sa.select(events.c.received_at).order_by(events.c.id.desc()).limit(1)
            return connection.execute(newest).scalar()

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state; states without any are left out."""
        state = shown_state().label("state")
        query = (
            sa.select(state, sa.func.count().label("number"))
            .select_from(deliveries)
            .join(lanes, lanes.c.id == deliveries.c.lane_id)
            .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
            .group_by(state)
        )
        with self._database.read() as connection:
            return {row.state: row.number for row in connection.execute(query)}


def _rows(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    tries = sa.select(sa.func.count()).where(attempt_deliveries.c.position == deliveries.c.position).scalar_subquery()
    last = (
        sa.select(sa.func.max(attempt_deliveries.c.attempt_id))
        .where(attempt_deliveries.c.position == deliveries.c.position)
        .scalar_subquery()
    )
    return (
        sa.select(
            deliveries.c.id,
            endpoints.c.name.label("endpoint"),
            contents.c.kind,
            repositories.c.path.label("repository"),
            events.c.ref,
            events.c.old,
            events.c.new,
            events.c.pusher,
            shown_state().label("state"),
            deliveries.c.reason,
            deliveries.c.created_at,
            deliveries.c.finished_at,
            tries.label("attempts"),
            attempts.c.status.label("last_status"),
            attempts.c.error_class.label("last_error_class"),
            attempts.c.error.label("last_error"),
            *more,
        )
        .join(contents, contents.c.id == deliveries.c.content_id)
        .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
        .outerjoin(events, events.c.id == contents.c.event_id)
        .outerjoin(repositories, repositories.c.id == events.c.repository_id)
        .outerjoin(attempts, attempts.c.id == last)
    )


def _row(row: sa.Row[Any]) -> DeliveryRow:
    values = {name: row._mapping[name] for name in DeliveryRow.__slots__}
    for name in _MAY_LACK:
        values[name] = values[name] or ""
    return DeliveryRow(**values)


def _attempt(row: sa.Row[Any]) -> Attempt:
    values = {name: row._mapping[name] for name in Attempt.__slots__}
    for name in ("request_headers", "response_headers"):
        values[name] = [(key, value) for key, value in values[name]]
    return Attempt(**values)
