"""Endpoints: where deliveries go. Each has one lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the endpoints are to be, all at once."""

    before: Sequence[Endpoint]
    """Every endpoint as it was when this was made up."""
    after: Sequence[Endpoint]
    """What is new (without a number), or may be changed."""
    on_failure: Mapping[str, str] = field(default_factory=dict)
    """Of those in `after`, by their names: the name of whom each tells of its failures. The others tell nobody."""
    gone: Sequence[int] = ()
    """The numbers of those that are to be forgotten."""


class Endpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, endpoint: Endpoint, now: float) -> Endpoint:
        """Store a new endpoint (its `id` is ignored) and return it with its number. BadInput if the name is taken."""
        with self._database.write() as connection:
            taken = connection.execute(sa.select(endpoints.c.id).where(endpoints.c.name == endpoint.name)).scalar()
            if taken is not None:
                raise BadInput(f"there is an endpoint {endpoint.name!r} already: edit it, or choose another name")
            number = _insert(connection, endpoint, now)
        return replace(endpoint, id=number)

    def all(self) -> list[Endpoint]:
        """Every endpoint, in the order in which they were added."""
        with self._database.read() as connection:
            return _all(connection)

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
        with self._database.write() as connection:
            taken = sa.select(endpoints.c.id).where(endpoints.c.name == endpoint.name, endpoints.c.id != endpoint.id)
            if connection.execute(taken).scalar() is not None:
                raise BadInput(f"there is an endpoint {endpoint.name!r} already: choose another name")
            _update(connection, endpoint)

    def match(self, wanted: Wanted, now: float, *, discard: bool = False) -> list[Removed]:
        """Have the endpoints be as they are wanted: all of it, or nothing where an error comes. What went with those
        that are forgotten, which happens afterwards, step by step, as with `remove`.

        A row that is as it is wanted is not written. BadInput where something else has changed them since `before`,
        and where deliveries wait for one that is to go, unless they may be discarded."""
        with self._database.write() as connection:
            stored = {one.id: one for one in _all(connection)}
            if [_lasting(one) for one in stored.values()] != [_lasting(one) for one in wanted.before]:
                raise BadInput("the endpoints were changed by something else meanwhile: try again")
            before = {one.id: one for one in wanted.before}
            numbers = {one.name: one.id for one in wanted.before}
            for one in wanted.after:
                if not one.id:
                    numbers[one.name] = _insert(connection, replace(one, on_failure=None), now)
            for one in wanted.after:
                old = before.get(one.id, replace(one, on_failure=None))
                told = wanted.on_failure.get(one.name)
                new = replace(one, id=numbers[one.name], on_failure=numbers[told] if told else None)
                if _lasting(replace(new, id=old.id)) != _lasting(old):
                    _update(connection, new)
                if new.state != old.state and new.state == "active":
                    _enable(connection, new.id, now)
                elif new.state != old.state:
                    _disable(connection, new.id, new.reason)
            for number in wanted.gone:
                _retire(connection, number, discard=discard)
        return [self.remove(number, discard=discard) for number in wanted.gone]

    def disable(self, number: int, reason: str) -> None:
        """Send it nothing more; what waits, and what comes, is held."""
        with self._database.write() as connection:
            _disable(connection, number, reason)

    def enable(self, number: int, now: float) -> int:
        """Send to it again, from the head of its lane, now and with a fresh schedule. How many deliveries wait.

        What had stepped aside is back in its place; what is beyond the limit of a push stays held."""
        with self._database.write() as connection:
            _enable(connection, number, now)
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
            discarded = _retire(connection, number, discard=discard)
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


def _all(connection: sa.Connection) -> list[Endpoint]:
    return [endpoint_of(row) for row in connection.execute(sa.select(endpoints).order_by(endpoints.c.id))]


def _insert(connection: sa.Connection, endpoint: Endpoint, now: float) -> int:
    """Store a new endpoint with its lane; its number."""
    number: int = connection.execute(sa.insert(endpoints).values(_row(endpoint)).returning(endpoints.c.id)).scalar_one()
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
    return number


def _update(connection: sa.Connection, endpoint: Endpoint) -> None:
    """Replace all that is stored of an endpoint, but for its state."""
    row = {key: value for key, value in _row(endpoint).items() if key not in ("state", "reason")}
    connection.execute(sa.update(endpoints).where(endpoints.c.id == endpoint.id).values(row))


def _lasting(endpoint: Endpoint) -> Endpoint:
    """What people alone change: all but the state, which deliveries change as well."""
    return replace(endpoint, state="active", reason="")


def _disable(connection: sa.Connection, number: int, reason: str) -> None:
    connection.execute(sa.update(endpoints).where(endpoints.c.id == number).values(state="disabled", reason=reason))


def _enable(connection: sa.Connection, number: int, now: float) -> None:
    fresh: dict[str, Any] = {"step": 0, "due_at": now, "scheduled_at": now, "not_before": 0.0}
    fresh |= {"failing_since": None, "last_error": "", "aside": None, "at_fault": False, "batch_limit": None}
    connection.execute(sa.update(endpoints).where(endpoints.c.id == number).values(state="active", reason=""))
    connection.execute(sa.update(lanes).where(lanes.c.endpoint_id == number).values(fresh))
    connection.execute(sa.update(deliveries).where(_of(number, "aside")).values(state="waiting", reason=""))


def _retire(connection: sa.Connection, number: int, *, discard: bool) -> int:
    """Have nothing more sent to an endpoint that is to be removed; how many deliveries are lost by that. BadInput if
    there are some, unless they may be discarded."""
    discarded = _count(connection, number, *LEFT)
    if discarded and not discard:
        name = connection.execute(sa.select(endpoints.c.name).where(endpoints.c.id == number)).scalar()
        raise BadInput(f"{discarded} deliveries wait for {name}: send them first, or pass --discard to lose them")
    _disable(connection, number, "it is being removed")
    return discarded


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
    for name, value in row.items():
        if isinstance(value, frozenset | tuple):
            row[name] = sorted(value) if isinstance(value, frozenset) else list(value)
    return row


def endpoint_of(row: sa.Row[Any]) -> Endpoint:
    """The Endpoint of a whole row of the table."""
    return endpoint_from(dict(row._mapping))


def endpoint_from(values: dict[str, Any]) -> Endpoint:
    """The Endpoint of all columns of the table, by their names."""
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = frozenset(value) if name in ("events", "skips") else tuple(value)
    return Endpoint(**values)
