"""Claims: which lane is served next, and all that sending its head needs.

A lane is claimed, not a delivery: one request of a lane is in flight at a time, and its head goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from refcast.model import Endpoint
from refcast.store.endpoints import endpoint_from
from refcast.store.prepared import Prepared, Reader
from refcast.store.schema import contents, deliveries, endpoints, lanes

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
    failing_since: float | None
    """None when the lane's last try succeeded."""
    last_error: str
    aside: int | None
    """The position in whose place this one is tried."""
    at_fault: bool
    batch_limit: int | None
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


def _due(*more: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The lane that has been due longest and has something to send."""
    return (
        sa.select(lanes.c.id)
        .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
        .where(~lanes.c.claimed, lanes.c.due_at <= sa.bindparam("now"), endpoints.c.state == "active", WAITING, *more)
        .order_by(lanes.c.due_at, lanes.c.id)
        .limit(1)
    )


WAITING = sa.exists().where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "waiting")
"""Something waits in a lane."""

DUE = {
    None: _due(),
    False: _due(lanes.c.failing_since.is_(None)),
    True: _due(lanes.c.failing_since.is_not(None)),
}
"""By whether the lane's last try failed; None for either."""

CLAIM = Prepared(
    sa.update(lanes)
    .where(lanes.c.id == sa.bindparam("lane"), ~lanes.c.claimed, lanes.c.due_at <= sa.bindparam("now"))
    .values(claimed=True)
)
"""Claim a lane, unless another has been faster."""

_HEAD_COLUMNS: dict[str, sa.Column[Any]] = {
    "position": deliveries.c.position,
    "delivery_id": deliveries.c.id,
    "headers": deliveries.c.headers,
    "content_type": deliveries.c.content_type,
    "signing": deliveries.c.signing,
    "payload": contents.c.payload,
    "dialect": contents.c.dialect,
    "lane_id": lanes.c.id,
    "due_at": lanes.c.due_at,
    "step": lanes.c.step,
    "scheduled_at": lanes.c.scheduled_at,
    "failing_since": lanes.c.failing_since,
    "last_error": lanes.c.last_error,
    "aside": lanes.c.aside,
    "at_fault": lanes.c.at_fault,
    "batch_limit": lanes.c.batch_limit,
}
_HEAD_NAMES = tuple(_HEAD_COLUMNS)
_HEAD_READER = Reader(_HEAD_COLUMNS.values())
_ENDPOINT_NAMES = tuple(column.name for column in endpoints.c)
_ENDPOINT_READER = Reader(endpoints.c)

HEAD = Prepared(
    sa.select(*_HEAD_COLUMNS.values(), *endpoints.c)
    .select_from(lanes)
    .join(endpoints, endpoints.c.id == lanes.c.endpoint_id)
    .join(deliveries, deliveries.c.lane_id == lanes.c.id)
    .join(contents, contents.c.id == deliveries.c.content_id)
    .where(lanes.c.id == sa.bindparam("lane"), deliveries.c.state == "waiting", endpoints.c.state == "active")
    .order_by(deliveries.c.position)
    .limit(1)
)
"""The first that waits in a lane, with its endpoint, which must not be disabled."""

BEHIND = (
    sa.select(
        deliveries.c.position,
        deliveries.c.id,
        deliveries.c.content_type,
        deliveries.c.signing,
        contents.c.payload,
        contents.c.dialect,
    )
    .join(contents, contents.c.id == deliveries.c.content_id)
    .where(
        deliveries.c.lane_id == sa.bindparam("lane"),
        deliveries.c.state == "waiting",
        deliveries.c.position > sa.bindparam("head"),
    )
    .order_by(deliveries.c.position)
    .limit(sa.bindparam("most"))
)
"""What waits behind the head of a lane, in order."""


def work_of(connection: sa.Connection, lane_id: int, now: float, batching: Collection[str]) -> Work | None:
    """The head of a claimed lane, with what goes along if it is in one of the dialects `batching`; None if nothing
    waits or is due, or its endpoint is disabled."""
    rows = HEAD.run(connection, lane=lane_id).fetchall()
    if not rows:
        return None
    width = len(_HEAD_NAMES)
    head = dict(zip(_HEAD_NAMES, _HEAD_READER.read(rows[0][:width]), strict=True))
    if head.pop("due_at") > now:
        return None
    work = Work(endpoint=_endpoint(rows[0][width:]), **head)
    return replace(work, further=_further(connection, work)) if work.dialect in batching else work


@lru_cache(maxsize=256)
def _endpoint(row: tuple[Any, ...]) -> Endpoint:
    """The Endpoint of the driver's row: the same one for as long as nobody changes what is stored."""
    return endpoint_from(dict(zip(_ENDPOINT_NAMES, _ENDPOINT_READER.read(row), strict=True)))


def grown(limit: int | None) -> int | None:
    """How many go into one request after one has arrived; None for all that may."""
    return 2 * limit if limit is not None and 2 * limit < BATCH_COUNT else None


def _further(connection: sa.Connection, head: Work) -> tuple[Further, ...]:
    """What waits behind a head and can go with it: what is sent and signed in the same way, within bounds."""
    most = min(BATCH_COUNT, head.batch_limit or BATCH_COUNT) - 1
    alike = (head.dialect, head.content_type, head.signing)
    size = len(head.payload)
    further = []
    for row in connection.execute(BEHIND, {"lane": head.lane_id, "head": head.position, "most": most}):
        size += len(row.payload)
        if size > BATCH_BYTES or (row.dialect, row.content_type, row.signing) != alike:
            break
        further.append(Further(row.position, row.id, row.payload))
    return tuple(further)
