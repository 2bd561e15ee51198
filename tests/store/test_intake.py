"""What ingest writes: a batch as a whole or not at all, and once however often it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from events import A, B, branch
from refcast.model import ZERO_ID
from refcast.store import Store
from refcast.store.intake import Aside, Batch, NewContent, NewDelivery, NewEvent, Told
from refcast.store.recoveries import Covered, LateRecord, Recovery
from spooled import ENDPOINT

REF = "refs/heads/main"
TIME = branch(A, B).time.timestamp()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        opened.repositories.add("/srv/site.git", {}, 1.0)
        opened.endpoints.add(ENDPOINT, 1.0)
        yield opened


def new(ref: str, delivery: str, *, old: str = ZERO_ID, to: str = A, recovered: bool = False) -> NewEvent:
    event = replace(branch(old, to, ref=ref), recovered=recovered)
    return NewEvent(
        event, [NewContent("codeup", "push", b"{}", [NewDelivery(delivery, 1, "json", "none", {"X": "y"})])]
    )


def batch(*events: NewEvent, record: str = "r1", last: bool = True) -> Batch:
    tips = {e.event.update.ref: e.event.update.new for e in events if e.event.update}
    return Batch(record, 1, "ann", 2.0, events, tips, last)


def waiting(store: Store) -> list[str]:
    return [row.id for row in reversed(store.reports.deliveries())]


class TestAdd:
    def test_moves_the_ledger_with_the_events(self, store: Store) -> None:
        store.intake.add(batch(new(REF, "d1"), new("refs/heads/dev", "d2", to=B)), 3.0)
        assert store.repositories.tips(1) == {REF: A, "refs/heads/dev": B}
        store.intake.add(Batch("r2", 1, "ann", 2.0, (), {REF: None}, last=True), 3.0)
        assert store.repositories.tips(1) == {"refs/heads/dev": B}

    def test_is_all_or_nothing(self, store: Store) -> None:
        store.intake.add(batch(new(REF, "d1")), 3.0)
        with pytest.raises(Exception, match="UNIQUE"):
            store.intake.add(batch(new("refs/heads/dev", "d2"), new("refs/heads/x", "d1"), record="r2"), 3.0)
        assert waiting(store) == ["d1"]
        assert store.repositories.tips(1) == {REF: A}
        assert store.intake.done(["r1", "r2"]) == {"r1"}
        assert store.intake.begun(1) == set()

    def test_a_second_time_adds_nothing(self, store: Store) -> None:
        for _ in range(2):
            store.intake.add(batch(new(REF, "d1"), new(REF, "d0", to=ZERO_ID, recovered=True)), 3.0)
        assert waiting(store) == ["d1", "d0"]

    def test_keeps_the_order_of_events_contents_and_deliveries(self, store: Store) -> None:
        many = [new(f"refs/heads/{number}", f"d{number:03}") for number in range(250)]
        store.intake.add(batch(*many), 3.0)
        rows = store.reports.deliveries(limit=1000)
        assert [(row.ref, row.id) for row in reversed(rows)] == [
            (f"refs/heads/{number}", f"d{number:03}") for number in range(250)
        ]

    def test_a_failing_endpoint_and_a_removed_one(self, store: Store) -> None:
        store.endpoints.remove(1)
        store.intake.add(batch(new(REF, "d1")), 3.0)
        assert waiting(store) == []
        assert store.intake.told("r1") == [Told(REF, ZERO_ID, A, recovered=False)]


class TestRecords:
    def test_are_begun_until_the_last_batch(self, store: Store) -> None:
        store.repositories.add("/srv/other.git", {}, 1.0)
        store.intake.add(batch(new(REF, "d1"), last=False), 3.0)
        assert store.intake.begun(1) == {"r1"}
        assert store.intake.begun(2) == set()
        assert store.intake.done(["r1"]) == set()
        assert store.intake.told("r1") == [Told(REF, ZERO_ID, A, recovered=False)]
        store.intake.add(batch(new("refs/heads/dev", "d2")), 3.0)
        assert store.intake.begun(1) == set()
        assert store.intake.done(["r1", "r2"]) == {"r1"}

    def test_are_found_among_very_many(self, store: Store) -> None:
        store.intake.add(batch(new(REF, "d1")), 3.0)
        assert store.intake.done([*(str(number) for number in range(40_000)), "r1"]) == {"r1"}

    def test_tell_of_recoveries_and_what_they_covered(self, store: Store) -> None:
        store.intake.add(batch(new(REF, "d1", recovered=True), new(REF, "d2", old=A, to=B)), 3.0)
        (found,) = store.intake.recoveries(1, "", REF, but="r2")
        assert found == Recovery(found.event_id, ZERO_ID, A, TIME, 3.0, (), frozenset({A, B}))
        assert store.intake.recoveries(1, "", REF, but="r1") == []
        assert store.intake.recoveries(1, "refs/namespaces/x/", REF, but="r2") == []
        assert store.intake.recoveries(1, "", "refs/heads/dev", but="r2") == []
        late = Batch("r2", 1, "ben", 9.0, (), {}, last=True, covered=[Covered(REF, ZERO_ID, A, found.event_id)])
        for _ in range(2):
            store.intake.add(late, 10.0)
        assert store.intake.covered_by(found.event_id) == [LateRecord("r2", "ben", 9.0, REF, ZERO_ID, A)]
        (found,) = store.intake.recoveries(1, "", REF, but="r3")
        assert found.told == ((ZERO_ID, A),)

    def test_tell_where_a_ref_was_brought_last(self, store: Store) -> None:
        assert not store.intake.is_told(1, "", REF, A)
        store.intake.add(batch(new(REF, "d1")), 3.0)
        assert store.intake.is_told(1, "", REF, A)
        assert not store.intake.is_told(1, "", REF, B)
        assert not store.intake.is_told(1, "refs/namespaces/x/", REF, A)


class TestAsides:
    def test_keep_the_time_of_the_first_note(self, store: Store) -> None:
        path = "/spool/\udcff.push"
        store.intake.set_aside(path, "why", 1.0, None)
        store.intake.set_aside("/spool/2.push", "why", 2.0, 5.0)
        store.intake.set_aside(path, "worse", 3.0, 4.0)
        assert store.intake.asides() == [Aside(path, "worse", 1.0, 4.0), Aside("/spool/2.push", "why", 2.0, 5.0)]
        store.intake.no_longer_aside(path)
        assert [aside.path for aside in store.intake.asides()] == ["/spool/2.push"]

    def test_are_tried_again_on_demand(self, store: Store) -> None:
        for name in ("one", "two"):
            store.intake.set_aside(name, "why", 1.0, None)
        assert store.intake.retry_aside("one", 9.0) == 1
        assert [aside.retry_at for aside in store.intake.asides()] == [9.0, None]
        assert store.intake.retry_aside(None, 10.0) == 2
        assert store.intake.retry_aside("three", 10.0) == 0
