"""What people do with deliveries: send again, cancel, release. In steps, each a short transaction, oldest first.

A step of a thousand rows keeps others from writing for some milliseconds. The steps go through a lane in its
order and faster than it can be sent, so that it is also sent in its order. What is added meanwhile is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.outcomes import put_back
from refcast.store.schema import deliveries, endpoints, lanes
from refcast.store.selection import Selection, positions
from refcast.store.steps import step

STEP = 1000
"""How many deliveries one transaction changes."""

FINISHED = ("delivered", "refused", "canceled", "expired")
"""What can be sent again."""

CANCELABLE = ("waiting", "aside", "held", "refused", "expired")
"""What can be canceled: what is still to be sent, and what asks for a person."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the deliveries in question are for one endpoint and in one state."""

    endpoint: str
    disabled: bool
    """The endpoint is: what waits for it is held."""
    state: str
    """As it is stored: `waiting` even where the endpoint is disabled."""
    count: int


class Steering:
    def __init__(self, database: Database) -> None:
        self._database = database

    def shares(self, chosen: Selection) -> list[Share]:
        """How many are chosen, by endpoint and state. BadInput for an id that is none."""
        with self._database.read() as connection:
            query = (
                sa.select(
                    endpoints.c.name.label("endpoint"),
                    (endpoints.c.state == "disabled").label("disabled"),
                    deliveries.c.state,
                    sa.func.count().label("count"),
                )
                .select_from(deliveries)
                .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
                .where(deliveries.c.position.in_(positions(connection, chosen)))
                .group_by(endpoints.c.id, deliveries.c.state)
                .order_by(endpoints.c.id, deliveries.c.state)
            )
            return [Share(**row._mapping) for row in connection.execute(query)]

    def redeliver(self, chosen: Selection, now: float) -> int:
        """Have what is finished sent again, before what waits behind it; how many. What waits already is tried now.

        Nothing is tried before the time that its endpoint has asked for. What is beyond the limit of a push stays held.
        """

        def change(connection: sa.Connection, some: list[int]) -> int:
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.position.in_(some), deliveries.c.state.in_(FINISHED))
                .values(state="waiting", finished_at=None, reason="", asked_at=now)
            )
            _wake(connection, _lanes_of(connection, some), now)
            return moved.rowcount

        return self._steps(chosen, (*FINISHED, "waiting", "aside"), change)

    def cancel(self, chosen: Selection, now: float, reason: str, states: tuple[str, ...] = CANCELABLE) -> int:
        """Give up what is still to be sent, or was refused or expired; how many. What was behind it is tried now.

        `states` are those that are stored. A request that is under way is not stopped: if it arrives, that counts."""

        def change(connection: sa.Connection, some: list[int]) -> int:
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.position.in_(some), deliveries.c.state.in_(states))
                .values(state="canceled", finished_at=now, reason=reason)
            )
            _wake(connection, _lanes_of(connection, some), now)
            return moved.rowcount

        return self._steps(chosen, states, change)

    def release(self, endpoint: str, now: float) -> int:
        """Have what the limit of a push has held sent, in its place in the lane; how many.

        What comes for a ref meanwhile may be held behind what is held of it: it is released as well."""

        def change(connection: sa.Connection, some: list[int]) -> int:
            moved = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.position.in_(some), deliveries.c.state == "held")
                .values(state="waiting", reason="")
            )
            _wake(connection, _lanes_of(connection, some), now)
            return moved.rowcount

        total = 0
        while moved := self._steps(Selection(endpoint=endpoint), ("held",), change):
            total += moved
        return total

    def _steps(
        self, chosen: Selection, states: tuple[str, ...], change: Callable[[sa.Connection, list[int]], int]
    ) -> int:
        """`change` what is chosen and now in one of these states, step by step; the sum of what it says."""
        with self._database.read() as connection:  # they are looked for where nobody must wait for that
            query = positions(connection, chosen).where(deliveries.c.state.in_(states))
            found = sorted(connection.execute(query).scalars())
        total = 0
        for begin in range(0, len(found), STEP):
            with step(self._database) as connection:
                total += change(connection, found[begin : begin + STEP])
        return total


def _lanes_of(connection: sa.Connection, some: list[int]) -> list[int]:
    query = sa.select(deliveries.c.lane_id).where(deliveries.c.position.in_(some)).distinct()
    return list(connection.execute(query).scalars())


def _wake(connection: sa.Connection, lane_ids: list[int], now: float) -> None:
    """Have lanes tried now, or when their endpoint has asked to be tried (Retry-After).

    What had stepped aside is back in its place: a person has changed the lane in which it was to be judged."""
    put_back(connection, lanes.c.id.in_(lane_ids))
    soonest = sa.func.max(now, lanes.c.not_before)
    connection.execute(
        sa.update(lanes).where(lanes.c.id.in_(lane_ids)).values(due_at=sa.func.min(lanes.c.due_at, soonest))
    )
