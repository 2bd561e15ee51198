"""What people look at: lists that are narrowed and paged, one delivery whole, backlogs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from refcast.errors import BadInput
from refcast.store.reports import Backlog
from refcast.store.schema import deliveries
from refcast.store.selection import STATES, Selection, positions
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
        assert world.store.reports.deliveries(Selection(endpoint="one", states=("delivered",))) == every[3:]
        assert world.store.reports.deliveries(Selection(endpoint="nobody")) == []
        first = every[3]
        assert (first.old, first.new, first.pusher) == (world.ids["-"], world.ids["A"], "ann")
        assert (first.repository, first.created_at, first.finished_at) == (str(world.bare), NOON, NOON)
        assert world.store.reports.counts() == {"delivered": 1, "held": 2, "waiting": 1}

    def test_backlog(self, world: World) -> None:
        number = world.endpoint("one").id
        world.endpoint("idle", repositories=("none",))
        world.put(*(f"b{each}:->A" for each in range(7)))
        world.run()
        for position, state in enumerate(("refused", "aside", "held", "expired", "canceled"), 1):
            world.sql("UPDATE deliveries SET state = ? WHERE position = ?", state, position)
        one, idle = world.store.reports.backlog()
        assert one == Backlog("one", "active", 3, 1, 1, 1, 1, NOON, NOON, None, "")
        assert (idle.waiting, idle.oldest, idle.next_try) == (0, None, None)
        world.store.endpoints.disable(number, "by hand")
        one = world.store.reports.backlog()[0]
        assert (one.state, one.waiting, one.aside, one.held, one.next_try) == ("disabled", 0, 0, 4, None)
        assert world.store.reports.counts() == {"held": 4, "refused": 1, "expired": 1, "canceled": 1}

    def test_the_oldest_is_the_first_that_is_left(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        world.clock.now += 60
        world.put("main:A>B")
        world.run()
        send(world)
        assert [one.oldest for one in world.store.reports.backlog()] == [NOON + 60]

    def test_pages(self, world: World) -> None:
        world.endpoint()
        world.put(*(f"b{each}:->A" for each in range(5)))
        world.run()
        every = world.store.reports.deliveries()
        pages = [world.store.reports.deliveries(limit=2)]
        while page := world.store.reports.deliveries(limit=2, before=pages[-1][-1].id):
            pages.append(page)
        assert [row for page in pages for row in page] == every
        assert [len(page) for page in pages] == [2, 2, 1]
        with pytest.raises(BadInput, match="no delivery"):
            world.store.reports.deliveries(before="x")

    def test_a_notice_has_no_event(self, world: World) -> None:
        world.endpoint()
        world.sql("INSERT INTO contents (id, dialect, kind, payload) VALUES (9, 'codeup', 'notice', '{}')")
        values = "'n1', 9, 1, 1, 'json', 'none', '{}', 'waiting', 5.0"
        columns = "id, content_id, endpoint_id, lane_id, content_type, signing, headers, state, created_at"
        world.sql(f"INSERT INTO deliveries ({columns}) VALUES ({values})")
        (row,) = world.store.reports.deliveries()
        assert (row.kind, row.repository, row.ref, row.old, row.new, row.pusher) == ("notice", "", "", "", "", "")
        details = world.store.reports.delivery("n1")
        assert (details.row, details.incomplete, details.recovered) == (row, "", False)
        assert world.store.reports.deliveries(Selection(endpoint="ci")) == [row]
        assert world.store.reports.deliveries(Selection(ref="main")) == []


class TestSelection:
    @pytest.fixture(autouse=True)
    def pushed(self, world: World) -> None:
        """One after the other, an hour between: main and dev by ann for both endpoints, the tag v1 by bob."""
        world.endpoint("one")
        world.endpoint("two")
        for move, user in (("main:->A", "ann"), ("dev:->A", "ann"), ("refs/tags/v1:->A", "bob")):
            world.put(move, facts=[f"GL_USER={user}"])
            world.run()
            world.clock.now += 3600

    @pytest.mark.parametrize(
        ("chosen", "found"),
        [
            (Selection(ref="main"), ["one main", "two main"]),
            (Selection(ref="refs/heads/dev", endpoint="two"), ["two dev"]),
            (Selection(ref="v1"), ["one v1", "two v1"]),
            (Selection(ref="ain"), []),
            (Selection(pusher="bob"), ["one v1", "two v1"]),
            (Selection(since=NOON + 3600, until=NOON + 7200), ["one dev", "two dev"]),
            (Selection(repositories=(1,), endpoint="one", pusher="ann"), ["one main", "one dev"]),
            (Selection(repositories=(2,)), []),
            (Selection(repositories=()), []),
        ],
    )
    def test_narrows(self, world: World, chosen: Selection, found: list[str]) -> None:
        rows = world.store.reports.deliveries(chosen)
        assert [f"{row.endpoint} {row.ref.rpartition('/')[2]}" for row in reversed(rows)] == found

    def test_states_as_people_see_them(self, world: World) -> None:
        for position, state in enumerate(("delivered", "aside", "held", "aside"), 1):
            world.sql("UPDATE deliveries SET state = ? WHERE position = ?", state, position)
        world.store.endpoints.disable(world.store.endpoints.get("two").id, "by hand")
        by_state = {
            state: [row.state for row in world.store.reports.deliveries(Selection(states=(state,)))] for state in STATES
        }
        assert by_state == {state: [state] * len(rows) for state, rows in by_state.items()}
        assert {state: len(rows) for state, rows in by_state.items() if rows} == {
            "delivered": 1,
            "held": 4,
            "waiting": 1,
        }
        assert len(world.store.reports.deliveries(Selection(states=("held", "waiting")))) == 5

    def test_the_class_of_the_last_error(self, world: World) -> None:
        work = world.store.lanes.claim(world.clock())
        assert work is not None
        failed = replace(ATTEMPT, error_class="tls", status=None, error="bad certificate")
        world.store.lanes.retry(work, failed, step=1, due_at=world.clock(), now=world.clock(), error="x")
        (row,) = world.store.reports.deliveries(Selection(error="tls"))
        assert (row.last_status, row.last_error_class, row.last_error) == (None, "tls", "bad certificate")
        again = world.store.lanes.claim(world.clock())
        while again is not None and again.position != work.position:
            again = world.store.lanes.claim(world.clock())
        assert again is not None
        world.store.lanes.delivered(again, replace(ATTEMPT, error_class=""), world.clock())
        assert world.store.reports.deliveries(Selection(error="tls")) == []

    def test_a_lane_from_a_point(self, world: World) -> None:
        start = world.store.reports.deliveries(Selection(endpoint="two", ref="dev"))[0].id
        rows = world.store.reports.deliveries(Selection(start=start[:8]))
        assert [(row.endpoint, row.ref) for row in reversed(rows)] == [
            ("two", "refs/heads/dev"),
            ("two", "refs/tags/v1"),
        ]


class TestDelivery:
    def test_by_the_beginning_of_its_id(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A")
        world.run()
        (row,) = world.store.reports.deliveries()
        assert world.store.reports.delivery(row.id[:4]).row == row

    def test_what_went_in_the_same_request(self, world: World) -> None:
        world.endpoint(dialect="codescoring")
        world.put("main:->A", "dev:->A", "old:->A")
        world.run()
        work = world.store.lanes.claim(world.clock() + 5, {"codescoring"})
        assert work is not None
        world.store.lanes.delivered(work, ATTEMPT, world.clock())
        first, second, third = (row.id for row in reversed(world.store.reports.deliveries()))
        assert world.store.reports.delivery(second).together == [[first, third]]

    @pytest.mark.parametrize("text", ["nothing", "%", "_", "\\", "'", "\udcff", "\0"])
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


class TestPlans:
    """How SQLite finds things: by an index, not by reading every delivery there is."""

    @pytest.mark.parametrize(
        ("chosen", "plan"),
        [
            (Selection(endpoint="ci", states=("waiting",)), "SEARCH deliveries USING .*INDEX deliveries_by_lane"),
            (Selection(endpoint="ci"), "SEARCH deliveries USING .*INDEX deliveries_by_lane"),
            (Selection(repositories=(1,)), "SEARCH contents USING INTEGER PRIMARY KEY|INDEX contents_by_event"),
            (Selection(error="tls"), "SEARCH attempt_deliveries USING .*INDEX attempts_by_delivery"),
        ],
    )
    def test_a_selection(self, world: World, chosen: Selection, plan: str) -> None:
        database = world.store._database
        with database.read() as connection:
            query = positions(connection, chosen).order_by(deliveries.c.position.desc()).limit(50)
            text = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
        found = "\n".join(row[3] for row in rows)
        assert re.search(plan, found), found

    def test_an_id(self, world: World) -> None:
        (row,) = world.sql(
            "EXPLAIN QUERY PLAN SELECT position FROM deliveries WHERE id >= 'ab' AND id < 'ab\U0010ffff'"
        )
        assert "USING COVERING INDEX sqlite_autoindex_deliveries_1" in row[3]
