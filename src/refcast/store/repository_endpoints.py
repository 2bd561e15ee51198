"""Endpoints that a repository's own configuration names: which there are, and one that is no longer named."""

from __future__ import annotations

import sqlalchemy as sa

from refcast.model import Endpoint
from refcast.store.database import Database
from refcast.store.endpoints import endpoint_of
from refcast.store.outcomes import put_back
from refcast.store.schema import deliveries, endpoints, lanes


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
            put_back(connection, lanes.c.endpoint_id == number)
            open_ones = deliveries.c.state.in_(("waiting", "held"))
            canceled = connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.endpoint_id == number, open_ones)
                .values(state="canceled", reason=reason, finished_at=now)
            )
            return canceled.rowcount
