"""Which events must be held because an earlier one of their ref is: the order of each ref is kept for each endpoint."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from refcast.store.schema import contents, deliveries, events, lanes


def held_behind(
    connection: sa.Connection, repository_id: int, place: str, refs: Collection[str]
) -> set[tuple[int, str]]:
    """Endpoint and ref, of these refs of one place, where a delivery is held."""
    # Of a ref with a long history only what was stored since the first held delivery is looked at.
    first = (
        sa.select(sa.func.min(deliveries.c.position))
        .where(deliveries.c.lane_id == lanes.c.id, deliveries.c.state == "held")
        .scalar_subquery()
    )
    oldest = (
        sa.select(sa.func.min(contents.c.event_id))
        .join(deliveries, deliveries.c.content_id == contents.c.id)
        .where(deliveries.c.position.in_(sa.select(first).select_from(lanes)))
    )
    since = connection.execute(oldest).scalar()
    if since is None:
        return set()
    query = (
        sa.select(deliveries.c.endpoint_id, events.c.ref)
        .distinct()
        .join(contents, contents.c.event_id == events.c.id)
        .join(deliveries, deliveries.c.content_id == contents.c.id)
        .where(
            events.c.repository_id == repository_id,
            events.c.place == place,
            events.c.ref.in_(refs),
            events.c.id >= since,
            deliveries.c.state == "held",
        )
    )
    return {(row.endpoint_id, row.ref) for row in connection.execute(query)}
