"""Which records count: who may write a repository by its files, and which ids fit what happened. Values and real files;
with real users in test_shared_host."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refcast import sites, spool
from refcast.history.access import ACL, ENTER, WRITE, Account, account, may, may_push
from refcast.ingest.order import Record
from refcast.ingest.trust import Trust, is_doubt, steps_of
from refcast.model import RefUpdate
from refcast.spool import boxes, processes
from servers import public_directory

ANN, BEN, EVE = Account(70001, frozenset({70001, 70100})), Account(70002, frozenset({70100})), Account(70003)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")


@pytest.fixture
def public() -> Iterator[Path]:
    with public_directory() as root:
        yield root


def own(path: Path, uid: int, gid: int, mode: int) -> Path:
    if not path.exists():
        path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


@root_only
class TestAccess:
    @pytest.mark.parametrize(
        ("who", "mode", "expected"),
        [
            (ANN, 0o700, True),
            (ANN, 0o077, False),  # the owner is judged as owner, whatever others may
            (BEN, 0o770, True),
            (BEN, 0o707, False),  # likewise the group
            (BEN, 0o760, False),  # to write without entering is not enough
            (EVE, 0o770, False),
            (EVE, 0o777, True),
            (Account(0), 0o000, True),
        ],
    )
    def test_owner_group_and_others(self, public: Path, who: Account, mode: int, expected: bool) -> None:
        directory = own(public / "d", ANN.uid, 70100, mode)
        assert may(who, directory, WRITE | ENTER) is expected
        if who.uid:
            assert really_may(who, directory) is expected

    @pytest.mark.parametrize(
        ("who", "entries", "expected"),
        [
            (EVE, {(0x02, EVE.uid): 7}, True),
            (EVE, {(0x02, EVE.uid): 5}, False),
            (EVE, {(0x02, EVE.uid): 7, "mask": 5}, False),
            (BEN, {(0x08, 70100): 7}, True),
            (BEN, {(0x08, 70100): 7, "mask": 1}, False),
            (BEN, {(0x02, BEN.uid): 0, (0x08, 70100): 7}, False),  # a user's own entry comes first
            (ANN, {(0x02, ANN.uid): 0}, True),  # but behind the owner's
        ],
    )
    def test_acl(self, public: Path, who: Account, entries: dict[object, int], expected: bool) -> None:
        directory = own(public / "d", ANN.uid, 70999, 0o700)
        none = 0xFFFFFFFF
        named = sorted((key[0], rights, key[1]) for key, rights in entries.items() if isinstance(key, tuple))
        acl = [(0x01, 7, none), (0x04, 0, none), *named, (0x10, entries.get("mask", 7), none), (0x20, 0, none)]
        data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in sorted(acl))
        os.setxattr(directory, ACL, data)
        assert may(who, directory, WRITE | ENTER) is expected
        assert really_may(who, directory) is expected

    def test_a_repository(self, public: Path) -> None:
        site = own(public / "site.git", ANN.uid, 70100, 0o2775)
        refs = own(site / "refs", ANN.uid, 70100, 0o2775)
        heads = own(refs / "heads", ANN.uid, 70100, 0o2775)
        assert may_push(BEN, str(site), ["refs/heads/main"])
        assert not may_push(EVE, str(site), ["refs/heads/main"])
        site.chmod(0o2700)
        assert not may_push(BEN, str(site), ["refs/heads/main"])
        site.chmod(0o2775)
        own(public / "above", 0, 0, 0o700)
        moved = site.rename(public / "above" / "site.git")
        assert not may_push(BEN, str(moved), ["refs/heads/main"])
        (public / "above").chmod(0o755)
        own(moved / "refs" / "heads" / "eve", EVE.uid, EVE.uid, 0o755)
        assert may_push(EVE, str(moved), ["refs/heads/eve/thing"])
        assert not may_push(EVE, str(moved), ["refs/heads/main", "refs/heads/e"])
        assert not may_push(EVE, str(moved), ["refs/heads/eve/thing", "refs/heads/main"])
        assert heads.name == "heads"

    def test_one_that_is_not_there_is_for_others_to_tell_of(self, public: Path) -> None:
        assert may_push(EVE, str(public / "none.git"), [])

    def test_what_cannot_be_looked_at_within_it_nobody_may_write(self, public: Path) -> None:
        site = own(public / "site.git", ANN.uid, 70100, 0o2755)
        own(site / "refs", ANN.uid, 70100, 0o2755)
        evil = own(public / "evil", EVE.uid, EVE.uid, 0o755)
        (site / "refs" / "link").symlink_to(evil)
        for ref in (f"refs/{'a' * 300}/y", "refs/../../evil/y", "refs/link/y", "/".join(["refs", *["a" * 200] * 30])):
            assert not may_push(EVE, str(site), [ref])
        assert not may_push(EVE, str(site), [])
        assert may_push(ANN, str(site), ["refs/heads/x"])
        assert not may_push(EVE, str(public / ("n" * 300)), ["refs/heads/x"])

    def test_the_groups_of_an_account(self) -> None:
        assert account(os.getuid()).groups >= {os.getgid()}
        assert account(4_000_000_000) == Account(4_000_000_000)


def really_may(who: Account, directory: Path) -> bool:
    """What Linux says."""
    test = f"test -w '{directory}' && test -x '{directory}'"
    words = {"user": who.uid, "group": who.uid, "extra_groups": sorted(who.groups)}
    return subprocess.run(["sh", "-c", test], check=False, cwd="/", **words).returncode == 0  # type: ignore[call-overload, no-any-return]


A, B, C, D = (letter * 40 for letter in "abcd")
NONE = "0" * 40
MAIN = "refs/heads/main"


class World:
    def __init__(self, root: Path) -> None:
        self.spool = root / "spool"
        spool.create(self.spool, os.geteuid())
        self.site = root / "site.git"
        (self.site / "refs" / "heads").mkdir(parents=True)
        self.numbers = itertools.count(1)
        self.trust = Trust(self.spool, Account)

    def record(self, *moves: tuple[str, str], uid: int = 70001, ref: str = MAIN, path: Path | None = None) -> Record:
        updates = tuple(RefUpdate(old, new, ref) for old, new in moves)
        part = spool.Part(repository=str(path or self.site), updates=updates, id="x")
        file = self.spool / str(uid) / f"{next(self.numbers)}-1.push"
        return Record(spool.Entry(file, uid, datetime.now(UTC), (), (part,), True, False), part)

    def against(
        self, record: Record, *others: Record, was: str, now: str, excused: bool = False, ref: str = MAIN
    ) -> str:
        steps = steps_of([record, *others])
        ledger, present = ({ref: one} if one != NONE else {} for one in (was, now))
        return self.trust.against_ids(record, steps, ledger, present, lambda _ref, _update: excused)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestIds:
    @pytest.mark.parametrize(
        ("move", "was", "now"),
        [
            ((A, B), A, B),  # just so
            ((NONE, A), NONE, A),
            ((A, NONE), A, NONE),
            ((B, C), A, C),  # a push before it was killed
            ((A, B), A, C),  # somebody moved it on without a push
        ],
    )
    def test_that_fit(self, world: World, move: tuple[str, str], was: str, now: str) -> None:
        assert world.against(world.record(move), was=was, now=now) == ""

    @pytest.mark.parametrize(
        ("move", "was", "now"),
        [
            ((A, B), A, A),  # it is where it was
            ((B, A), A, A),
            ((NONE, B), A, A),
            ((C, D), A, B),
        ],
    )
    def test_that_do_not(self, world: World, move: tuple[str, str], was: str, now: str) -> None:
        reason = world.against(world.record(move), was=was, now=now)
        assert is_doubt(reason)
        assert f"{MAIN} was not moved {move[0][:12]}..{move[1][:12]}" in reason
        assert world.against(world.record(move), was=was, now=now, excused=True) == ""
        for trusted in (0, os.geteuid()):
            assert world.against(world.record(move, uid=trusted), was=was, now=now) == ""

    def test_a_chain_of_records(self, world: World) -> None:
        chain = [world.record((A, B)), world.record((B, C)), world.record((C, A))]
        for record in chain:
            others = [one for one in chain if one is not record]
            assert world.against(record, *others, was=A, now=A) == ""
            assert world.against(record, was=A, now=A)

    def test_what_branches_off_a_whole_chain(self, world: World) -> None:
        """Where the records tell all of the way, nothing is missing that another could be."""
        real = world.record((A, B))
        assert world.against(world.record((A, C)), real, was=A, now=B)
        assert world.against(world.record((C, B)), real, was=A, now=B)
        assert world.against(real, world.record((A, C)), was=A, now=B) == ""

    def test_a_ref_that_only_a_push_names(self, world: World) -> None:
        review = "refs/for/main"
        assert world.against(world.record((NONE, A), ref=review), was=NONE, now=NONE, ref=review) == ""
        assert world.against(world.record((NONE, A)), was=NONE, now=NONE)


class TestUsers:
    def test_an_unknown_repository(self, world: World) -> None:
        record = world.record((A, B))
        reason = world.trust.against_user(record, lambda _: False)
        assert f"refcast is not installed in {world.site}" in reason
        assert world.trust.against_user(world.record((A, B), uid=0), lambda _: False) == ""
        sites.set_covered_roots(world.spool.parent, (str(world.site.parent),))
        world.trust.renew()
        assert "not installed" not in world.trust.against_user(record, lambda _: False)

    def test_a_front_end(self, world: World) -> None:
        world.site.chmod(0o700)
        assert "user 70001 may not write" in world.trust.against_user(world.record((A, B)), lambda _: True)
        assert not world.trust.is_front_end(70001)
        sites.set_front_ends(world.spool.parent, frozenset({70001}))
        world.trust.renew()
        assert world.trust.is_front_end(70001)
        assert world.trust.against_user(world.record((A, B)), lambda _: False) == ""

    def test_intents_of_who_may_not_write_hold_up_nobody(self, world: World) -> None:
        world.site.chmod(0o700)
        intent = spool.Part(repository=str(world.site), updates=(RefUpdate(A, B, MAIN),))
        entry = spool.Entry(world.spool / "x", 70001, datetime.now(UTC), (intent,), (), False, True)
        assert world.trust.with_believed_intents(entry, lambda _: True).intents == ()
        for mine in (0, os.geteuid()):
            same = spool.Entry(world.spool / "x", mine, entry.time, (intent,), (), False, True)
            assert world.trust.with_believed_intents(same, lambda _: False) is same

    def test_for_a_sweep_neither_intents_nor_records_of_strangers_are_there(self, world: World) -> None:
        part = spool.Part(repository=str(world.site), updates=(RefUpdate(A, B, MAIN),), id="x")
        entry = spool.Entry(world.spool / "x", 70001, datetime.now(UTC), (part,), (part,), True, False)
        stranger = world.trust.believed(entry, lambda _: False)
        assert (stranger.intents, stranger.records) == ((), ())
        sites.set_front_ends(world.spool.parent, frozenset({70001}))
        world.trust.renew()
        assert world.trust.believed(entry, lambda _: False) is entry


class TestSites:
    def test_what_is_noted_stays(self, tmp_path: Path) -> None:
        assert sites.front_ends(tmp_path) == frozenset()
        sites.set_front_ends(tmp_path, frozenset({33}))
        sites.set_covered_roots(tmp_path, ("/srv/git", "/srv/\udcff"))
        assert sites.front_ends(tmp_path) == {33}
        assert sites.covered_roots(tmp_path) == ("/srv/git", "/srv/\udcff")
        assert [path.name for path in tmp_path.iterdir()] == [sites.FILE]

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"front_ends": ["x"]}'])
    def test_what_cannot_be_read_believes_nobody(self, tmp_path: Path, text: str) -> None:
        (tmp_path / sites.FILE).write_text(text)
        assert sites.front_ends(tmp_path) == frozenset()


class TestSquatters:
    def test_names_and_what_is_in_the_way(self, tmp_path: Path) -> None:
        place = tmp_path / "spool"
        spool.create(place, os.geteuid())
        assert boxes.clear(place, time.time()) == []
        (place / "4242").write_text("")
        (place / "4243").mkdir()
        (place / "4244").symlink_to("/")
        (place / "notes").mkdir()
        (place / "4245").mkdir()
        (place / "4245" / "full").write_text("")
        said = boxes.clear(place, time.time())
        assert len(said) == 4
        assert all(f"belongs to user {os.geteuid()}" in line for line in said[:3])
        assert said[3] == f"and 1 more places in the spool that user {os.geteuid()} has taken"
        left = sorted(path.name for path in place.iterdir())
        assert left[:2] == [str(os.geteuid()), "notes"]
        assert re.fullmatch(r"squatted\.4245\.[0-9a-f]{16}", "".join(left[2:]))
        assert boxes.clear(place, time.time()) == []

    @root_only
    def test_whom_a_namespace_of_users_hides_is_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There everybody else seems to be one user, and each directory somebody else's."""
        place = tmp_path / "spool"
        spool.create(place, os.geteuid())
        own(place / "4242", 65534, 65534, 0o2770)
        monkeypatch.setattr(boxes, "_unknown_user", lambda: 65534)
        assert boxes.clear(place, time.time()) == []
        monkeypatch.undo()
        assert len(boxes.clear(place, time.time())) == 1


class TestHiddenProcesses:
    """hidepid= cannot be mounted everywhere, so /proc is given a blind spot here; the processes are real."""

    def alive(self, path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None) -> bool:
        def kill(_pid: int, _number: int) -> None:
            if error:
                raise error

        monkeypatch.setattr(processes, "start_time", lambda _pid: "")
        monkeypatch.setattr(os, "kill", kill)
        return spool.is_alive(path)

    def test_one_that_is_there_is_alive_for_a_while(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "4242-17.push"
        path.write_text("")
        assert self.alive(path, monkeypatch, PermissionError)
        assert not self.alive(path, monkeypatch, ProcessLookupError)
        assert not self.alive(path, monkeypatch, None)  # ours, so that /proc would show it
        os.utime(path, (1, 1))
        assert not self.alive(path, monkeypatch, PermissionError)

    @root_only
    def test_the_kernel_tells_of_a_process_of_another_user(self) -> None:
        """What the answer above rests on: a signal that is not allowed is refused otherwise than one to nobody."""
        script = "import os\ntry: os.kill(1, 0)\nexcept PermissionError: print('there')"
        words = ["/usr/bin/env", "python3", "-c", script]
        done = subprocess.run(words, user=65533, group=65533, extra_groups=[], capture_output=True, check=True, cwd="/")
        assert done.stdout == b"there\n"
