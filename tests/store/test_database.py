"""The database: private, of a known version, with transactions that queue, and errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store import FILE, Store, database, schema
from refcast.store.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


@pytest.fixture
def opened(path: Path) -> Iterator[Database]:
    made = Database.open(path)
    yield made
    made.close()


def note(opened: Database, key: str) -> None:
    with opened.write() as connection:
        connection.execute(sa.insert(schema.meta).values(key=key, value=""))


def notes(opened: Database) -> set[str]:
    with opened.read() as connection:
        return set(connection.execute(sa.select(schema.meta.c.key)).scalars()) - {"version"}


def files(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}


class TestFiles:
    def test_are_the_owners_alone_whatever_the_umask(self, path: Path) -> None:
        before = os.umask(0)
        try:
            opened = Database.open(path)
            note(opened, "x")
            assert files(path) == dict.fromkeys([FILE, f"{FILE}-wal", f"{FILE}-shm"], 0o600)
            opened.close()
        finally:
            os.umask(before)

    def test_a_store_that_was_copied_with_another_mode_is_made_private_again(self, path: Path) -> None:
        Database.open(path).close()
        path.chmod(0o644)
        Database.open(path).close()
        assert files(path) == {FILE: 0o600}

    def test_opening_it_twice_in_one_process_drops_no_lock(self, path: Path, opened: Database) -> None:
        """POSIX drops a process's locks on a file when it closes any descriptor of it."""
        with opened.write() as connection:
            connection.execute(sa.insert(schema.meta).values(key="first", value=""))
            held = locks(path)
            assert held
            database._make_private(path)
            assert locks(path) == held

    def test_a_name_with_what_urls_mean_something_by(self, tmp_path: Path) -> None:
        state = tmp_path / "100%?x#y&mode=memory"
        state.mkdir()
        with Store.open(state):
            assert (state / FILE).exists()


def locks(path: Path) -> list[str]:
    inode = str(path.stat().st_ino)
    shared = path.with_name(f"{path.name}-shm")
    inodes = {inode, str(shared.stat().st_ino)}
    lines = Path("/proc/locks").read_text().splitlines()
    return sorted(
        " ".join(line.split()[1:])
        for line in lines
        if str(os.getpid()) in line.split() and {part.rpartition(":")[2] for part in line.split()} & inodes
    )


class TestSettings:
    def test_survive_a_power_cut_and_give_room_back(self, opened: Database) -> None:
        with opened.read() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "auto_vacuum", "foreign_keys")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "foreign_keys": 1}


class TestVersion:
    @pytest.mark.parametrize("version", [str(schema.VERSION + 1), "2.0", ""])
    def test_a_later_one_is_refused_and_left_as_it_is(self, path: Path, version: str) -> None:
        Database.open(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE meta SET value = ?", (version,))
            connection.execute("DROP TABLE attempt_deliveries")
        connection.close()
        with pytest.raises(StateError, match="upgrade refcast") as caught:
            Database.open(path)
        assert str(path) in str(caught.value)
        with sqlite3.connect(path) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        connection.close()
        assert "attempt_deliveries" not in tables

    def test_the_present_one_keeps_what_is_there(self, path: Path) -> None:
        first = Database.open(path)
        note(first, "kept")
        first.close()
        again = Database.open(path)
        assert notes(again) == {"kept"}
        again.close()


class TestTransactions:
    def test_an_error_undoes_all_of_it(self, opened: Database) -> None:
        with pytest.raises(ZeroDivisionError), opened.write() as connection:
            connection.execute(sa.insert(schema.meta).values(key="half", value=""))
            _ = 1 / 0
        assert notes(opened) == set()

    def test_a_reader_waits_for_no_writer_and_sees_nothing_half_done(self, opened: Database) -> None:
        with opened.write() as connection:
            connection.execute(sa.insert(schema.meta).values(key="coming", value=""))
            assert notes(opened) == set()
        assert notes(opened) == {"coming"}

    def test_writers_queue(self, opened: Database) -> None:
        """Each reads before it writes, which is what fails at once when a transaction begins deferred."""

        def count() -> None:
            for _ in range(10):
                with opened.write() as connection:
                    value = connection.execute(
                        sa.select(schema.meta.c.value).where(schema.meta.c.key == "n")
                    ).scalar_one()
                    connection.execute(
                        sa.update(schema.meta).where(schema.meta.c.key == "n").values(value=str(int(value) + 1))
                    )

        with opened.write() as connection:
            connection.execute(sa.insert(schema.meta).values(key="n", value="0"))
        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with opened.read() as connection:
            assert (
                connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "n")).scalar_one() == "80"
            )


class TestErrors:
    def test_a_store_that_another_program_holds(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "_BUSY_MS", 1)
        opened = Database.open(path)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match=r"is locked; another program holds it") as caught:
            note(opened, "x")
        assert str(path) in str(caught.value)
        Database.open(path).close()  # to look at it is possible still
        other.execute("ROLLBACK")
        note(opened, "x")
        other.close()
        opened.close()

    def test_a_full_disk(self, path: Path, opened: Database) -> None:
        with opened.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.insert(schema.meta).values(key="x", value="y" * 100_000))
        with pytest.raises(StateError, match=r"is full; make room on its disk"), opened.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.execute(sa.insert(schema.meta).values(key="x", value="y" * 100_000))
        assert notes(opened) == set()

    def test_a_file_that_is_no_database(self, path: Path) -> None:
        path.write_bytes(b"what is this" * 1000)
        with pytest.raises(StateError, match=r"not a database; stop the worker, and put a copy"):
            Database.open(path)

    def test_a_damaged_one(self, path: Path) -> None:
        opened = Database.open(path)
        for number in range(100):
            note(opened, f"{number}{'x' * 500}")
        opened.close()
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with pytest.raises(StateError, match="malformed"):
            Database.open(path)

    def test_no_directory_for_it(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="No such file or directory; run this as its owner"):
            Store.open(tmp_path / "nowhere")

    def test_a_directory_in_its_place(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(StateError, match="cannot be used"):
            Database.open(path)

    def test_say_no_values(self, opened: Database) -> None:
        """A value may be a secret."""
        with pytest.raises(sa.exc.IntegrityError) as caught, opened.write() as connection:
            for _ in range(2):
                connection.execute(sa.insert(schema.meta).values(key="hunter2", value="hunter2"))
        assert "hunter2" not in str(caught.value)
