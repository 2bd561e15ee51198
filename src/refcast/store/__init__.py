"""The store: endpoints, ledger, deliveries and attempts, in SQLite. The only room that knows SQLAlchemy.

What leaves it are the words of `model` and the frozen rows defined beside each query. Every method is one
transaction. It decides nothing: what a failure means is `retry`'s business, when to ask is the worker's.

    store.repositories   the repositories and users that have a number, and the ledger of tips
    store.endpoints      where deliveries go
    store.intake         what ingest writes: events, contents, deliveries, records set aside
    store.lanes          what deliver reads and writes: a claim, an attempt and what followed
    store.reports        what people look at
"""

from __future__ import annotations

from pathlib import Path

from refcast.store.database import Database
from refcast.store.endpoints import Endpoints
from refcast.store.intake import Intake
from refcast.store.lanes import Lanes
from refcast.store.reports import Reports
from refcast.store.repositories import Repositories

FILE = "refcast.db"


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.repositories = Repositories(database)
        self.endpoints = Endpoints(database)
        self.intake = Intake(database)
        self.lanes = Lanes(database)
        self.reports = Reports(database)

    @classmethod
    def open(cls, state: Path) -> Store:
        """The store in a state directory, made if there is none. Raises StateError."""
        return cls(Database.open(state / FILE))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
