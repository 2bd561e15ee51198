"""From an older version of the tables to this one. Every step is one transaction's part: all of them hold, or none.

A program reads stores of every version before its own; one of a later version it refuses. While a worker runs the
tables stay as they are: one that is older than they could neither read them nor note what it has just sent.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from refcast.errors import StateError

WORKER_LOCK = "worker.lock"
"""Beside the store; whoever holds a lock on it is the worker."""

STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE repositories ADD COLUMN swept_at FLOAT",
        "ALTER TABLE repositories ADD COLUMN sweep_asked_at FLOAT",
        "ALTER TABLE repositories ADD COLUMN sweep_found JSON",
        "ALTER TABLE events ADD COLUMN place BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE events ADD COLUMN passed_over JSON NOT NULL DEFAULT '{}'",
        # They were shell patterns, in which a star did not stop at a slash.
        "UPDATE endpoints SET repositories = replace(repositories, '*', '**')",
        "ALTER TABLE endpoints ADD COLUMN branches JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN tags JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN paths JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN pushers JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN skips JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN answer FLOAT NOT NULL DEFAULT 0",
        "ALTER TABLE endpoints ADD COLUMN secret_file BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE endpoints ADD COLUMN schedule JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE endpoints ADD COLUMN tries INTEGER",
        "ALTER TABLE endpoints ADD COLUMN rejects BOOLEAN",
        "ALTER TABLE endpoints ADD COLUMN max_events INTEGER",
        "ALTER TABLE endpoints ADD COLUMN on_failure INTEGER REFERENCES endpoints (id)",
        "ALTER TABLE endpoints ADD COLUMN proxy TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE endpoints ADD COLUMN ca_file BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE endpoints ADD COLUMN client_cert BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE endpoints ADD COLUMN client_key BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE endpoints ADD COLUMN origin INTEGER REFERENCES repositories (id)",
        "ALTER TABLE lanes ADD COLUMN aside INTEGER",
        "ALTER TABLE lanes ADD COLUMN at_fault BOOLEAN NOT NULL DEFAULT 0",
        "ALTER TABLE lanes ADD COLUMN batch_limit INTEGER",
        "ALTER TABLE deliveries ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE deliveries ADD COLUMN asked_at FLOAT",
        "CREATE INDEX contents_by_event ON contents (event_id)",
        "CREATE INDEX deliveries_by_age ON deliveries (state, finished_at)",
    ),
}
"""What turns the tables of a version into those of the next, but for tables that are new as a whole."""


def upgrade(connection: sa.Connection, version: int, to: int) -> None:
    """Change the tables from `version`, step by step, within the transaction at hand."""
    for step in range(version, to):
        for statement in STEPS[step]:
            connection.exec_driver_sql(statement)


@contextmanager
def no_worker(store: Path, why: str) -> Iterator[None]:
    """Within it no worker runs for a store, nor starts. Raises StateError if one does, saying `why` it
    must not, and what ends it."""
    try:
        descriptor = os.open(store.with_name(WORKER_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"cannot lock {store.parent}: {error.strerror}; run this as its owner") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StateError(f"the store {store} {why}") from None
    finally:
        os.close(descriptor)
