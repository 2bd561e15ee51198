"""What users with an account try from inside a shared host: records of theirs about what is not theirs.

Real files of other users, in one process: the worker is root here, so only what refcast itself refuses is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import hard
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

    def forge(
        self, uid: int, repository: Path | str, *moves: str, intent: bool = False, facts: tuple[str, ...] = ()
    ) -> Path:
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
    @pytest.mark.parametrize(
        "between", ["../home/eve/evil.git", "/team.git", "./team.git", "team.git/", "x/../team.git"]
    )
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


class TestRefs:
    """Ben may push to his own corner, refs/heads/ben, and nowhere else."""

    @pytest.fixture
    def corner(self, host: Host) -> Host:
        host.set_refs("main:->A", "ben/x:->A")
        give(host.bare, 0)
        give(host.bare / "refs" / "heads" / "ben", BEN)
        return host

    @pytest.mark.parametrize("ref", [f"refs/heads/{'a' * 250}/../y", f"refs/{'a' * 300}/y", "refs/../../../home/ben/y"])
    def test_that_git_cannot_have(self, corner: Host, ref: str) -> None:
        corner.forge(BEN, corner.bare, f"{ref}:->A")
        corner.run()
        assert "is not a ref update" in corner.asides()[0]
        assert corner.paths() == []

    def test_beside_one_that_is_his(self, corner: Host) -> None:
        corner.forge(BEN, corner.bare, "ben/x:->A", "main:->A")
        corner.run()
        assert f"user {BEN} may not write" in corner.asides()[0]
        assert corner.told() == []

    @pytest.mark.parametrize("first", ["ben/x:->A", "main:->A"])
    def test_each_is_judged_by_itself(self, corner: Host, first: str) -> None:
        """Not by what was found out of another."""
        for move in sorted(["ben/x:->A", "main:->A"], key=lambda one: one != first):
            corner.forge(BEN, corner.bare, move)
        corner.run()
        assert corner.told() == ["ben/x:->A"]

    def test_a_symbolic_one_of_his_that_leads_to_one_that_is_not(self, corner: Host) -> None:
        hard.git(corner.bare, "symbolic-ref", "refs/heads/ben/link", "refs/heads/main")
        give(corner.bare / "refs" / "heads" / "ben", BEN)
        corner.forge(BEN, corner.bare, "ben/link:->A")
        corner.forge(BEN, corner.bare, "ben/link:->A", intent=True)
        corner.run()
        assert f"user {BEN} may not write" in corner.asides()[0]
        corner.sweep()
        assert corner.told() == []
        assert corner.paths() == []
