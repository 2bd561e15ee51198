"""All repositories below some directories: git is told so in its system-wide configuration, each repository's own hooks
run as before, and all of it is taken away again byte for byte."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import install, sites
from refcast.errors import BadInput
from refcast.install.hooks import Trouble
from refcast.install.system import NAMES, System, _roots_in, _with_roots, _without_roots
from servers import Server, pose_as_worker, public_directory

TELL = 'printf "%s\\n" "$0 $*" >>"{seen}"; env >"{seen}.env"; cat >>"{seen}"; exit {code}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Nothing installed, and a system-wide configuration of its own with a line in it that has no end."""
    with Server(tmp_path, install=False, worker=False) as made:
        config = tmp_path / "etc" / "gitconfig"
        config.parent.mkdir()
        config.write_text("[user]\n\tname = System")
        made.environment |= {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(config)}
        made.state.mkdir(0o711)
        made.commit("one")
        yield made


def system(server: Server, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = server.refcast("install", "--system", "--all", str(server.root), *words, check=check)
    pose_as_worker(server.state)
    return done


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class TestInstalling:
    def test_a_repository_that_is_there_and_one_that_comes(self, server: Server) -> None:
        said = system(server).stdout
        assert f"all repositories below {server.root} are covered, and those to come" in said
        assert "!" not in said
        assert server.push("main", "-o", "ci.skip").stderr == ""
        assert server.record().options == ("ci.skip",)
        fresh = server.root / "team" / "fresh.git"
        server.run("git", "init", "-q", "--bare", str(fresh))
        server.git("push", "-q", str(fresh), "main")
        repositories = [part.repository for entry in server.entries() for part in entry.records]
        assert repositories == [str(server.bare), str(fresh)]
        assert [len(entry.intents) for entry in server.entries()] == [1, 1]

    @pytest.mark.parametrize("intent", install.INTENTS)
    def test_again_and_intents(self, server: Server, intent: str) -> None:
        assert "is installed already" not in system(server, "--intent", intent).stdout
        assert "is installed already" in system(server).stdout
        server.push("main")
        ((entry),) = server.entries()
        assert len(entry.intents) == len(entry.records) == 1

    def test_another_directory_is_added(self, server: Server, tmp_path: Path) -> None:
        other = tmp_path.parent / f"{tmp_path.name}-other"
        other.mkdir()
        system(server)
        server.refcast("install", "--system", "--all", str(other))
        assert sites.covered_roots(server.state) == (str(tmp_path), str(other))
        other.rmdir()

    def test_a_directory_is_taken_away_and_the_others_stay(self, server: Server, tmp_path: Path) -> None:
        other = tmp_path.parent / f"{tmp_path.name}-other"
        other.mkdir()
        system(server)
        before = (server.root / "etc" / "gitconfig").read_bytes()
        server.refcast("install", "--system", "--all", str(other))
        refused = server.refcast("uninstall", "--system", "--all", "/no/such", check=False)
        assert (refused.returncode, "is not one of the directories" in refused.stderr) == (2, True)
        other.rmdir()
        assert "as before" in server.refcast("uninstall", "--system", "--all", str(other)).stdout
        assert (server.root / "etc" / "gitconfig").read_bytes() == before
        assert sites.covered_roots(server.state) == (str(tmp_path),)
        server.push("main")
        assert len(server.entries()) == 1

    @pytest.mark.parametrize("intent", install.INTENTS)
    def test_what_is_damaged_is_mended_with_the_intent_that_was_chosen(self, server: Server, intent: str) -> None:
        system(server, "--intent", intent)
        hooks = server.root / "etc" / "refcast" / "hooks"
        before = tree(hooks)
        (hooks / f"{intent}.before-refcast").unlink()
        system(server)
        assert tree(hooks) == before

    def test_elsewhere_nothing_changes(self, server: Server) -> None:
        inside = server.root / "srv"
        inside.mkdir()
        server.refcast("install", "--system", "--all", str(inside))
        assert server.push("main").stderr == ""
        assert server.entries() == []

    def test_it_is_undone_byte_for_byte(self, server: Server) -> None:
        etc = server.root / "etc"
        before, hooks = tree(etc), tree(server.bare / "hooks")
        system(server)
        assert tree(server.bare / "hooks") == hooks
        server.refcast("uninstall", "--system")
        assert tree(etc) == before
        assert [path.name for path in etc.iterdir()] == ["gitconfig"]
        assert "was not installed" in server.refcast("uninstall", "--system").stdout
        server.push("main")
        assert server.entries() == []
        assert "gone" not in server.refcast("status", check=False).stdout

    def test_a_push_under_way_still_runs_the_repository_s_own_hooks(self, server: Server) -> None:
        """It has begun before, and would be let in by nobody's leave."""
        etc, gate = server.root / "etc", server.root / "gate"
        before = tree(etc)
        server.hook("update", f'[ -e "{gate}.reached" ] || {{ : >"{gate}.reached"; read -r _ <"{gate}"; }}; exit 7')
        os.mkfifo(gate)
        system(server)
        words = ["git", "push", "-q", str(server.bare), "main", "main:other"]
        with subprocess.Popen(words, cwd=server.work, env=server.environment, stderr=subprocess.PIPE) as push:
            server.wait_until(Path(f"{gate}.reached").exists)
            said = server.refcast("uninstall", "--system").stdout
            assert "uninstalled" in said
            assert "run this again" in said
            assert "refcast" not in (etc / "gitconfig").read_text()
            assert "run this again" in server.refcast("uninstall", "--system").stdout
            gate.write_text("go on\n")
            _, told = push.communicate(timeout=60)
        assert push.returncode
        assert told.count(b"hook declined") >= 2, told
        assert server.run("git", "-C", str(server.bare), "for-each-ref").stdout == ""
        assert "run this again" not in server.refcast("uninstall", "--system").stdout
        assert tree(etc) == before

    def test_without_a_configuration_none_stays(self, server: Server) -> None:
        (server.root / "etc" / "gitconfig").unlink()
        system(server)
        server.push("main")
        assert len(server.entries()) == 1
        server.refcast("uninstall", "--system")
        assert list((server.root / "etc").iterdir()) == []

    def test_installing_into_one_that_is_covered(self, server: Server) -> None:
        system(server)
        before = tree(server.root / "etc")
        done = server.refcast("install", str(server.bare))
        assert "is covered already" in done.stdout
        server.refcast("uninstall", str(server.bare))
        assert tree(server.root / "etc") == before

    def test_hooks_that_were_installed_before_do_not_record_twice(self, server: Server) -> None:
        server.hook("update", TELL.format(seen=server.root / "seen", code=0))
        server.refcast("install", str(server.bare))
        system(server)
        server.push("main")
        ((entry),) = server.entries()
        assert len(entry.records) == 1
        assert (server.root / "seen").read_text().count("refs/heads/main") == 1


class TestRefusals:
    def test_without_directories(self, server: Server) -> None:
        done = server.refcast("install", "--system", check=False)
        assert done.returncode == 2
        assert "name them with --all ROOT" in done.stderr

    def test_somebody_s_own_hooks_path(self, server: Server) -> None:
        with (server.root / "etc" / "gitconfig").open("a") as file:
            file.write("\n[core]\n\thooksPath = /srv/hooks\n")
        done = system(server, check=False)
        assert done.returncode == 2
        assert "sets core.hooksPath to /srv/hooks already" in done.stderr
        assert not (server.root / "etc" / "refcast").exists()

    def test_a_configuration_that_pushers_cannot_read(self, server: Server) -> None:
        config = server.root / "etc" / "gitconfig"
        config.chmod(0o600)
        done = system(server, check=False)
        assert f"chmod a+r {config}" in done.stderr

    def test_a_directory_that_is_a_pattern(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="takes for a pattern"):
            System(tmp_path / "gitconfig").check(["/srv/a*b"])

    def test_with_what_it_does_not_go(self, server: Server) -> None:
        assert server.refcast("install", "--system", str(server.bare), check=False).returncode == 2
        assert server.refcast("uninstall", "--system", str(server.bare), check=False).returncode == 2


class TestChaining:
    """Every hook of a repository runs as git runs it without refcast."""

    def test_git_knows_no_other_hook(self, server: Server) -> None:
        """`git bugreport` names every hook that it knows and that is there."""
        system(server)
        words = ("git", "bugreport", "--output-directory", str(server.root), "--suffix", "x")
        server.run(*words, cwd=server.bare, more={"GIT_EDITOR": "true"})
        report = (server.root / "git-bugreport-x.txt").read_text()
        assert set(report.partition("[Enabled Hooks]")[2].split()) <= set(NAMES)
        there = {path.name for path in (server.root / "etc" / "refcast" / "hooks").iterdir() if path.suffix == ""}
        assert there == set(NAMES)

    @pytest.mark.parametrize("code", [0, 7])
    def test_arguments_input_environment_and_exit_status(self, server: Server, code: int) -> None:
        system(server)
        seen, environment_seen = server.root / "seen", server.root / "seen.env"
        environment = server.environment | {"GIT_DIR": ".", "GIT_X": "a b\nc"}
        # Those in which refcast has a part are pushed to below.
        for name in sorted(set(NAMES) - {"update", "pre-receive", "post-receive"}):
            server.hook(name, TELL.format(seen=seen, code=code))
            told = []
            for hook in (f"hooks/{name}", str(server.root / "etc" / "refcast" / "hooks" / name)):
                words = [hook, "an argument", "", "*"]
                done = subprocess.run(words, cwd=server.bare, env=environment, input=b"in\0put", check=False)
                lines = environment_seen.read_text().splitlines()
                lines = [line for line in lines if not line.startswith(("_=", "SHLVL="))]
                told.append((done.returncode, seen.read_bytes(), lines))
                seen.unlink()
            assert told[0] == told[1], name
            assert told[0][0] == code

    def test_a_push(self, server: Server) -> None:
        seen = {}
        for name in ("pre-receive", "update", "reference-transaction", "post-receive", "post-update"):
            seen[name] = server.root / name
            server.hook(name, TELL.format(seen=seen[name], code=0))
        server.push("main:refs/heads/before")
        before = {name: path.read_text() for name, path in seen.items()}
        for path in seen.values():
            path.unlink()
        system(server)
        server.push("main:refs/heads/behind")
        for name, path in seen.items():
            text = path.read_text().replace("refs/heads/behind", "refs/heads/before")
            assert text.partition(" ")[2] == before[name].partition(" ")[2], name
        assert len(server.entries()) == 1

    @pytest.mark.parametrize("name", ["pre-receive", "update"])
    def test_a_refusal(self, server: Server, name: str) -> None:
        system(server)
        server.hook(name, "echo not here >&2; exit 1")
        done = server.push("main", check=False)
        assert done.returncode
        assert "not here" in done.stderr
        assert not any(entry.records for entry in server.entries())

    def test_a_commit_in_a_worktree(self, server: Server) -> None:
        system(server)
        work = server.root / "linked"
        server.git("worktree", "add", "-q", str(work), "-b", "linked")
        server.hook("", "echo refused >&2; exit 1", at=server.work / ".git" / "hooks" / "pre-commit")
        for where in (server.work, work, server.work / "below"):
            where.mkdir(exist_ok=True)
            done = server.run("git", "commit", "-q", "--allow-empty", "-m", "x", cwd=where, check=False)
            assert (done.returncode, done.stderr) == (1, "refused\n")
        (server.work / ".git" / "hooks" / "pre-commit").unlink()
        server.run("git", "commit", "-q", "--allow-empty", "-m", "x", cwd=work)

    def test_a_repository_with_a_working_tree_is_updated_as_git_does(self, server: Server) -> None:
        system(server)
        site = server.root / "deployed"
        server.run("git", "init", "-q", "-b", "main", str(site))
        server.run("git", "-C", str(site), "config", "receive.denyCurrentBranch", "updateInstead")
        server.commit("two", {"page": "two\n"})
        server.git("push", "-q", str(site), "main")
        assert (site / "page").read_text() == "two\n"
        server.commit("three", {"page": "three\n"})
        server.git("push", "-q", str(site), "main")
        assert (site / "page").read_text() == "three\n"
        (site / "page").write_text("changed there\n")
        server.commit("four", {"page": "four\n"})
        done = server.run("git", "push", "-q", str(site), "main", cwd=server.work, check=False)
        assert done.returncode
        assert "unstaged changes" in done.stderr or "Up-to-date" in done.stderr
        assert (site / "page").read_text() == "changed there\n"


class TestUncovered:
    def test_each_kind(self, server: Server) -> None:
        with server.at_home():
            assert install.uncovered([server.root]) == [
                Trouble(
                    f"{server.bare} is not covered: pushes to it are not announced",
                    refcast=("install", "--system", "--all", str(server.root)),
                    as_root=True,
                )
            ]
            system(server)
            assert install.uncovered([server.root]) == []
            own = server.root / "own.git"
            server.run("git", "init", "-q", "--bare", str(own))
            server.run("git", "-C", str(own), "config", "core.hooksPath", "shared")
            (trouble,) = install.uncovered([server.root])
            assert isinstance(trouble, Trouble)
            assert trouble.what.startswith(f"{own} takes its hooks from {own}/shared")
            assert trouble.line.endswith(f"; run `refcast install --shared {own}`")
            server.refcast("install", "--shared", str(own))
            assert install.uncovered([server.root]) == []

    def test_one_that_cannot_be_read(self, server: Server) -> None:
        broken = server.root / "sha256.git"
        server.run("git", "init", "-q", "--bare", "--object-format=sha256", str(broken))
        done = system(server, check=False)
        assert done.returncode == 4
        assert "sha256" in done.stderr
        assert "!" not in done.stdout


class TestTheLines:
    @pytest.mark.parametrize("text", [b"", b"[a]\n", b"[a]\n\tb = c", b"\n\n", b"# x\r\n"])
    def test_they_come_and_go(self, text: bytes) -> None:
        inside = _with_roots(text, ["/srv/git", "/"], Path("/etc/refcast/gitconfig"))
        assert list(_roots_in(inside)) == ["/srv/git", "/"]
        assert _without_roots(inside) == text
        assert _without_roots(_with_roots(inside, ["/x"], Path("/y"))) == text
        assert _without_roots(inside + b"[later]\n") == text + b"[later]\n"

    def test_what_somebody_has_cut_is_left_alone(self) -> None:
        cut = _with_roots(b"[a]\n", ["/srv"], Path("/x"))[:-5]
        assert _without_roots(cut) == cut


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs for others")
def test_root_installs_for_the_worker_s_user() -> None:
    """Nothing in the state directory is root's, and the hooks know whose it is."""
    with public_directory() as root, Server(root, install=False, worker=False) as server:
        config = root / "gitconfig"
        server.environment |= {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(config)}
        server.state.mkdir(0o711)
        os.chown(server.state, 65533, 65533)
        server.refcast("install", "--system", "--all", str(root))
        assert {path.stat().st_uid for path in [server.state, *server.state.rglob("*")]} == {65533}
        assert "owner=65533\n" in (root / "refcast" / "hooks" / "post-receive").read_text()
