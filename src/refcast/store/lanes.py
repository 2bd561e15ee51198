"""Lanes: what must stay in order. Here a delivery is claimed, and what came of it is stored in one transaction.

Whatever comes of a request, its lane is given back, or kept for the next that waits in it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from refcast.store.claims import BEHIND, CLAIM, DUE, WAITING, Work, grown, work_of
from refcast.store.database import Database
from refcast.store.intake import NewContent
from refcast.store.notices import put_notice
from refcast.store.outcomes import (
    ARRIVED,
    CONDEMN,
    DISABLE,
    NEXT_CREATED,
    REFUSE,
    RELEASE,
    STEP_ASIDE,
    WELL,
    Attempt,
    begin_failure,
    is_failing,
    keep,
    note,
    put_back,
    settle_failed,
)
from refcast.store.schema import endpoints, lanes
from refcast.store.together import Together


@dataclass(frozen=True, slots=True)
class Sleeping:
    """A lane that is not due yet."""

    lane_id: int
    step: int
    due_at: float
    schedule: tuple[float, ...]
    """Its endpoint's, in seconds; empty for the default."""


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint whose last try failed, or that is disabled because they all did."""

    name: str
    since: float
    error: str
    disabled: bool
    due_at: float
    """When it is tried again."""


_NEXT_DUE = (
    sa.select(sa.func.min(lanes.c.due_at))
    .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
    .where(~lanes.c.claimed, lanes.c.due_at > sa.bindparam("after"), endpoints.c.state == "active", WAITING)
)

_PENDING = (
    sa.select(lanes.c.id)
    .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
    .where(endpoints.c.state == "active", sa.or_(WAITING, lanes.c.aside.is_not(None)))
    .limit(1)
)

_DESERTED = sa.and_(lanes.c.aside.is_not(None), ~WAITING)
"""Nothing is left in a lane that could be tried in the place of what stepped aside."""


class Lanes:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._together = Together(database)

    def release_all(self) -> None:
        """Undo every claim: the worker that held them is dead, and what it tried in the place of another is not
        judged. Only the holder of the worker's lock may call this."""
        with self._database.write() as connection:
            connection.execute(sa.update(lanes).values(claimed=False))
            put_back(connection, lanes.c.aside.is_not(None))

    def claim(self, now: float, batching: Collection[str] = (), *, failing: bool | None = None) -> Work | None:
        """Claim the lane that has been due longest and has something to send; None if there is none. What waits
        behind a head in one of the dialects `batching` goes with it.

        `failing` chooses among the lanes whose last try failed, or those where it did not; None among all."""
        while True:
            # Most looks find nothing; they must not queue for the right to write.
            with self._database.read() as connection:
                lane_id = connection.execute(DUE[failing], {"now": now}).scalar()
            if lane_id is None:
                return None
            work = self._together.write(partial(_claim, lane_id=lane_id, now=now, batching=batching))
            if work is not None:
                return work

    def waits_behind(self, work: Work) -> bool:
        """Whether anything else waits in the lane that could be tried now."""
        last = work.positions[-1]
        with self._database.read() as connection:
            behind = connection.execute(BEHIND, {"lane": work.lane_id, "head": last, "most": 1})
            return behind.first() is not None

    def delivered(
        self,
        work: Work,
        attempt: Attempt,
        now: float,
        window: float = 0.0,
        *,
        notice: NewContent | None = None,
        then: Collection[str] | None = None,
    ) -> Work | None:
        """What was sent arrived: what is next in the lane is due now, or when `window` seconds have gathered more.

        What had stepped aside for it is refused for good. `notice` is sent if the lane had been failing. With `then`,
        the dialects that batch, the lane stays claimed if its next is due, which is returned."""

        def record(connection: sa.Connection) -> Work | None:
            arrived = [ARRIVED.run(connection, delivery=position, at=now).rowcount for position in work.positions]
            # Nothing is there if it was removed, with its endpoint, while the request was under way.
            if any(arrived):
                note(connection, work, attempt)
            if work.aside is not None:
                reason = f"{work.last_error}, and the one behind it was accepted"
                connection.execute(CONDEMN, {"lane": work.lane_id, "at": now, "why": reason})
            if work.failing_since is not None and notice is not None and is_failing(connection, work):
                put_notice(connection, notice, now)
            due_at = now
            if window:
                first = connection.execute(NEXT_CREATED, {"lane": work.lane_id}).scalar()
                due_at = min(now + window, max(now, (first or now) + window))
            WELL.run(connection, lane=work.lane_id, at=due_at, limit=grown(work.batch_limit))
            following = None if then is None else work_of(connection, work.lane_id, now, then)
            if following is None:
                RELEASE.run(connection, lane=work.lane_id)
            return following

        return self._together.write(record)

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
        at_fault: bool = False,
        notice: NewContent | None = None,
    ) -> None:
        """The head stays where it is and is tried again at `due_at`; whatever comes, not before `not_before`.

        If it was tried in the place of one that had stepped aside, that one is back in its place. `notice` is sent
        if the lane begins to fail."""
        values = {"step": step, "due_at": due_at, "scheduled_at": due_at, "not_before": not_before}
        with self._database.write() as connection:
            if not begin_failure(connection, work, attempt, notice, now):
                return
            put_back(connection, lanes.c.id == work.lane_id)
            settle_failed(connection, work, now, error, **values, at_fault=at_fault)

    def set_aside(
        self,
        work: Work,
        attempt: Attempt,
        *,
        step: int,
        now: float,
        scheduled_at: float,
        error: str,
        notice: NewContent | None = None,
    ) -> None:
        """The head steps aside, and the next is due now. The schedule goes on at `scheduled_at`."""
        values = {"step": step, "due_at": now, "scheduled_at": scheduled_at, "not_before": 0.0}
        with self._database.write() as connection:
            if not begin_failure(connection, work, attempt, notice, now):
                return
            stepped = connection.execute(STEP_ASIDE, {"delivery": work.position, "why": error}).rowcount
            settle_failed(connection, work, now, error, **values, aside=work.position if stepped else None)

    def refuse(
        self, work: Work, attempt: Attempt, *, now: float, reason: str, notice: NewContent | None = None
    ) -> None:
        """The head is given up, for a person to look at; what comes behind it has a fresh schedule."""
        values = {"step": 0, "due_at": now, "scheduled_at": now, "not_before": 0.0}
        with self._database.write() as connection:
            if not begin_failure(connection, work, attempt, notice, now):
                return
            connection.execute(REFUSE, {"delivery": work.position, "at": now, "why": reason})
            settle_failed(connection, work, now, reason, **values)

    def halve(self, work: Work, attempt: Attempt, *, now: float) -> None:
        """What was sent in one request is sent in two, at once."""
        with self._database.write() as connection:
            keep(connection, work, attempt)
            halved = sa.update(lanes).where(lanes.c.id == work.lane_id)
            connection.execute(halved.values(claimed=False, due_at=now, batch_limit=len(work.positions) // 2))

    def disable(
        self, work: Work, attempt: Attempt, *, now: float, reason: str, notice: NewContent | None = None
    ) -> None:
        """The endpoint gets nothing more until a person enables it; all that waits is held. `notice` is sent unless
        a person has disabled it meanwhile."""
        with self._database.write() as connection:
            if not begin_failure(connection, work, attempt, None, now):
                return
            put_back(connection, lanes.c.id == work.lane_id)
            changed = connection.execute(DISABLE, {"number": work.endpoint.id, "why": reason}).rowcount
            if changed and notice is not None:
                put_notice(connection, notice, now)
            settle_failed(connection, work, now, reason)

    def next_due(self, after: float) -> float | None:
        """When the next lane that has something to send is due, of those due later than `after`; None if none is."""
        with self._database.read() as connection:
            return connection.execute(_NEXT_DUE, {"after": after}).scalar()

    def is_pending(self) -> bool:
        """Whether anything waits for an endpoint that is active, now or later."""
        with self._database.read() as connection:
            return connection.execute(_PENDING).scalar() is not None

    def put_back(self) -> None:
        """Put back what stepped aside for one that is gone: a person has taken it out of the lane."""
        with self._database.read() as connection:
            if connection.execute(sa.select(lanes.c.id).where(_DESERTED).limit(1)).first() is None:
                return
        with self._database.write() as connection:
            put_back(connection, _DESERTED)

    def sleeping(self, now: float) -> list[Sleeping]:
        """The lanes that are due later than `now`."""
        query = (
            sa.select(lanes.c.id, lanes.c.step, lanes.c.due_at, endpoints.c.schedule)
            .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
            .where(lanes.c.due_at > now)
        )
        with self._database.read() as connection:
            return [Sleeping(row.id, row.step, row.due_at, tuple(row.schedule)) for row in connection.execute(query)]

    def pull_back(self, lane: Sleeping, due_at: float) -> None:
        """Have a lane due earlier, unless its due time has changed meanwhile."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(lanes)
                .where(lanes.c.id == lane.lane_id, lanes.c.due_at == lane.due_at)
                .values(due_at=due_at, scheduled_at=due_at, not_before=0.0)
            )

    def turn_back(self, seconds: float) -> None:
        """The clock was set back by so much: what was to happen is to happen after the same wait as before."""
        times = {name: lanes.c[name] - seconds for name in ("due_at", "scheduled_at", "not_before", "nudged_at")}
        with self._database.write() as connection:
            connection.execute(sa.update(lanes).values(times))

    def failing(self) -> list[Failing]:
        """The endpoints that do not take deliveries, longest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(
                    endpoints.c.name, lanes.c.failing_since, lanes.c.last_error, endpoints.c.state, lanes.c.due_at
                )
                .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
                .where(lanes.c.failing_since.is_not(None))
                .order_by(lanes.c.failing_since)
            )
            return [
                Failing(name=name, since=since, error=error, disabled=state == "disabled", due_at=due_at)
                for name, since, error, state, due_at in rows
            ]


def _claim(connection: sa.Connection, lane_id: int, now: float, batching: Collection[str]) -> Work | None:
    """Claim a lane, unless another has been faster or nothing is to be sent any more."""
    if not CLAIM.run(connection, lane=lane_id, now=now).rowcount:
        return None
    work = work_of(connection, lane_id, now, batching)
    if work is None:
        RELEASE.run(connection, lane=lane_id)
    return work
