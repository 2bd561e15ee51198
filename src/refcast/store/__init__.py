"""The store: endpoints, ledger, deliveries and attempts, in SQLite. The only room that knows SQLAlchemy.

What leaves it are the words of `model` and the frozen rows defined beside each query. Every method is one
transaction, or a row of short ones where it says so. It decides nothing: what a failure means is `retry`'s business,
when to ask is the worker's.

    store.repositories   the repositories and users that have a number, and the ledger of tips
    store.endpoints      where deliveries go
    store.own_endpoints  those that a repository's own configuration names
    store.intake         what ingest writes: events, contents, deliveries, records set aside
    store.lanes          what deliver reads and writes: a claim, an attempt and what followed
    store.reports        what people look at
    store.passed         which endpoints a push did not reach, and why
    store.following      what has just happened
    store.retention      what is forgotten, and when
    store.steering       what people do with deliveries: send again, cancel, release
"""

from __future__ import annotations

from pathlib import Path

from refcast.store.database import Database
from refcast.store.endpoints import Endpoints
from refcast.store.following import Following
from refcast.store.intake import Intake
from refcast.store.lanes import Lanes
from refcast.store.passed import Passed
from refcast.store.reports import Reports
from refcast.store.repositories import Repositories
from refcast.store.repository_endpoints import RepositoryEndpoints
from refcast.store.retention import Retention
from refcast.store.steering import Steering

FILE = "refcast.db"


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.repositories = Repositories(database)
        self.endpoints = Endpoints(database)
        self.own_endpoints = RepositoryEndpoints(database)
        self.intake = Intake(database)
        self.lanes = Lanes(database)
        self.reports = Reports(database)
        self.passed = Passed(database)
        self.following = Following(database)
        self.retention = Retention(database)
        self.steering = Steering(database)

    @classmethod
    def open(cls, state: Path, *, locked: bool = False) -> Store:
        """The store in a state directory, made if there is none. Raises StateError.

        One of an older version is brought up to this one if no worker runs; `locked` says that this process has the
        worker's lock."""
        return cls(Database.open(state / FILE, locked=locked))

    def close(self) -> None:
        self._database.close()

    def is_replaced(self) -> bool:
        """Whether another file stands in the place of the one that was opened: all but `reopen` raise StateError."""
        return self._database.is_replaced()

    def reopen(self) -> None:
        """Go on with the file that stands there now. Nobody may be at work with the old one. Raises StateError."""
        self._database.reopen()
        self.retention = Retention(self._database)  # a round that has begun knows the rows of the old one

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
