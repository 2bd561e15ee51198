"""What users with an account try from inside a shared host: records of theirs about what is not theirs.

Real files of other users, in one process: the worker is root here, so only what refcast itself refuses is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import sites
from refcast.ingest.sweep import Sweep
from refcast.settings import Settings
from servers import public_directory
from spooled import World

EVE, BEN = 70003, 70002

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")


class Host(World):
    """Everything below `srv` is covered. Nothing is known to the store."""

    def __enter__(self) -> Host:
        super().__enter__()
        self.srv = self.root / "srv"
        self.srv.mkdir()
        self.bare = self.bare.rename(self.srv / "site.git")
        sites.set_covered_roots(self.state, (str(self.srv),))
        return self

    def mine(self, uid: int, path: Path) -> Path:
        """A repository that belongs to somebody; its main names A."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.bare, path)
        before, self.bare = self.bare, path
        self.set_refs("main:->A")
        self.bare = before
        give(path, uid)
        return path

    def forge(self, uid: int, repository: Path | str, *moves: str, intent: bool = False, facts: tuple[str, ...] = ()) -> Path:
        """A file that somebody has written into the spool: of a push that is over, or of one that was killed."""
        before, self.box = self.box, self.state / "spool" / str(uid)
        self.box.mkdir(exist_ok=True)
        os.chown(self.box, uid, uid)
        try:
            if intent:
                where, self.bare = self.bare, repository  # type: ignore[assignment]
                path = self.intend(*moves, alive=False, facts=facts)
                self.bare = where
            else:
                path = self.put(*moves, repository=repository, facts=facts)  # type: ignore[arg-type]
        finally:
            self.box = before
        os.chown(path, uid, uid)
        return path

    def paths(self) -> list[str]:
        return [one.path for one in self.store.repositories.sweepable()]

    def sweep(self) -> None:
        """All that is due."""
        sweep = Sweep(self.store, self.state / "spool", self.clock)
        for _ in range(20):
            if not sweep.step(Settings()):
                return
        pytest.fail("it sweeps for ever")


def give(path: Path, uid: int) -> None:
    for one in (path, *path.rglob("*")):
        os.chown(one, uid, uid, follow_symlinks=False)


@pytest.fixture
def host() -> Iterator[Host]:
    with public_directory() as root, Host(root, known=False) as made:
        assert isinstance(made, Host)
        yield made


class TestPaths:
    @pytest.mark.parametrize("between", ["../home/eve/evil.git", "/team.git", "./team.git", "team.git/", "x/../team.git"])
    def test_that_no_hook_writes(self, host: Host, between: str) -> None:
        host.mine(EVE, host.root / "home" / "eve" / "evil.git")
        host.mine(EVE, host.srv / "team.git")
        for uid in (EVE, 0):
            host.forge(uid, f"{host.srv}/{between}", "main:->A")
        host.run()
        assert host.told() == []
        assert host.paths() == []
        assert all("is not a path that a hook writes" in reason for reason in host.asides())
        assert len(host.asides()) == 2

    def test_an_alias_of_a_repository(self, host: Host) -> None:
        """By a link it would be a second repository, told twice; or one outside, told at all."""
        host.mine(EVE, host.root / "home" / "eve" / "evil.git")
        host.mine(EVE, host.srv / "team.git")
        (host.srv / "alias.git").symlink_to("team.git")
        (host.srv / "out.git").symlink_to(host.root / "home" / "eve" / "evil.git")
        for name in ("alias.git", "out.git"):
            host.forge(EVE, host.srv / name, "main:->A")
            host.forge(EVE, host.srv / name, "main:->A", intent=True)
        host.run()
        host.sweep()
        assert host.told() == []
        assert host.paths() == []
        assert [reason.partition(" is not believed: ")[2] for reason in host.asides()] == [
            f"{host.srv / name} leads elsewhere by a link" for name in ("alias.git", "out.git")
        ]

    def test_her_own_by_its_path_is_told(self, host: Host) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        host.forge(EVE, mine, "main:->A")
        host.run()
        assert host.told() == ["main:->A"]
        assert host.paths() == [str(mine)]


class TestFirstMet:
    def test_by_what_did_not_happen_it_stays_unknown(self, host: Host) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        host.forge(EVE, mine, "main:C>B")
        host.forge(EVE, mine, "main:->C", intent=True)
        host.run()
        assert host.paths() == []
        host.sweep()
        assert host.paths() == []
        assert host.told() == []

    def test_by_what_did_it_is_known_and_the_rest_is_left_out(self, host: Host) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        host.forge(EVE, mine, "other:C>D")
        host.run()
        assert host.paths() == []
        host.forge(EVE, mine, "main:->A")
        host.run()
        assert host.paths() == [str(mine)]
        assert host.told() == ["main:->A"]

    def test_by_a_push_that_was_killed(self, host: Host) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        host.forge(EVE, mine, "main:->A", intent=True)
        host.sweep()
        assert host.paths() == [str(mine)]
        assert host.told() == ["main:->A?"]
