"""What is stored of an event: lists as long as each endpoint wants them, contents shared where they are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refcast.settings import Settings
from refcast.store.selection import Selection
from spooled import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def announce(world: World, settings: Settings | None = None) -> None:
    world.put("main:->C")
    world.run(settings)


def payloads(world: World, name: str) -> list[Any]:
    rows = world.store.reports.deliveries(Selection(endpoint=name))
    return [json.loads(world.store.reports.delivery(row.id).payload) for row in rows]


def listed(world: World, name: str) -> list[str]:
    (payload,) = payloads(world, name)
    return [world.letters[commit["id"]] for commit in payload["commits"]]


def test_an_endpoint_may_list_fewer_and_the_total_stays_exact(world: World) -> None:
    world.endpoint("few", dialect="codeup", commits=1)
    world.endpoint("none", dialect="codeup", commits=0)
    world.endpoint("all", dialect="codeup")
    announce(world)
    assert (listed(world, "few"), listed(world, "none"), listed(world, "all")) == (["C"], [], ["A", "B", "C"])
    assert {payloads(world, name)[0]["total_commits_count"] for name in ("few", "none", "all")} == {3}


def test_an_endpoint_may_list_more_than_the_settings_say(world: World) -> None:
    world.endpoint("more", dialect="codeup", commits=3)
    world.endpoint("usual", dialect="codeup")
    announce(world, Settings(commits=2))
    assert (listed(world, "more"), listed(world, "usual")) == (["A", "B", "C"], ["B", "C"])


def test_what_is_the_same_is_stored_once(world: World) -> None:
    for name in ("one", "two"):
        world.endpoint(name, dialect="gogs")
    world.endpoint("three", dialect="gogs", commits=1)
    announce(world)
    assert world.sql("SELECT count(*) FROM contents") == [(4,)]
    assert world.sql("SELECT count(*) FROM deliveries") == [(6,)]


def test_what_names_the_endpoint_is_its_own(world: World) -> None:
    for name in ("one", "two"):
        world.endpoint(name, dialect="refcast")
    announce(world)
    (one,), (two,) = payloads(world, "one"), payloads(world, "two")
    assert one.pop("id") != two.pop("id")
    assert one == two


def test_each_endpoint_gets_its_requests_in_order(world: World) -> None:
    for name, limit in (("one", None), ("two", 1), ("three", None)):
        world.endpoint(name, dialect="gogs", commits=limit)
    announce(world)
    for name in ("one", "two", "three"):
        rows = world.store.reports.deliveries(Selection(endpoint=name))
        assert [row.kind for row in reversed(rows)] == ["create", "push"]
