"""Endpoints: where deliveries go. Each has one lane."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store.database import Database
from refcast.store.pruning import ROWS, forget
from refcast.store.schema import deliveries, endpoints, lanes
from refcast.store.selection import LEFT
from refcast.store.steps import step


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with an endpoint."""

    discarded: int
    """Deliveries that were still to be sent."""
    told: list[str]
    """The names of the endpoints whose notices went to it, and now go nowhere."""


class Endpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, endpoint: Endpoint, now: float) -> Endpoint:
        """Store a new endpoint (its `id` is ignored) and return it with its number. BadInput if the name is taken."""
        with self._database.write() as connection:
            taken = connection.execute(sa.select(endpoints.c.id).where(endpoints.c.name == endpoint.name)).scalar()
            if taken is not None:
                raise BadInput(f"there is an endpoint {endpoint.name!r} already: edit it, or choose another name")
            made = connection.execute(sa.insert(endpoints).values(_row(endpoint)).returning(endpoints.c.id))
            number = made.scalar_one()
            connection.execute(
                sa.insert(lanes).values(
                    endpoint_id=number,
                    claimed=False,
                    step=0,
                    due_at=now,
                    scheduled_at=now,
                    not_before=0.0,
                    nudged_at=0.0,
                    last_error="",
                )
            )
        return replace(endpoint, id=number)

    def all(self) -> list[Endpoint]:
        """Every endpoint, in the order in which they were added."""
        with self._database.read() as connection:
            return [endpoint_of(row) for row in connection.execute(sa.select(endpoints).order_by(endpoints.c.id))]

    def get(self, name: str) -> Endpoint:
        """The endpoint of this name. BadInput, naming those there are, if there is none."""
        found = {endpoint.name: endpoint for endpoint in self.all()}
        if name not in found:
            known = (
                f"there are: {', '.join(found)}" if found else "there is none yet; add one with `refcast endpoint add`"
            )
            raise BadInput(f"no endpoint {name!r}; {known}")
        return found[name]

    def change(self, endpoint: Endpoint) -> None:
        """Replace what is stored of the endpoint with this number, but for its state. BadInput if the name is taken."""
        row = {key: value for key, value in _row(endpoint).items() if key not in ("state", "reason")}
        with self._database.write() as connection:
            taken = sa.select(endpoints.c.id).where(endpoints.c.name == endpoint.name, endpoints.c.id != endpoint.id)
            if connection.execute(taken).scalar() is not None:
                raise BadInput(f"there is an endpoint {endpoint.name!r} already: choose another name")
            connection.execute(sa.update(endpoints).where(endpoints.c.id == endpoint.id).values(row))

    def disable(self, number: int, reason: str) -> None:
        """Send it nothing more; what waits, and what comes, is held."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(endpoints).where(endpoints.c.id == number).values(state="disabled", reason=reason)
            )

    def enable(self, number: int, now: float) -> int:
        """Send to it again, from the head of its lane, now and with a fresh schedule. How many deliveries wait.

        What had stepped aside is back in its place; what is beyond the limit of a push stays held."""
        fresh: dict[str, Any] = {"step": 0, "due_at": now, "scheduled_at": now, "not_before": 0.0}
        fresh |= {"failing_since": None, "last_error": "", "aside": None, "at_fault": False, "batch_limit": None}
        with self._database.write() as connection:
            connection.execute(sa.update(endpoints).where(endpoints.c.id == number).values(state="active", reason=""))
            connection.execute(sa.update(lanes).where(lanes.c.endpoint_id == number).values(fresh))
            stepped = _of(number, "aside")
            connection.execute(sa.update(deliveries).where(stepped).values(state="waiting", reason=""))
            return _count(connection, number, "waiting")

    def frozen_schemes(self, number: int) -> set[str]:
        """The signing schemes of what waits for it, which were fixed when it was rendered."""
        query = sa.select(deliveries.c.signing).where(_of(number, *LEFT)).distinct()
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def waiting(self, number: int) -> int:
        """How many deliveries are still to be sent to it: waiting, aside or held."""
        with self._database.read() as connection:
            return _count(connection, number, *LEFT)

    def beyond_limit(self, number: int) -> int:
        """How many deliveries are held because one push had more events than its limit."""
        with self._database.read() as connection:
            return _count(connection, number, "held")

    def name_of(self, number: int) -> str:
        """The name of the endpoint with this number; empty if there is none."""
        with self._database.read() as connection:
            return connection.execute(sa.select(endpoints.c.name).where(endpoints.c.id == number)).scalar() or ""

    def remove(self, number: int, *, discard: bool = False) -> Removed:
        """Forget the endpoint, its deliveries, their attempts, and the contents that no other shares; step by step.

        BadInput if some are still to be sent, unless they may be discarded. It is disabled meanwhile: where this is
        interrupted, it is to be removed again. Endpoints that named it for their notices name none then."""
        with self._database.write() as connection:
            discarded = _count(connection, number, *LEFT)
            if discarded and not discard:
                name = connection.execute(sa.select(endpoints.c.name).where(endpoints.c.id == number)).scalar()
                raise BadInput(
                    f"{discarded} deliveries wait for {name}: send them first, or pass --discard to lose them"
                )
            going = sa.update(endpoints).where(endpoints.c.id == number)
            connection.execute(going.values(state="disabled", reason="it is being removed"))
        mine = sa.select(deliveries.c.position).where(_of(number)).order_by(deliveries.c.position).limit(ROWS)
        while True:
            with step(self._database) as connection:
                some = list(connection.execute(mine).scalars())
                if some:
                    forget(connection, some)
                    continue
                told = sa.update(endpoints).where(endpoints.c.on_failure == number).values(on_failure=None)
                names = sorted(connection.execute(told.returning(endpoints.c.name)).scalars())
                connection.execute(sa.delete(lanes).where(lanes.c.endpoint_id == number))
                connection.execute(sa.delete(endpoints).where(endpoints.c.id == number))
                return Removed(discarded=discarded, told=names)


def _of(number: int, *states: str) -> sa.ColumnElement[bool]:
    """The deliveries for an endpoint, in one of these states as they are stored, or in any. By its lanes: they have
    an index."""
    mine = deliveries.c.lane_id.in_(sa.select(lanes.c.id).where(lanes.c.endpoint_id == number))
    return sa.and_(mine, deliveries.c.state.in_(states)) if states else mine


def _count(connection: sa.Connection, number: int, *states: str) -> int:
    query = sa.select(sa.func.count()).select_from(deliveries).where(_of(number, *states))
    return connection.execute(query).scalar_one()


def _row(endpoint: Endpoint) -> dict[str, Any]:
    row = asdict(endpoint)
    del row["id"]
    return row | {
        "events": sorted(endpoint.events),
        "repositories": list(endpoint.repositories),
        "schedule": list(endpoint.schedule),
    }


def endpoint_of(row: sa.Row[Any]) -> Endpoint:
    """The Endpoint of a whole row of the table."""
    return endpoint_from(dict(row._mapping))


def endpoint_from(values: dict[str, Any]) -> Endpoint:
    """The Endpoint of all columns of the table, by their names."""
    values["events"] = frozenset(values["events"])
    for name in ("repositories", "schedule"):
        values[name] = tuple(values[name])
    return Endpoint(**values)
