"""What people look at, and redelivery: under the old id, with the old body, in its old place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.errors import BadInput
from spooled import ATTEMPT, NOON, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def send(world: World, count: int = 1) -> list[str]:
    """Take that many heads for delivered; their ids."""
    sent = []
    for _ in range(count):
        work = world.store.lanes.claim(world.clock())
        assert work is not None
        world.store.lanes.delivered(work, ATTEMPT, world.clock())
        sent.append(work.delivery_id)
    return sent


class TestLists:
    def test_newest_first_and_only_what_was_asked_for(self, world: World) -> None:
        world.endpoint("one")
        world.endpoint("two")
        world.put("main:->A", "refs/tags/v1:->B", facts=["GL_USER=ann"])
        world.run()
        send(world)
        world.store.endpoints.disable(world.store.endpoints.get("two").id, "by hand")
        every = world.store.reports.deliveries()
        assert [(row.endpoint, row.ref, row.state) for row in every] == [
            ("two", "refs/tags/v1", "held"),
            ("one", "refs/tags/v1", "waiting"),
            ("two", "refs/heads/main", "held"),
            ("one", "refs/heads/main", "delivered"),
        ]
        assert world.store.reports.deliveries(limit=1) == every[:1]
        assert world.store.reports.deliveries(endpoint="one", state="delivered") == every[3:]
        assert world.store.reports.deliveries(endpoint="nobody") == []
        first = every[3]
        assert (first.old, first.new, first.pusher) == (world.ids["-"], world.ids["A"], "ann")
        assert (first.repository, first.created_at, first.finished_at) == (str(world.bare), NOON, NOON)
        assert world.store.reports.counts() == {"delivered": 1, "held": 2, "waiting": 1}

    def test_backlog(self, world: World) -> None:
        number = world.endpoint("one").id
        world.endpoint("idle", repositories=("none",))
        world.put("main:->A", "dev:->A")
        world.run()
        one, idle = world.store.reports.backlog()
        assert (one.name, one.waiting, one.oldest, one.next_try, one.failing_since) == ("one", 2, NOON, NOON, None)
        assert (idle.waiting, idle.oldest, idle.next_try) == (0, None, None)
        world.store.endpoints.disable(number, "by hand")
        assert world.store.reports.backlog()[0].next_try is None


class TestDelivery:
    def test_by_the_beginning_of_its_id(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        (row,) = world.store.reports.deliveries()
        assert world.store.reports.delivery(row.id[:4]).row == row

    @pytest.mark.parametrize("text", ["nothing", "%", "_", "\\", "'"])
    def test_one_that_is_not_there(self, world: World, text: str) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        with pytest.raises(BadInput, match="no delivery"):
            world.store.reports.delivery(text)

    def test_more_than_one(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A", "dev:->A")
        world.run()
        with pytest.raises(BadInput, match="more than one"):
            world.store.reports.delivery("")


class TestRedeliver:
    def test_keeps_id_and_content_and_goes_before_what_is_behind_it(self, world: World) -> None:
        world.endpoint()
        for move in ("main:->A", "main:A>B", "main:B>C"):
            world.put(move)
        world.run()
        first, second = send(world, 2)
        before = world.store.reports.delivery(first)
        row = world.store.reports.redeliver(first[:8], NOON)
        assert (row.id, row.state, row.finished_at) == (first, "waiting", None)
        after = world.store.reports.delivery(first)
        assert (after.payload, after.headers, after.signing) == (before.payload, before.headers, before.signing)
        assert after.attempts == before.attempts
        third = world.store.reports.deliveries()[0].id
        assert send(world, 2) == [first, third]
        assert world.store.reports.delivery(first).row.attempts == 2
        assert second not in {first, third}

    def test_wakes_a_lane_that_sleeps_without_using_up_its_schedule(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.lanes.retry(work, ATTEMPT, step=4, due_at=NOON + 3600, now=NOON, error="x")
        world.store.reports.redeliver(work.delivery_id, NOON)
        again = world.store.lanes.claim(NOON)
        assert again is not None
        assert (again.step, again.scheduled_at) == (4, NOON + 3600)

    def test_for_a_disabled_endpoint_is_held(self, world: World) -> None:
        number = world.endpoint().id
        world.put("main:->A")
        world.run()
        (sent,) = send(world)
        world.store.endpoints.disable(number, "by hand")
        assert world.store.reports.redeliver(sent, NOON).state == "held"
        assert world.store.lanes.claim(NOON) is None
        world.store.endpoints.enable(number, NOON)
        assert send(world) == [sent]
