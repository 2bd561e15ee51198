"""Repositories, users and the ledger: numbers that stay, names that lose no byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.store import Store
from refcast.store.repositories import Found, Sweepable

A, B = "a" * 40, "b" * 40
ODD = os.fsdecode(b"/srv/caf\xe9\xff.git")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


class TestRepositories:
    def test_have_a_number_that_stays(self, store: Store) -> None:
        first = store.repositories.add("/srv/one.git", {"refs/heads/main": A}, 1.0)
        second = store.repositories.add("/srv/two.git", {}, 1.0)
        assert first != second
        assert store.repositories.find("/srv/one.git") == first
        assert store.repositories.find("/srv/three.git") is None
        assert store.repositories.paths() == {"/srv/one.git": first, "/srv/two.git": second}

    def test_one_that_is_known_keeps_its_ledger_unless_afresh(self, store: Store) -> None:
        number = store.repositories.add("/srv/one.git", {"refs/heads/main": A}, 1.0)
        assert store.repositories.add("/srv/one.git", {"refs/heads/main": B}, 2.0) == number
        assert store.repositories.tips(number) == {"refs/heads/main": A}
        assert store.repositories.add("/srv/one.git", {"refs/heads/new": B}, 2.0, afresh=True) == number
        assert store.repositories.tips(number) == {"refs/heads/new": B}

    def test_bytes_that_are_no_text_survive(self, store: Store) -> None:
        tips = {os.fsdecode(b"refs/heads/\xff\xfe"): A, "refs/heads/Ünï": B}
        number = store.repositories.add(ODD, tips, 1.0)
        assert store.repositories.find(ODD) == number
        assert store.repositories.paths() == {ODD: number}
        assert store.repositories.tips(number) == tips

    def test_a_ledger_of_very_many_refs(self, store: Store) -> None:
        tips = {f"refs/heads/{number}": A for number in range(10_000)}
        assert store.repositories.tips(store.repositories.add("/srv/one.git", tips, 1.0)) == tips


class TestUsers:
    def test_have_a_number_that_stays(self, store: Store) -> None:
        ann, ben = store.repositories.user_id("ann"), store.repositories.user_id("ben")
        assert 0 not in {ann, ben}
        assert ann != ben
        assert store.repositories.user_id("ann") == store.repositories.find_user("ann") == ann
        assert store.repositories.find_user("nobody") == 0


class TestSweeps:
    def test_what_is_noted(self, store: Store) -> None:
        number = store.repositories.add("/srv/a.git", {}, 10.0)
        (one,) = store.repositories.sweepable()
        assert one == Sweepable(number, "/srv/a.git", watched=True, swept_at=10.0, asked_at=None, found=None)
        store.repositories.ask_sweep(number, 19.0)
        found = Found(2, 1, ("refs/heads/caf\udce9", "refs/heads/b"))
        store.repositories.swept(number, found, began_at=20.0, now=21.0)
        (one,) = store.repositories.sweepable()
        assert (one.swept_at, one.asked_at, one.found) == (20.0, None, found)
        store.repositories.swept(number, Found(error="gone"), began_at=30.0, now=31.0)
        (one,) = store.repositories.sweepable()
        assert (one.swept_at, one.found) == (20.0, Found(error="gone"))

    def test_what_is_asked_meanwhile_stays_asked_unless_it_lies_ahead(self, store: Store) -> None:
        number = store.repositories.add("/srv/a.git", {}, 10.0)
        for asked_at, left in ((20.5, 20.5), (21.5, None)):
            store.repositories.ask_sweep(number, asked_at)
            store.repositories.swept(number, Found(), began_at=20.0, now=21.0)
            (one,) = store.repositories.sweepable()
            assert one.asked_at == left
