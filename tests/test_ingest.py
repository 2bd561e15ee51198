"""From records to deliveries: the order is that of the refs' ids, nothing is lost, told twice or holds up others."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hard
from refcast import ingest as ingesting
from refcast import spool
from refcast.errors import StateError
from refcast.history import History
from refcast.ingest import BATCH_EVENTS, RETRY_SECONDS, Ingest, announcing, order
from refcast.ingest import describe as described
from refcast.ingest.order import Record
from refcast.ingest.sweep import SLICE, Sweep
from refcast.ingest.turns import Turns
from refcast.model import RefUpdate
from refcast.settings import Settings
from refcast.spool import boxes
from refcast.store import Store
from refcast.store.intake import Batch, Intake
from refcast.store.reports import DeliveryRow
from spooled import DAY, NOON, World

CHAIN = ("main:->A", "main:A>B", "main:B>C", "main:C>D")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


Left = tuple[dict[str, str], list[DeliveryRow], list[bytes], set[str]]
"""What an ingest has left in the store: tips, deliveries, some payloads, and records that are only begun."""


class Killed(BaseException):
    """What stands for the end of the process where a test must look at what is left."""


class TestOrder:
    @pytest.mark.parametrize("times", [*[*permutations(range(4))][::5], (1, 1, 1, 1), (3, 2, 1, 0)])
    def test_ids_decide_and_clocks_do_not(self, world: World, times: tuple[int, ...]) -> None:
        for move, at in zip(CHAIN, times, strict=True):
            world.put(move, at=NOON + at)
        assert world.run() == 4
        assert world.told() == [*CHAIN]
        assert world.spooled() == []
        assert world.tips() == {"main": "D"}

    @pytest.mark.parametrize("times", [*permutations(range(4))])
    def test_a_ref_that_went_back_and_forth(self, world: World, times: tuple[int, ...]) -> None:
        world.put("main:->A")
        world.run()
        moves = ["main:A>B", "main:B>A", "main:A>C", "main:C>D"]
        for move, at in zip(moves, times, strict=True):
            world.put(move, at=NOON + at)
        world.run()
        assert world.told() == ["main:->A", *moves]

    def test_a_branch_made_deleted_and_made_again(self, world: World) -> None:
        moves = ["main:->A", "main:A>-", "main:->B", "main:B>C"]
        for at, move in enumerate(moves):
            world.put(move, at=NOON - at)
        world.run()
        assert world.told() == moves

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_any_walk_of_a_ref_in_any_order_is_told_whole(self, data: st.DataObject) -> None:
        """Where ids recur it need not be the walk that happened, but each move begins where the last one ended."""
        walk = data.draw(st.lists(st.sampled_from("ABCD"), min_size=2, max_size=8))
        moves = [(old * 40, new * 40) for old, new in pairwise(walk) if old != new]
        records = data.draw(st.permutations([self.record(old.lower(), new.lower()) for old, new in moves]))
        waiting = list(records)
        assert order.beginning(waiting, {"refs/heads/main": walk[-1].lower() * 40}) == {
            "refs/heads/main": walk[0].lower() * 40
        }
        tips = {"refs/heads/main": walk[0].lower() * 40}
        turns = Turns(waiting, tips, set())
        while record := turns.following():
            ((ref, update),) = record.moves()
            assert update.old == tips[ref]
            tips[ref] = update.new
            waiting.remove(record)
            turns.done(record)
        assert not waiting

    @staticmethod
    def record(old: str, new: str) -> Record:
        part = spool.Part("/srv/site.git", (RefUpdate(old, new, "refs/heads/main"),), str(uuid.uuid4()))
        return Record(spool.Entry(Path("x"), 0, datetime.now(UTC), (), (part,), True, False), part)

    def test_several_refs_of_one_push_are_told_in_its_order(self, world: World) -> None:
        world.put("b:->B", "a:->A", "refs/tags/v1:->C")
        world.run()
        assert world.told() == ["b:->B", "a:->A", "refs/tags/v1:->C"]

    def test_pushes_that_share_refs(self, world: World) -> None:
        world.put("dev:A>B", "main:B>C", at=NOON)
        world.put("dev:->A", at=NOON + 1)
        world.put("main:->B", at=NOON + 2)
        world.run()
        assert world.told() == ["dev:->A", "main:->B", "dev:A>B", "main:B>C"]

    def test_two_repositories_have_nothing_to_do_with_each_other(self, world: World, tmp_path: Path) -> None:
        other = tmp_path / "other.git"
        shutil.copytree(world.bare, other)
        world.store.repositories.add(str(other), {}, NOON)
        world.put("main:->A", repository=other)
        world.put("main:->B")
        world.run()
        assert sorted(world.told()) == ["main:->A", "main:->B"]


class TestListing:
    """To list a directory takes its time: it may show the last of the files made meanwhile and not those before it."""

    @pytest.fixture
    def hide(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """`hide([path], [])`: the next listing leaves these out, the one behind it nothing."""
        real = spool.look

        def hide(*hidden: list[Path]) -> None:
            left = list(hidden)

            def look(*given: Any) -> boxes.Look:
                found = real(*given)
                for path in left.pop(0) if left else ():
                    del found.times[path]
                    for paths in found.files.values():
                        paths[:] = [one for one in paths if one != path]
                found.files = {uid: paths for uid, paths in found.files.items() if paths}
                return found

            monkeypatch.setattr(spool, "look", look)

        return hide

    def test_the_last_of_three(self, world: World, hide: Callable[..., None]) -> None:
        world.put("main:->A")
        world.run()
        moves = ["main:A>B", "main:B>A", "main:A>C"]
        paths = [world.put(move, at=NOON + at) for at, move in enumerate(moves)]
        world.clock.now += 10
        hide(paths[:2])
        assert world.run() == 3
        assert world.told() == ["main:->A", *moves]

    def test_the_last_of_three_that_came_later(self, world: World, hide: Callable[..., None]) -> None:
        world.put("main:->A")
        world.run()
        moves = ["main:A>B", "main:B>A", "main:A>C"]
        world.put("dev:->A", at=NOON)
        paths = [world.put(move, at=NOON + at) for at, move in enumerate(moves, 1)]
        world.clock.now += 10
        hide(paths, paths[:2])
        assert world.run() == 1
        assert world.told()[1:] == ["dev:->A"]
        assert world.ingest.has_records()
        assert world.run() == 3
        assert world.told()[2:] == moves

    def test_a_repository_that_is_met(self, tmp_path: Path, hide: Callable[..., None]) -> None:
        """Its ledger is made from its refs, and from all that has led to them."""
        with World(tmp_path, known=False) as world:
            world.put("dev:->A", at=NOON)
            paths = [world.put(move, at=NOON + at) for at, move in enumerate(["main:->A", "main:A>B"], 1)]
            world.clock.now += 10
            hide(paths)
            assert world.run() == 0
            assert world.run() == 3
            assert world.told() == ["dev:->A", "main:->A", "main:A>B"]

    def test_one_that_others_wait_for(self, world: World, hide: Callable[..., None]) -> None:
        """Its ref moved first, but its record was written last."""
        world.put("main:->A")
        world.run()
        world.put("main:B>C", at=NOON)
        late = world.put("main:A>B", at=NOON + 1)
        world.clock.now += 10
        hide([late])
        assert world.run() == 0
        assert world.run() == 2
        assert world.told() == ["main:->A", "main:A>B", "main:B>C"]

    def test_files_of_the_future_wait_no_longer(self, world: World, hide: Callable[..., None]) -> None:
        world.put("main:->A", at=NOON + DAY)
        late = world.put("dev:->A", at=NOON + 2 * DAY)
        hide([late])
        assert world.run() == 1
        assert world.run() == 1


class TestWaiting:
    def test_for_a_push_under_way_that_may_be_the_predecessor(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        under_way = world.intend("main:A>B", alive=True)
        world.put("main:B>C")
        assert world.run() == 0
        assert world.told() == ["main:->A"]
        world.put("main:A>B", name=under_way.name, set_refs=False)
        assert world.run() == 2
        assert world.told() == ["main:->A", "main:A>B", "main:B>C"]

    def test_ends_when_that_push_has_died(self, world: World) -> None:
        under_way = world.intend("main:A>B", alive=True)
        world.put("main:B>C")
        assert world.run() == 0
        under_way.rename(world.box / "99999999-0.push")
        assert world.run() == 1
        assert world.told() == ["main:->B?", "main:B>C"]

    def test_not_for_one_of_another_ref(self, world: World) -> None:
        world.intend("dev:->B", alive=True)
        world.put("main:B>C")
        assert world.run() == 1

    def test_not_for_one_that_fits(self, world: World) -> None:
        world.intend("main:A>B", alive=True)
        world.put("main:->A")
        assert world.run() == 1

    def test_not_in_another_namespace(self, world: World) -> None:
        world.intend("main:A>B", alive=True, facts=["GIT_NAMESPACE=a"])
        world.put("main:B>C", facts=["GIT_NAMESPACE=b"])
        assert world.run() == 1

    def test_holds_up_no_other_ref(self, world: World) -> None:
        world.intend("main:A>B", alive=True)
        world.put("main:B>C", at=NOON)
        world.put("dev:D>E", at=NOON + 1)
        assert world.run() == 1
        assert world.told() == ["dev:->D?", "dev:D>E"]

    def test_holds_up_what_waits_for_what_waits(self, world: World) -> None:
        world.intend("main:A>B", alive=True)
        world.put("main:B>C", "dev:->A", at=NOON)
        world.put("dev:A>B", at=NOON - 1)
        assert world.run() == 0


class TestGaps:
    def test_are_told_once_as_recovered(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        world.put("main:C>D")
        world.run()
        world.run()
        assert world.told() == ["main:->A", "main:A>C?", "main:C>D"]
        assert world.tips() == {"main": "D"}

    @pytest.mark.parametrize("later", [-60.0, 0.0, 60.0])
    def test_what_comes_late_is_not_told_again(self, world: World, later: float) -> None:
        world.put("main:->A")
        world.run()
        world.put("main:C>D")
        world.run()
        world.put("main:A>B", at=NOON + later, set_refs=False)
        world.put("main:B>C", at=NOON + later, set_refs=False)
        assert world.run() == 2
        assert world.told() == ["main:->A", "main:A>C?", "main:C>D"]
        assert world.tips() == {"main": "D"}
        world.put("main:D>E")
        world.run()
        assert world.told()[-1] == "main:D>E"

    def test_nor_if_the_ref_has_moved_on_meanwhile(self, world: World) -> None:
        world.put("main:->A", at=NOON)
        world.run()
        world.put("main:C>D", at=NOON + 2)
        world.run()
        world.set_refs("main:D>E")
        world.put("main:A>C", at=NOON + 1, set_refs=False)
        world.run()
        assert world.told() == ["main:->A", "main:A>C?", "main:C>D"]

    def test_a_second_one_is_told_even_if_the_clock_was_set_back(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        world.put("main:B>C")
        world.run()
        world.put("main:D>E", at=NOON - 3600)
        world.run()
        assert world.told() == ["main:->A", "main:A>B?", "main:B>C", "main:C>D?", "main:D>E"]

    def test_a_deletion_and_a_creation_that_nobody_told_of(self, world: World) -> None:
        world.put("main:->A", "dev:->A")
        world.run()
        world.put("main:->B", "dev:C>-")
        world.run()
        assert world.told()[2:] == ["main:A>-?", "dev:A>C?", "main:->B", "dev:C>-"]

    def test_two_behind_one_gap(self, world: World) -> None:
        world.put("main:C>D", at=NOON)
        world.put("main:B>C", at=NOON + 1)
        world.run()
        assert world.told() == ["main:->B?", "main:B>C", "main:C>D"]

    def test_only_the_ref_with_the_gap_is_recovered(self, world: World) -> None:
        world.put("main:B>C", "dev:->A")
        world.run()
        assert world.told() == ["main:->B?", "main:B>C", "dev:->A"]


class TestFirstMet:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with World(tmp_path, known=False) as made:
            yield made

    @pytest.mark.parametrize("times", [(0, 1, 2), (2, 1, 0), (0, 0, 0)])
    def test_its_ledger_is_what_was_there_before_the_records(self, world: World, times: tuple[int, ...]) -> None:
        world.set_refs("old:->F", "main:->A")
        for move, at in zip(["main:A>B", "main:B>C", "dev:->A"], times, strict=True):
            world.put(move, at=NOON + at)
        world.run()
        assert sorted(world.told()) == ["dev:->A", "main:A>B", "main:B>C"]
        assert [move for move in world.told() if "main" in move] == ["main:A>B", "main:B>C"]
        assert world.tips() == {"old": "F", "main": "C", "dev": "A"}

    def test_a_round(self, world: World) -> None:
        world.put("main:B>A", at=NOON)
        world.put("main:A>B", at=NOON + 1)
        world.set_refs("main:B>A")
        world.run()
        assert world.told() == ["main:A>B", "main:B>A"]

    def test_a_deletion(self, world: World) -> None:
        world.put("main:A>-", set_refs=False)
        world.run()
        assert world.told() == ["main:A>-"]

    def test_a_push_whose_record_comes_after_its_ref_was_seen(self, world: World) -> None:
        world.set_refs("dev:->B")  # by a push that is under way
        world.put("main:->A")
        world.run()
        assert world.tips() == {"main": "A", "dev": "B"}
        world.put("dev:->B", set_refs=False)
        world.run()
        assert world.told() == ["main:->A", "dev:->B"]

    def test_its_records_need_not_come_in_one_pass(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        world.put("main:A>B")
        world.run()
        assert world.told() == ["main:->A", "main:A>B"]


class TestNamespaces:
    def test_have_a_ledger_of_their_own(self, world: World) -> None:
        world.put("main:->A")
        world.put("main:->B", facts=["GIT_NAMESPACE=x/y"], set_refs=False)
        world.put("main:B>C", facts=["GIT_NAMESPACE=x/y"], set_refs=False)
        world.run()
        assert world.told() == ["main:->A", "main:->B", "main:B>C"]
        assert world.tips() == {"main": "A", "refs/namespaces/x/refs/namespaces/y/refs/heads/main": "C"}

    def test_first_met(self, tmp_path: Path) -> None:
        with World(tmp_path, known=False) as world:
            world.set_refs("refs/namespaces/x/refs/heads/main:->B", "main:->D")
            world.put("main:A>B", facts=["GIT_NAMESPACE=x"], set_refs=False)
            world.run()
            assert world.told() == ["main:A>B"]
            assert world.tips() == {"refs/namespaces/x/refs/heads/main": "B", "main": "D"}


class TestAside:
    @pytest.mark.parametrize(
        "content",
        [
            b"refcast 1 push\0id=x\0updates=\0end\0",
            b"refcast 1 push\0id=x",
            b"refcast 1 push\0what is this\0end\0",
            b"\xff\xfe",
            b"",
        ],
        ids=["incomplete", "cut off", "no field", "no text", "empty"],
    )
    def test_a_bad_record_harms_no_other_and_is_shown(self, world: World, content: bytes) -> None:
        bad = world.box / "99999999-0.push"
        bad.write_bytes(content)
        os.utime(bad, (NOON - RETRY_SECONDS, NOON - RETRY_SECONDS))
        world.put("main:->A")
        assert world.run() == 1
        (reason,) = world.asides()
        assert str(bad) in reason
        assert "\n" not in reason
        assert bad.exists()
        (aside,) = world.store.intake.asides()
        world.clock.now += 1000
        world.run()
        assert world.store.intake.asides() == [aside]

    def test_a_mended_record_is_tried_again_on_demand(self, world: World) -> None:
        bad = world.write("99999999-0.push", ["refcast 1 push"], at=NOON - RETRY_SECONDS)
        world.run()
        bad.unlink()
        world.put("main:->A", name=bad.name)
        assert world.run() == 0
        assert world.store.intake.retry_aside(str(bad), world.clock()) == 1
        assert world.run() == 1
        assert world.asides() == []
        assert world.told() == ["main:->A"]

    def test_what_was_just_written_to_may_become_whole(self, world: World) -> None:
        """In another container, the push that writes it is not to be seen, so it looks dead."""
        world.intend("main:->A", alive=False, name="99999999-0.push")
        path = world.write("99999999-0.push", ["refcast 1 push", f"id={uuid.uuid4()}"])
        world.run()
        assert "cut off" in world.asides()[0]
        fields = [f"repository={world.bare}", f"updates={world.ids['-']} {world.ids['A']} refs/heads/main\n", "end"]
        world.write(path.name, fields)
        assert world.run() == 0
        world.clock.now += RETRY_SECONDS
        assert world.run() == 1
        assert world.told() == ["main:->A"]
        assert world.asides() == []

    def test_of_a_removed_file_nothing_is_kept(self, world: World) -> None:
        bad = world.box / "99999999-0.push"
        bad.symlink_to("nowhere")
        world.run()
        world.run()
        assert len(world.asides()) == 1
        bad.unlink()
        world.run()
        assert world.asides() == []

    def test_a_file_that_git_cannot_have_written(self, world: World) -> None:
        world.put("main:->A", "main:A>B", set_refs=False)
        world.put("dev:->A")
        world.run()
        assert world.told() == ["dev:->A"]
        assert "more than once" in world.asides()[0]

    def test_the_gap_that_a_bad_record_leaves_is_told_and_its_late_return_is_not(self, world: World) -> None:
        torn = world.put("main:->A")
        whole = torn.read_bytes()
        torn.write_bytes(whole[:-5])
        os.utime(torn, (NOON - RETRY_SECONDS, NOON - RETRY_SECONDS))
        world.put("main:A>B")
        world.run()
        assert world.told() == ["main:->A?", "main:A>B"]
        torn.write_bytes(whole)
        world.store.intake.retry_aside(None, world.clock())
        assert world.run() == 1
        assert world.told() == ["main:->A?", "main:A>B"]
        assert world.tips() == {"main": "B"}
        assert world.spooled() == []

    def test_a_bug_costs_one_record(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def buggy(self: Intake, batch: Batch, now: float) -> None:
            if any(new.event.update and new.event.update.short == "bad" for new in batch.events):
                raise AssertionError("a bug")
            real(self, batch, now)

        real = Intake.add
        monkeypatch.setattr(Intake, "add", buggy)
        for ref in ("one", "bad", "two"):
            world.put(f"{ref}:->A")
        assert world.run() == 2
        assert world.told() == ["one:->A", "two:->A"]
        assert "bug" in world.asides()[0]
        monkeypatch.undo()
        world.store.intake.retry_aside(None, world.clock())
        world.run()
        assert world.told()[-1] == "bad:->A"

    def test_a_file_that_cannot_be_removed_harms_no_other(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def stuck(path: Path) -> None:
            if path == first:
                raise PermissionError(13, "Permission denied")
            real(path)

        real = spool.remove
        monkeypatch.setattr(spool, "remove", stuck)
        first = world.put("main:->A")
        world.put("main:A>B", at=NOON + 1)
        assert world.run() == 2
        assert world.run() == 0
        assert world.told() == ["main:->A", "main:A>B"]
        assert "cannot be removed" in world.asides()[0]

    def test_a_directory_that_is_closed_to_the_worker(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = world.box / "99999999-0.push"
        closed.write_bytes(b"?")
        world.run()

        def lstat(path: str) -> os.stat_result:
            if path == str(closed):
                raise PermissionError(13, "Permission denied")
            return real(path)

        real = os.lstat
        monkeypatch.setattr(os, "lstat", lstat)
        world.put("main:->A")
        assert world.run() == 1
        assert len(world.asides()) == 1

    def test_a_file_that_cannot_be_read_is_tried_again(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def closed(path: Path, limit: int = 0) -> spool.Entry:
            raise OSError(24, "Too many open files")

        world.put("main:->A")
        monkeypatch.setattr(spool, "read", closed)
        assert world.run() == 0
        assert "Too many open files" in world.asides()[0]
        monkeypatch.undo()
        world.clock.now += RETRY_SECONDS
        assert world.run() == 1
        assert world.asides() == []


@contextmanager
def without(path: Path) -> Iterator[None]:
    gone = path.with_name("gone")
    path.rename(gone)
    yield
    gone.replace(path)


@contextmanager
def with_torn_config(path: Path) -> Iterator[None]:
    with without(path):
        path.write_bytes(b"[core\n")
        yield


class TestUnreadableRepository:
    @pytest.mark.parametrize(
        ("spoiled", "place"), [(without, "."), (without, "HEAD"), (without, "objects"), (with_torn_config, "config")]
    )
    def test_rests_and_comes_back_in_order(
        self, world: World, tmp_path: Path, spoiled: Callable[[Path], AbstractContextManager[None]], place: str
    ) -> None:
        other = tmp_path / "other.git"
        shutil.copytree(world.bare, other)
        world.put("main:A>B", at=NOON + 1)
        world.put("main:->A", at=NOON)
        with spoiled(world.bare / place):
            world.put("main:->C", repository=other, at=NOON + 2)
            assert world.run() == 1
            assert world.told() == ["main:->C"]
            assert len(world.asides()) == 2
            assert all(str(world.bare) in reason and "\n" not in reason for reason in world.asides())
        # What comes meanwhile waits behind what rests, though the repository could be read again.
        world.put("main:B>C", at=NOON + 3)
        assert world.run() == 0
        world.clock.now += RETRY_SECONDS
        assert world.run() == 3
        assert world.told() == ["main:->C", "main:->A", "main:A>B", "main:B>C"]
        assert world.asides() == []
        assert world.spooled() == []

    def test_a_person_need_not_wait(self, world: World) -> None:
        with without(world.bare):
            world.put("main:->A", set_refs=False)
            world.run()
        world.store.intake.retry_aside(None, world.clock())
        assert world.run() == 1

    def test_a_clock_that_was_set_back_does_not_hold_it(self, world: World) -> None:
        with without(world.bare):
            world.put("main:->A", set_refs=False)
            world.run()
        world.clock.now -= 3600
        assert world.run() == 1

    def test_stays_aside_as_long_as_it_is_unreadable(self, world: World) -> None:
        world.put("main:->A", set_refs=False)
        with without(world.bare):
            for _ in range(3):
                assert world.run() == 0
                world.clock.now += RETRY_SECONDS
        (aside,) = world.store.intake.asides()
        assert aside.since == NOON

    def test_one_that_was_never_there(self, world: World, tmp_path: Path) -> None:
        world.put("main:->A", repository=tmp_path / "never.git")
        world.put("main:->A")
        assert world.run() == 1
        assert "there is no such repository" in world.asides()[0]

    def test_a_fault_that_nobody_foresaw_rests_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(path: str) -> History:
            raise LookupError("unforeseen")

        world.put("main:->A")
        monkeypatch.setattr(History, "open", broken)
        assert world.run() == 0
        assert world.asides() == ["unforeseen"]
        monkeypatch.undo()
        world.clock.now += RETRY_SECONDS
        assert world.run() == 1

    def test_objects_that_are_gone_cost_the_commits_and_not_the_event(self, world: World) -> None:
        world.endpoint()
        world.put(f"main:->{'e' * 40}", set_refs=False)
        assert world.run() == 1
        ((incomplete,),) = world.sql("SELECT incomplete FROM events")
        assert "gone" in str(incomplete)
        assert len(world.store.reports.deliveries()) == 1


class TestStoreThatFails:
    def test_takes_no_record_aside(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def locked(self: Intake, batch: Batch, now: float) -> None:
            raise StateError("database is locked")

        world.put("main:->A")
        monkeypatch.setattr(Intake, "add", locked)
        with pytest.raises(StateError, match="locked"):
            world.run()
        monkeypatch.undo()
        assert world.asides() == []
        assert world.run() == 1


class TestIdempotence:
    def test_a_record_that_is_read_again(self, world: World) -> None:
        path = world.put("main:->A")
        whole = path.read_bytes()
        world.run()
        path.write_bytes(whole)
        assert world.run() == 0
        assert world.told() == ["main:->A"]
        assert world.spooled() == []

    def test_a_copy_of_a_record(self, world: World) -> None:
        path = world.put("main:->A")
        shutil.copy(path, world.box / "99999999-77.push")
        world.run()
        assert world.told() == ["main:->A"]
        assert world.spooled() == []

    def test_one_that_is_known_does_not_take_part_in_the_order(self, world: World) -> None:
        path = world.put("main:->A", at=NOON)
        whole = path.read_bytes()
        world.run()
        world.put("main:A>-", at=NOON + 1)
        world.put("main:->B", at=NOON + 2)
        path.write_bytes(whole)
        world.run()
        assert world.told() == ["main:->A", "main:A>-", "main:->B"]

    def test_a_crash_at_any_transaction_of_a_large_push(self, world: World, tmp_path: Path) -> None:
        """The same events, ids and bodies as without it, and each once."""
        for number in range(40):
            world.put(f"lost/{number}:->A")
        world.run()
        push = [f"{number:03}:->{'BCD'[number % 3]}" for number in range(2 * BATCH_EVENTS + 30)]
        push += [f"lost/{number}:{'B>C' if number % 2 else 'B>-'}" for number in range(40)]
        record = world.put(*push)
        world.endpoint("codeup")
        world.endpoint("gogs", dialect="gogs")
        world.store.close()

        def ingested(
            state: Path, crashes: list[int]
        ) -> tuple[dict[str, str], list[DeliveryRow], list[bytes], set[str]]:
            shutil.copytree(world.state, state)
            for crash in [*crashes, None]:
                with Store.open(state) as store:
                    count = 0

                    def between() -> bool:
                        nonlocal count
                        count += 1
                        if count == crash:  # noqa: B023
                            raise Killed
                        return True

                    # The spool stays where it is, as the repository does; only the store differs.
                    record.write_bytes(whole)
                    os.utime(record, (NOON, NOON))
                    try:
                        Ingest(store, world.state / "spool", world.clock, between).run(Settings())
                    except Killed:
                        continue
                    tips = store.repositories.tips(1)
                    rows = store.reports.deliveries(limit=10_000)
                    payloads = [store.reports.delivery(row.id).payload for row in rows[::7]]
                    return tips, rows, payloads, store.intake.begun(1)
            raise AssertionError

        whole = record.read_bytes()
        plain = ingested(tmp_path / "plain", [])
        assert len(plain[1]) > 600
        assert plain[3] == set()
        for crashes in ([2], [3], [4], [2, 2, 3]):
            assert ingested(tmp_path / f"{crashes}", crashes) == plain

    def test_a_half_told_record_comes_before_the_others(self, world: World) -> None:
        class Once:
            calls = 0

        def between() -> bool:
            Once.calls += 1
            if Once.calls == 2:
                raise Killed
            return True

        refs = [f"{number:03}" for number in range(BATCH_EVENTS + 1)]
        world.put(*(f"{ref}:->A" for ref in refs), at=NOON + 1)
        with pytest.raises(Killed):
            Ingest(world.store, world.state / "spool", world.clock, between).run(Settings())
        assert len(world.told()) == BATCH_EVENTS
        world.put("000:A>B", at=NOON)
        world.run()
        assert world.told() == [f"{ref}:->A" for ref in refs] + ["000:A>B"]


class TestDeliveries:
    def test_only_for_endpoints_that_want_the_event(self, world: World) -> None:
        world.endpoint("all")
        world.endpoint("tags", events=frozenset({"tag_push"}))
        world.endpoint("others", repositories=("other*",))
        world.endpoint("this", repositories=("si*",))
        world.endpoint("gogs", dialect="gogs")
        world.put("main:->A", "refs/tags/v1:->A")
        world.run()
        rows = [(row.endpoint, row.kind, row.ref) for row in reversed(world.store.reports.deliveries())]
        assert sorted(rows) == [
            ("all", "Push Hook", "refs/heads/main"),
            ("all", "Tag Push Hook", "refs/tags/v1"),
            ("gogs", "create", "refs/heads/main"),
            ("gogs", "create", "refs/tags/v1"),
            ("gogs", "push", "refs/heads/main"),
            ("tags", "Tag Push Hook", "refs/tags/v1"),
            ("this", "Push Hook", "refs/heads/main"),
            ("this", "Tag Push Hook", "refs/tags/v1"),
        ]

    def test_gogs_announces_the_creation_before_the_push(self, world: World) -> None:
        world.endpoint(dialect="gogs")
        world.put("main:->A", "dev:->B", "old:->A")
        world.put("old:A>-", at=NOON + 1)
        world.run()
        rows = [(row.kind, row.ref) for row in reversed(world.store.reports.deliveries())]
        main, dev, old = (f"refs/heads/{name}" for name in ("main", "dev", "old"))
        assert rows == [
            *(("create", main), ("push", main), ("create", dev), ("push", dev), ("create", old), ("push", old)),
            ("delete", old),
        ]

    def test_a_disabled_endpoint_has_its_deliveries_held(self, world: World) -> None:
        world.store.endpoints.disable(world.endpoint().id, "by hand")
        world.put("main:->A")
        world.run()
        assert [row.state for row in world.store.reports.deliveries()] == ["held"]

    def test_other_refs_enter_the_ledger_without_an_event(self, world: World) -> None:
        world.endpoint()
        world.put("refs/notes/commits:->A", "refs/changes/1/1:->B")
        world.run()
        assert world.told() == []
        assert world.tips() == {"refs/notes/commits": "A", "refs/changes/1/1": "B"}
        world.endpoint("curious", other_refs=True)
        world.put("refs/notes/commits:A>C")
        world.run()
        assert world.told() == ["refs/notes/commits:A>C"]
        assert [row.endpoint for row in world.store.reports.deliveries()] == ["curious"]

    def test_a_push_without_an_endpoint_is_still_an_event(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        assert world.told() == ["main:->A"]

    def test_a_push_of_two_thousand_refs_in_bounded_transactions(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = []

        def add(self: Intake, batch: Batch, now: float) -> None:
            sizes.append(len(batch.events))
            real(self, batch, now)

        real = Intake.add
        monkeypatch.setattr(Intake, "add", add)
        world.endpoint()
        refs = [f"b/{number:04}" for number in range(2000)]
        world.put(*(f"{ref}:->A" for ref in refs))
        world.run()
        assert sum(sizes) == 2000
        assert max(sizes) <= BATCH_EVENTS
        assert [row.ref for row in reversed(world.store.reports.deliveries(limit=3000))] == [
            f"refs/heads/{ref}" for ref in refs
        ]

    def test_large_bodies_bound_a_transaction_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(announcing, "BATCH_BYTES", 1)
        calls = 0

        def between() -> bool:
            nonlocal calls
            calls += 1
            return True

        world.ingest = Ingest(world.store, world.state / "spool", world.clock, between)
        world.endpoint()
        world.put("one:->A", "two:->A", "three:->A")
        world.run()
        assert calls >= 4
        assert world.told() == ["one:->A", "two:->A", "three:->A"]


class TestPusher:
    def test_is_the_account_or_what_the_front_end_of_the_owner_says(self, world: World) -> None:
        world.put("main:->A", facts=["GL_USER=ann"])
        world.put("main:A>B", facts=["REMOTE_USER=ben", "LOGNAME=mallory"])
        world.run()
        pushers = [os.fsdecode(name) for (name,) in world.sql("SELECT pusher FROM events ORDER BY id")]
        assert pushers == ["ann", "ben"]


class TestNames:
    def test_bytes_that_are_no_text_survive(self, tmp_path: Path) -> None:
        with World(tmp_path / os.fsdecode(b"caf\xe9")) as world:
            world.endpoint()
            ref = os.fsdecode(b"refs/heads/caf\xe9")
            world.put(f"{ref}:->A")
            assert world.run() == 1, world.asides()
            number = world.store.repositories.find(str(world.bare))
            assert number is not None
            assert world.store.repositories.tips(number) == {ref: world.ids["A"]}
            (row,) = world.store.reports.deliveries()
            assert (row.ref, row.repository) == (ref, str(world.bare))
            assert "caf\ufffd" in world.store.reports.delivery(row.id).payload.decode()


class TestDescription:
    def test_a_pipe_in_its_place_does_not_block(self, world: World) -> None:
        os.mkfifo(world.bare / "description")
        with History.open(str(world.bare)) as history:
            assert described(Settings(), history, str(world.bare), 1).description == ""

    def test_is_what_the_repository_says_unless_git_does(self, world: World) -> None:
        for text, expected in (("The site\n", "The site"), ("Unnamed repository; edit this file", "")):
            (world.bare / "description").write_text(text)
            with History.open(str(world.bare)) as history:
                assert described(Settings(), history, str(world.bare), 1).description == expected


class TestBetween:
    def test_is_asked_before_each_record_and_ends_the_pass(self, world: World) -> None:
        for ref in ("one", "two", "three"):
            world.put(f"{ref}:->A")
        answers = iter([True, True, False])
        few = Ingest(world.store, world.state / "spool", world.clock, lambda: next(answers))
        assert few.run(Settings()) == 1
        assert world.run() == 2


class TestSymbolicRefs:
    def test_a_push_to_one_moves_what_it_leads_to_once(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        hard.git(world.bare, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        hard.git(world.bare, "symbolic-ref", "refs/heads/far", "refs/heads/alias")
        for move, more in (("A>B", ["alias"]), ("B>C", ["alias", "main"]), ("C>D", ["main", "far", "alias"])):
            world.put(*(f"{name}:{move}" for name in more), set_refs=False)
            world.set_refs(f"main:{move}")
            world.run()
        assert world.told() == ["main:->A", "main:A>B", "main:B>C", "main:C>D"]
        assert world.tips() == {"main": "D"}

    def test_one_whose_target_is_made_by_the_push(self, world: World) -> None:
        hard.git(world.bare, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        world.put("alias:->A", set_refs=False)
        world.set_refs("main:->A")
        world.run()
        assert world.told() == ["main:->A"]

    def test_a_push_under_way_to_one_holds_up_its_target(self, world: World) -> None:
        hard.git(world.bare, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        world.intend("alias:->A", alive=True)
        world.put("main:A>B")
        assert world.run() == 0


class TestMostEvents:
    def states(self, world: World) -> list[tuple[str, str, str]]:
        rows = reversed(world.store.reports.deliveries(limit=1000))
        return [(row.endpoint, row.ref.removeprefix("refs/heads/"), row.state) for row in rows]

    def test_beyond_them_deliveries_are_held_for_each_endpoint(self, world: World) -> None:
        world.endpoint("one", max_events=1)
        world.endpoint("all")
        world.endpoint("tags", max_events=1, events=frozenset({"tag_push"}))
        world.put("a:->A", "b:->A", "refs/tags/v1:->A", "refs/tags/v2:->A")
        world.run()
        states = self.states(world)
        assert [(ref, state) for name, ref, state in states if name == "one"] == [
            ("a", "waiting"),
            ("b", "held"),
            ("refs/tags/v1", "held"),
            ("refs/tags/v2", "held"),
        ]
        assert {state for name, _, state in states if name == "all"} == {"waiting"}
        assert [state for name, _, state in states if name == "tags"] == ["waiting", "held"]
        reasons = {reason for (reason,) in world.sql("SELECT reason FROM deliveries WHERE state = 'held'")}
        assert reasons == {"beyond the events of one push that the endpoint takes"}

    def test_both_messages_of_one_event_go_together(self, world: World) -> None:
        world.endpoint(dialect="gogs", max_events=1)
        world.put("a:->A", "b:->A")
        world.run()
        assert [state for _, _, state in self.states(world)] == ["waiting", "waiting", "held", "held"]

    def test_what_follows_on_a_ref_that_is_held_is_held_behind_it(self, world: World) -> None:
        world.endpoint("one", max_events=1)
        world.endpoint("all")
        world.put("a:->A", "b:->A")
        world.run()
        for move in ("b:A>B", "a:A>B", "b:B>C"):
            world.put(move)
            world.run()
        world.put("b:->A", facts=["GIT_NAMESPACE=x"], set_refs=False)
        world.run()
        mine = [(ref, state) for name, ref, state in self.states(world) if name == "one"]
        assert mine == [
            ("a", "waiting"),
            ("b", "held"),
            ("b", "held"),
            ("a", "waiting"),
            ("b", "held"),
            ("b", "waiting"),
        ]
        world.sql("UPDATE deliveries SET state = 'waiting' WHERE state = 'held'")
        world.put("b:C>D")
        world.run()
        assert self.states(world)[-2:] == [("one", "b", "waiting"), ("all", "b", "waiting")]

    def test_none_at_all(self, world: World) -> None:
        world.endpoint(max_events=0)
        world.put("a:->A")
        world.run()
        assert [state for _, _, state in self.states(world)] == ["held"]

    def test_an_interruption_counts_nothing_twice(self, world: World) -> None:
        world.endpoint(max_events=BATCH_EVENTS + 20)
        answers = iter([True, False])
        refs = [f"{number:03}" for number in range(2 * BATCH_EVENTS)]
        world.put(*(f"{ref}:->A" for ref in refs))
        Ingest(world.store, world.state / "spool", world.clock, lambda: next(answers)).run(Settings())
        assert len(world.told()) == BATCH_EVENTS
        world.run()
        states = [state for _, _, state in self.states(world)]
        assert states == ["waiting"] * (BATCH_EVENTS + 20) + ["held"] * (BATCH_EVENTS - 20)

    def test_what_a_sweep_finds_counts_together(self, world: World) -> None:
        world.endpoint(max_events=SLICE + 1)
        world.set_refs(*(f"{number:04}:->A" for number in range(SLICE + 3)))
        Sweep(world.store, world.state / "spool", world.clock).one(str(world.bare), Settings())
        states = [state for _, _, state in self.states(world)]
        assert states == ["waiting"] * (SLICE + 1) + ["held"] * 2

    def test_a_batch_that_is_held_does_not_open_a_window(self, world: World) -> None:
        world.endpoint(dialect="codescoring", max_events=0, batch_window=100.0)
        world.put("a:->A")
        world.run()
        assert world.sql("SELECT due_at FROM lanes") != [(NOON + 100.0,)]


class TestTurns:
    """A large push of one repository does not hold up another's."""

    @pytest.fixture(autouse=True)
    def always_looks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingesting, "LOOK_SECONDS", 0.0)

    def test_told_to_stop_it_opens_no_other_repository(self, world: World, tmp_path: Path) -> None:
        for number in range(5):
            other = tmp_path / f"{number}.git"
            shutil.copytree(world.bare, other)
            world.put("main:->A", repository=other)
        assert Ingest(world.store, world.state / "spool", world.clock, lambda: False).run(Settings()) == 0
        assert len(world.store.reports.repositories()) == 2  # one was known before
        assert world.run() == 5

    def test_what_comes_meanwhile_is_taken_between_two_transactions(self, world: World, tmp_path: Path) -> None:
        other = tmp_path / "other.git"
        shutil.copytree(world.bare, other)
        world.store.repositories.add(str(other), {}, NOON)
        calls = 0

        def between() -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                world.put("small:->A", repository=other)
            return True

        world.put(*(f"{number:03}:->A" for number in range(5 * BATCH_EVENTS)))
        assert Ingest(world.store, world.state / "spool", world.clock, between).run(Settings()) == 2
        assert BATCH_EVENTS <= world.told().index("small:->A") <= 2 * BATCH_EVENTS
        assert len(world.told()) == 5 * BATCH_EVENTS + 1

    def test_what_comes_to_the_same_repository_waits(self, world: World) -> None:
        calls = 0

        def between() -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                world.put("000:A>B")
            return True

        world.put(*(f"{number:03}:->A" for number in range(3 * BATCH_EVENTS)))
        one = Ingest(world.store, world.state / "spool", world.clock, between)
        one.run(Settings())
        one.run(Settings())
        assert world.told()[-1] == "000:A>B"
        assert world.spooled() == []

    def test_repositories_beyond_those_that_take_turns(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingesting, "MOST_AT_ONCE", 2)
        for number in range(5):
            other = tmp_path / f"{number}.git"
            shutil.copytree(world.bare, other)
            world.store.repositories.add(str(other), {}, NOON)
            world.put(f"{number}:->A", f"{number}x:->A", repository=other)
        assert world.run() == 5
        assert len(world.told()) == 10

    def test_one_that_cannot_be_read_is_not_tried_again_and_again(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = []

        def counted(path: str) -> History:
            opened.append(path)
            return real(path)

        real = History.open
        monkeypatch.setattr(History, "open", counted)
        world.put("main:->A", repository=tmp_path / "never.git")
        world.put(*(f"{number:03}:->A" for number in range(5 * BATCH_EVENTS)))
        world.run()
        assert opened.count(str(tmp_path / "never.git")) == 1


class TestClosedBoxes:
    def test_are_set_aside_until_they_can_be_read(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def scandir(path: Path) -> object:
            if path == world.box:
                raise PermissionError(13, "Permission denied")
            return real(path)

        real = os.scandir
        world.put("main:->A")
        monkeypatch.setattr(os, "scandir", scandir)
        assert world.run() == 0
        (reason,) = world.asides()
        assert reason.startswith(f"{world.box}: Permission denied: its pushes wait; ")
        monkeypatch.undo()
        assert world.run() == 1
        assert world.asides() == []
