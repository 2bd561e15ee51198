"""Who may push nothing fills the spool with what costs its reader time: nobody else's push waits for that.

Files of several users, made by root; with the hooks and real pushes in test_shared_host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import sites, spool
from refcast.errors import RecordError
from refcast.ingest.reading import LARGE_BYTES
from refcast.ingest.sweep import Sweep
from refcast.settings import Settings
from servers import DEAD, alive_name, public_directory
from spooled import NOON, World

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
        began = time.process_time()
        with pytest.raises(RecordError, match="are not what a hook writes"):
            spool.read(path)
        assert time.process_time() - began < 0.5

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
        os.chown(world.bare / "refs", BEN, -1)
        write(world, BEN, DEAD, record(world.bare) + record("/nowhere.git", many(10_000)), at=NOON - 60)
        world.run()
        assert "this one is of several repositories" in world.asides()[0]

    def test_beyond_what_a_stranger_may_write(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        os.chown(world.bare / "refs", BEN, -1)
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
