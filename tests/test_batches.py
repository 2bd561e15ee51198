"""Several events in one request, where the dialect puts them together: windows, retries, order and bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from receiver import Received, Receiver
from refcast.store import claims
from spooled import World

WINDOW = 5.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, receiver: Receiver) -> Iterator[World]:
    with World(tmp_path) as made:
        made.endpoint(dialect="codescoring", url=receiver.url, secret="t0ken")
        yield made


def announce(world: World, *moves: str) -> None:
    for move in moves:
        world.put(move)
    world.run()


def later(world: World, seconds: float) -> None:
    world.clock.now += seconds


def moves(world: World, one: Received) -> list[str]:
    updates = [event["payload"]["update"] for event in one.json()["events"]]
    return [world.move(update["ref"], update["old"], update["new"]) for update in updates]


def test_the_events_of_a_window_go_in_one_request(world: World, receiver: Receiver) -> None:
    announce(world, "main:->A")
    assert world.send_all() == 0, "the window is open"
    later(world, WINDOW - 1)
    announce(world, "main:A>B", "main:B>C")
    assert world.send_all() == 0
    later(world, 1)
    assert world.send_all() == 1
    (one,) = receiver.book
    assert moves(world, one) == ["main:->A", "main:A>B", "main:B>C"]
    assert one.header("X-CodeScoring-Authentication") == "t0ken"
    assert {row.state for row in world.store.reports.deliveries()} == {"delivered"}


def test_the_next_window_opens_with_the_next_event(world: World, receiver: Receiver) -> None:
    announce(world, "main:->A")
    later(world, WINDOW)
    assert world.send_all() == 1
    later(world, 100)
    announce(world, "main:A>B")
    assert world.send_all() == 0
    later(world, WINDOW)
    assert world.send_all() == 1
    assert [moves(world, one) for one in receiver.book] == [["main:->A"], ["main:A>B"]]


def test_what_comes_during_a_request_opens_a_window_of_its_own(world: World, receiver: Receiver) -> None:
    def push_meanwhile(_: Received) -> int:
        if len(receiver.book) == 1:
            announce(world, "main:A>B")
        return 200

    receiver.answer = push_meanwhile
    announce(world, "main:->A")
    later(world, WINDOW)
    assert world.send_all() == 1
    later(world, WINDOW - 1)
    assert world.send_all() == 0
    later(world, 1)
    assert world.send_all() == 1


def test_a_retry_takes_all_that_has_gathered(world: World, receiver: Receiver) -> None:
    receiver.answers([500])
    announce(world, "main:->A")
    later(world, WINDOW)
    assert world.send_all() == 1
    later(world, 1)
    announce(world, "main:A>B")  # has the failing lane tried again now, with what has come
    assert world.send_all() == 1
    first, second = receiver.book
    assert moves(world, second) == ["main:->A", "main:A>B"]
    assert second.json()["events"][0] == first.json()["events"][0], "the same frozen event"
    assert len({row.attempts for row in world.store.reports.deliveries()}) == 2


def test_the_schedule_belongs_to_the_lane(world: World, receiver: Receiver) -> None:
    receiver.answers([500, 500])
    announce(world, "main:->A", "main:A>B")
    later(world, WINDOW)
    assert world.send_all() == 1
    later(world, 59)
    assert world.send_all() == 0
    later(world, 1)
    assert world.send_all() == 1
    assert [len(one.json()["events"]) for one in receiver.book] == [2, 2]
    assert receiver.book[0].body == receiver.book[1].body
    assert receiver.book[0].header("Refcast-Delivery") == receiver.book[1].header("Refcast-Delivery")


def test_a_request_is_bounded_in_count(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BATCH_COUNT", 2)
    announce(world, "main:->A", "main:A>B", "main:B>C")
    later(world, WINDOW)
    assert world.send_all() == 2
    assert [moves(world, one) for one in receiver.book] == [["main:->A", "main:A>B"], ["main:B>C"]]


def test_a_request_is_bounded_in_size(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BATCH_BYTES", 10)
    announce(world, "main:->A", "main:A>B")
    later(world, WINDOW)
    assert world.send_all() == 2
    assert [len(one.json()["events"]) for one in receiver.book] == [1, 1]


def test_another_dialect_waits_for_nothing(tmp_path: Path, receiver: Receiver) -> None:
    with World(tmp_path) as world:
        world.endpoint(dialect="gogs", url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        assert world.send_all() == 3


def test_an_open_window_is_no_clock_set_back(world: World) -> None:
    announce(world, "main:->A")
    world.deliver().pull_back()
    assert world.send_all() == 0
    later(world, WINDOW)
    assert world.send_all() == 1


def test_what_was_rendered_for_another_dialect_goes_alone(tmp_path: Path, receiver: Receiver) -> None:
    with World(tmp_path) as world:
        endpoint = world.endpoint(dialect="refcast", url=receiver.url, signing="none")
        announce(world, "main:->A", "main:A>B")
        world.store.endpoints.change(replace(endpoint, dialect="codescoring"))
        announce(world, "main:B>C", "main:C>D")
        later(world, WINDOW)
        assert world.send_all() == 3
        assert [len(one.json().get("events", [])) for one in receiver.book] == [0, 0, 2]


class TestRefused:
    """A batch that is refused is halved until the culprit is alone."""

    MOVES = ("main:->A", "main:A>B", "main:B>C", "main:C>D", "main:D>E", "main:E>F", "main:F>G")

    @staticmethod
    def refuse(world: World, receiver: Receiver, culprit: str, status: int = 422) -> None:
        receiver.answer = lambda one: status if culprit in moves(world, one) else 200

    def sizes(self, world: World, receiver: Receiver) -> list[int]:
        return [len(moves(world, one)) for one in receiver.book]

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_is_halved_at_once(self, world: World, receiver: Receiver, status: int) -> None:
        self.refuse(world, receiver, "main:->A", status)
        announce(world, *self.MOVES)
        later(world, WINDOW)
        world.send_all()
        assert self.sizes(world, receiver) == [7, 3, 1]
        assert world.store.lanes.next_due(after=world.clock()) == world.clock() + 60, "alone, it has its schedule"
        assert world.sql("SELECT step FROM lanes") == [(1,)]

    def test_tells_nobody_that_the_endpoint_fails_until_the_culprit_is_alone(
        self, world: World, receiver: Receiver
    ) -> None:
        self.refuse(world, receiver, "main:->A")
        announce(world, *self.MOVES)
        later(world, WINDOW)
        for _ in range(2):
            assert world.deliver().one()
            assert world.store.lanes.failing() == []
        assert world.deliver().one()
        assert len(world.store.lanes.failing()) == 1

    def test_grows_again_with_success(self, world: World, receiver: Receiver) -> None:
        receiver.answers([422, 200])
        announce(world, *self.MOVES)
        for _ in range(4):
            later(world, WINDOW)
            world.send_all()
        assert self.sizes(world, receiver) == [7, 3, 4]
        assert world.sql("SELECT batch_limit FROM lanes") == [(12,)]

    def test_order_is_kept_and_all_but_the_culprit_arrives(self, world: World, receiver: Receiver) -> None:
        endpoint = world.store.endpoints.get("ci")
        world.store.endpoints.change(replace(endpoint, rejects=True))
        self.refuse(world, receiver, "main:C>D")
        announce(world, *self.MOVES)
        for _ in range(40):
            later(world, 60)
            world.send_all()
        taken = [moves(world, one) for one in receiver.book if "main:C>D" not in moves(world, one)]
        assert [move for some in taken for move in some] == [move for move in self.MOVES if move != "main:C>D"]
        states = [row.state for row in reversed(world.store.reports.deliveries())]
        assert states == ["delivered"] * 3 + ["refused"] + ["delivered"] * 3
        assert not world.store.lanes.is_pending()

    def test_a_receiver_without_refusals_holds_up_its_lane_and_is_disabled(
        self, world: World, receiver: Receiver
    ) -> None:
        self.refuse(world, receiver, "main:A>B")
        announce(world, *self.MOVES)
        for _ in range(40):
            later(world, 6 * 3600)
            world.send_all()
        assert world.store.endpoints.get("ci").state == "disabled"
        assert world.store.reports.counts() == {"delivered": 1, "held": 6}

    def test_other_failures_do_not_halve(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500])
        announce(world, *self.MOVES)
        later(world, WINDOW)
        world.send_all()
        later(world, 60)
        world.send_all()
        assert self.sizes(world, receiver) == [7, 7]
