"""A copy of the store in use, the way back, and what is refused; tables stay as they are while a worker runs."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from refcast.errors import BadInput, StateError
from refcast.presence import Lock
from refcast.store import FILE, Store, schema
from refcast.store.backup import back_up, restore


def repositories(state: Path) -> list[str]:
    with Store.open(state) as store:
        return list(store.repositories.paths())


def add(store: Store, path: str) -> None:
    store.repositories.add(path, {}, 1.0, afresh=True)
    store.repositories.watch(path, watched=True)


class TestBackingUp:
    def test_a_store_in_use_is_copied_whole(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            add(store, "/a.git")
            # What was just written is in the write-ahead log, and not yet in the file.
            back_up(tmp_path / FILE, tmp_path / "copy.db")
            add(store, "/b.git")
        (tmp_path / "other").mkdir()
        (tmp_path / "copy.db").rename(tmp_path / "other" / FILE)
        assert repositories(tmp_path / "other") == ["/a.git"]

    def test_it_is_one_file_for_its_owner_alone(self, tmp_path: Path) -> None:
        Store.open(tmp_path).close()
        (tmp_path / "there").mkdir()
        back_up(tmp_path / FILE, tmp_path / "there" / "copy.db")
        (only,) = (tmp_path / "there").iterdir()
        assert stat.S_IMODE(only.stat().st_mode) == 0o600

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        Store.open(tmp_path).close()
        (tmp_path / "copy.db").write_text("mine")
        with pytest.raises(BadInput, match="is there already"):
            back_up(tmp_path / FILE, tmp_path / "copy.db")
        assert (tmp_path / "copy.db").read_text() == "mine"

    def test_a_place_that_is_none(self, tmp_path: Path) -> None:
        Store.open(tmp_path).close()
        with pytest.raises(StateError, match="cannot write"):
            back_up(tmp_path / FILE, tmp_path / "lost" / "copy.db")


class TestRestoring:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        with Store.open(tmp_path) as store:
            add(store, "/a.git")
            back_up(tmp_path / FILE, tmp_path / "copy.db")
            add(store, "/b.git")
        return tmp_path / "copy.db"

    def test_it_is_as_it_was_and_the_former_one_is_kept(self, tmp_path: Path, copy: Path) -> None:
        kept = restore(copy, tmp_path / FILE)
        assert repositories(tmp_path) == ["/a.git"]
        assert kept is not None
        (tmp_path / "former").mkdir()
        kept.rename(tmp_path / "former" / FILE)
        assert repositories(tmp_path / "former") == ["/a.git", "/b.git"]
        assert copy.exists()

    def test_a_damaged_store_is_replaced(self, tmp_path: Path, copy: Path) -> None:
        (tmp_path / FILE).write_bytes(b"no database")
        (tmp_path / f"{FILE}-wal").write_bytes(b"nor a log")
        restore(copy, tmp_path / FILE)
        assert repositories(tmp_path) == ["/a.git"]
        assert (tmp_path / f"{FILE}.before-restore").read_bytes() == b"no database"
        assert (tmp_path / f"{FILE}.before-restore-wal").read_bytes() == b"nor a log"

    def test_where_there_is_none(self, tmp_path: Path, copy: Path) -> None:
        (tmp_path / "new").mkdir()
        assert restore(copy, tmp_path / "new" / FILE) is None
        assert repositories(tmp_path / "new") == ["/a.git"]

    def test_not_while_a_worker_runs(self, tmp_path: Path, copy: Path) -> None:
        with Lock(tmp_path), pytest.raises(StateError, match="worker"):
            restore(copy, tmp_path / FILE)
        assert repositories(tmp_path) == ["/a.git", "/b.git"]

    @pytest.mark.parametrize("moment", range(4))
    def test_killed_between_two_renames(
        self, tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, moment: int
    ) -> None:
        """What stands in the store's place is whole at each moment, and nothing with secrets is left beside it."""
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        with Store.open(tmp_path) as store:
            add(store, "/c.git")
            for end in ("", "-wal"):  # as after a power cut: what was written last is in the log alone
                shutil.copy(tmp_path / f"{FILE}{end}", crashed)
        assert b"/c.git" in (crashed / f"{FILE}-wal").read_bytes()
        left = iter([moment])

        def until(real: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
            def rename(self: Path, target: Path) -> Path:
                nonlocal left
                number = next(left, 0)
                if number == 0:
                    raise KeyboardInterrupt
                left = iter([number - 1])
                return real(self, target)

            return rename

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(Path, "rename", until(Path.rename))
            patch.setattr(Path, "replace", until(Path.replace))
            restore(copy, crashed / FILE)
        assert repositories(crashed) in (["/a.git", "/b.git", "/c.git"], ["/a.git"])
        assert [path.name for path in crashed.glob(".*")] == []
        if "/b.git" in repositories(crashed):
            restore(copy, crashed / FILE)
        assert repositories(crashed) == ["/a.git"]

    def test_a_former_one_from_another_time_is_not_lost(self, tmp_path: Path, copy: Path) -> None:
        restore(copy, tmp_path / FILE)
        with pytest.raises(StateError, match="move it away"):
            restore(copy, tmp_path / FILE)
        assert repositories(tmp_path) == ["/a.git"]

    @pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4000)])
    def test_what_is_no_store_is_refused(self, tmp_path: Path, copy: Path, content: bytes) -> None:
        copy.write_bytes(content)
        with pytest.raises(BadInput, match=str(copy)) as caught:
            restore(copy, tmp_path / FILE)
        assert "\n" not in str(caught.value)
        assert repositories(tmp_path) == ["/a.git", "/b.git"]

    def test_one_of_a_later_version_is_refused(self, tmp_path: Path, copy: Path) -> None:
        set_version(copy, schema.VERSION + 1)
        with pytest.raises(BadInput, match="upgrade refcast"):
            restore(copy, tmp_path / FILE)


def set_version(store: Path, version: int) -> None:
    connection = sqlite3.connect(store)
    with connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (str(version),))
    connection.close()


class TestOlderAndNewer:
    def test_an_older_store_is_left_alone_while_a_worker_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Store.open(tmp_path).close()
        later = schema.VERSION + 1
        monkeypatch.setattr(schema, "VERSION", later)
        monkeypatch.setitem(steps(), later - 1, ("CREATE TABLE later (id INTEGER)",))
        with Lock(tmp_path):
            with pytest.raises(StateError, match="a worker of the program before still runs") as caught:
                Store.open(tmp_path)
            assert "\n" not in str(caught.value)
            assert version(tmp_path) == str(later - 1)
        Store.open(tmp_path).close()
        assert version(tmp_path) == str(later)

    def test_a_newer_store_is_refused(self, tmp_path: Path) -> None:
        Store.open(tmp_path).close()
        set_version(tmp_path / FILE, schema.VERSION + 1)
        with pytest.raises(StateError, match="upgrade refcast"):
            Store.open(tmp_path)


def steps() -> dict[int, tuple[str, ...]]:
    from refcast.store import upgrade

    return upgrade.STEPS


def version(state: Path) -> str:
    connection = sqlite3.connect(state / FILE)
    (value,) = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    connection.close()
    return str(value)
