"""A look at a store's file, which changes nothing."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from refcast.model import Endpoint
from refcast.store import FILE, Store, health

ENDPOINT = Endpoint(0, "ci", "http://127.0.0.1:9/", "codeup", "json", secret="new")


def test_one_in_good_health(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    found = health.look(tmp_path / FILE, 10)
    assert found == health.Health(health.VERSION, whole=True)


def test_while_it_is_in_use(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, store._database.write():
        assert health.look(tmp_path / FILE, 10).whole


def test_one_that_another_program_holds_is_not_called_damaged(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    found = health.look(tmp_path / FILE, 10)
    other.close()
    assert (found.damage, found.whole) == ("", False)


def test_no_store_and_none_of_refcast(tmp_path: Path) -> None:
    assert "unable to open" in health.look(tmp_path / FILE, 10).damage
    assert not (tmp_path / FILE).exists()
    sqlite3.connect(tmp_path / "other.db").close()
    assert health.look(tmp_path / "other.db", 10) == health.Health(None, whole=True)


@pytest.mark.parametrize("name", ["a?b#c%20.db", "two words.db"])
def test_a_name_that_means_something_in_a_url(tmp_path: Path, name: str) -> None:
    Store.open(tmp_path).close()
    (tmp_path / FILE).rename(tmp_path / name)
    assert health.look(tmp_path / name, 10).whole


def test_no_more_time(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for number in range(3):
            store.repositories.add(f"/srv/{number}", {f"refs/heads/{n}": "0" * 40 for n in range(3000)}, 0.0)
    found = health.look(tmp_path / FILE, 0)
    assert (found.damage, found.whole) == ("", False)


def test_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(os.urandom(10_000))
    assert health.look(tmp_path / FILE, 10).damage == "file is not a database"


def test_secrets_whose_time_is_over_are_forgotten(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for name, until in (("over", 100.0), ("in-force", 300.0), ("none", 0.0)):
            old = "old" if until else ""
            store.endpoints.add(replace(ENDPOINT, name=name, old_secret=old, old_secret_until=until), 0.0)
        store.endpoints.forget_old_secrets(200.0)
        assert {one.name: (one.secret, one.old_secret) for one in store.endpoints.all()} == {
            "over": ("new", ""),
            "in-force": ("new", "old"),
            "none": ("new", ""),
        }


def test_retention_forgets_them(tmp_path: Path) -> None:
    class Limits:
        days, size, waiting_days, waiting_size = 30.0, 10**9, 90.0, 10**9

    with Store.open(tmp_path) as store:
        store.endpoints.add(replace(ENDPOINT, old_secret="old", old_secret_until=100.0), 0.0)
        while store.retention.step(200.0, Limits()):
            pass
        (one,) = store.endpoints.all()
        assert (one.old_secret, one.old_secret_until) == ("", 0.0)
