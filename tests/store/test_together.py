"""Write transactions of several threads in one: each gets what is its own, and only what failed is undone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store.database import Database
from refcast.store.schema import meta
from refcast.store.together import Together


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "x.db")
    yield opened
    opened.close()


def put(key: str, connection: sa.Connection) -> str:
    connection.execute(sa.insert(meta).values(key=key, value="x"))
    return key


def fail(connection: sa.Connection) -> None:
    put("never", connection)
    raise KeyError("a bug")


def keys(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(sa.select(meta.c.key)).scalars()) - {"version"}


class Crowd:
    """Threads that all come while the first is at work, so that one transaction takes the rest."""

    def __init__(self, together: Together) -> None:
        self.together = together
        self.came: dict[str, object] = {}
        self.transactions: list[set[str]] = []

    def run(self, names: list[str], broken: str = "", fault: Exception | None = None) -> None:
        inside, go = threading.Event(), threading.Event()

        def first(connection: sa.Connection) -> str:
            inside.set()
            assert go.wait(30)
            return put("first", connection)

        def other(name: str) -> None:
            def do(connection: sa.Connection) -> str:
                put(name, connection)
                if name == broken and fault is not None:
                    raise fault
                return name

            try:
                self.came[name] = self.together.write(do)
            except Exception as error:
                self.came[name] = error

        threads = [threading.Thread(target=self.together.write, args=(first,))]
        threads[0].start()
        assert inside.wait(30)
        threads += [threading.Thread(target=other, args=(name,)) for name in names]
        for thread in threads[1:]:
            thread.start()
        while len(self.together._waiting) < len(names):
            pass
        go.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


NAMES = [f"k{number}" for number in range(7)]


def test_alone(database: Database) -> None:
    together = Together(database)
    assert together.write(lambda connection: put("a", connection)) == "a"
    with pytest.raises(KeyError):
        together.write(fail)
    assert together.write(lambda connection: put("b", connection)) == "b"
    assert keys(database) == {"a", "b"}


def test_several_share_a_commit_and_each_has_its_own_result(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    sa.event.listen(database._engine, "commit", lambda _: commits.append(1))
    crowd = Crowd(Together(database))
    crowd.run(NAMES)
    assert crowd.came == {name: name for name in NAMES}
    assert keys(database) == {"first", *NAMES}
    assert len(commits) == 2 + 1  # and this test's own look


def test_more_than_one_transaction_takes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refcast.store.together.MOST", 3)
    crowd = Crowd(Together(database))
    crowd.run(NAMES)
    assert keys(database) == {"first", *NAMES}


def test_one_that_fails_undoes_no_other(database: Database) -> None:
    fault = KeyError("a bug")
    crowd = Crowd(Together(database))
    crowd.run(NAMES, "k3", fault)
    assert crowd.came == {name: fault if name == "k3" else name for name in NAMES}
    assert keys(database) == {"first", *NAMES} - {"k3"}


def test_a_store_that_fails_fails_for_all_at_once(database: Database) -> None:
    fault = StateError("database or disk is full")
    crowd = Crowd(Together(database))
    crowd.run(NAMES, "k3", fault)
    assert set(crowd.came.values()) == {fault}
    assert keys(database) == {"first"}
    assert crowd.together.write(lambda connection: put("later", connection)) == "later"


def test_threads_of_one_program_take_turns(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refcast.store.database._BUSY_MS", 1)
    with database.write(), pytest.raises(StateError, match="locked; another program holds it"), database.write():
        pass
    with database.write() as connection:
        put("a", connection)
