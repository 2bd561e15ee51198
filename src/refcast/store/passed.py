"""Which endpoints announced moves have not reached, and why: by what ingest noted of their filters. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.schema import events, repositories
from refcast.store.selection import EVERY, Selection, about


@dataclass(frozen=True, slots=True)
class PassedOver:
    """One move of a ref that some endpoints did not want."""

    id: int
    """The event's number."""
    repository: str
    """The resolved path."""
    kind: str
    ref: str
    old: str
    new: str
    pusher: str
    received_at: float
    reasons: dict[str, list[str]]
    """Why, by the names that the endpoints had then."""


class Passed:
    def __init__(self, database: Database) -> None:
        self._database = database

    def over(self, chosen: Selection = EVERY, *, before: int | None = None, limit: int = 50) -> list[PassedOver]:
        """The newest moves of what is chosen that some endpoint (or the chosen one) did not want, newest first; with
        `before`, of those older than this event. Times are those at which the pushes were received."""
        # The same function in SQLite and PostgreSQL: a row for each key.
        names = sa.func.json_each(events.c.passed_over).table_valued("key").alias("names")
        some = sa.select(names.c.key)
        if chosen.endpoint:
            some = some.where(names.c.key == chosen.endpoint)
        query = (
            sa.select(
                events.c.id,
                repositories.c.path.label("repository"),
                events.c.kind,
                events.c.ref,
                events.c.old,
                events.c.new,
                events.c.pusher,
                events.c.received_at,
                events.c.passed_over.label("reasons"),
            )
            .join(repositories, repositories.c.id == events.c.repository_id)
            .where(some.exists(), *about(chosen))
            .order_by(events.c.id.desc())
            .limit(limit)
        )
        if chosen.since is not None:
            query = query.where(events.c.received_at >= chosen.since)
        if chosen.until is not None:
            query = query.where(events.c.received_at < chosen.until)
        if before is not None:
            query = query.where(events.c.id < before)
        with self._database.read() as connection:
            found = [PassedOver(**row._mapping) for row in connection.execute(query)]
        if chosen.endpoint:
            for one in found:
                for name in one.reasons.keys() - {chosen.endpoint}:
                    del one.reasons[name]
        return found
