"""What came of a request, as it is stored: the attempt, and what follows for its deliveries, its lane and its endpoint.

What came of a request respects what a person did while it was under way: what arrived is delivered, whatever they
decided; what failed leaves a delivery that was canceled or has expired as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refcast.store.claims import Work
from refcast.store.intake import NewContent
from refcast.store.notices import put_notice
from refcast.store.prepared import Prepared
from refcast.store.schema import attempt_deliveries, attempts, deliveries, endpoints, lanes


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


_LANE_ID: sa.BindParameter[int] = sa.bindparam("lane")
_DELIVERY: sa.BindParameter[int] = sa.bindparam("delivery")

RELEASE = Prepared(sa.update(lanes).where(lanes.c.id == _LANE_ID).values(claimed=False))

_LANE = sa.select(lanes.c.step, lanes.c.failing_since).where(lanes.c.id == _LANE_ID)

WELL = Prepared(
    sa.update(lanes)
    .where(lanes.c.id == _LANE_ID)
    .values(
        step=0,
        due_at=sa.bindparam("at"),
        scheduled_at=sa.bindparam("at"),
        not_before=0.0,
        failing_since=None,
        last_error="",
        aside=None,
        at_fault=False,
        batch_limit=sa.bindparam("limit"),
    )
)
"""The lane's last try succeeded: nothing is left of earlier failures."""

_HERE = sa.select(deliveries.c.position).where(deliveries.c.position == _DELIVERY)

_NEW_ATTEMPT = Prepared(
    sa.insert(attempts).values({name: sa.bindparam(name) for name in Attempt.__slots__}).returning(attempts.c.id)
)

_ATTEMPTED = Prepared(
    sa.insert(attempt_deliveries).from_select(
        ["attempt_id", "position"],
        sa.select(sa.bindparam("attempt", type_=sa.Integer), deliveries.c.position).where(
            deliveries.c.position == _DELIVERY
        ),
    )
)
"""Note what an attempt carried, but for what was removed meanwhile."""

ARRIVED = Prepared(
    sa.update(deliveries)
    .where(deliveries.c.position == _DELIVERY)
    .values(state="delivered", finished_at=sa.bindparam("at"), reason="")
)

_REFUSED: dict[str, Any] = {"state": "refused", "finished_at": sa.bindparam("at"), "reason": sa.bindparam("why")}

REFUSE = (
    sa.update(deliveries).where(deliveries.c.position == _DELIVERY, deliveries.c.state == "waiting").values(_REFUSED)
)

CONDEMN = (
    sa.update(deliveries)
    .where(
        deliveries.c.position == sa.select(lanes.c.aside).where(lanes.c.id == _LANE_ID).scalar_subquery(),
        deliveries.c.state == "aside",
    )
    .values(_REFUSED)
)
"""What had stepped aside is refused: the one that was tried in its place has arrived."""

STEP_ASIDE = (
    sa.update(deliveries)
    .where(deliveries.c.position == _DELIVERY, deliveries.c.state == "waiting")
    .values(state="aside", reason=sa.bindparam("why"))
)

DISABLE = (
    sa.update(endpoints)
    .where(endpoints.c.id == sa.bindparam("number"), endpoints.c.state == "active")
    .values(state="disabled", reason=sa.bindparam("why"))
)

NEXT_CREATED = (
    sa.select(deliveries.c.created_at)
    .where(deliveries.c.lane_id == _LANE_ID, deliveries.c.state == "waiting")
    .order_by(deliveries.c.position)
    .limit(1)
)


def keep(connection: sa.Connection, work: Work, attempt: Attempt) -> None:
    """Keep an attempt, unless what it sent was removed, with its endpoint, while the request was under way."""
    if connection.execute(_HERE, {"delivery": work.position}).scalar() is not None:
        note(connection, work, attempt)


def note(connection: sa.Connection, work: Work, attempt: Attempt) -> None:
    """Keep an attempt, and which of what is still there it carried."""
    values = {name: getattr(attempt, name) for name in Attempt.__slots__}
    [(attempt_id,)] = _NEW_ATTEMPT.run(connection, **values).fetchall()
    for position in work.positions:
        _ATTEMPTED.run(connection, attempt=attempt_id, delivery=position)


def begin_failure(
    connection: sa.Connection, work: Work, attempt: Attempt, notice: NewContent | None, now: float
) -> bool:
    """Keep an attempt that failed, and tell of it if it is the first. False if nothing else is to change: somebody has
    enabled the endpoint while its request was under way, and its schedule has begun anew."""
    keep(connection, work, attempt)
    lane = connection.execute(_LANE, {"lane": work.lane_id}).first()
    if lane is None or lane.step < work.step:
        RELEASE.run(connection, lane=work.lane_id)
        return False
    if lane.failing_since is None and notice is not None:
        put_notice(connection, notice, now)
    return True


def is_failing(connection: sa.Connection, work: Work) -> bool:
    lane = connection.execute(_LANE, {"lane": work.lane_id}).first()
    return lane is not None and lane.failing_since is not None


def settle_failed(connection: sa.Connection, work: Work, now: float, error: str, **values: object) -> None:
    """Give a lane back after a failure, with what has changed of it."""
    values |= {"failing_since": sa.func.coalesce(lanes.c.failing_since, now), "last_error": error}
    connection.execute(sa.update(lanes).where(lanes.c.id == work.lane_id).values(claimed=False, **values))


def put_back(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Have what stepped aside in these lanes wait in its place again."""
    stepped = sa.select(lanes.c.aside).where(which, lanes.c.aside.is_not(None))
    for position in list(connection.execute(stepped).scalars()):
        connection.execute(
            sa.update(deliveries)
            .where(deliveries.c.position == position, deliveries.c.state == "aside")
            .values(state="waiting", reason="")
        )
        connection.execute(sa.update(lanes).where(lanes.c.aside == position).values(aside=None))
