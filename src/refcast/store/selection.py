"""Which deliveries somebody means: what the command line says of them, as a query. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from refcast.errors import BadInput
from refcast.store.schema import attempt_deliveries, attempts, contents, deliveries, endpoints, events, lanes

STATES = ("waiting", "aside", "held", "delivered", "refused", "canceled", "expired")
"""The states of a delivery as people see them. What waits for a disabled endpoint is `held`, too."""

LEFT = ("waiting", "aside", "held")
"""The states, as they are stored, of what is still to be sent."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Every field that is set narrows it; without any it is every delivery there is."""

    ids: tuple[str, ...] = ()
    """Ids, or the beginnings of them."""
    endpoint: str = ""
    """A name."""
    states: tuple[str, ...] = ()
    """Of `STATES`: one of these."""
    repositories: tuple[int, ...] | None = None
    """Numbers; None for all, and for what belongs to none."""
    ref: str = ""
    """The whole name, or that of a branch or a tag without refs/heads/ or refs/tags/."""
    pusher: str = ""
    since: float | None = None
    """Stored at this time or later; seconds since the epoch."""
    until: float | None = None
    """Stored before this time."""
    error: str = ""
    """The class of the error that the last try ended in, such as `timeout`."""
    start: str = ""
    """The id of a delivery, or its beginning: that one, and what is behind it in its lane."""


EVERY = Selection()


def position_of(connection: sa.Connection, delivery_id: str) -> int:
    """The position of a delivery, by its id or the beginning of it. BadInput if there is none, or more than one."""
    # A range, which the index of ids answers; LIKE would read them all.
    within = sa.and_(deliveries.c.id >= delivery_id, deliveries.c.id < delivery_id + "\U0010ffff")
    query = sa.select(deliveries.c.position).where(within).limit(2)
    found: list[int] = list(connection.execute(query).scalars()) if delivery_id.isascii() else []
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"more than one delivery begins with {delivery_id!r}: write more of the id")
    raise BadInput(f"no delivery {delivery_id!r}; `refcast delivery list` shows them")


def positions(connection: sa.Connection, chosen: Selection) -> sa.Select[int]:
    """The query for the positions of what is chosen, in no order. BadInput for an id that is none."""
    query = sa.select(deliveries.c.position)
    if chosen.ids:
        query = query.where(deliveries.c.position.in_([position_of(connection, one) for one in chosen.ids]))
    if chosen.start:
        start = position_of(connection, chosen.start)
        lane = sa.select(deliveries.c.lane_id).where(deliveries.c.position == start).scalar_subquery()
        query = query.where(deliveries.c.lane_id == lane, deliveries.c.position >= start)
    if chosen.endpoint:
        mine = sa.select(lanes.c.id).join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
        query = query.where(deliveries.c.lane_id.in_(mine.where(endpoints.c.name == chosen.endpoint)))
    if chosen.states:
        query = query.where(sa.or_(*map(_is, chosen.states)))
    if chosen.since is not None:
        query = query.where(deliveries.c.created_at >= chosen.since)
    if chosen.until is not None:
        query = query.where(deliveries.c.created_at < chosen.until)
    if of_event := about(chosen):
        query = query.join(contents, contents.c.id == deliveries.c.content_id)
        query = query.join(events, events.c.id == contents.c.event_id).where(*of_event)
    if chosen.error:
        here = attempt_deliveries.c.position == deliveries.c.position
        last = sa.select(sa.func.max(attempt_deliveries.c.attempt_id)).where(here).correlate(deliveries)
        ended = sa.select(attempts.c.error_class).where(attempts.c.id == last.scalar_subquery()).correlate(deliveries)
        query = query.where(ended.scalar_subquery() == chosen.error)
    return query


def about(chosen: Selection) -> list[sa.ColumnElement[bool]]:
    """What is chosen by the event, as conditions: by its repository, ref, pusher."""
    conditions: list[sa.ColumnElement[bool]] = []
    if chosen.repositories is not None:
        conditions.append(events.c.repository_id.in_(chosen.repositories))
    if chosen.ref:
        names = [chosen.ref, *(f"refs/{kind}/{chosen.ref}" for kind in ("heads", "tags"))]
        conditions.append(events.c.ref.in_(names))
    if chosen.pusher:
        conditions.append(events.c.pusher == chosen.pusher)
    return conditions


def _is(state: str) -> sa.ColumnElement[bool]:
    """Whether people see a delivery in this state; `shown_state` says which it is."""
    to_disabled = deliveries.c.endpoint_id.in_(sa.select(endpoints.c.id).where(endpoints.c.state == "disabled"))
    if state == "held":
        return sa.or_(deliveries.c.state == "held", sa.and_(deliveries.c.state.in_(("waiting", "aside")), to_disabled))
    if state in ("waiting", "aside"):
        return sa.and_(deliveries.c.state == state, ~to_disabled)
    return deliveries.c.state == state


def shown_state() -> sa.ColumnElement[str]:
    """A delivery's state as people see it, in a query that has its endpoint."""
    held = sa.and_(deliveries.c.state.in_(("waiting", "aside")), endpoints.c.state == "disabled")
    return sa.case((held, "held"), else_=deliveries.c.state)
