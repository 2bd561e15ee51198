"""Retention: what is finished goes by age and by size, what waits too long expires, and nothing else is touched."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from refcast.store import FILE, Store, schema
from refcast.store.pruning import ROWS
from refcast.store.retention import KEPT_SECONDS, LEAP_SECONDS, ROUND_SECONDS, SPARE_PAGES
from refcast.store.selection import Selection
from spooled import ATTEMPT, DAY, ENDPOINT, NOON

BIG = 10**12
HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    days: float = 30.0
    size: int = BIG
    waiting_days: float = 90.0
    waiting_size: int = BIG


class Shelf:
    """A store with one repository and two endpoints, and rows put into it as they would be after months."""

    def __init__(self, state: Path) -> None:
        self.path = state / FILE
        self.store = Store.open(state)
        self.store.repositories.add("/srv/site.git", {}, NOON)
        self.numbers = [self.store.endpoints.add(each, NOON).id for each in (ENDPOINT, replace(ENDPOINT, name="other"))]
        self.count = itertools.count(1)

    def insert(self, table: sa.Table, **values: object) -> int:
        with self.store._database.write() as connection:
            made = connection.execute(sa.insert(table).values(**values))
            key = made.inserted_primary_key
            return key[0] if key else 0

    def event(
        self, at: float = NOON, *, recovered: bool = False, record: str = "", ref: str = "refs/heads/main"
    ) -> int:
        number = next(self.count)
        values = {"repository_id": 1, "kind": "push", "ref": ref, "old": "0" * 40, "new": f"{number:040x}"}
        return self.insert(
            schema.events,
            record_id=record or f"r{number}",
            pusher="ann",
            received_at=at,
            recovered=recovered,
            incomplete="",
            place="",
            **values,
        )

    def content(self, size: int = 1000, event: int | None = None) -> int:
        payload = b"x" * size
        return self.insert(schema.contents, event_id=event, dialect="codeup", kind="push", payload=payload)

    def delivery(
        self,
        state: str,
        *,
        at: float = NOON,
        content: int = 0,
        endpoint: int = 1,
        size: int = 1000,
        attempts: int = 1,
        finished: bool | None = None,
    ) -> int:
        """A delivery created at `at`, and finished then if that is what the state says; its position."""
        ends = state not in ("waiting", "aside", "held") if finished is None else finished
        position = self.insert(
            schema.deliveries,
            id=f"d{next(self.count)}",
            content_id=content or self.content(size, self.event(at)),
            endpoint_id=endpoint,
            lane_id=endpoint,
            content_type="json",
            signing="none",
            headers={},
            state=state,
            created_at=at,
            finished_at=at if ends else None,
        )
        for _ in range(attempts):
            self.attempt(position)
        return position

    def attempt(self, *positions: int) -> None:
        values = {name: getattr(ATTEMPT, name) for name in type(ATTEMPT).__slots__}
        number = self.insert(schema.attempts, **values)
        for position in positions:
            self.insert(schema.attempt_deliveries, attempt_id=number, position=position)

    def round(self, now: float = NOON, limits: Limits = Limits(), spooled_since: float = NOON) -> int:
        """A whole round, by a worker that has just begun; in how many steps."""
        self.store.retention._began = now - ROUND_SECONDS
        return 1 + sum(1 for _ in iter(lambda: self.store.retention.step(now, limits, lambda: spooled_since), False))

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with self.store._database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def states(self) -> dict[int, str]:
        return dict(self.sql("SELECT position, state FROM deliveries ORDER BY position"))

    def counts(self) -> dict[str, int]:
        tables = ("deliveries", "attempts", "attempt_deliveries", "contents", "events")
        return {table: self.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    yield made
    assert made.sql("PRAGMA foreign_key_check") == []
    made.store.close()


OLD = NOON - 31 * DAY
ANCIENT = NOON - 91 * DAY


class TestAge:
    @pytest.mark.parametrize("state", ["delivered", "refused", "canceled", "expired"])
    def test_what_is_finished_goes_with_all_that_belongs_to_it(self, shelf: Shelf, state: str) -> None:
        shelf.delivery(state, at=OLD, attempts=3)
        kept = shelf.delivery(state, at=NOON - 29 * DAY)
        shelf.round()
        assert list(shelf.states()) == [kept]
        assert set(shelf.counts().values()) == {1}

    @pytest.mark.parametrize("state", ["waiting", "aside", "held"])
    def test_what_is_not_finished_stays(self, shelf: Shelf, state: str) -> None:
        position = shelf.delivery(state, at=OLD)
        shelf.round()
        assert shelf.states() == {position: state}
        assert set(shelf.counts().values()) == {1}

    def test_a_content_stays_for_the_one_that_still_waits(self, shelf: Shelf) -> None:
        content = shelf.content(event=shelf.event(OLD))
        shelf.delivery("delivered", at=OLD, content=content)
        waits = shelf.delivery("waiting", at=OLD, content=content, endpoint=2)
        shelf.round()
        assert shelf.states() == {waits: "waiting"}
        assert set(shelf.counts().values()) == {1}
        assert shelf.store.lanes.claim(NOON) is not None

    def test_an_attempt_for_several_goes_with_the_last_of_them(self, shelf: Shelf) -> None:
        gone = shelf.delivery("delivered", at=OLD, attempts=0)
        stays = shelf.delivery("waiting", at=OLD, attempts=0)
        shelf.attempt(gone, stays)
        shelf.round()
        assert shelf.sql("SELECT attempt_id, position FROM attempt_deliveries") == [(1, stays)]
        assert shelf.counts()["attempts"] == 1

    def test_what_was_asked_for_again_is_not_finished(self, shelf: Shelf) -> None:
        position = shelf.delivery("delivered", at=OLD)
        (identity,) = shelf.sql("SELECT id FROM deliveries")[0]
        assert shelf.store.steering.redeliver(Selection(ids=(identity,)), NOON) == 1
        shelf.round()
        assert shelf.states() == {position: "waiting"}

    def test_more_than_one_step_takes(self, shelf: Shelf) -> None:
        for _ in range(2 * ROWS + 5):
            shelf.delivery("delivered", at=OLD)
        shelf.delivery("delivered", at=OLD, attempts=2 * ROWS)
        steps = shelf.round()
        assert steps > 4
        assert set(shelf.counts().values()) == {0}

    def test_a_very_large_payload_is_a_step_of_its_own(self, shelf: Shelf) -> None:
        for _ in range(3):
            shelf.delivery("delivered", at=OLD, size=5_000_000)
        retention = shelf.store.retention
        retention.step(NOON, Limits())
        left = []
        while retention.step(NOON, Limits()):
            left.append(shelf.counts()["deliveries"])
        assert left[:3] == [2, 1, 0]

    def test_nothing_goes_within_the_hour_whatever_the_limits(self, shelf: Shelf) -> None:
        position = shelf.delivery("delivered", at=NOON - KEPT_SECONDS + 1)
        shelf.round(limits=Limits(days=0.0, size=0))
        assert list(shelf.states()) == [position]


class TestSize:
    def test_the_oldest_go_first_and_no_more_than_must(self, shelf: Shelf) -> None:
        positions = [shelf.delivery("delivered", at=NOON - 10 * DAY + n, attempts=0) for n in range(10)]
        shelf.round(limits=Limits(size=4500))
        assert list(shelf.states()) == positions[6:]

    def test_what_reached_nobody_goes_last(self, shelf: Shelf) -> None:
        lost = [shelf.delivery(state, at=NOON - 10 * DAY, attempts=0) for state in ("refused", "expired")]
        for number in range(5):
            shelf.delivery("delivered", at=NOON - 5 * DAY + number, attempts=0)
        shelf.round(limits=Limits(size=2000))
        assert list(shelf.states()) == lost
        shelf.round(limits=Limits(size=1000))
        assert list(shelf.states()) == lost[1:]

    def test_attempts_count_and_what_waits_does_not(self, shelf: Shelf) -> None:
        waits = shelf.delivery("waiting", size=100_000, attempts=50)
        gone = shelf.delivery("delivered", at=NOON - DAY, size=10, attempts=50)
        shelf.round(limits=Limits(size=200))
        assert gone not in shelf.states()
        assert waits in shelf.states()
        figures = shelf.store.retention.figures()
        assert figures is not None
        assert (figures.finished, figures.waiting) == (0, 100_000)

    def test_a_content_that_is_shared_with_one_that_waits_is_none_of_the_finished(self, shelf: Shelf) -> None:
        content = shelf.content(5000)
        done = shelf.delivery("delivered", at=NOON - DAY, content=content, attempts=0)
        shelf.delivery("waiting", content=content, endpoint=2)
        shelf.round(limits=Limits(size=0))
        assert done in shelf.states()

    def test_contents_that_nobody_has_go_at_once(self, shelf: Shelf) -> None:
        shelf.content(event=shelf.event(NOON))
        shelf.round()
        assert shelf.counts() | {"events": 0} == dict.fromkeys(shelf.counts(), 0)


class TestExpiry:
    @pytest.mark.parametrize("state", ["waiting", "aside", "held"])
    def test_what_waits_too_long_is_finished_with_a_reason_and_stays(
        self, shelf: Shelf, state: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        position = shelf.delivery(state, at=ANCIENT)
        young = shelf.delivery(state, at=NOON - 89 * DAY)
        shelf.round()
        assert shelf.states() == {position: "expired", young: state}
        ((at, reason),) = shelf.sql("SELECT finished_at, reason FROM deliveries WHERE state = 'expired'")
        assert at == NOON
        assert reason == "it waited longer than 90 days (retention.waiting_days)"
        assert shelf.counts()["contents"] == 2
        assert "1 deliveries expired: it waited longer than 90 days" in caplog.text

    def test_can_be_sent_again_and_waits_anew(self, shelf: Shelf) -> None:
        position = shelf.delivery("waiting", at=ANCIENT)
        shelf.round()
        assert shelf.store.steering.redeliver(Selection(states=("expired",)), NOON + HOUR) == 1
        shelf.round(NOON + 2 * HOUR)
        assert shelf.states() == {position: "waiting"}
        work = shelf.store.lanes.claim(NOON + 2 * HOUR)
        assert work is not None
        assert work.payload == b"x" * 1000

    def test_the_lane_goes_on_with_the_next(self, shelf: Shelf) -> None:
        aside = shelf.delivery("aside", at=ANCIENT)
        shelf.delivery("waiting", at=ANCIENT)
        last = shelf.delivery("waiting", at=NOON)
        with shelf.store._database.write() as connection:
            connection.execute(sa.update(schema.lanes).where(schema.lanes.c.id == 1).values(aside=aside))
        shelf.round()
        assert shelf.sql("SELECT aside FROM lanes WHERE id = 1") == [(None,)]
        work = shelf.store.lanes.claim(NOON)
        assert work is not None
        assert work.position == last

    def test_what_is_under_way_does_not(self, shelf: Shelf) -> None:
        flying = shelf.delivery("waiting", at=ANCIENT)
        beside = shelf.delivery("waiting", at=ANCIENT, endpoint=2)
        assert shelf.store.lanes.claim(NOON) is not None
        claimed = shelf.sql("SELECT id FROM lanes WHERE claimed")
        shelf.round(limits=Limits(waiting_size=0))
        mine, other = (flying, beside) if claimed == [(1,)] else (beside, flying)
        assert shelf.states() == {mine: "waiting", other: "expired"}
        shelf.store.lanes.release_all()
        shelf.round()
        assert shelf.states()[mine] == "expired"

    def test_a_lane_that_is_never_idle_has_its_limit_too(self, shelf: Shelf) -> None:
        positions = [shelf.delivery("waiting", at=ANCIENT, attempts=0) for _ in range(150)]
        assert shelf.store.lanes.claim(NOON) is not None
        shelf.round()
        states = shelf.states()
        assert [p for p in positions if states[p] == "expired"] == positions[100:]

    def test_by_size_the_oldest_of_all_endpoints_first(self, shelf: Shelf) -> None:
        positions = [
            shelf.delivery(("waiting", "held", "aside")[n % 3], endpoint=1 + n % 2, attempts=0) for n in range(9)
        ]
        shelf.round(limits=Limits(waiting_size=4500))
        states = shelf.states()
        assert [p for p in positions if states[p] == "expired"] == positions[:5]
        ((reason,),) = shelf.sql("SELECT DISTINCT reason FROM deliveries WHERE state = 'expired'")
        assert reason == "what waits took more than 4500 bytes (retention.waiting_size)"

    def test_a_payload_that_two_wait_for_counts_once(self, shelf: Shelf) -> None:
        content = shelf.content(1000)
        both = [shelf.delivery("waiting", content=content, endpoint=number) for number in (1, 2)]
        shelf.round(limits=Limits(waiting_size=1000))
        assert shelf.states() == dict.fromkeys(both, "waiting")
        shelf.round(limits=Limits(waiting_size=999))
        assert shelf.states() == dict.fromkeys(both, "expired")

    def test_a_row_stays_for_a_person_even_where_the_sizes_are_small(self, shelf: Shelf) -> None:
        shelf.delivery("waiting")
        shelf.round(limits=Limits(waiting_size=0, size=0))
        assert list(shelf.states().values()) == ["expired"]


class TestEvents:
    def test_one_without_deliveries_goes_by_age(self, shelf: Shelf) -> None:
        shelf.event(OLD)
        kept = shelf.event(NOON - DAY)
        shelf.round()
        assert shelf.sql("SELECT id FROM events") == [(kept,)]

    def test_stay_while_the_spool_holds_something_as_old(self, shelf: Shelf) -> None:
        """A late record may tell of what a recovered event has announced."""
        shelf.event(OLD - 1, recovered=True)
        stays = shelf.event(OLD, recovered=True)
        shelf.round(spooled_since=OLD)
        assert shelf.sql("SELECT id FROM events") == [(stays,)]

    def test_those_of_a_record_that_is_stored_in_part_stay(self, shelf: Shelf) -> None:
        values = {"id": "half", "repository_id": 1, "pusher": "ann", "received_at": OLD}
        shelf.insert(schema.records, **values, ingested_at=None)
        shelf.event(OLD, record="half")
        shelf.round(spooled_since=NOON)
        assert shelf.counts()["events"] == 1
        assert [told.ref for told in shelf.store.intake.told("half")] == ["refs/heads/main"]

    def test_a_late_record_forgets_which_event_covered_it(self, shelf: Shelf) -> None:
        shelf.insert(schema.records, id="late", repository_id=1, pusher="ann", received_at=NOON, ingested_at=NOON)
        event = shelf.event(OLD, recovered=True)
        shelf.insert(schema.covered, record_id="late", ref="refs/heads/main", old="a", new="b", event_id=event)
        shelf.round(spooled_since=NOON + 1)
        assert shelf.sql("SELECT record_id, event_id FROM covered") == [("late", None)]


class TestRecords:
    def put(self, shelf: Shelf, name: str, at: float) -> None:
        shelf.insert(schema.records, id=name, repository_id=1, pusher="ann", received_at=at, ingested_at=at)

    def test_go_by_age_where_the_spool_holds_nothing_as_old(self, shelf: Shelf) -> None:
        for name, at in (("a", OLD - DAY), ("b", OLD), ("c", NOON)):
            self.put(shelf, name, at)
        shelf.insert(schema.covered, record_id="a", ref="refs/heads/main", old="a", new="b", event_id=None)
        shelf.round(spooled_since=OLD)
        assert shelf.sql("SELECT id FROM records ORDER BY id") == [("b",), ("c",)]
        assert shelf.sql("SELECT * FROM covered") == []

    def test_stay_where_nobody_knows_the_spool(self, shelf: Shelf) -> None:
        self.put(shelf, "a", OLD)
        shelf.round(spooled_since=0.0)
        assert shelf.sql("SELECT id FROM records") == [("a",)]

    def test_stay_while_an_event_of_theirs_does(self, shelf: Shelf) -> None:
        self.put(shelf, "a", OLD)
        self.put(shelf, "b", OLD)
        shelf.content(event=(event := shelf.event(OLD, record="a")))
        shelf.delivery("waiting", content=1)
        shelf.round()
        assert shelf.sql("SELECT id FROM records") == [("a",)]
        assert shelf.sql("SELECT id FROM events") == [(event,)]


class TestClock:
    def test_one_that_leaps_ahead_wipes_nothing_for_a_day(self, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
        shelf.delivery("delivered")
        shelf.delivery("waiting")
        shelf.round()
        before = shelf.states()
        wrong = NOON + 365 * DAY
        shelf.round(wrong)
        assert shelf.states() == before
        assert "nothing goes by age before" in caplog.text
        figures = shelf.store.retention.figures()
        assert figures is not None
        assert figures.hold_until == wrong + LEAP_SECONDS
        shelf.round(wrong + HOUR)
        assert shelf.states() == before
        shelf.round(wrong + LEAP_SECONDS)
        assert list(shelf.states().values()) == ["expired"]

    def test_one_that_is_put_right_meanwhile_ends_it(self, shelf: Shelf) -> None:
        shelf.round()
        shelf.round(NOON + 365 * DAY)
        shelf.delivery("delivered", at=NOON + 365 * DAY)
        shelf.round(NOON + HOUR)
        figures = shelf.store.retention.figures()
        assert figures is not None
        assert figures.hold_until is None
        assert shelf.sql("SELECT finished_at FROM deliveries") == [(NOON + HOUR,)]

    def test_sizes_count_in_doubt_too(self, shelf: Shelf) -> None:
        shelf.round()
        shelf.delivery("waiting")
        shelf.round(NOON + 365 * DAY, Limits(waiting_size=10))
        assert list(shelf.states().values()) == ["expired"]

    def test_a_server_that_is_seldom_used_gets_its_turn(self, shelf: Shelf) -> None:
        shelf.round()
        shelf.delivery("delivered")
        for week in range(5, 8):
            shelf.round(NOON + 7 * week * DAY)
        assert shelf.states() == {}


class TestRounds:
    def test_one_in_ten_minutes_also_of_another_worker(self, shelf: Shelf, tmp_path: Path) -> None:
        assert shelf.round() > 1
        assert not shelf.store.retention.step(NOON + 1, Limits())
        with Store.open(tmp_path) as other:
            assert not other.retention.step(NOON + 1, Limits())
            assert other.retention.step(NOON + ROUND_SECONDS, Limits())

    def test_a_clock_that_goes_back_begins_one(self, shelf: Shelf) -> None:
        shelf.round()
        assert shelf.store.retention.step(NOON - DAY, Limits())

    def test_an_error_ends_it(self, shelf: Shelf) -> None:
        def fails() -> float:
            raise OSError("gone")

        shelf.store.retention.step(NOON, Limits(), fails)
        with pytest.raises(OSError, match="gone"):
            while shelf.store.retention.step(NOON, Limits(), fails):
                pass
        assert not shelf.store.retention.step(NOON + 1, Limits(), fails)
        assert shelf.store.retention.step(NOON + ROUND_SECONDS, Limits(), fails)


class TestRoom:
    def test_the_file_and_its_log_shrink(self, shelf: Shelf) -> None:
        for _ in range(60):
            shelf.delivery("delivered", at=OLD, size=500_000)
        shelf.store._database.checkpoint()
        before = shelf.path.stat().st_size
        shelf.round()
        shelf.event()  # the log begins anew with the next that is written
        assert before > 30_000_000
        assert shelf.path.stat().st_size < (SPARE_PAGES + 100) * 4096
        assert shelf.path.with_name(f"{FILE}-wal").stat().st_size <= 8 * 1024 * 1024

    def test_a_store_that_was_put_together_from_a_dump_is_left_as_it_is(self, tmp_path: Path) -> None:
        whole = Shelf(tmp_path)
        for _ in range(60):
            whole.delivery("delivered", at=OLD, size=100_000)
        with sqlite3.connect(whole.path) as connection:
            dump = "\n".join(connection.iterdump())
        connection.close()
        whole.store.close()
        (tmp_path / "again").mkdir()
        made = sqlite3.connect(tmp_path / "again" / FILE)
        made.executescript(dump)
        made.close()
        with Store.open(tmp_path / "again") as store:
            while store.retention.step(NOON, Limits()):
                pass
            assert store.reports.deliveries() == []
