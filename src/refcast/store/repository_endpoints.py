"""Endpoints that a repository's own configuration names: which there are, and one that is no longer named."""

from __future__ import annotations

import sqlalchemy as sa

from refcast.model import Endpoint
from refcast.store.database import Database
from refcast.store.endpoints import endpoint_of
from refcast.store.schema import deliveries, endpoints, lanes
from refcast.store.selection import LEFT


class RepositoryEndpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, repository_id: int) -> list[Endpoint]:
        """Those of one repository, in the order in which they were added."""
        query = sa.select(endpoints).where(endpoints.c.origin == repository_id).order_by(endpoints.c.id)
        with self._database.read() as connection:
            return [endpoint_of(row) for row in connection.execute(query)]

    def retire(self, number: int, reason: str, now: float) -> int:
        """Disable one and cancel what was to be sent to it, both with the reason. How many deliveries that were."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(endpoints).where(endpoints.c.id == number).values(state="disabled", reason=reason)
            )
            mine = sa.select(lanes.c.id).where(lanes.c.endpoint_id == number)
            # By the lane: that has an index.
            canceled = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.lane_id.in_(mine), deliveries.c.state.in_(LEFT))
                .values(state="canceled", reason=reason, finished_at=now)
            )
            # What had stepped aside there is not to be judged any more.
            connection.execute(sa.update(lanes).where(lanes.c.endpoint_id == number).values(aside=None, at_fault=False))
            return canceled.rowcount
