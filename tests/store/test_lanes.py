"""Lanes: one claim at a time, the head first, and what came of it in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.store.claims import Work
from refcast.store.intake import NUDGE_SECONDS
from spooled import ATTEMPT, NOON, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def claim(world: World) -> Work:
    work = world.store.lanes.claim(world.clock())
    assert work is not None
    return work


def fail(world: World, work: Work, wait: float, step: int = 1) -> None:
    now = world.clock()
    world.store.lanes.retry(work, ATTEMPT, step=step, due_at=now + wait, now=now, error="HTTP 500")


class TestClaim:
    def test_one_in_flight_in_a_lane_and_its_head_first(self, world: World) -> None:
        world.endpoint()
        for move in ("main:->A", "main:A>B", "main:B>C"):
            world.put(move)
        world.run()
        sent = []
        while work := world.store.lanes.claim(world.clock()):
            assert world.store.lanes.claim(world.clock()) is None
            sent.append(work.position)
            world.store.lanes.delivered(work, ATTEMPT, world.clock())
        assert sent == sorted(sent)
        assert len(sent) == 3

    def test_no_lane_twice_however_many_ask(self, world: World) -> None:
        for number in range(5):
            world.endpoint(f"e{number}")
        for number in range(8):
            world.put(f"b{number}:->A")
        world.run()
        flying: set[int] = set()
        sent: dict[int, list[int]] = {}
        lock = threading.Lock()
        faults = []

        def serve() -> None:
            try:
                while work := world.store.lanes.claim(NOON):
                    with lock:
                        assert work.lane_id not in flying
                        flying.add(work.lane_id)
                        sent.setdefault(work.lane_id, []).append(work.position)
                    with lock:
                        flying.remove(work.lane_id)
                    world.store.lanes.delivered(work, ATTEMPT, NOON)
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=serve) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        serve()  # a thread gives up when all lanes are in other hands
        assert not faults
        assert len(sent) == 5
        assert all(positions == sorted(positions) and len(positions) == 8 for positions in sent.values())

    def test_the_lane_that_has_waited_longest(self, world: World) -> None:
        world.endpoint("one")
        world.endpoint("two")
        world.put("main:->A", "dev:->A")
        world.run()
        names = []
        for _ in range(4):
            work = claim(world)
            names.append(work.endpoint.name)
            world.clock.now += 1
            world.store.lanes.delivered(work, ATTEMPT, world.clock())
        assert names == ["one", "two", "one", "two"]

    def test_gives_all_that_sending_needs(self, world: World) -> None:
        endpoint = world.endpoint(secret="s", content_type="form")
        world.put("main:->A")
        world.run()
        work = claim(world)
        assert (work.endpoint, work.content_type, work.signing, work.step) == (endpoint, "form", "codeup-token", 0)
        (row,) = world.store.reports.deliveries()
        assert work.delivery_id == row.id
        assert work.payload == world.store.reports.delivery(row.id).payload
        assert world.ids["A"].encode() in work.payload
        assert "secret" not in repr(work)

    def test_nothing_of_a_disabled_endpoint_and_nothing_before_it_is_due(self, world: World) -> None:
        number = world.endpoint().id
        world.put("main:->A")
        world.run()
        world.store.endpoints.disable(number, "by hand")
        assert world.store.lanes.claim(NOON) is None
        assert not world.store.lanes.is_pending()
        assert world.store.lanes.next_due(after=0) is None
        world.store.endpoints.enable(number, NOON)
        fail(world, claim(world), 60)
        assert world.store.lanes.claim(NOON + 59.9) is None
        assert world.store.lanes.next_due(after=NOON) == NOON + 60
        assert world.store.lanes.is_pending()
        assert world.store.lanes.claim(NOON + 60) is not None

    def test_a_start_releases_what_a_dead_worker_held(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        work = claim(world)
        assert world.store.lanes.claim(NOON + 9999) is None
        world.store.lanes.release_all()
        again = claim(world)
        assert again == work

    def test_a_lane_in_flight_is_not_waited_for(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        claim(world)
        assert world.store.lanes.next_due(after=0) is None
        assert world.store.lanes.is_pending()


class TestSides:
    """Lanes whose last try failed are served apart from the others."""

    def test_by_the_last_try(self, world: World) -> None:
        for name in ("one", "two"):
            world.endpoint(name)
        world.put("main:->A", "dev:->A")
        world.run()
        assert world.store.lanes.claim(NOON, failing=True) is None
        fail(world, claim(world), 0)
        work = world.store.lanes.claim(NOON, failing=False)
        assert work is not None and work.endpoint.name == "two" and work.failing_since is None
        assert world.store.lanes.claim(NOON, failing=False) is None
        work = world.store.lanes.claim(NOON, failing=True)
        assert work is not None and work.endpoint.name == "one" and work.failing_since == NOON
        assert work.last_error == "HTTP 500"
        assert world.store.lanes.claim(NOON) is None


class TestNext:
    """What comes of a request is recorded together with the claim of the next."""

    def test_stays_claimed(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.put("main:A>B")
        world.run()
        first = claim(world)
        second = world.store.lanes.delivered(first, ATTEMPT, NOON, then=())
        assert second is not None and second.position > first.position
        assert world.store.lanes.claim(NOON) is None
        assert world.store.lanes.delivered(second, ATTEMPT, NOON, then=()) is None
        assert world.sql("SELECT claimed FROM lanes") == [(0,)]

    def test_is_not_claimed_before_it_is_due(self, world: World) -> None:
        world.endpoint(dialect="codescoring", batch_window=0)
        world.put("main:->A")
        world.put("main:A>B")
        world.run()
        work = world.store.lanes.claim(NOON)
        assert work is not None
        assert world.store.lanes.delivered(work, ATTEMPT, NOON, 5.0, then=()) is None
        assert world.store.lanes.next_due(after=NOON) == NOON + 5

    def test_of_a_removed_endpoint_there_is_none(self, world: World) -> None:
        endpoint = world.endpoint()
        world.put("main:->A")
        world.put("main:A>B")
        world.run()
        work = claim(world)
        world.store.endpoints.remove(endpoint.id, discard=True)
        assert world.store.lanes.delivered(work, ATTEMPT, NOON, then=()) is None
        world.store.lanes.halve(work, ATTEMPT, now=NOON)
        world.store.lanes.refuse(work, ATTEMPT, now=NOON, reason="x")
        world.store.lanes.set_aside(work, ATTEMPT, step=1, now=NOON, scheduled_at=NOON, error="x")
        world.store.lanes.disable(work, ATTEMPT, now=NOON, reason="x")
        fail(world, work, 60)
        assert world.sql("SELECT count(*) FROM attempts") == [(0,)]


class TestAside:
    def aside(self, world: World) -> Work:
        """The first has stepped aside, and the second is claimed."""
        world.endpoint()
        world.put("main:->A")
        world.put("main:A>B")
        world.run()
        first = claim(world)
        world.store.lanes.set_aside(first, ATTEMPT, step=3, now=NOON, scheduled_at=NOON + 60, error="HTTP 400")
        second = claim(world)
        assert (second.aside, second.step, second.scheduled_at) == (first.position, 3, NOON + 60)
        return second

    def states(self, world: World) -> list[tuple[str, str]]:
        return world.sql("SELECT state, reason FROM deliveries ORDER BY position")

    def test_waits_for_what_comes_of_the_next(self, world: World) -> None:
        self.aside(world)
        assert self.states(world) == [("aside", "HTTP 400"), ("waiting", "")]
        assert world.store.endpoints.waiting(1) == 2

    def test_is_back_when_the_next_fails(self, world: World) -> None:
        fail(world, self.aside(world), 60, step=3)
        assert self.states(world) == [("waiting", ""), ("waiting", "")]
        assert world.sql("SELECT aside FROM lanes") == [(None,)]

    def test_is_back_when_a_person_enables_meanwhile(self, world: World) -> None:
        second = self.aside(world)
        world.store.endpoints.enable(second.endpoint.id, NOON)
        fail(world, second, 60, step=3)
        assert self.states(world) == [("waiting", ""), ("waiting", "")]
        assert claim(world).step == 0

    def test_is_not_condemned_after_a_person_has_ended_the_probation(self, world: World) -> None:
        second = self.aside(world)
        world.sql("UPDATE deliveries SET state = 'waiting'")
        world.sql("UPDATE lanes SET aside = NULL")
        world.store.lanes.delivered(second, ATTEMPT, NOON)
        assert [state for state, _ in self.states(world)] == ["waiting", "delivered"]


class TestTurnBack:
    def test_moves_all_times(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 60)
        world.store.lanes.turn_back(1000)
        assert world.sql("SELECT due_at, scheduled_at FROM lanes") == [(NOON - 940, NOON - 940)]


class TestRetry:
    def test_keeps_the_head_where_it_is(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.put("main:A>B")
        world.run()
        first = claim(world)
        fail(world, first, 60)
        world.clock.now += 60
        again = claim(world)
        assert (again.position, again.delivery_id, again.step) == (first.position, first.delivery_id, 1)

    def test_tells_since_when_it_fails_and_why(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        for _ in range(2):
            fail(world, claim(world), 60)
            world.clock.now += 60
        (failing,) = world.store.lanes.failing()
        assert (failing.name, failing.since, failing.error, failing.disabled) == ("ci", NOON, "HTTP 500", False)
        world.store.lanes.delivered(claim(world), ATTEMPT, world.clock())
        assert world.store.lanes.failing() == []

    def test_keeps_what_was_sent_and_answered(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 60)
        (row,) = world.store.reports.deliveries()
        assert (row.attempts, row.last_status, row.last_error, row.state) == (1, 500, "HTTP 500", "waiting")
        assert world.store.reports.delivery(row.id).attempts == [ATTEMPT]


class TestNudge:
    def test_by_a_new_event_at_most_once_a_minute(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 3600)
        assert world.store.lanes.claim(NOON) is None
        world.put("main:A>B")
        world.run()
        work = claim(world)
        assert work.scheduled_at == NOON + 3600
        fail(world, work, 3600)
        world.clock.now += NUDGE_SECONDS - 1
        world.put("main:B>C")
        world.run()
        assert world.store.lanes.claim(world.clock()) is None
        world.clock.now += 1
        world.put("main:C>D")
        world.run()
        assert claim(world).position == work.position

    def test_not_of_another_lane(self, world: World) -> None:
        world.endpoint("branches", events=frozenset({"push"}))
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 3600)
        world.endpoint("tags", events=frozenset({"tag_push"}))
        world.put("refs/tags/v1:->A")
        world.run()
        assert claim(world).endpoint.name == "tags"
        assert world.store.lanes.claim(world.clock()) is None

    def test_a_clock_that_was_set_back_does_not_keep_it_off(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 60)
        world.put("main:A>B")
        world.run()
        fail(world, claim(world), 60)
        world.clock.now -= 3600
        world.put("main:B>C")
        world.run()
        assert world.store.lanes.claim(world.clock()) is not None


class TestEnable:
    def test_sends_what_was_held_from_the_head_with_a_fresh_schedule(self, world: World) -> None:
        number = world.endpoint().id
        world.put("main:->A")
        world.run()
        first = claim(world)
        world.store.lanes.disable(first, ATTEMPT, now=NOON, reason="HTTP 410")
        assert world.store.endpoints.get("ci").reason == "HTTP 410"
        (failing,) = world.store.lanes.failing()
        assert failing.disabled
        world.put("main:A>B")
        world.run()
        assert [row.state for row in world.store.reports.deliveries()] == ["held", "held"]
        assert world.store.endpoints.enable(number, NOON) == 2
        work = claim(world)
        assert (work.position, work.step) == (first.position, 0)
        assert world.store.lanes.failing() == []


class TestSleeping:
    def test_is_pulled_back_unless_it_has_changed(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        fail(world, claim(world), 60, step=3)
        (lane,) = world.store.lanes.sleeping(NOON)
        assert (lane.step, lane.due_at, lane.schedule) == (3, NOON + 60, ())
        assert world.store.lanes.sleeping(NOON + 60) == []
        world.store.lanes.pull_back(lane, NOON + 30)
        world.store.lanes.pull_back(lane, NOON)
        assert world.store.lanes.next_due(after=NOON) == NOON + 30
