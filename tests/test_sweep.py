"""Moves that no record told of are announced as recovered, once; what did not happen is not announced."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise, permutations, product
from pathlib import Path

import pytest

import hard
from refcast import spool
from refcast.errors import StateError
from refcast.history.refs import Refs
from refcast.ingest import RETRY_SECONDS
from refcast.ingest.sweep import EVERY_SECONDS, SLICE, START_SECONDS, Sweep
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Batch, Intake
from refcast.store.repositories import Found, Sweepable
from spooled import NOON, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def new_sweep(world: World) -> Sweep:
    """What a worker that starts now has."""
    return Sweep(world.store, world.state / "spool", world.clock)


def swept(world: World) -> Found:
    """Sweep the repository, due or not."""
    return new_sweep(world).one(str(world.bare), Settings())


def finish(sweep: Sweep) -> int:
    """Sweep what is due; how many turns that took."""
    turns = 1
    while sweep.step(Settings()):
        turns += 1
    return turns


def row(world: World) -> Sweepable:
    (one,) = [one for one in world.store.repositories.sweepable() if one.path == str(world.bare)]
    return one


def pushers(world: World) -> list[tuple[str, float]]:
    return [(os.fsdecode(name), at) for name, at in world.sql("SELECT pusher, received_at FROM events ORDER BY id")]


class TestFinds:
    def test_what_moved_without_a_record(self, world: World) -> None:
        world.endpoint()
        world.put("main:->A", "old:->A", "same:->A")
        world.run()
        world.set_refs("main:A>B", "old:A>-", "new:->C", "refs/tags/v1:->B", "refs/notes/x:->C")
        assert swept(world) == Found(
            5, 0, ("refs/heads/main", "refs/heads/new", "refs/heads/old", "refs/notes/x", "refs/tags/v1")
        )
        assert world.told()[3:] == ["main:A>B?", "new:->C?", "old:A>-?", "refs/tags/v1:->B?"]
        assert world.tips() == {"main": "B", "same": "A", "new": "C", "refs/tags/v1": "B", "refs/notes/x": "C"}
        assert len(world.store.reports.deliveries()) == 7
        assert pushers(world)[3:] == [("unknown", NOON)] * 4
        assert swept(world) == Found()

    def test_nothing_where_all_is_told(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        assert swept(world) == Found()
        assert world.told() == ["main:->A"]

    def test_very_many_in_turns_and_bounded_transactions(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = []

        def add(self: Intake, batch: Batch, now: float) -> None:
            sizes.append(len(batch.events))
            real(self, batch, now)

        real = Intake.add
        monkeypatch.setattr(Intake, "add", add)
        count = 2 * SLICE + 10
        world.set_refs(*(f"b/{number:04}:->A" for number in range(count)), "refs/notes/x:->A")
        world.clock.now += EVERY_SECONDS + 1
        assert finish(new_sweep(world)) == 3
        assert len(world.told()) == sum(sizes) == count
        assert max(sizes) <= 100
        assert row(world).found == Found(count + 1, 0, tuple(f"refs/heads/b/{number:04}" for number in range(100)))

    def test_what_comes_between_two_turns_is_told_once(self, world: World) -> None:
        world.set_refs(*(f"b/{number:04}:->A" for number in range(SLICE + 10)))
        world.clock.now += EVERY_SECONDS + 1
        sweep = new_sweep(world)
        assert sweep.step(Settings())
        world.put(f"b/{SLICE + 5:04}:A>B", f"b/{SLICE + 6:04}:A>C")
        world.run()
        finish(sweep)
        told = world.told()
        assert len(told) == len(set(told)) == SLICE + 12
        assert [tip for _, tip in sorted(world.tips().items())] == ["A"] * (SLICE + 5) + ["B", "C"] + ["A"] * 3


class TestLeavesAlone:
    def test_what_a_push_under_way_moves(self, world: World) -> None:
        under_way = world.intend("main:->A", alive=True)
        world.set_refs("main:->A", "other:->A")
        assert swept(world) == Found(1, 1, ("refs/heads/other",))
        world.put("main:->A", name=under_way.name, set_refs=False)
        world.run()
        assert world.told() == ["other:->A?", "main:->A"]
        assert world.spooled() == []

    def test_what_a_record_in_the_spool_tells(self, world: World) -> None:
        world.put("main:->A")
        world.set_refs("main:A>B")
        assert swept(world) == Found(0, 1)
        world.run()
        assert swept(world) == Found(1, 0, ("refs/heads/main",))
        assert world.told() == ["main:->A", "main:A>B?"]

    def test_also_one_that_is_set_aside(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def buggy(self: Intake, batch: Batch, now: float) -> None:
            raise AssertionError("a bug")

        world.put("main:->A")
        monkeypatch.setattr(Intake, "add", buggy)
        world.run()
        monkeypatch.undo()
        assert swept(world) == Found(0, 1)
        world.store.intake.retry_aside(None, world.clock())
        world.run()
        assert world.told() == ["main:->A"]

    def test_not_what_a_torn_record_would_have_told(self, world: World) -> None:
        """It waits for a person, and the move need not."""
        torn = world.intend("main:->A", alive=False, facts=["GL_USER=ann"])
        world.write(torn.name, ["", "refcast 1 push", "id=x"])
        world.set_refs("main:->A")
        world.clock.now += RETRY_SECONDS
        world.run()
        assert finish(new_sweep(world)) == 1
        assert world.told() == ["main:->A?"]
        assert pushers(world) == [("ann", NOON)]
        assert torn.exists()
        assert not new_sweep(world).one(str(world.bare), Settings()).recovered
        (aside,) = world.asides()
        assert "not the id of a record" in aside or "cut off" in aside

    def test_symbolic_refs(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        hard.git(world.bare, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
        hard.git(world.bare, "symbolic-ref", "refs/heads/nowhere", "refs/heads/gone")
        assert swept(world) == Found()
        world.set_refs("alias:A>B")
        swept(world)
        assert world.told() == ["main:->A", "main:A>B?"]

    def test_a_ref_that_became_symbolic(self, world: World) -> None:
        world.put("main:->A", "old:->A")
        world.run()
        hard.git(world.bare, "symbolic-ref", "refs/heads/old", "refs/heads/main")
        assert swept(world) == Found(0, 1)

    def test_a_new_id_whose_object_is_missing(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        (world.bare / "refs" / "heads" / "main").write_text("e" * 40 + "\n")
        assert swept(world) == Found(0, 1)
        assert world.tips() == {"main": "A"}

    def test_repositories_that_are_not_watched(self, world: World) -> None:
        world.store.repositories.watch(str(world.bare), watched=False)
        world.set_refs("main:->A", "killed:->A")
        world.clock.now += EVERY_SECONDS + 1
        sweep = new_sweep(world)
        assert not sweep.is_due()
        stale = world.intend("killed:->A", "refused:->A", alive=False)
        finish(sweep)
        assert world.told() == ["killed:->A?"]
        world.clock.now += RETRY_SECONDS
        finish(sweep)
        assert not stale.exists()


class TestUnreadable:
    """What cannot be read is neither gone nor moved. Its packed value is an older one."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with World(tmp_path) as made:
            made.put("main:->A", "dev/one:->A")
            hard.git(made.bare, "pack-refs", "--all")
            made.put("main:A>B", "dev/two:->B", "dev/one:A>C")
            made.run()
            yield made

    @pytest.mark.parametrize("content", [b"", b"\0" * 41, b"garbage\n"], ids=["empty", "zeros", "garbage"])
    def test_a_loose_ref_that_a_power_cut_spoiled(self, world: World, content: bytes) -> None:
        before = world.told()
        for name in ("main", "dev/two"):
            (world.bare / "refs" / "heads" / name).write_bytes(content)
        assert swept(world) == Found(0, 2)
        assert world.told() == before

    @pytest.mark.parametrize("content", [b"", b"garbage\n"], ids=["empty", "garbage"])
    def test_packed_refs_that_are_spoiled(self, world: World, content: bytes) -> None:
        hard.git(world.bare, "pack-refs", "--all")
        before = world.told()
        (world.bare / "packed-refs").write_bytes(content)
        assert "its refs cannot be read" in swept(world).error
        assert world.told() == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.parametrize("closed", ["refs", "refs/heads", "refs/heads/dev", "refs/heads/main", "packed-refs", "."])
    def test_what_is_closed_to_the_worker(self, world: World, closed: str) -> None:
        place = world.bare / closed
        mode = place.stat().st_mode
        place.chmod(0)
        try:
            seen = as_nobody(world)
        finally:
            place.chmod(mode)
        assert seen == "nothing moved"


def as_nobody(world: World) -> str:
    """What a sweep makes of the repository when its process is another user's: its moves, or that there are none."""
    for directory in [world.bare, *world.bare.parents]:
        directory.chmod(directory.stat().st_mode | 0o055)
    hard.git(world.bare, "config", "core.sharedRepository", "everybody")
    world.store.close()
    for path in [world.state, *world.state.rglob("*")]:
        os.chown(path, 65534, 65534)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with Store.open(world.state) as store:
                found = Sweep(store, world.state / "spool", world.clock).one(str(world.bare), Settings())
            os.write(writing, f"{found.recovered} moves {found.refs}".encode() if found.recovered else b"nothing moved")
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    said = Path(f"/proc/self/fd/{reading}").read_text()
    os.close(reading)
    os.waitpid(child, 0)
    return said


class TestInfersNothing:
    def check(self, world: World, reason: str) -> None:
        before = world.told()
        world.clock.now += EVERY_SECONDS + 1
        sweep = new_sweep(world)
        assert not sweep.step(Settings())
        found = row(world).found
        assert found is not None
        assert reason in found.error
        assert "\n" not in found.error
        assert world.told() == before
        world.clock.now += RETRY_SECONDS
        assert sweep.is_due()

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with World(tmp_path) as made:
            made.put("main:->A", "dev:->B")
            made.run()
            yield made

    def test_from_a_repository_that_is_missing(self, world: World) -> None:
        world.bare.rename(world.root / "away")
        self.check(world, "there is no such repository")
        (world.root / "away").rename(world.bare)
        assert swept(world) == Found()

    @pytest.mark.parametrize("part", ["HEAD", "objects", "refs"])
    def test_from_one_that_will_not_open(self, world: World, part: str) -> None:
        (world.bare / part).rename(world.root / "away")
        self.check(world, "is not a git repository")

    @pytest.mark.parametrize("empty", [True, False], ids=["empty", "with refs"])
    def test_from_another_one_in_its_place(self, world: World, empty: bool) -> None:
        shutil.rmtree(world.bare)
        hard.init_bare(world.bare)
        if not empty:
            stream = b"commit refs/heads/main\ncommitter Ben <ben@example.org> 1 +0000\ndata 1\nx"
            hard.git(world.bare, "fast-import", "--quiet", stdin=stream)
        self.check(world, "another repository in its place")

    def test_from_no_refs_at_all_but_the_same_objects_all_is_inferred(self, world: World) -> None:
        world.set_refs("main:A>-", "dev:B>-")
        assert swept(world).recovered == 2


class TestStaleIntents:
    def test_of_a_killed_push_lend_pusher_and_time(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        world.clock.now += 100
        world.intend("main:A>B", alive=False, facts=["GL_USER=ann"])
        world.set_refs("main:A>B")
        world.clock.now += 5
        sweep = new_sweep(world)
        assert sweep.is_due()
        assert not sweep.step(Settings())
        assert world.told() == ["main:->A", "main:A>B?"]
        assert pushers(world)[1:] == [("ann", NOON + 100)]

    def test_of_several_the_one_that_led_to_where_it_is(self, world: World) -> None:
        world.intend("main:->A", alive=False, facts=["GL_USER=ann"])
        world.clock.now += 1
        world.intend("main:A>B", alive=False, facts=["GL_USER=ben"])
        world.intend("main:A>C", alive=False, facts=["GL_USER=cas"])
        world.set_refs("main:->B")
        finish(new_sweep(world))
        assert world.told() == ["main:->B?"]
        assert pushers(world) == [("ben", NOON + 1)]

    def test_of_a_refused_push_vanish_without_an_event(self, world: World) -> None:
        world.put("main:->A")
        world.run()
        stale = world.intend("main:A>B", "new:->C", alive=False)
        sweep = new_sweep(world)
        assert not sweep.step(Settings())
        assert stale.exists()  # a process in a container may yet write to it
        assert not sweep.is_due()
        world.clock.now += RETRY_SECONDS
        assert not sweep.step(Settings())
        assert not stale.exists()
        assert not sweep.is_due()
        assert world.told() == ["main:->A"]

    def test_that_cannot_be_removed_are_swept_for_once_and_then_as_often_as_all(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Their user has taken away the group's right to write. To sweep for them on and on would be all the worker
        does."""

        def denied(_: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        world.put("main:->A")
        world.run()
        world.set_refs("main:A>B")
        stale = world.intend("main:A>B", alive=False)
        monkeypatch.setattr(spool, "remove", denied)
        world.clock.now += RETRY_SECONDS
        sweep = new_sweep(world)
        assert not sweep.step(Settings())
        assert world.told() == ["main:->A", "main:A>B?"]
        assert not sweep.is_due()
        monkeypatch.undo()
        world.clock.now += EVERY_SECONDS + 1
        finish(sweep)
        assert not stale.exists()

    def test_of_repositories_that_are_nowhere_are_not_gone_after(self, world: World) -> None:
        """Anybody who pushes can write as many as they like; each would be opened, in vain, every minute."""
        path = next(world.names)
        for number in (1, 2, "x" * 5000):
            world.write(
                path, ["refcast 1 intent", f"repository=/no/such/{number}", f"update={'0' * 40} {'1' * 40} refs/x"]
            )
        sweep = new_sweep(world)
        assert not sweep.is_due()
        assert not sweep.step(Settings())

    def test_stay_while_the_repository_cannot_be_swept(self, world: World) -> None:
        stale = world.intend("main:->A", alive=False)
        world.set_refs("main:->A")
        world.clock.now += RETRY_SECONDS
        world.bare.rename(world.root / "away")
        sweep = new_sweep(world)
        assert not sweep.step(Settings())
        assert stale.exists()
        (world.root / "away").rename(world.bare)
        assert not sweep.step(Settings())
        world.clock.now += RETRY_SECONDS
        finish(sweep)
        assert world.told() == ["main:->A?"]
        assert not stale.exists()

    def test_stay_where_the_file_has_changed_meanwhile(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process is to be seen again in no other way: its hook outlives it."""
        stale = world.intend("main:->A", alive=False)
        world.clock.now += RETRY_SECONDS

        def all_and_write(self: object) -> tuple[dict[str, str], dict[str, str]]:
            world.put("main:->A", name=stale.name)
            return real(self)  # type: ignore[arg-type]

        real = Refs.all
        monkeypatch.setattr(Refs, "all", all_and_write)
        new_sweep(world).step(Settings())
        assert stale.exists()
        monkeypatch.undo()
        world.run()
        assert world.told() == ["main:->A"]

    def test_in_a_repository_that_is_met_by_them(self, tmp_path: Path) -> None:
        with World(tmp_path, known=False) as world:
            world.set_refs("main:->B", "other:->C", "gone:->A")
            world.intend("main:->A", "refused:->A", "gone:A>-", alive=False)
            world.intend("main:A>B", alive=False)
            world.set_refs("gone:A>-")
            finish(new_sweep(world))
            assert world.told() == ["gone:A>-?", "main:->B?"]
            assert world.tips() == {"main": "B", "other": "C"}

    def test_in_a_repository_that_is_met_by_a_record(self, tmp_path: Path) -> None:
        with World(tmp_path, known=False) as world:
            world.set_refs("other:->C")
            world.intend("main:->A", alive=False, facts=["GL_USER=ann"])
            world.put("main:A>B")
            world.run()
            assert world.told() == ["main:->A?", "main:A>B"]
            assert pushers(world)[0] == ("ann", NOON)

    def test_a_gap_is_told_as_nobody_s_without_them(self, world: World) -> None:
        world.put("main:A>B", facts=["GL_USER=ann"])
        world.run()
        assert pushers(world) == [("unknown", NOON), ("ann", NOON)]


class TestWhenDue:
    def test_every_hour(self, world: World) -> None:
        sweep = new_sweep(world)
        assert not sweep.is_due()
        world.clock.now += EVERY_SECONDS - 1
        assert not sweep.is_due()
        world.clock.now += 2
        assert sweep.is_due()
        assert not sweep.step(Settings())
        assert row(world).swept_at == world.clock()
        assert not sweep.is_due()

    def test_at_a_start_unless_it_just_was(self, world: World) -> None:
        world.clock.now += START_SECONDS
        assert not new_sweep(world).is_due()
        world.clock.now += 1
        sweep = new_sweep(world)
        assert sweep.is_due()
        finish(sweep)
        assert not new_sweep(world).is_due()

    def test_after_the_clock_was_set_back(self, world: World) -> None:
        sweep = new_sweep(world)
        world.clock.now -= 5
        assert sweep.is_due()
        finish(sweep)
        assert not sweep.is_due()

    def test_when_asked(self, world: World) -> None:
        sweep = new_sweep(world)
        world.store.repositories.ask_sweep(row(world).number, world.clock())
        assert sweep.is_due()
        finish(sweep)
        assert row(world).asked_at is None
        assert not sweep.is_due()

    def test_what_is_asked_for_fails_visibly(self, world: World) -> None:
        world.bare.rename(world.root / "away")
        sweep = new_sweep(world)
        for _ in range(2):
            world.store.repositories.ask_sweep(row(world).number, world.clock())
            assert not sweep.step(Settings())
            assert row(world).asked_at is None

    def test_one_that_fails_is_not_in_the_way_of_others(self, world: World) -> None:
        other = world.root / "other.git"
        shutil.copytree(world.bare, other)
        world.store.repositories.add(str(other), {}, NOON + 1)
        hard.git(other, "update-ref", "refs/heads/main", world.ids["A"])
        world.bare.rename(world.root / "away")
        world.clock.now += EVERY_SECONDS + 2
        assert finish(new_sweep(world)) == 2
        assert world.told() == ["main:->A?"]


class TestTrouble:
    def test_of_a_file_that_cannot_be_read_now_nothing_is_inferred(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(path: Path, limit: int = 0) -> spool.Entry:
            raise OSError(5, "Input/output error")

        world.put("main:->A")
        monkeypatch.setattr(spool, "read_intents", broken)
        with pytest.raises(StateError, match="Input/output error"):
            swept(world)
        monkeypatch.undo()
        assert world.told() == []

    def test_but_no_pusher_can_keep_others_from_being_swept(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def closed(path: Path, limit: int = 0) -> spool.Entry:
            raise PermissionError(13, "Permission denied")

        world.write("99999999-0.push", ["refcast 1 push"])
        monkeypatch.setattr(spool, "read_intents", closed)
        world.set_refs("main:->A")
        assert swept(world).recovered == 1

    def test_a_crash_between_two_transactions(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        class Killed(BaseException):
            pass

        def add(self: Intake, batch: Batch, now: float) -> None:
            real(self, batch, now)
            raise Killed

        real = Intake.add
        names = [f"b/{number:03}" for number in range(250)]
        world.set_refs(*(f"{name}:->A" for name in names))
        monkeypatch.setattr(Intake, "add", add)
        for _ in range(2):
            with pytest.raises(Killed):
                swept(world)
        monkeypatch.undo()
        assert len(world.told()) == 200
        assert swept(world).recovered == 50
        assert sorted(world.told()) == [f"{name}:->A?" for name in names]
        assert world.store.intake.begun(1) == set()


class TestNamespaces:
    def test_each_ref_is_told_in_its_place(self, world: World) -> None:
        place = "refs/namespaces/x/refs/namespaces/y/"
        world.put("main:->A", facts=["GIT_NAMESPACE=x/y"], set_refs=False)
        world.set_refs(f"{place}refs/heads/main:->A")
        world.run()
        world.set_refs(f"{place}refs/heads/main:A>B", "main:->B", "refs/namespaces/z/refs/heads/main:->B")
        assert swept(world).recovered == 3
        assert world.told() == ["main:->A", "main:->B?", "main:A>B?", "main:->B?"]
        places = [os.fsdecode(one) for (one,) in world.sql("SELECT place FROM events ORDER BY id")]
        assert places == [place, "", place, "refs/namespaces/z/"]
        assert len({one for (one,) in world.sql("SELECT record_id FROM events")}) == 4

    def test_a_recovery_in_one_covers_no_record_of_another(self, world: World) -> None:
        world.set_refs("refs/namespaces/x/refs/heads/main:->B", "main:->C")
        swept(world)
        world.put("main:A>C", set_refs=False, facts=["GIT_NAMESPACE=y"])
        world.run()
        assert world.told()[2:] == ["main:->A?", "main:A>C"]


class TestLate:
    def covered(self, world: World) -> list[tuple[str, str]]:
        found = []
        for (number,) in world.sql("SELECT id FROM events WHERE recovered ORDER BY id"):
            found += [
                (one.pusher, world.move(one.ref, one.old, one.new)) for one in world.store.intake.covered_by(number)
            ]
        return found

    def test_a_record_is_linked_and_not_told_again(self, world: World) -> None:
        world.set_refs("main:->A")
        swept(world)
        world.put("main:->A", facts=["GL_USER=ann"], at=NOON + 60)
        assert world.run() == 1
        assert world.told() == ["main:->A?"]
        assert self.covered(world) == [("ann", "main:->A")]
        assert world.spooled() == []

    def test_nor_if_the_ref_has_moved_on_in_two_ways(self, world: World) -> None:
        """B was told by its record, and C by nobody yet."""
        world.intend("main:->A", alive=False)
        world.set_refs("main:->A")
        finish(new_sweep(world))
        world.put("main:->A", at=NOON + 60, set_refs=False)
        world.put("main:A>B", at=NOON + 61)
        world.set_refs("main:B>C")
        world.run()
        assert world.told() == ["main:->A?", "main:A>B"]
        swept(world)
        assert world.told()[2:] == ["main:B>C?"]

    def test_several_records_behind_one_recovery(self, world: World) -> None:
        for order in permutations(["main:->A", "main:A>B", "main:B>C"]):
            world.set_refs("main:->C")
            swept(world)
            for number, move in enumerate(order):
                world.put(move, at=NOON + 60 + number, set_refs=False)
                world.run()
            world.put("main:C>-")
            world.run()
            assert world.told()[-2:] == ["main:->C?", "main:C>-"]
            assert sorted(move for _, move in self.covered(world)[-3:]) == ["main:->A", "main:A>B", "main:B>C"]

    def test_the_same_move_made_once_more_is_told(self, world: World) -> None:
        world.set_refs("main:->A")
        swept(world)
        world.put("main:->A", at=NOON + 1)
        world.run()
        world.put("main:A>-", at=NOON + 2)
        world.put("main:->A", at=NOON + 3)
        world.run()
        assert world.told() == ["main:->A?", "main:A>-", "main:->A"]

    def test_a_move_after_what_a_mirror_did_is_told(self, world: World) -> None:
        world.set_refs("main:->A")
        swept(world)
        world.put("main:A>B", at=NOON + 10)
        world.run()
        world.set_refs("main:B>A")
        world.put("main:A>B", at=NOON + 20)
        world.run()
        assert world.told() == ["main:->A?", "main:A>B", "main:B>A?", "main:A>B"]


STRAIGHT = ("main:->A", "main:A>B", "main:B>C", "main:C>D")
BACK = ("main:->A", "main:A>B", "main:B>A", "main:A>C")
"""Here no id tells a late `A>B` from a second one."""
FATES = [*product(("at once", "late", "never"), repeat=4)]


class TestSmallWorlds:
    """Every way in which four moves of one ref can be seen: each record at once, late, or never; a sweep, or none."""

    @pytest.mark.parametrize("sweeps", [*product((False, True), repeat=3)], ids=str)
    @pytest.mark.parametrize("walk", [STRAIGHT, BACK], ids=["straight", "back"])
    def test_the_chain_is_never_broken_and_ends_where_the_ref_is(
        self, world: World, sweeps: tuple[bool, ...], walk: tuple[str, ...]
    ) -> None:
        # A third of them here, another one there.
        for fates in FATES[sum(sweeps) % 3 :: 3]:
            late = []
            for move, fate, sweep in zip(walk, fates, (*sweeps, False), strict=True):
                world.clock.now += 1
                world.set_refs(move)
                if fate == "at once":
                    world.put(move, set_refs=False)
                elif fate == "late":
                    late.append(move)
                world.run()
                if sweep:
                    swept(world)
            for move in reversed(late):
                world.clock.now += 1
                world.put(move, set_refs=False)
                world.run()
            swept(world)
            assert_unbroken(world, walk, fates)
            world.set_refs("main:C>-")
            for table in ("covered", "events", "records", "ledger"):
                world.sql(f"DELETE FROM {table}")


def assert_unbroken(world: World, walk: tuple[str, ...], fates: object) -> None:
    """Every move was told once, or lies in one that was recovered; and where ids do not recur, no other."""
    told = [move.removeprefix("main:").removesuffix("?").partition(">")[::2] for move in world.told()]
    ids = ["-", *(move[-1] for move in walk)]
    assert told[0][0] == ids[0], (fates, told)
    assert all(one[1] == next_one[0] for one, next_one in pairwise(told)), (fates, told)
    assert told[-1][1] == ids[-1], (fates, told)
    if len(set(ids)) == len(ids):
        assert [new for _, new in told] == sorted({new for _, new in told}), (fates, told)
        assert len(told) == len(set(told))
    assert world.tips() == {"main": ids[-1]}
    assert world.spooled() == []
    assert world.asides() == []
