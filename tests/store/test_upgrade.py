"""A store of an older version is brought up to date: nothing is lost, and the tables are those of a new one."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refcast.errors import StateError
from refcast.store import FILE, Store, schema
from refcast.store.upgrade import STEPS

GOLDEN = Path(__file__).parents[1] / "golden"

KILLED_AT = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from refcast.store import Store

left = int(sys.argv[2])

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    global left
    if statement.startswith(("ALTER", "CREATE", "UPDATE", "INSERT")):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

Store.open(Path(sys.argv[1])).close()
"""


def old_store(state: Path, version: int = 1) -> Path:
    """A store as that version made it, with rows in every table."""
    path = state / FILE
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / f"store-{version}.sql").read_text())
    connection.close()
    return path


def look(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def tables(path: Path) -> dict[str, Any]:
    """What each table is, whatever the order of its columns."""
    found: dict[str, Any] = {}
    for name, sql in look(
        path, "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name != 'sqlite_sequence'"
    ):
        columns = {
            (column, kind, required, default, key)
            for _, column, kind, required, default, key in look(path, f"PRAGMA table_info({name})")
        }
        links = {row[2:5] for row in look(path, f"PRAGMA foreign_key_list({name})")}
        indexes = set()
        for _, index, unique, origin, partial in look(path, f"PRAGMA index_list({name})"):
            parts = tuple(row[2:5] for row in look(path, f"PRAGMA index_xinfo({index})"))
            text = "".join(sql or "" for (sql,) in look(path, f"SELECT sql FROM sqlite_master WHERE name = '{index}'"))
            where = re.sub(r"\s+", " ", text.partition("WHERE")[2])
            indexes.add((index if origin == "c" else origin, unique, partial, parts, where))
        found[name] = (columns, links, indexes, "AUTOINCREMENT" in sql, "WITHOUT ROWID" in sql)
    return found


def rows(path: Path, table: str, names: list[str]) -> list[tuple[Any, ...]]:
    return sorted(look(path, f"SELECT {', '.join(names)} FROM {table}"), key=repr)


def columns(path: Path) -> dict[str, list[str]]:
    named = look(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'sqlite_sequence'")
    return {name: [row[1] for row in look(path, f"PRAGMA table_info({name})")] for (name,) in named}


def test_every_older_version_has_its_step_and_its_golden_store() -> None:
    assert list(STEPS) == list(range(1, schema.VERSION))
    assert all((GOLDEN / f"store-{version}.sql").exists() for version in STEPS)


@pytest.mark.parametrize("version", STEPS)
class TestUpgrade:
    def test_ends_with_the_tables_of_a_new_store(self, tmp_path: Path, version: int) -> None:
        path = old_store(tmp_path, version)
        (tmp_path / "new").mkdir()
        Store.open(tmp_path).close()
        Store.open(tmp_path / "new").close()
        assert tables(path) == tables(tmp_path / "new" / FILE)
        assert look(path, "PRAGMA foreign_key_check") == []
        assert look(path, "PRAGMA integrity_check") == [("ok",)]
        assert look(path, "SELECT value FROM meta WHERE key = 'version'") == [(str(schema.VERSION),)]

    def test_keeps_every_row(self, tmp_path: Path, version: int) -> None:
        path = old_store(tmp_path, version)
        names = columns(path)
        before = {table: rows(path, table, names[table]) for table in names if table != "meta"}
        assert all(before.values()), "the golden store has rows in every table"
        patterns = names["endpoints"].index("repositories")  # in which a star did not stop at a slash
        before["endpoints"] = [
            (*row[:patterns], row[patterns].replace("*", "**"), *row[patterns + 1 :]) for row in before["endpoints"]
        ]
        Store.open(tmp_path).close()
        assert {table: rows(path, table, names[table]) for table in before} == before

    def test_what_it_holds_can_be_used(self, tmp_path: Path, version: int) -> None:
        old_store(tmp_path, version)
        with Store.open(tmp_path) as store:
            assert {endpoint.name: endpoint.secret for endpoint in store.endpoints.all()}["ci"] == "s3cret"
            listed = store.reports.deliveries(limit=1000)
            assert {row.state for row in listed} == {"delivered", "waiting", "held"}
            assert all(store.reports.delivery(row.id).payload for row in listed)
            store.lanes.release_all()
            work = store.lanes.claim(1_800_000_000.0)
            assert work is not None
            store.retention.step(1_800_000_000.0, _Limits())

    def test_one_that_is_killed_half_way_leaves_the_old_store_whole(self, tmp_path: Path, version: int) -> None:
        path = old_store(tmp_path, version)
        before, names = tables(path), columns(path)
        content = {table: rows(path, table, names[table]) for table in names}
        statements = len(STEPS[version]) + 2
        for number in (1, 2, statements // 2, statements - 2, statements - 1, statements):
            killed = subprocess.run([sys.executable, "-c", KILLED_AT, tmp_path, str(number)], check=False)
            assert killed.returncode == -signal.SIGKILL
            assert tables(path) == before
            assert {table: rows(path, table, names[table]) for table in names} == content
        Store.open(tmp_path).close()
        assert tables(path) != before


class _Limits:
    days = 30.0
    size = 10**9
    waiting_days = 90.0
    waiting_size = 10**9


def test_the_version_after_this_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    path = old_store(tmp_path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE meta SET value = ?", (str(schema.VERSION + 1),))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=f"is of version {schema.VERSION + 1}.*upgrade refcast"):
        Store.open(tmp_path)
    assert tables(path) == tables(old_store(_made(tmp_path / "same")))
    assert len(path.read_bytes()) == len(before)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_two_programs_that_upgrade_at_once(tmp_path: Path) -> None:
    """The second finds it done: each looks at the version again when it holds the right to write."""
    path = old_store(tmp_path)
    opening = f"from pathlib import Path; from refcast.store import Store; Store.open(Path({str(tmp_path)!r})).close()"
    both = [subprocess.Popen([sys.executable, "-c", opening], env=dict(os.environ)) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert look(path, "PRAGMA integrity_check") == [("ok",)]
