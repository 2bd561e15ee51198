"""Lanes: what must stay in order. Here a delivery is claimed, and what came of it is stored in one transaction.

A lane is claimed, not a delivery: one request of a lane is in flight at a time, and its head goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from refcast.model import Endpoint
from refcast.store.database import Database
from refcast.store.endpoints import endpoint_of
from refcast.store.schema import attempt_deliveries, attempts, contents, deliveries, endpoints, lanes

BATCH_COUNT = 100
BATCH_BYTES = 1024 * 1024
"""What one request carries at most, where a dialect lets it carry several deliveries; at least one."""


@dataclass(frozen=True, slots=True)
class Further:
    """A delivery that goes in one request with the head of its lane."""

    position: int
    delivery_id: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Work:
    """The head of a claimed lane, and all that sending it needs."""

    lane_id: int
    step: int
    scheduled_at: float
    endpoint: Endpoint = field(repr=False)
    position: int
    delivery_id: str
    headers: Mapping[str, str]
    dialect: str
    """Of the content, which may not be the endpoint's any more."""
    payload: bytes = field(repr=False)
    content_type: str
    signing: str
    further: tuple[Further, ...] = ()
    """What goes with it, in order."""

    @property
    def positions(self) -> list[int]:
        return [self.position, *(one.position for one in self.further)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request and what came back, fit to be kept: no secret is in it."""

    started_at: float
    duration: float
    url: str
    request_headers: list[tuple[str, str]]
    status: int | None
    response_headers: list[tuple[str, str]]
    response_body: bytes
    error_class: str
    error: str
    decision: str


@dataclass(frozen=True, slots=True)
class Sleeping:
    """A lane that is not due yet."""

    lane_id: int
    step: int
    due_at: float


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint whose last try failed, or that is disabled because they all did."""

    name: str
    since: float
    error: str
    disabled: bool


class Lanes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def release_all(self) -> None:
        """Undo every claim: the worker that held them is dead. Only the holder of the worker's lock may call this."""
        with self._database.write() as connection:
            connection.execute(sa.update(lanes).values(claimed=False))

    def claim(self, now: float, batching: Collection[str] = ()) -> Work | None:
        """Claim the lane that has been due longest and has something to send; None if there is none. What waits
        behind a head in one of the dialects `batching` goes with it."""
        head = (
            sa.select(sa.func.min(deliveries.c.position))
            .where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
            .scalar_subquery()
        )
        due = (
            sa.select(lanes.c.id, lanes.c.step, lanes.c.scheduled_at, lanes.c.endpoint_id, head.label("head"))
            .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
            .where(~lanes.c.claimed, lanes.c.due_at <= now, endpoints.c.state == "active", head.is_not(None))
            .order_by(lanes.c.due_at)
            .limit(1)
        )
        with self._database.read() as connection:
            # Most looks find nothing; they must not queue for the right to write.
            if connection.execute(due).first() is None:
                return None
        with self._database.write() as connection:
            lane = connection.execute(due).first()
            if lane is None:
                return None
            connection.execute(sa.update(lanes).where(lanes.c.id == lane.id).values(claimed=True))
            delivery = connection.execute(
                sa.select(deliveries, contents.c.payload, contents.c.dialect)
                .join(contents, contents.c.id == deliveries.c.content_id)
                .where(deliveries.c.position == lane.head)
            ).one()
            endpoint = connection.execute(sa.select(endpoints).where(endpoints.c.id == lane.endpoint_id)).one()
            further = _further(connection, delivery) if delivery.dialect in batching else ()
            return Work(
                lane_id=lane.id,
                step=lane.step,
                scheduled_at=lane.scheduled_at,
                endpoint=endpoint_of(endpoint),
                position=delivery.position,
                delivery_id=delivery.id,
                headers=delivery.headers,
                dialect=delivery.dialect,
                payload=delivery.payload,
                content_type=delivery.content_type,
                signing=delivery.signing,
                further=further,
            )

    def delivered(self, work: Work, attempt: Attempt, now: float, window: float = 0.0) -> None:
        """What was sent arrived: what is next in the lane is due now, or when `window` seconds have gathered more."""
        with self._database.write() as connection:
            if _note(connection, work, attempt):
                connection.execute(
                    sa.update(deliveries)
                    .where(deliveries.c.position.in_(work.positions))
                    .values(state="delivered", finished_at=now)
                )
            due_at = now
            if window:
                oldest = sa.select(sa.func.min(deliveries.c.created_at)).where(
                    deliveries.c.lane_id == work.lane_id, deliveries.c.state == "waiting"
                )
                due_at = min(now + window, max(now, (connection.execute(oldest).scalar() or now) + window))
            _settle(
                connection,
                work,
                step=0,
                due_at=due_at,
                scheduled_at=due_at,
                not_before=0.0,
                failing_since=None,
                last_error="",
            )

    def retry(
        self,
        work: Work,
        attempt: Attempt,
        *,
        step: int,
        due_at: float,
        now: float,
        error: str,
        not_before: float = 0.0,
    ) -> None:
        """The head stays where it is and is tried again at `due_at`; whatever comes, not before `not_before`."""
        with self._database.write() as connection:
            _note(connection, work, attempt)
            if _is_overtaken(connection, work):
                _settle(connection, work)
                return
            since = sa.func.coalesce(lanes.c.failing_since, now)
            _settle(
                connection,
                work,
                step=step,
                due_at=due_at,
                scheduled_at=due_at,
                not_before=not_before,
                failing_since=since,
                last_error=error,
            )

    def disable(self, work: Work, attempt: Attempt, *, now: float, reason: str) -> None:
        """The endpoint gets nothing more until a person enables it; all that waits is held."""
        with self._database.write() as connection:
            _note(connection, work, attempt)
            if _is_overtaken(connection, work):
                _settle(connection, work)
                return
            connection.execute(
                sa.update(endpoints).where(endpoints.c.id == work.endpoint.id).values(state="disabled", reason=reason)
            )
            since = sa.func.coalesce(lanes.c.failing_since, now)
            _settle(connection, work, failing_since=since, last_error=reason)

    def next_due(self, after: float) -> float | None:
        """When the next lane that has something to send is due, of those due later than `after`; None if none is."""
        waiting = sa.exists().where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
        with self._database.read() as connection:
            return connection.execute(
                sa.select(sa.func.min(lanes.c.due_at))
                .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
                .where(~lanes.c.claimed, lanes.c.due_at > after, endpoints.c.state == "active", waiting)
            ).scalar()

    def is_pending(self) -> bool:
        """Whether anything waits for an endpoint that is active, now or later."""
        waiting = sa.exists().where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
        query = (
            sa.select(lanes.c.id)
            .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
            .where(endpoints.c.state == "active", waiting)
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).scalar() is not None

    def sleeping(self, now: float) -> list[Sleeping]:
        """The lanes that are due later than `now`."""
        query = sa.select(lanes.c.id.label("lane_id"), lanes.c.step, lanes.c.due_at).where(lanes.c.due_at > now)
        with self._database.read() as connection:
            return [Sleeping(**row._mapping) for row in connection.execute(query)]

    def pull_back(self, lane: Sleeping, due_at: float) -> None:
        """Have a lane due earlier, unless its due time has changed meanwhile."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(lanes)
                .where(lanes.c.id == lane.lane_id, lanes.c.due_at == lane.due_at)
                .values(due_at=due_at, scheduled_at=due_at, not_before=0.0)
            )

    def failing(self) -> list[Failing]:
        """The endpoints that do not take deliveries, longest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(endpoints.c.name, lanes.c.failing_since, lanes.c.last_error, endpoints.c.state)
                .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
                .where(lanes.c.failing_since.is_not(None))
                .order_by(lanes.c.failing_since)
            )
            return [
                Failing(name=name, since=since, error=error, disabled=state == "disabled")
                for name, since, error, state in rows
            ]


def _note(connection: sa.Connection, work: Work, attempt: Attempt) -> bool:
    """Keep an attempt; False if what it sent was removed, with its endpoint, while the request was under way."""
    here = sa.select(deliveries.c.position).where(deliveries.c.position == work.position)
    if connection.execute(here).scalar() is None:
        return False
    values = {name: getattr(attempt, name) for name in Attempt.__slots__}
    made = connection.execute(sa.insert(attempts).values(values).returning(attempts.c.id))
    attempt_id = made.scalar_one()
    rows = [{"attempt_id": attempt_id, "position": position} for position in work.positions]
    connection.execute(sa.insert(attempt_deliveries), rows)
    return True


def _is_overtaken(connection: sa.Connection, work: Work) -> bool:
    """Whether somebody has enabled the endpoint while its request was under way: its schedule begins anew."""
    step = connection.execute(sa.select(lanes.c.step).where(lanes.c.id == work.lane_id)).scalar()
    return step is not None and step < work.step


def _further(connection: sa.Connection, head: sa.Row[Any]) -> tuple[Further, ...]:
    """What waits behind a head and can go with it: what is sent and signed in the same way, within bounds."""
    query = (
        sa.select(deliveries.c.position, deliveries.c.id, deliveries.c.content_type, deliveries.c.signing)
        .add_columns(contents.c.payload, contents.c.dialect)
        .join(contents, contents.c.id == deliveries.c.content_id)
        .where(
            deliveries.c.lane_id == head.lane_id,
            deliveries.c.state == "waiting",
            deliveries.c.position > head.position,
        )
        .order_by(deliveries.c.position)
        .limit(BATCH_COUNT - 1)
    )
    alike = (head.dialect, head.content_type, head.signing)
    size = len(head.payload)
    further = []
    for row in connection.execute(query):
        size += len(row.payload)
        if size > BATCH_BYTES or (row.dialect, row.content_type, row.signing) != alike:
            break
        further.append(Further(row.position, row.id, row.payload))
    return tuple(further)


def _settle(connection: sa.Connection, work: Work, **values: object) -> None:
    connection.execute(sa.update(lanes).where(lanes.c.id == work.lane_id).values(claimed=False, **values))
