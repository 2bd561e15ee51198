"""Statements that the driver runs as SQLAlchemy would: the same values go in and out, and errors have our names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store import schema
from refcast.store.database import Database
from refcast.store.prepared import Prepared, Reader

VALUES = {
    "id": 7,
    "path": "/srv/git/\udce9t\udce9.git",
    "added_at": 1.5,
    "watched": True,
    "swept_at": None,
    "sweep_asked_at": 2,
    "sweep_found": {"ré": [1, None]},
}
"""A number, bytes that are no UTF-8, a time, a flag, nothing, a whole number as a time, JSON."""

COLUMNS = schema.repositories.c
INSERT = Prepared(sa.insert(schema.repositories).values({name: sa.bindparam(name) for name in VALUES}))
SELECT = Prepared(sa.select(schema.repositories).where(COLUMNS.id == sa.bindparam("number"), COLUMNS.watched))
FORGET = Prepared(
    sa.update(schema.repositories).where(COLUMNS.id == sa.bindparam("number")).values(watched=False, sweep_found=None)
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "x.db")
    yield opened
    opened.close()


def test_what_it_writes_is_what_sqlalchemy_reads(database: Database) -> None:
    with database.write() as connection:
        INSERT.run(connection, **VALUES)
    with database.read() as connection:
        assert dict(connection.execute(sa.select(schema.repositories)).one()._mapping) == VALUES


def test_what_sqlalchemy_writes_is_what_it_reads(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.insert(schema.repositories).values(VALUES))
    with database.read() as connection:
        [row] = SELECT.run(connection, number=7).fetchall()
        assert SELECT.run(connection, number=8).fetchall() == []
    assert dict(zip(COLUMNS.keys(), Reader(COLUMNS).read(row), strict=True)) == VALUES


def test_values_that_never_change_are_in_the_statement(database: Database) -> None:
    with database.write() as connection:
        INSERT.run(connection, **VALUES)
        assert [FORGET.run(connection, number=number).rowcount for number in (7, 8)] == [1, 0]
        assert SELECT.run(connection, number=7).fetchall() == []


def test_a_value_that_is_missing_is_not_taken_for_nothing(database: Database) -> None:
    with database.write() as connection, pytest.raises(KeyError, match="number"):
        FORGET.run(connection)


def test_it_is_undone_with_its_transaction(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        INSERT.run(connection, **VALUES)
        raise ZeroDivisionError
    with database.read() as connection:
        assert SELECT.run(connection, number=7).fetchall() == []


def test_what_the_database_cannot_do_is_a_state_error(database: Database) -> None:
    with pytest.raises(StateError, match=r"readonly.*may be mounted read-only"), database.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        try:
            INSERT.run(connection, **VALUES)
        finally:
            connection.exec_driver_sql("PRAGMA query_only=OFF")


def test_what_the_statement_should_not_have_done_is_a_bug(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        INSERT.run(connection, **VALUES)
        INSERT.run(connection, **VALUES)
