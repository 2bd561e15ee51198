"""What people do with deliveries: sent again as they were and where they were; canceled; released."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.errors import BadInput
from refcast.store import steering
from refcast.store.selection import Selection
from refcast.store.steering import Share
from spooled import ATTEMPT, NOON, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def push(world: World, count: int = 1) -> list[str]:
    """So many branches, each a push of its own; the ids of their deliveries to all endpoints, in order."""
    first = len(world.sql("SELECT 1 FROM deliveries"))
    for each in range(count):
        world.put(f"b{first}x{each}:->A")
    world.run()
    return [row[0] for row in world.sql("SELECT id FROM deliveries WHERE position > ? ORDER BY position", first)]


def send(world: World, count: int) -> list[str]:
    """Take that many heads for delivered; their ids."""
    sent = []
    for _ in range(count):
        work = world.store.lanes.claim(world.clock())
        assert work is not None
        world.store.lanes.delivered(work, ATTEMPT, world.clock())
        sent.append(work.delivery_id)
    return sent


def put_state(world: World, states: dict[str, str]) -> None:
    """Have deliveries in states as ingest, delivery and retention leave them."""
    for one, state in states.items():
        finished_at = None if state in ("waiting", "aside", "held") else NOON
        world.sql(
            "UPDATE deliveries SET state = ?, finished_at = ?, reason = 'x' WHERE id = ?", state, finished_at, one
        )
        if state == "aside":
            world.sql("UPDATE lanes SET aside = (SELECT position FROM deliveries WHERE id = ?)", one)


def states(world: World) -> list[tuple[str, str]]:
    return [tuple(row) for row in world.sql("SELECT state, reason FROM deliveries ORDER BY position")]


def again(world: World, *ids: str, **more: object) -> int:
    return world.store.steering.redeliver(Selection(ids=ids, **more), world.clock())  # type: ignore[arg-type]


class TestRedeliver:
    def test_keeps_id_and_content_and_goes_before_what_is_behind_it(self, world: World) -> None:
        world.endpoint()
        first, second, third = push(world, 3)
        assert send(world, 2) == [first, second]
        before = world.store.reports.delivery(first)
        assert again(world, first[:8]) == 1
        after = world.store.reports.delivery(first)
        assert (after.row.state, after.row.finished_at) == ("waiting", None)
        assert (after.payload, after.headers, after.signing) == (before.payload, before.headers, before.signing)
        assert after.attempts == before.attempts
        assert send(world, 2) == [first, third]
        assert world.store.reports.delivery(first).row.attempts == 2

    @pytest.mark.parametrize("state", ["delivered", "refused", "canceled", "expired"])
    def test_everything_finished_can_be_sent_again_and_forgets_its_reason(self, world: World, state: str) -> None:
        world.endpoint()
        (one,) = push(world)
        put_state(world, {one: state})
        world.clock.now += 1000
        assert again(world, one) == 1
        assert states(world) == [("waiting", "")]
        assert world.sql("SELECT finished_at, asked_at FROM deliveries") == [(None, NOON + 1000)]
        assert send(world, 1) == [one]

    def test_a_whole_lane_from_a_point_in_order_whatever_the_steps(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steering, "STEP", 2)
        world.endpoint("ci")
        ids = push(world, 7)
        other = world.endpoint("other")
        assert send(world, 5) == ids[:5]
        put_state(world, {ids[3]: "refused"})
        assert world.store.steering.redeliver(Selection(start=ids[1]), NOON) == 4
        assert send(world, 6) == ids[1:]
        assert world.store.endpoints.waiting(other.id) == 0

    def test_all_or_none(self, world: World) -> None:
        world.endpoint()
        (one,) = push(world)
        send(world, 1)
        with pytest.raises(BadInput, match="no delivery 'x'"):
            again(world, one, "x")
        assert states(world) == [("delivered", "")]

    def test_wakes_a_lane_that_sleeps_without_using_up_its_schedule(self, world: World) -> None:
        world.endpoint()
        (one,) = push(world)
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.lanes.retry(work, ATTEMPT, step=4, due_at=NOON + 3600, now=NOON, error="x")
        assert again(world, one) == 0, "it waits already"
        found = world.store.lanes.claim(NOON)
        assert found is not None
        assert (found.delivery_id, found.step, found.scheduled_at) == (one, 4, NOON + 3600)

    def test_but_not_before_the_endpoint_has_asked_for_it(self, world: World) -> None:
        world.endpoint()
        first, _ = push(world, 2)
        send(world, 1)
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.lanes.retry(work, ATTEMPT, step=1, due_at=NOON + 3600, now=NOON, error="x", not_before=NOON + 900)
        assert again(world, first) == 1
        assert world.store.lanes.claim(NOON + 899) is None
        found = world.store.lanes.claim(NOON + 900)
        assert found is not None
        assert found.delivery_id == first

    def test_for_a_disabled_endpoint_is_held(self, world: World) -> None:
        number = world.endpoint().id
        (one,) = push(world)
        send(world, 1)
        world.store.endpoints.disable(number, "by hand")
        assert again(world, one) == 1
        assert world.store.reports.delivery(one).row.state == "held"
        assert world.store.steering.shares(Selection(endpoint="ci")) == [Share("ci", True, "waiting", 1)]
        assert world.store.lanes.claim(NOON) is None
        world.store.endpoints.enable(number, NOON)
        assert send(world, 1) == [one]

    def test_what_is_beyond_the_limit_of_a_push_stays_held(self, world: World) -> None:
        world.endpoint()
        (one,) = push(world)
        put_state(world, {one: "held"})
        assert again(world, one) == 0
        assert states(world) == [("held", "x")]

    def test_ends_a_probation(self, world: World) -> None:
        """What stepped aside was to be judged by the next; a person has put another there."""
        world.endpoint()
        first, second, third = push(world, 3)
        send(world, 1)
        put_state(world, {second: "aside"})
        assert again(world, first) == 1
        assert world.sql("SELECT aside FROM lanes") == [(None,)]
        assert send(world, 3) == [first, second, third]

    def test_an_empty_selection_is_nothing_to_be_afraid_of(self, world: World) -> None:
        world.endpoint()
        assert world.store.steering.redeliver(Selection(endpoint="ci"), NOON) == 0
        assert world.store.steering.shares(Selection(endpoint="ci")) == []


class TestCancel:
    def test_what_is_to_be_sent_or_asks_for_a_person(self, world: World) -> None:
        world.endpoint()
        ids = push(world, 7)
        before = ("waiting", "aside", "held", "refused", "expired", "delivered", "canceled")
        put_state(world, dict(zip(ids, before, strict=True)))
        assert world.store.steering.cancel(Selection(endpoint="ci"), NOON + 1, "no use") == 5
        assert states(world) == [("canceled", "no use")] * 5 + [("delivered", "x"), ("canceled", "x")]
        assert world.sql("SELECT aside FROM lanes") == [(None,)]
        assert world.store.lanes.claim(NOON + 1) is None
        assert world.sql("SELECT finished_at FROM deliveries ORDER BY position")[4:] == [(NOON + 1,), (NOON,), (NOON,)]

    def test_what_is_behind_it_is_tried_now(self, world: World) -> None:
        world.endpoint()
        poison, well = push(world, 2)
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.lanes.retry(work, ATTEMPT, step=6, due_at=NOON + 86400, now=NOON, error="x")
        assert world.store.steering.cancel(Selection(ids=(poison,)), NOON, "poison") == 1
        assert send(world, 1) == [well]

    def test_what_stepped_aside_is_not_lost_with_the_one_that_was_to_judge_it(self, world: World) -> None:
        world.endpoint()
        first, second = push(world, 2)
        put_state(world, {first: "aside"})
        world.store.steering.cancel(Selection(ids=(second,)), NOON, "x")
        assert send(world, 1) == [first]

    def test_a_request_that_is_under_way_and_arrives_counts(self, world: World) -> None:
        world.endpoint()
        (one,) = push(world)
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.steering.cancel(Selection(ids=(one,)), NOON, "too late")
        world.store.lanes.delivered(work, ATTEMPT, NOON)
        assert states(world) == [("delivered", "")]

    def test_a_request_that_is_under_way_and_fails_leaves_it_canceled(self, world: World) -> None:
        world.endpoint()
        (one,) = push(world)
        work = world.store.lanes.claim(NOON)
        assert work is not None
        world.store.steering.cancel(Selection(ids=(one,)), NOON, "enough")
        world.store.lanes.retry(work, ATTEMPT, step=1, due_at=NOON, now=NOON, error="x")
        assert states(world) == [("canceled", "enough")]
        assert world.store.lanes.claim(NOON) is None

    def test_one_lane_does_not_wake_another(self, world: World) -> None:
        world.endpoint("one")
        world.endpoint("two")
        push(world)
        for _ in range(2):
            work = world.store.lanes.claim(NOON)
            assert work is not None
            world.store.lanes.retry(work, ATTEMPT, step=1, due_at=NOON + 60, now=NOON, error="x")
        world.store.steering.cancel(Selection(endpoint="one"), NOON, "x")
        assert world.sql("SELECT due_at FROM lanes ORDER BY id") == [(NOON,), (NOON + 60,)]


class TestRelease:
    def test_in_order_and_in_its_place(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steering, "STEP", 2)
        number = world.endpoint().id
        ids = push(world, 6)
        put_state(world, dict.fromkeys(ids[1:5], "held"))
        assert world.store.endpoints.beyond_limit(number) == 4
        assert send(world, 2) == [ids[0], ids[5]]
        assert world.store.lanes.claim(NOON) is None
        assert world.store.steering.release("ci", NOON) == 4
        assert send(world, 4) == ids[1:5]

    def test_of_one_endpoint_alone(self, world: World) -> None:
        world.endpoint("one")
        world.endpoint("two")
        one, two = push(world)
        put_state(world, {one: "held", two: "held"})
        assert world.store.steering.release("two", NOON) == 1
        assert send(world, 1) == [two]
        assert world.store.lanes.claim(NOON) is None


class TestEnable:
    def test_begins_anew_with_everything_in_order(self, world: World) -> None:
        number = world.endpoint().id
        first, second, third = push(world, 3)
        put_state(world, {second: "aside", third: "held"})
        world.sql("UPDATE lanes SET at_fault = 1, batch_limit = 3, step = 5, not_before = 9e9, due_at = 9e9")
        world.store.endpoints.disable(number, "x")
        assert world.store.endpoints.enable(number, NOON) == 2
        assert world.sql("SELECT aside, at_fault, batch_limit, step, due_at FROM lanes") == [(None, 0, None, 0, NOON)]
        assert send(world, 2) == [first, second]
        assert states(world)[2] == ("held", "x")

    def test_what_waited_can_be_let_go_and_sent_again(self, world: World) -> None:
        number = world.endpoint().id
        ids = push(world, 3)
        put_state(world, {ids[1]: "aside", ids[2]: "held"})
        world.store.endpoints.disable(number, "x")
        gone = world.store.steering.cancel(Selection(endpoint="ci"), NOON, "let go", ("waiting", "aside"))
        assert gone == 2
        world.store.endpoints.enable(number, NOON)
        assert states(world) == [("canceled", "let go"), ("canceled", "let go"), ("held", "x")]
        assert world.store.lanes.claim(NOON) is None
        again(world, *ids[:2])
        assert send(world, 2) == ids[:2]
