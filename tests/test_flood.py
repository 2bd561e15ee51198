"""Who may push nothing fills the spool with what costs its reader time: nobody else's push waits for that.

Files of several users, made by root; with the hooks and real pushes in test_shared_host."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hard
from refcast import sites, spool
from refcast.errors import RecordError
from refcast.history import History
from refcast.ingest import queue, stale, sweep
from refcast.ingest.asides import MOST_ASIDES
from refcast.ingest.queue import MOST_FILES
from refcast.ingest.reading import LARGE_BYTES
from refcast.ingest.sweep import Sweep
from refcast.settings import Settings
from refcast.spool import boxes
from refcast.store.intake import Aside, Intake
from servers import DEAD, alive_name, public_directory
from spooled import NOON, World, build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")

EVE, BEN = 70003, 70002
ZERO, ONE = "0" * 40, "1" * 40


@pytest.fixture
def world() -> Iterator[World]:
    with public_directory() as root, World(root) as made:
        yield made


def write(world: World, uid: int, name: str, content: bytes, *, at: float = NOON) -> Path:
    """A file in the directory that a user has in the spool."""
    box = world.state / "spool" / str(uid)
    if not box.exists():
        box.mkdir()
        os.chown(box, uid, -1)
        box.chmod(0o2770)
    path = box / name
    path.write_bytes(content)
    os.chown(path, uid, -1)
    path.chmod(0o660)
    os.utime(path, (at, at))
    return path


def record(repository: Path | str, lines: str = f"{ZERO} {ONE} refs/heads/x\n", number: int = 0) -> bytes:
    identity = f"00000000-0000-4000-8000-{number:012}"
    head = f"refcast 1 push\0id={identity}\0repository={repository}\0updates="
    return f"{head}{lines}\0end\0".encode()


def many(count: int, name: str = "x" * 60) -> str:
    return "".join(f"{ZERO} {ONE} refs/heads/{name}{number}\n" for number in range(count))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read whole."""
    done: list[Path] = []

    def counted(path: Path, limit: int = spool.MAX_BYTES) -> tuple[spool.Entry, RecordError | None]:
        done.append(path)
        return real(path, limit)

    real = spool._read
    monkeypatch.setattr(spool, "_read", counted)
    return done


class TestLargeFiles:
    def test_one_with_a_hole_is_refused(self, world: World) -> None:
        path = write(world, EVE, DEAD, record(world.bare)[:-5])
        os.truncate(path, 20 * 1024 * 1024)
        with pytest.raises(RecordError, match="it has holes"):
            spool.read(path)

    @pytest.mark.parametrize("piece", [b"\0", b"a\0", b"=\0", b"refcast 1 intent\0"])
    def test_of_many_fields_it_is_refused_at_once(self, world: World, piece: bytes) -> None:
        path = write(world, EVE, DEAD, b"refcast 1 intent\0repository=/x\0" + piece * (8 * 1024 * 1024 // len(piece)))
        with pytest.raises(RecordError, match="are not what a hook writes"):
            spool.read(path)

    def test_a_push_of_a_hundred_thousand_refs_is_within_what_anybody_may_write(self) -> None:
        line = f"{ZERO} {ONE} refs/heads/{'x' * 64}\n"
        assert 2 * 100_000 * len(line) < spool.STRANGER_BYTES

    def test_of_who_is_not_believed_the_head_alone_is_read(self, world: World, reads: list[Path]) -> None:
        mine = write(world, EVE, "99999999-1.push", record("/nowhere.git", many(10_000)))
        theirs = write(world, EVE, "99999999-2.push", record(world.bare, many(10_000)))
        sites.set_covered_roots(world.state, (str(world.root),))
        nowhere = write(world, EVE, "99999999-3.push", record(world.root / "no.git", many(10_000)))
        assert all(path.stat().st_size > LARGE_BYTES for path in (mine, theirs, nowhere))
        world.put("main:->A")
        assert world.run() == 1
        Sweep(world.store, world.state / "spool", world.clock).step(Settings())
        assert not {mine, theirs, nowhere} & set(reads)
        reasons = "\n".join(world.asides())
        assert f"{mine} is not believed: refcast is not installed in /nowhere.git" in reasons
        assert f"{theirs} is not believed: user {EVE} may not write" in reasons
        assert f"{nowhere} is not believed: there is no {world.root}/no.git" in reasons

    def test_what_follows_the_head_is_of_the_same_repository(self, world: World) -> None:
        let(world, BEN)
        write(world, BEN, DEAD, record(world.bare) + record("/nowhere.git", many(10_000)), at=NOON - 60)
        world.run()
        assert "this one is of several repositories" in world.asides()[0]

    def test_beyond_what_a_stranger_may_write(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        let(world, BEN)
        monkeypatch.setattr(spool, "STRANGER_BYTES", 2 * LARGE_BYTES)
        write(world, BEN, DEAD, record(world.bare, many(10_000)), at=NOON - 60)
        world.run()
        assert "is more than a record may have" in world.asides()[0]

    def test_under_the_name_of_a_living_process_it_is_read_once(self, world: World, reads: list[Path]) -> None:
        path = write(world, EVE, alive_name(), b"refcast 1 intent\0repository=/x\0")
        for _ in range(3):
            world.run()
        assert reads == [path]

    def test_what_cannot_be_read_is_read_once(self, world: World, reads: list[Path]) -> None:
        path = write(world, EVE, DEAD, b"hello\0", at=NOON)
        for _ in range(3):
            world.run()
        assert reads == [path]
        os.truncate(path, 0)
        world.run()
        assert reads == [path, path]


def let(world: World, uid: int) -> None:
    """Have a user be one who may push."""
    for folder in (world.bare / "refs", world.bare / "refs" / "heads", world.bare / "refs" / "tags"):
        os.chown(folder, uid, -1)


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many asides each transaction wrote."""
    done: list[int] = []

    def counted(self: Intake, changed: dict[str, Aside | None]) -> None:
        done.append(len(changed))
        real(self, changed)

    real = Intake.note_asides
    monkeypatch.setattr(Intake, "note_asides", counted)
    return done


class TestManyFiles:
    def test_three_thousand_cost_next_to_nothing(
        self, world: World, reads: list[Path], transactions: list[int]
    ) -> None:
        for number in range(3000):
            write(world, EVE, f"99999999-{number}.push", b"hello\0", at=NOON - 10_000)
        world.put("main:->A")
        assert world.run() == 1
        assert world.told() == ["main:->A"]
        assert len(reads) == MOST_FILES + 1
        assert transactions == [MOST_ASIDES + 1]
        for _ in range(3):
            world.run()
        assert len(reads) == 3000 + 1
        reasons = world.asides()
        assert len(reasons) == MOST_ASIDES + 1
        assert f"/{EVE}: and 2900 more of user {EVE} cannot be ingested either" in "".join(reasons)
        assert not world.ingest.has_records()

    def test_when_they_are_gone_nothing_is_said_of_them(self, world: World) -> None:
        made = [write(world, EVE, f"99999999-{number}.push", b"hello\0", at=NOON - 10_000) for number in range(110)]
        world.run()
        assert len(world.asides()) == MOST_ASIDES + 1
        for path in made:
            path.unlink()
        world.run()
        assert world.asides() == []

    def test_boxes_take_turns_whatever_their_files_times(
        self, world: World, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
    ) -> None:
        for number in range(3):
            write(world, EVE, f"99999999-{number}.push", b"hello\0", at=10.0)
            write(world, BEN, f"99999999-{number}.push", b"hello\0", at=NOON)
        world.run()
        assert [path.parent.name for path in reads[:2]] in ([str(EVE), str(BEN)], [str(BEN), str(EVE)])
        assert len({path.parent for path in reads[2:4]}) == 2

    def test_a_stranger_s_many_records_are_all_told_in_one_run(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those that another user's record waits for are among them: nothing is taken for missing."""
        let(world, BEN)
        monkeypatch.setattr(queue, "MOST_FILES", 2)
        for number, (old, new) in enumerate(zip("-ABCD", "ABCDE", strict=True)):
            line = f"{world.ids[old]} {world.ids[new]} refs/heads/main\n"
            write(world, BEN, f"99999999-{number}.push", record(world.bare, line, number), at=NOON + number)
        world.put("main:E>F")
        assert world.run() == 6
        assert world.told() == ["main:->A", "main:A>B", "main:B>C", "main:C>D", "main:D>E", "main:E>F"]

    def test_old_ones_do_not_hide_a_killed_push_from_the_sweep(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        let(world, BEN)
        monkeypatch.setattr(stale, "MOST_FILES", 2)
        for number in range(5):
            write(world, BEN, f"99999999-{number}.push", b"hello\0", at=10.0)
        line = f"update={ZERO} {world.ids['A']} refs/heads/main"
        intent = f"refcast 1 intent\0repository={world.bare}\0{line}\0".encode()
        write(world, BEN, "99999999-9.push", intent)
        world.set_refs("main:->A")
        world.sql(f"UPDATE repositories SET swept_at = {NOON}")
        sweep.Sweep(world.store, world.state / "spool", world.clock).step(Settings())
        assert world.told() == ["main:->A?"]


class TestRepositoriesThatAreNowhere:
    def test_are_tried_less_and_less(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        sites.set_covered_roots(world.state, (str(world.root),))
        write(world, EVE, DEAD, record(world.root / "no.git"))
        opened: list[float] = []

        def counted(path: str) -> History:
            opened.append(world.clock.now)
            return real(path)

        real = History.open
        world.root.chmod(0o777)
        monkeypatch.setattr(History, "open", counted)
        for _ in range(24 * 60):
            world.run()
            world.clock.now += 60
        assert len(opened) < 40
        waits = [later - sooner for sooner, later in itertools.pairwise(opened)]
        assert waits[0] == 60
        assert max(waits) == 3600

    def test_nobody_waits_who_pushes_to_one_that_is_made_meanwhile(self, world: World) -> None:
        site = world.root / "new.git"
        sites.set_covered_roots(world.state, (str(world.root),))
        write(world, EVE, DEAD, record(site), at=NOON)
        for _ in range(100):
            world.run()
            world.clock.now += 60
        ids = build(site)
        hard.git(site, "update-ref", "refs/heads/main", ids["A"])
        lines = f"{ZERO} {ids['A']} refs/heads/main\n"
        path = world.write("99999999-77.push", [record(site, lines, 77).decode().removesuffix("\0")])
        assert world.run() == 1
        assert not path.exists()


class TestDirectories:
    @pytest.mark.parametrize(("group", "mode"), [(70100, 0o2770), (-1, 0o2775), (-1, 0o0770), (-1, 0o3770)])
    def test_one_that_no_hook_made_is_not_read(self, world: World, group: int, mode: int) -> None:
        let(world, BEN)
        world.set_refs("main:->A")
        path = write(world, BEN, DEAD, record(world.bare, f"{ZERO} {world.ids['A']} refs/heads/main\n"))
        os.chown(path.parent, BEN, group)
        path.parent.chmod(mode)
        assert world.run() == 0
        assert world.told() == []
        assert not path.parent.exists()

    @pytest.mark.parametrize(("group", "mode"), [(70100, 0o660), (-1, 0o664)])
    def test_nor_a_file_that_no_hook_made(self, world: World, group: int, mode: int) -> None:
        path = write(world, BEN, DEAD, record(world.bare), at=NOON - 60)
        os.chown(path, BEN, group)
        path.chmod(mode)
        world.run()
        assert "are not those that a hook gives a file" in world.asides()[0]

    def test_one_beside_the_usual_place_is_read_and_removed_when_it_is_empty(self, world: World) -> None:
        let(world, BEN)
        world.set_refs("main:->A")
        path = write(world, BEN, DEAD, record(world.bare, f"{ZERO} {world.ids['A']} refs/heads/main\n"))
        place = path.parent.with_name(f"{BEN}.7-7")
        path.parent.rename(place)
        (place / "made").mkdir()
        assert world.run() == 1
        assert world.told() == ["main:->A"]
        assert place.exists()
        world.clock.now = time.time() + 100
        world.run()
        assert not place.exists()

    def test_what_came_to_the_place_meanwhile_is_left_there(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the look and the rename somebody removes the wrong one, and its rightful user makes it."""
        place = world.state / "spool" / str(BEN)
        place.write_text("")
        path: list[Path] = []

        def rename(self: Path, target: Path) -> Path:
            if not path:
                place.unlink()
                path.append(write(world, BEN, DEAD, b""))
            return real(self, target)

        real = Path.rename
        monkeypatch.setattr(Path, "rename", rename)
        assert boxes.clear(world.state / "spool", time.time()) == []
        assert [one.name for one in spool.files(world.state / "spool")] == [DEAD]

    def test_a_stale_look_removes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        box = write(world, BEN, DEAD, b"").parent
        monkeypatch.setattr(boxes, "_named", lambda _: iter([(box, Path("/").stat(), False)]))
        assert boxes.clear(world.state / "spool", time.time()) == []
        assert (box / DEAD).exists()

    def test_thousands_are_told_of_in_a_few_lines(self, world: World) -> None:
        for number in range(2000):
            (world.state / "spool" / f"{BEN}.{number}").touch()
        assert len(boxes.clear(world.state / "spool", time.time())) == 4
        assert len(list((world.state / "spool").iterdir())) == 1001

    def test_the_owner_s_own_comes_back(self, world: World) -> None:
        shutil.rmtree(world.box)
        world.box.symlink_to("/")
        world.run()
        assert (world.box / boxes.MARK).stat().st_mode & 0o7777 == boxes.MARK_MODE
        assert not world.box.is_symlink()


class TestWhatHoldsRetention:
    DAY = 24 * 3600.0

    def test_nobody_keeps_old_notes_by_a_file_s_time(self, world: World) -> None:
        assert world.ingest.oldest() == 0.0
        world.run()
        assert world.ingest.oldest() == math.inf
        write(world, EVE, DEAD, record(world.bare), at=0.0)
        write(world, EVE, "99999999-2.push", b"hello\0", at=0.0)
        world.run()
        assert world.ingest.oldest() == math.inf

    def test_who_may_push_keeps_them_for_a_while(self, world: World) -> None:
        let(world, BEN)
        intent = f"refcast 1 intent\0repository={world.bare}\0update={ZERO} {ONE} refs/heads/x\0".encode()
        write(world, BEN, DEAD, intent, at=0.0)
        world.run()
        assert world.ingest.oldest() == NOON - 30 * self.DAY

    def test_the_worker_s_own_user_as_long_as_it_is_there(self, world: World) -> None:
        path = world.intend("main:->A", alive=True)
        os.utime(path, (10.0, 10.0))
        world.run()
        assert world.ingest.oldest() == 10.0
        shutil.rmtree(world.state / "spool")
        assert world.ingest.oldest() == 0.0

    def test_a_closed_directory_neither_writes_in_each_pass_nor_keeps_a_worker_for_ever(
        self, world: World, transactions: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        box = write(world, EVE, DEAD, b"").parent

        def scandir(path: Path) -> object:
            if path == box:
                raise PermissionError(13, "Permission denied")
            return real(path)

        real = os.scandir
        monkeypatch.setattr(os, "scandir", scandir)
        for _ in range(20):
            world.run()
        assert len(transactions) == 1
        assert world.ingest.is_retrying()
        for _ in range(70):
            world.clock.now += 60
            world.run()
        assert len(transactions) < 10
        assert not world.ingest.is_retrying()
        assert world.ingest.oldest() == math.inf


def test_who_may_not_push_holds_up_nobody_by_files_that_come_while_others_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with public_directory() as root, World(root, known=False) as world:
        world.put("main:->A", "dev:->A", at=NOON)
        line = f"{world.ids['A']} {world.ids['B']} refs/heads/main\n"
        late = write(world, EVE, DEAD.replace("1.", "9."), record(world.bare, line), at=NOON + 1)
        world.clock.now += 10
        real, listings = spool.look, []

        def look(*given: Any) -> boxes.Look:
            found = real(*given)
            listings.append(found)
            if len(listings) == 1:
                del found.times[late], found.files[EVE]
            return found

        monkeypatch.setattr(spool, "look", look)
        assert world.run() == 1
        assert world.told() == ["main:->A", "dev:->A"]
