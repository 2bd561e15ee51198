"""What has just happened, for those who follow it: attempts, new deliveries, endpoints that change.

Each look asks for what is newer than the last one saw, by numbers that only grow, so that it costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from refcast.store.database import Database
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

FINISHED_WITHOUT_ATTEMPT = ("canceled", "expired")


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where somebody has seen."""

    attempt: int = 0
    position: int = 0
    ended: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """For each state in which deliveries end without an attempt the last one's time and position: what ends at one
    moment is changed in the order of positions, perhaps in many steps."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to one delivery."""

    what: str
    """`attempt`; `new`: it was stored; `finished`: canceled or expired."""
    time: float
    endpoint: str
    delivery: str
    kind: str
    repository: str
    """The resolved path; empty, as is the ref, for a notice about another endpoint."""
    ref: str
    state: str
    """Of the delivery, now."""
    status: int | None = None
    error_class: str = ""
    error: str = ""
    duration: float | None = None
    """Seconds."""
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint is."""

    state: str
    reason: str
    failing: bool
    error: str


class Following:
    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self) -> Mark:
        """Up to where everything has been seen."""
        with self._database.read() as connection:
            attempt = connection.execute(sa.select(sa.func.max(attempts.c.id))).scalar()
            position = connection.execute(sa.select(sa.func.max(deliveries.c.position))).scalar()
            ended = {}
            for state in FINISHED_WITHOUT_ATTEMPT:
                last = sa.select(deliveries.c.finished_at, deliveries.c.position).where(deliveries.c.state == state)
                last = last.order_by(deliveries.c.finished_at.desc(), deliveries.c.position.desc()).limit(1)
                if (row := connection.execute(last).first()) is not None:
                    ended[state] = (row.finished_at, row.position)
        return Mark(attempt or 0, position or 0, ended)

    def latest(self, count: int, endpoint: str = "") -> list[Happening]:
        """The last attempts, oldest first."""
        query = _attempts(endpoint).order_by(attempts.c.id.desc(), deliveries.c.position.desc()).limit(count)
        with self._database.read() as connection:
            return [_attempt(row) for row in reversed(connection.execute(query).all())]

    def since(self, mark: Mark, endpoint: str, limit: int) -> tuple[list[Happening], Mark]:
        """What happened since, in order of time, and up to where that is. At most about `limit` of each kind."""
        with self._database.read() as connection:
            tried = _attempts(endpoint).where(attempts.c.id > mark.attempt)
            # A batch's attempt is one row for each of its deliveries: they are told together or not at all.
            last = sa.select(attempts.c.id).where(attempts.c.id > mark.attempt).order_by(attempts.c.id).limit(limit)
            upto = connection.execute(sa.select(sa.func.max(last.subquery().c.id))).scalar() or mark.attempt
            rows = connection.execute(tried.where(attempts.c.id <= upto).order_by(attempts.c.id)).all()
            happened = [_attempt(row) for row in rows]
            stored = _deliveries().where(deliveries.c.position > mark.position)
            new = connection.execute(stored.order_by(deliveries.c.position).limit(limit)).all()
            happened += [_change("new", row, row.created_at) for row in new if endpoint in ("", row.endpoint)]
            ended = dict(mark.ended)
            for state in FINISHED_WITHOUT_ATTEMPT:
                at, position = ended.get(state, (0.0, 0))
                later = sa.or_(
                    deliveries.c.finished_at > at,
                    sa.and_(deliveries.c.finished_at == at, deliveries.c.position > position),
                )
                query = _deliveries().where(deliveries.c.state == state, later)
                for row in connection.execute(
                    query.order_by(deliveries.c.finished_at, deliveries.c.position).limit(limit)
                ):
                    ended[state] = (row.finished_at, row.position)
                    if endpoint in ("", row.endpoint):
                        happened.append(_change("finished", row, row.finished_at))
        position = new[-1].position if new else mark.position
        return sorted(happened, key=lambda one: one.time), Mark(upto, position, ended)

    def health(self) -> dict[str, Health]:
        """How every endpoint is, by its name."""
        query = sa.select(endpoints.c.name, endpoints.c.state, endpoints.c.reason).add_columns(
            lanes.c.failing_since.is_not(None).label("failing"), lanes.c.last_error
        )
        with self._database.read() as connection:
            rows = connection.execute(query.join(lanes, lanes.c.endpoint_id == endpoints.c.id))
            return {row.name: Health(row.state, row.reason, bool(row.failing), row.last_error) for row in rows}


_COMMON = (
    deliveries.c.id.label("delivery"),
    deliveries.c.position,
    deliveries.c.state,
    deliveries.c.reason,
    deliveries.c.created_at,
    deliveries.c.finished_at,
    endpoints.c.name.label("endpoint"),
    contents.c.kind,
    repositories.c.path.label("repository"),
    events.c.ref,
)


def _deliveries(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*_COMMON, *more)
        .select_from(deliveries)
        .join(contents, contents.c.id == deliveries.c.content_id)
        .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
        .outerjoin(events, events.c.id == contents.c.event_id)
        .outerjoin(repositories, repositories.c.id == events.c.repository_id)
    )


def _attempts(endpoint: str) -> sa.Select[Any]:
    columns = attempts.c
    query = (
        _deliveries(
            columns.started_at, columns.duration, columns.status, columns.error_class, columns.error, columns.decision
        )
        .join(attempt_deliveries, attempt_deliveries.c.position == deliveries.c.position)
        .join(attempts, attempts.c.id == attempt_deliveries.c.attempt_id)
    )
    return query.where(endpoints.c.name == endpoint) if endpoint else query


def _attempt(row: sa.Row[Any]) -> Happening:
    return Happening(
        what="attempt",
        time=row.started_at + row.duration,
        endpoint=row.endpoint,
        delivery=row.delivery,
        kind=row.kind,
        repository=row.repository or "",
        ref=row.ref or "",
        state=row.state,
        status=row.status,
        error_class=row.error_class,
        error=row.error,
        duration=row.duration,
        decision=row.decision,
    )


def _change(what: str, row: sa.Row[Any], at: float) -> Happening:
    return Happening(
        what=what,
        time=at,
        endpoint=row.endpoint,
        delivery=row.delivery,
        kind=row.kind,
        repository=row.repository or "",
        ref=row.ref or "",
        state=row.state,
        decision=row.reason,
    )
