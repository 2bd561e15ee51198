"""Endpoints: what was stored comes back, secrets whole; their lanes and deliveries go with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store import endpoints as storing
from refcast.store.endpoints import Endpoints, Removed
from refcast.store.pruning import forget
from spooled import ATTEMPT, World

FULL = Endpoint(
    id=0,
    name="full",
    url="https://ann:s3cret@example.org/hook?token=t0ken",
    dialect="gogs",
    content_type="form",
    secret="gehe\udcfc\u200dim",
    events=frozenset({"push", "tag_push"}),
    repositories=("team/*", "\udcff*"),
    other_refs=True,
    verify_tls=False,
    timeout=2.5,
    secret_file="/etc/\udcfe.secret",
    schedule=(1.0, 90.0),
    tries=3,
    rejects=False,
    max_events=10,
    proxy="http://ann:s3cret@proxy:3128",
    ca_file="/etc/ca.pem",
    client_cert="/etc/\udcfd.pem",
    client_key="/etc/key.pem",
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


class TestAdd:
    def test_comes_back_as_it_was(self, world: World) -> None:
        added = world.store.endpoints.add(FULL, 1.0)
        assert added == replace(FULL, id=added.id)
        assert world.store.endpoints.get("full") == added
        assert world.store.endpoints.all() == [added]

    def test_a_name_that_is_taken(self, world: World) -> None:
        world.endpoint()
        with pytest.raises(BadInput, match="there is an endpoint 'ci' already"):
            world.endpoint()

    def test_one_that_is_not_there(self, world: World) -> None:
        with pytest.raises(BadInput, match="there is none yet"):
            world.store.endpoints.get("x")
        world.endpoint()
        with pytest.raises(BadInput, match="there are: ci"):
            world.store.endpoints.get("x")

    def test_a_number_is_not_given_twice(self, world: World) -> None:
        first = world.endpoint("first")
        world.store.endpoints.remove(first.id)
        assert world.endpoint("second").id != first.id


class TestChange:
    def test_all_but_its_state(self, world: World) -> None:
        number = world.endpoint().id
        world.store.endpoints.disable(number, "by hand")
        world.store.endpoints.change(replace(FULL, id=number))
        assert world.store.endpoints.all() == [replace(FULL, id=number, state="disabled", reason="by hand")]

    def test_a_name_that_is_taken(self, world: World) -> None:
        world.endpoint("one")
        two = world.endpoint("two")
        with pytest.raises(BadInput, match="'one' already"):
            world.store.endpoints.change(replace(two, name="one"))


class TestRemove:
    def test_takes_its_deliveries_and_attempts_and_nobody_elses(self, world: World) -> None:
        gone, stays = world.endpoint("gone"), world.endpoint("stays")
        world.put("main:->A")
        world.run()
        for _ in range(2):
            work = world.store.lanes.claim(world.clock())
            assert work is not None
            world.store.lanes.retry(work, ATTEMPT, step=1, due_at=world.clock() + 1, now=1.0, error="x")
        assert world.store.endpoints.waiting(gone.id) == 1
        world.store.endpoints.remove(gone.id, discard=True)
        assert [row.endpoint for row in world.store.reports.deliveries()] == ["stays"]
        assert world.sql("SELECT count(*) FROM attempts") == [(1,)]
        assert world.sql("SELECT endpoint_id FROM lanes") == [(stays.id,)]
        assert world.sql("PRAGMA foreign_key_check") == []

    @pytest.mark.parametrize("state", ["waiting", "aside", "held"])
    def test_not_while_some_wait(self, world: World, state: str) -> None:
        number = world.endpoint().id
        world.put("main:->A")
        world.run()
        world.sql("UPDATE deliveries SET state = ?", state)
        with pytest.raises(BadInput, match=r"1 deliveries wait for ci: .* --discard"):
            world.store.endpoints.remove(number)
        assert world.store.endpoints.get("ci").state == "active"
        assert world.store.endpoints.remove(number, discard=True) == Removed(discarded=1, told=[])

    def test_contents_go_unless_another_has_them(self, world: World) -> None:
        gone = world.endpoint("gone")
        world.endpoint("stays", repositories=("site",))
        world.endpoint("other", dialect="gogs")
        world.put("main:->A")
        world.run()
        world.store.endpoints.remove(gone.id, discard=True)
        assert world.sql("SELECT DISTINCT dialect FROM contents ORDER BY 1") == [("codeup",), ("gogs",)]
        world.store.endpoints.remove(world.store.endpoints.get("other").id, discard=True)
        assert world.sql("SELECT DISTINCT dialect FROM contents") == [("codeup",)]

    def test_in_steps_and_again_where_it_was_interrupted(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storing, "ROWS", 3)
        steps: list[int] = []

        def forget_and_fail(connection: object, positions: list[int]) -> int:
            steps.append(len(positions))
            if len(steps) == 2:
                raise KeyboardInterrupt
            return forget(connection, positions)  # type: ignore[arg-type]

        monkeypatch.setattr(storing, "forget", forget_and_fail)
        number = world.endpoint().id
        world.put(*(f"b{each}:->A" for each in range(7)))
        world.run()
        with pytest.raises(KeyboardInterrupt):
            world.store.endpoints.remove(number, discard=True)
        one = world.store.endpoints.get("ci")
        assert (one.state, one.reason, world.store.endpoints.waiting(number)) == ("disabled", "it is being removed", 4)
        assert world.store.endpoints.remove(number, discard=True).discarded == 4
        assert steps == [3, 3, 3, 1]
        assert world.sql("SELECT count(*) FROM contents") == [(0,)]

    def test_those_that_told_it_of_failures_tell_nobody(self, world: World) -> None:
        ops = world.endpoint("ops")
        world.endpoint("ci", on_failure=ops.id)
        world.endpoint("cd", on_failure=ops.id)
        world.endpoint("well", on_failure=world.store.endpoints.get("ci").id)
        assert world.store.endpoints.name_of(ops.id) == "ops"
        assert world.store.endpoints.remove(ops.id).told == ["cd", "ci"]
        assert [one.on_failure is None for one in world.store.endpoints.all()] == [True, True, False]
        assert world.sql("PRAGMA foreign_key_check") == []

    def test_while_a_request_is_under_way(self, world: World) -> None:
        for finish in ("delivered", "retry", "disable"):
            number = world.endpoint(finish).id
            world.put(f"{finish}:->A")
            world.run()
            work = world.store.lanes.claim(world.clock())
            assert work is not None
            world.store.endpoints.remove(number, discard=True)
            if finish == "delivered":
                world.store.lanes.delivered(work, ATTEMPT, 1.0)
            elif finish == "retry":
                world.store.lanes.retry(work, ATTEMPT, step=1, due_at=2.0, now=1.0, error="x")
            else:
                world.store.lanes.disable(work, ATTEMPT, now=1.0, reason="x")
            for table in ("attempts", "attempt_deliveries", "deliveries", "lanes", "endpoints"):
                assert world.sql(f"SELECT count(*) FROM {table}") == [(0,)]
            assert world.store.lanes.claim(world.clock() + 10) is None

    def test_ingest_that_has_read_it_before_stores_no_delivery(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The endpoints are read before the transaction that stores what they want."""

        def and_then_remove(self: Endpoints) -> list[Endpoint]:
            found = real(self)
            self.remove(number)
            return found

        number = world.endpoint().id
        real = Endpoints.all
        monkeypatch.setattr(Endpoints, "all", and_then_remove)
        world.put("main:->A")
        assert world.run() == 1
        assert world.told() == ["main:->A"]
        assert world.store.reports.deliveries() == []


def test_nobody_prints_a_secret() -> None:
    assert "s3cret" not in repr(FULL)
    assert "gehe" not in repr(FULL)
