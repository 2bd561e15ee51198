"""Endpoints: where deliveries go. Each has one lane."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store.database import Database
from refcast.store.schema import attempt_deliveries, attempts, deliveries, endpoints, lanes


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
        """Send to it again, from the head of its lane, now and with a fresh schedule. How many deliveries wait."""
        with self._database.write() as connection:
            connection.execute(sa.update(endpoints).where(endpoints.c.id == number).values(state="active", reason=""))
            connection.execute(
                sa.update(lanes)
                .where(lanes.c.endpoint_id == number)
                .values(step=0, due_at=now, scheduled_at=now, not_before=0.0, failing_since=None, last_error="")
            )
            return _waiting(connection, number)

    def frozen_schemes(self, number: int) -> set[str]:
        """The signing schemes of what waits for it, which were fixed when it was rendered."""
        query = sa.select(deliveries.c.signing).where(
            deliveries.c.endpoint_id == number, deliveries.c.state == "waiting"
        )
        with self._database.read() as connection:
            return set(connection.execute(query.distinct()).scalars())

    def waiting(self, number: int) -> int:
        """How many deliveries wait for it."""
        with self._database.read() as connection:
            return _waiting(connection, number)

    def remove(self, number: int) -> None:
        """Forget the endpoint, its deliveries and their attempts."""
        with self._database.write() as connection:
            mine = sa.select(deliveries.c.position).where(deliveries.c.endpoint_id == number)
            forgotten = sa.delete(attempt_deliveries).where(attempt_deliveries.c.position.in_(mine))
            connection.execute(forgotten)
            still = sa.select(attempt_deliveries.c.attempt_id)
            connection.execute(sa.delete(attempts).where(attempts.c.id.not_in(still)))
            connection.execute(sa.delete(deliveries).where(deliveries.c.endpoint_id == number))
            connection.execute(sa.delete(lanes).where(lanes.c.endpoint_id == number))
            connection.execute(sa.delete(endpoints).where(endpoints.c.id == number))


def _waiting(connection: sa.Connection, number: int) -> int:
    count = sa.select(sa.func.count()).select_from(deliveries)
    return connection.execute(
        count.where(deliveries.c.endpoint_id == number, deliveries.c.state == "waiting")
    ).scalar_one()


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
    values = dict(row._mapping)
    values["events"] = frozenset(values["events"])
    for name in ("repositories", "schedule"):
        values[name] = tuple(values[name])
    return Endpoint(**values)
