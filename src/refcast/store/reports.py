"""What people look at: deliveries with their attempts, backlogs, counts. And what they do there: send again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refcast.errors import BadInput
from refcast.store.database import Database
from refcast.store.lanes import Attempt
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


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery in a list."""

    id: str
    endpoint: str
    kind: str
    repository: str
    """The resolved path."""
    ref: str
    old: str
    new: str
    pusher: str
    state: str
    """`delivered`; `waiting`; `held`: waiting for an endpoint that is disabled."""
    created_at: float
    finished_at: float | None
    attempts: int
    last_status: int | None
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
    attempts: list[Attempt]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one endpoint."""

    name: str
    waiting: int
    oldest: float | None
    """When the oldest of what waits was stored."""
    next_try: float | None
    failing_since: float | None
    last_error: str


class Reports:
    def __init__(self, database: Database) -> None:
        self._database = database

    def deliveries(self, *, endpoint: str = "", state: str = "", limit: int = 50) -> list[DeliveryRow]:
        """The newest deliveries, newest first."""
        query = _rows().order_by(deliveries.c.position.desc()).limit(limit)
        if endpoint:
            query = query.where(endpoints.c.name == endpoint)
        if state:
            query = query.where(_state() == state)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def delivery(self, delivery_id: str) -> DeliveryDetails:
        """One delivery, by its id or the beginning of it. BadInput if there is none, or more than one."""
        with self._database.read() as connection:
            position = _position(connection, delivery_id)
            found = connection.execute(
                _rows(
                    contents.c.dialect,
                    contents.c.payload,
                    deliveries.c.content_type,
                    deliveries.c.signing,
                    deliveries.c.headers,
                    events.c.incomplete,
                ).where(deliveries.c.position == position)
            ).one()
            tries = connection.execute(
                sa.select(attempts)
                .join(attempt_deliveries, attempt_deliveries.c.attempt_id == attempts.c.id)
                .where(attempt_deliveries.c.position == position)
                .order_by(attempts.c.id)
            )
            return DeliveryDetails(
                row=_row(found),
                dialect=found.dialect,
                content_type=found.content_type,
                signing=found.signing,
                headers=found.headers,
                payload=found.payload,
                incomplete=found.incomplete or "",
                attempts=[_attempt(row) for row in tries],
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

    def redeliver(self, delivery_id: str, now: float) -> DeliveryRow:
        """Have a delivery sent again, under its old id, before what waits behind it in its lane."""
        with self._database.write() as connection:
            position = _position(connection, delivery_id)
            connection.execute(
                sa.update(deliveries).where(deliveries.c.position == position).values(state="waiting", finished_at=None)
            )
            lane = sa.select(deliveries.c.lane_id).where(deliveries.c.position == position).scalar_subquery()
            connection.execute(sa.update(lanes).where(lanes.c.id == lane).values(due_at=now))
            return _row(connection.execute(_rows().where(deliveries.c.position == position)).one())

    def backlog(self) -> list[Backlog]:
        """What waits, for every endpoint, in the order in which they were added."""
        waiting = sa.func.count(deliveries.c.position)
        mine = sa.and_(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
        query = (
            sa.select(
                endpoints.c.name,
                waiting.label("waiting"),
                sa.func.min(deliveries.c.created_at).label("oldest"),
                sa.case((sa.and_(waiting > 0, endpoints.c.state == "active"), lanes.c.due_at)).label("next_try"),
                lanes.c.failing_since,
                lanes.c.last_error,
            )
            .join(lanes, lanes.c.endpoint_id == endpoints.c.id)
            .outerjoin(deliveries, mine)
            .group_by(endpoints.c.id)
            .order_by(endpoints.c.id)
        )
        with self._database.read() as connection:
            return [Backlog(**row._mapping) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state; states without any are left out."""
        with self._database.read() as connection:
            state = _state().label("state")
            rows = connection.execute(
                sa.select(state, sa.func.count().label("number"))
                .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
                .group_by(state)
            )
            return {row.state: row.number for row in rows}


def _state() -> sa.ColumnElement[str]:
    held = sa.and_(deliveries.c.state == "waiting", endpoints.c.state == "disabled")
    return sa.case((held, "held"), else_=deliveries.c.state)


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
            _state().label("state"),
            deliveries.c.created_at,
            deliveries.c.finished_at,
            tries.label("attempts"),
            attempts.c.status.label("last_status"),
            sa.func.coalesce(attempts.c.error, "").label("last_error"),
            *more,
        )
        .join(contents, contents.c.id == deliveries.c.content_id)
        .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
        .join(events, events.c.id == contents.c.event_id)
        .join(repositories, repositories.c.id == events.c.repository_id)
        .outerjoin(attempts, attempts.c.id == last)
    )


def _row(row: sa.Row[Any]) -> DeliveryRow:
    return DeliveryRow(**{name: row._mapping[name] for name in DeliveryRow.__slots__})


def _attempt(row: sa.Row[Any]) -> Attempt:
    values = {name: row._mapping[name] for name in Attempt.__slots__}
    for name in ("request_headers", "response_headers"):
        values[name] = [(key, value) for key, value in values[name]]
    return Attempt(**values)


def _position(connection: sa.Connection, delivery_id: str) -> int:
    escaped = delivery_id.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = sa.select(deliveries.c.position).where(deliveries.c.id.like(escaped + "%", escape="\\")).limit(2)
    found: list[int] = list(connection.execute(query).scalars())
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"more than one delivery begins with {delivery_id!r}: write more of the id")
    raise BadInput(f"no delivery {delivery_id!r}; `refcast delivery list` shows them")
