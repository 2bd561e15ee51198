"""Notices: what one endpoint is told of the health of another. A content without an event, and its one delivery.

They are stored within the transaction that changes the health, so that each change is told of once.
"""

from __future__ import annotations

import sqlalchemy as sa

from refcast.store.intake import NewContent, nudge, open_windows
from refcast.store.schema import contents, deliveries, lanes


def put_notice(connection: sa.Connection, notice: NewContent, now: float) -> None:
    """Store a notice with its deliveries. One for an endpoint that has been removed goes nowhere."""
    for delivery in notice.deliveries:
        lane_id = connection.execute(sa.select(lanes.c.id).where(lanes.c.endpoint_id == delivery.endpoint_id)).scalar()
        if lane_id is None:
            continue
        content = sa.insert(contents).values(dialect=notice.dialect, kind=notice.kind, payload=notice.payload)
        content_id = connection.execute(content.returning(contents.c.id)).scalar_one()
        if delivery.window:
            open_windows(connection, {lane_id: delivery.window}, now)
        connection.execute(
            sa.insert(deliveries).values(
                id=delivery.id,
                content_id=content_id,
                endpoint_id=delivery.endpoint_id,
                lane_id=lane_id,
                content_type=delivery.content_type,
                signing=delivery.signing,
                headers=dict(delivery.headers),
                state="waiting",
                created_at=now,
            )
        )
        nudge(connection, {lane_id}, now)
