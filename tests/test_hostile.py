"""What users with an account try from inside a shared host: records of theirs about what is not theirs.

Real files of other users, in one process: the worker is root here, so only what refcast itself refuses is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import hard
from refcast import sites
from refcast.acting import acting_as, identity
from refcast.errors import RepositoryError
from refcast.ingest import order
from refcast.ingest.sweep import Sweep
from refcast.ingest.trust import Steps
from refcast.install import repository
from refcast.model import RefUpdate
from refcast.settings import Settings
from refcast.spool import boxes
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
        # As the hooks of that user make it: with the spool's group.
        self.box.mkdir(exist_ok=True)
        group = self.box.parent.stat().st_gid
        os.chown(self.box, uid, group)
        self.box.chmod(boxes.MODE)
        try:
            if intent:
                where, self.bare = self.bare, repository  # type: ignore[assignment]
                path = self.intend(*moves, alive=False, facts=facts)
                self.bare = where
            else:
                path = self.put(*moves, repository=repository, facts=facts)  # type: ignore[arg-type]
        finally:
            self.box = before
        os.chown(path, uid, group)
        path.chmod(0o660)
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


class TestWhatTheWorkerReads:
    """Eve's repository is covered, and she puts things into it that lead to what she may not read."""

    @pytest.fixture
    def secret(self, host: Host) -> Path:
        """A repository that Eve cannot read, with a commit that she knows by its id alone."""
        path = host.mine(BEN, host.root / "home" / "ben" / "private.git")
        path.chmod(0o700)
        return path

    @pytest.fixture
    def mine(self, host: Host, secret: Path) -> Path:
        path = host.mine(EVE, host.srv / "team.git")
        host.forge(EVE, path, "main:->A")
        return path

    @staticmethod
    def lead(path: Path, to: Path, uid: int = EVE) -> None:
        """Put a link in a place."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(to)
        os.chown(path, uid, uid, follow_symlinks=False)

    def refused(self, host: Host, words: str) -> None:
        host.run()
        host.sweep()
        assert host.told() == []
        assert any(words in reason for reason in host.asides()), host.asides()

    NAMES = ("objects", "objects/pack", "objects/aa", "HEAD", "config", "packed-refs", "refs/heads", "shallow")

    @pytest.mark.parametrize("name", [*NAMES, "objects/pack/pack-x.pack", "objects/info", "config.worktree", ".git"])
    def test_links(self, host: Host, secret: Path, mine: Path, name: str) -> None:
        (secret / "objects" / "aa").mkdir(exist_ok=True)
        there = secret if name == ".git" else secret / name
        if not there.exists():
            there.write_text("")
        self.lead(mine / name, there)
        self.refused(host, f"{mine / name} leads to {there}, which user {EVE} may not read")

    @pytest.mark.parametrize("uid", [0, EVE])
    def test_links_of_who_may_read(self, host: Host, secret: Path, mine: Path, uid: int) -> None:
        """A store that is shared on purpose."""
        if uid:
            secret.chmod(0o755)
        self.lead(mine / "objects", secret / "objects", uid)
        host.run()
        assert host.told() == ["main:->A"]

    def test_of_what_they_lead_to_all_must_be_readable(self, host: Host, secret: Path, mine: Path) -> None:
        secret.chmod(0o755)
        (secret / "objects" / "pack").chmod(0o700)
        self.lead(mine / "objects", secret / "objects")
        self.refused(host, f"which user {EVE} may not read")

    def test_a_link_on_the_way(self, host: Host, secret: Path) -> None:
        """A known repository is another's all at once."""
        mine = host.mine(EVE, host.srv / "eve" / "private.git")
        host.forge(EVE, mine, "main:->A")
        host.run()
        assert len(host.told()) == 1
        mine.parent.rename(host.srv / "away")
        self.lead(mine.parent, secret.parent)
        (secret / "refs" / "heads" / "secret").write_text(f"{host.ids['B']}\n")
        host.clock.now += 7200
        host.sweep()
        assert len(host.told()) == 1
        (one,) = host.store.repositories.sweepable()
        assert one.found is not None and f"which user {EVE} may not read" in one.found.error

    @pytest.mark.parametrize("line", ["{0}/objects", "../../../home/ben/private.git/objects", "{0}/objects\r"])
    def test_alternates(self, host: Host, secret: Path, mine: Path, line: str) -> None:
        alternates = mine / "objects" / "info" / "alternates"
        alternates.write_text(f"# a store\n{line.format(secret)}\n")
        os.chown(alternates, EVE, EVE)
        self.refused(host, f"{alternates} leads to {secret}/objects, which user {EVE} may not read")

    @pytest.mark.parametrize("line", ["home/x/objects", "/srv\0/x"])
    def test_alternates_from_nowhere(self, host: Host, mine: Path, line: str) -> None:
        (mine / "objects" / "info" / "alternates").write_text(line)
        self.refused(host, "names no path that begins with a slash or a dot")

    def test_alternates_that_others_can_change(self, host: Host, secret: Path, mine: Path) -> None:
        alternates = mine / "objects" / "info" / "alternates"
        alternates.write_text(f"{secret}/objects\n")
        alternates.chmod(0o666)
        self.refused(host, "which user nobody may not read")
        secret.chmod(0o755)
        host.clock.now += 60
        host.run()
        assert host.told() == ["main:->A"]

    def test_links_in_what_is_borrowed(self, host: Host, secret: Path, mine: Path) -> None:
        store = host.root / "store"
        (store / "pack").mkdir(parents=True)
        (store / "pack" / "pack-x.idx").symlink_to(secret / "HEAD")
        give(store, EVE)
        (mine / "objects" / "info" / "alternates").write_text(f"{store}\n")
        give(mine, EVE)
        self.refused(host, f"{store}/pack/pack-x.idx leads to {secret}/HEAD")

    def test_loose_objects(self, host: Host, secret: Path, mine: Path) -> None:
        place = mine / "objects" / host.ids["A"][:2] / ("0" * 38)
        place.parent.mkdir(exist_ok=True)
        self.lead(place, secret / "HEAD")
        self.refused(host, f"{place} leads to {secret}/HEAD")

    @pytest.mark.parametrize("name", ["main", "other"])
    def test_loose_refs(self, host: Host, secret: Path, mine: Path, name: str) -> None:
        ref = mine / "refs" / "heads" / name
        self.lead(ref, secret / "refs" / "heads" / "main")
        self.refused(host, f"{ref} leads to {secret}/refs/heads/main")

    @pytest.mark.parametrize(
        "name", [*NAMES, "description", "refs/heads/other", "objects/info/alternates", "info/grafts"]
    )
    def test_pipes(self, host: Host, mine: Path, name: str) -> None:
        path = mine / name
        path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        if name == "description":
            host.run()
            assert host.told() == ["main:->A"]
        else:
            self.refused(host, f"{path} is no ")

    @pytest.mark.parametrize("name", ["HEAD", "config", "packed-refs", "refs/heads/other"])
    def test_what_is_absurdly_large(self, host: Host, mine: Path, name: str) -> None:
        with (mine / name).open("a") as file:
            file.truncate(1 << 33)
        self.refused(host, f"{mine / name} has {1 << 33} bytes")

    @pytest.mark.parametrize("text", ["[include]\n\tpath = {0}\n", '[IncludeIf "gitdir:/"] path = {0}\n'])
    def test_includes(self, host: Host, secret: Path, mine: Path, text: str) -> None:
        with (mine / "config").open("a") as file:
            file.write(text.format(secret / "config"))
        self.refused(host, f"{mine}/config includes another file")
        os.chown(mine / "config", 0, 0)
        host.clock.now += 60
        host.run()
        assert host.told() == ["main:->A"]

    @pytest.mark.parametrize("name", ["commondir", "gitdir"])
    def test_another_repository_s_directory(self, host: Host, secret: Path, mine: Path, name: str) -> None:
        (mine / name).write_text(f"{secret}\n")
        os.chown(mine / name, EVE, EVE)
        self.refused(host, f"{mine / name} leads to another repository")

    def test_a_file_that_stands_for_another_repository(self, host: Host, secret: Path, mine: Path) -> None:
        (mine / ".git").write_text(f"gitdir: {secret}\n")
        self.refused(host, f"{mine}/.git is no directory")

    def test_the_description(self, host: Host, mine: Path) -> None:
        (host.state / "secret").write_text("a secret word")
        host.endpoint()
        self.lead(mine / "description", host.state / "secret", 0)
        host.run()
        assert host.told() == ["main:->A"]
        assert b"a secret word" not in (host.state / "refcast.db").read_bytes() + b"".join(
            path.read_bytes() for path in host.state.glob("refcast.db-*")
        )

    def test_endpoints_of_a_configuration_that_is_a_link(self, host: Host, secret: Path, mine: Path) -> None:
        secret.chmod(0o755)
        with (secret / "config").open("a") as file:
            file.write('[refcast "ci"]\n\turl = https://ci.example.org/token\n')
        self.lead(mine / "config", secret / "config")
        host.run()
        assert host.told() == ["main:->A"]
        assert host.store.endpoints.all() == []


class TestSweeps:
    def test_a_doubted_record_shields_no_ref_for_long(self, host: Host) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        host.store.repositories.add(str(mine), {"refs/heads/main": host.ids["A"]}, host.clock())
        host.forge(EVE, mine, "main:C>D")
        host.run()
        (mine / "refs" / "heads" / "main").write_text(host.ids["B"])
        host.sweep()
        assert host.told() == []
        host.clock.now += 3601
        host.sweep()
        assert host.told() == ["main:A>B?"]

    def test_old_intents_of_strangers_are_removed(self, host: Host) -> None:
        mine = host.mine(BEN, host.srv / "team.git")
        own = host.mine(EVE, host.root / "home" / "eve" / "x.git")
        paths = [host.forge(EVE, path, "main:->A", intent=True) for path in (mine, own, host.srv / "none.git")]
        record = host.forge(EVE, own, "main:->A")
        host.run()
        host.sweep()
        assert all(path.exists() for path in paths)
        host.clock.now += 61
        host.sweep()
        assert [path.exists() for path in paths] == [False, False, True]
        host.clock.now += 3600
        host.sweep()
        assert not paths[-1].exists()
        assert record.exists()
        assert host.told() == []


class TestActing:
    def test_the_programs_that_it_starts_cannot_become_root_again(self) -> None:
        script = (
            "import os\nprint(os.getresuid(), os.getresgid(), 0 in os.getgroups())\n"
            "for become in (os.setuid, os.seteuid, os.setgid, os.setegid):\n"
            "    try: become(0)\n    except PermissionError: print('no')"
        )
        with acting_as(EVE):
            # env finds a Python that everybody may run
            words = ["/usr/bin/env", "python3", "-c", script]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/", **identity())
        assert done.stdout.splitlines() == [f"{(EVE, EVE, EVE)} {(EVE, EVE, EVE)} False", *["no"] * 4]
        assert identity() == {}
        assert os.getresuid() == (0, 0, 0)

    def test_git_itself_is_started_so(self, host: Host) -> None:
        """What a repository's owner has git run is not root: here an alias in its configuration."""
        with acting_as(EVE):
            said = repository._git(Path("/"), "-c", "alias.who=!id -ru; id -u; id -rg; id -G", "who")
        assert said.split() == [str(EVE)] * 4

    def test_a_pipe_in_the_place_of_the_configuration(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = host.mine(EVE, host.srv / "team.git")
        (mine / "config").unlink()
        os.mkfifo(mine / "config")
        monkeypatch.setattr(repository, "GIT_SECONDS", 0.5)
        with pytest.raises(RepositoryError, match=r"git has not read .* within 0\.5 s"):
            repository.takes_push_options(mine)
        with pytest.raises(RepositoryError, match="git has not read"):
            repository.place(mine)


class TestManyRecords:
    """What grows with the square of their number would stop everybody."""

    def test_are_undone_in_time(self) -> None:
        ids = [f"{number:040x}" for number in range(1, 20_001)]
        moves = [("refs/heads/main", RefUpdate(old, new, "refs/heads/main")) for old, new in pairwise(ids)]
        assert order.undone({"refs/heads/main": ids[-1]}, moves) == {"refs/heads/main": ids[0]}
        steps = Steps()
        for _, update in moves:
            steps.add(update)
        assert all(update.old in steps.ahead(ids[0]) and update.new in steps.behind(ids[-1]) for _, update in moves)
