"""Intents by `pre-receive` in real pushes, under each shell that may be /bin/sh, and the change to and from them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import install, spool
from refcast.errors import RepositoryError
from servers import SHELLS, ZERO, Server, need
from test_hooks import GOLDEN, NAMELESS, SHELLS_OWN
from test_install import OPTION, tree, uninstall

ONE = "1" * 40
BY_PRE_RECEIVE = GOLDEN.with_name("push-by-pre-receive")


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    need(Path(SHELLS[name].split()[0]).exists(), name)
    return name


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Server]:
    """A server where refcast is not installed yet."""
    with Server(tmp_path, install=False, worker=False) as made:
        made.commit("one")
        yield made


@pytest.fixture
def server(old: Server, shell: str) -> Server:
    old.install(intent="pre-receive")
    old.use_shell(shell)
    return old


def receive(server: Server, stdin: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    """The hook, run as git would."""
    command = ["hooks/pre-receive"]
    return subprocess.run(
        command, cwd=server.bare, input=stdin, env=server.environment | more, capture_output=True, check=False
    )


def in_order(content: bytes) -> list[list[bytes]]:
    """The fields of a spool file, the lines in them sorted: git may tell of refs in any order."""
    return [sorted(field.split(b"\n")) for field in content.split(b"\0")]


def lines(count: int) -> bytes:
    return b"".join(
        b"%s %s refs/heads/\xc3\xa9/%d\n" % (ZERO.encode(), ONE.encode(), number) for number in range(count)
    )


class TestIntent:
    def test_the_golden_file_is_what_a_push_writes(self, tmp_path: Path, shell: str) -> None:
        with Server(tmp_path, bare='a "b"\n\udcff.git', install=False, worker=False) as server:
            server.install(intent="pre-receive")
            for name in NAMELESS:
                server.environment.pop(name, None)
            server.use_shell(shell)
            commit = server.commit("one")
            facts = {"LOGNAME": "git", "USER": "git", "GL_USER": "ann", "GL_REPO": "team/site"}
            server.push("-o", "ci.skip", "main", "main:refs/heads/caf\udce9/it's", more=facts)
            (entry,) = server.entries()
            found = entry.path.read_bytes()
            for name, stands_for in (
                (str(tmp_path), "/srv/git"),
                (entry.records[0].id, "00000000-0000-4000-8000-000000000000"),
                (commit, ONE),
            ):
                found = found.replace(name.encode(), stands_for.encode())
        assert in_order(found) == in_order(BY_PRE_RECEIVE.read_bytes())

    @pytest.mark.parametrize("count", [0, 1, 29, 30, 31, 3000])
    def test_however_many_refs(self, server: Server, count: int) -> None:
        done = receive(server, lines(count))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        (intent,) = [part for entry in server.entries() for part in entry.intents]
        assert [update.ref for update in intent.updates] == [f"refs/heads/é/{number}" for number in range(count)]

    def test_it_stands_in_the_file_of_the_push(self, server: Server) -> None:
        server.push("main", "main:two")
        (entry,) = server.entries()
        (intent,) = entry.intents
        assert set(intent.updates) == set(server.record().updates)
        assert intent.repository == str(server.bare)
        assert entry.complete

    def test_an_environment_with_nothing_in_it(self, server: Server) -> None:
        for environment in ({}, {"IFS": "0r/", "CDPATH": "/", "state": "/x", "PWD": "/"}):
            command = ["hooks/pre-receive"]
            done = subprocess.run(
                command, cwd=server.bare, input=lines(40), env=environment, capture_output=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert {part.repository for entry in server.entries() for part in entry.intents} == {str(server.bare)}

    def test_a_push_goes_through_whatever_is_missing(self, server: Server) -> None:
        server.state.rename(server.state.with_name("away"))
        assert server.push("main").returncode == 0

    def test_gitolite_s_driver_between_it_and_receive_pack(self, server: Server) -> None:
        """Its hooks are called by another script; the push is still that of receive-pack, here of this test."""
        hooks = server.bare / "hooks"
        for name in ("pre-receive", "post-receive"):
            (hooks / name).rename(hooks / f"{name}.h00-refcast")
            server.hook(name, 'stdin=$(cat); for h in "$0".*; do echo "$stdin" | "$h" || exit 1; done')
        for name in ("pre-receive", "post-receive"):
            command = [f"hooks/{name}"]
            subprocess.run(command, cwd=server.bare, input=lines(2), env=server.environment, check=True)
        (entry,) = server.entries()
        assert entry.path.name == f"{os.getpid()}-{spool.start_time(os.getpid())}.push"
        assert (len(entry.intents), len(entry.records)) == (1, 1)


class TestOldHook:
    def test_it_gets_the_same_standard_input(self, old: Server, shell: str) -> None:
        seen = old.root / "seen"
        old.hook("pre-receive", f"cat >'{seen}'")
        old.install(intent="pre-receive")
        old.use_shell(shell)
        for stdin in (b"", b"\n", b"x", b"\\\n-n\n\n %s \t\n", lines(30), lines(3000), lines(3000) + b"no end"):
            assert receive(old, stdin).returncode == 0
            assert seen.read_bytes() == stdin

    def test_a_refusal_is_honoured_and_leaves_no_intent(self, old: Server, shell: str) -> None:
        old.hook("pre-receive", 'cat >/dev/null; echo "not today" >&2; exit 7')
        old.install(intent="pre-receive")
        old.use_shell(shell)
        done = old.push("main", check=False)
        assert done.returncode == 1
        assert "not today" in done.stderr
        assert old.entries() == []
        assert receive(old, lines(40)).returncode == 7

    def test_without_cat_it_still_gets_all(self, old: Server, shell: str) -> None:
        seen = old.root / "seen"
        old.hook("pre-receive", f"/bin/cat >'{seen}'")
        old.install(intent="pre-receive")
        old.use_shell(shell)
        for stdin in (lines(100), lines(30) + b"no end"):
            assert receive(old, stdin, PATH="/nonexistent").returncode == 0
            assert seen.read_bytes() == stdin

    @pytest.mark.parametrize("body", ["/bin/head -n 2; kill -9 $$", "kill -9 $$", "exit 1", "/bin/head -c 150; exit 1"])
    def test_half_a_push_is_not_judged(self, old: Server, shell: str, body: str) -> None:
        """A policy that would have refused what is lost must not seem to agree."""
        seen = old.root / "seen"
        old.hook("pre-receive", f"/bin/cat >'{seen}'")
        old.install(intent="pre-receive")
        old.use_shell(shell)
        old.hook("", body, at=old.root / "stubs" / "cat")
        path = f"{old.root}/stubs:{old.environment['PATH']}"
        done = receive(old, lines(100), PATH=path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(b"refcast: cannot read what is pushed")
        assert not seen.exists()
        assert old.entries() == []
        (old.bare / "hooks" / "pre-receive.before-refcast").unlink()
        assert receive(old, lines(100), PATH=path).returncode == 0
        (intent,) = [part for entry in old.entries() for part in entry.intents]
        assert len(intent.updates) >= 30

    def test_one_that_does_not_read_its_standard_input(self, old: Server, shell: str) -> None:
        old.hook("pre-receive", "exec <&-; echo done")
        old.install(intent="pre-receive")
        old.use_shell(shell)
        done = receive(old, lines(5000))  # more than a pipe holds
        assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
        (intent,) = [part for entry in old.entries() for part in entry.intents]
        assert len(intent.updates) == 5000

    def test_it_sees_what_it_saw_without_refcast(self, old: Server, shell: str) -> None:
        seen = old.root / "seen"
        old.hook("pre-receive", f"{{ umask; pwd; env -0 | sort -z | tr '\\0' '\\n'; }} >>'{seen}'; cat >>'{seen}'")
        more = {"GL_USER": "ann", "state": "x", "stat": "y"}

        def facts() -> list[str]:
            assert old.push("main", "main:two", more=more).returncode == 0
            text = seen.read_text()
            seen.unlink()
            for ref in ("refs/heads/main", "refs/heads/two"):
                old.run("git", "-C", old.bare, "update-ref", "-d", ref)
            quarantine = ("GIT_OBJECT_DIRECTORY=", "GIT_QUARANTINE_PATH=")
            return [
                line for line in text.splitlines() if not SHELLS_OWN.match(line) and not line.startswith(quarantine)
            ]

        old.run("git", "-C", old.bare, "config", OPTION, "true")
        before = facts()
        old.install(intent="pre-receive")
        old.use_shell(shell)
        assert facts() == before


class TestChange:
    """From one to the other and out again, and what was there before is there again."""

    def installed(self, server: Server) -> list[str]:
        return [path.name for path in server.hooks()]

    def test_from_one_to_the_other(self, old: Server) -> None:
        for name in ("update", "pre-receive", "post-receive"):
            old.hook(name, f"echo {name} >>'{old.root}/ran'; cat >/dev/null")
        was = tree(old.bare)
        assert old.install() == "installed"
        assert self.installed(old) == ["update", "post-receive"]
        assert old.install(intent="pre-receive") == "upgraded"
        assert self.installed(old) == ["pre-receive", "post-receive"]
        assert tree(old.bare)["hooks/update"] == was["hooks/update"]
        assert install.problems(install.place(old.bare), old.state) == []
        assert old.install() == "is installed already"
        assert self.installed(old) == ["pre-receive", "post-receive"]
        old.push("main")
        assert (old.root / "ran").read_text().split() == ["pre-receive", "update", "post-receive"]
        assert old.install(intent="update") == "upgraded"
        assert tree(old.bare)["hooks/pre-receive"] == was["hooks/pre-receive"]
        old.install(intent="pre-receive")
        uninstall(old)
        assert tree(old.bare) == was

    def test_a_problem_is_named(self, old: Server) -> None:
        old.install(intent="pre-receive")
        hook = old.bare / "hooks" / "pre-receive"
        hook.chmod(0o644)
        (said,) = install.problems(install.place(old.bare), old.state)
        assert said.what.startswith(f"{hook} is not executable")

    def test_on_the_command_line(self, old: Server) -> None:
        said = old.refcast("install", "--intent", "pre-receive", str(old.bare)).stdout
        assert f"{old.bare}: installed\n" in said
        assert self.installed(old) == ["pre-receive", "post-receive"]
        assert old.refcast("install", "--intent", "post-update", str(old.bare), check=False).returncode == 2

    def test_two_that_want_the_same_place(self, old: Server) -> None:
        old.hook("pre-receive", "echo first")
        old.install(intent="pre-receive")
        old.hook("pre-receive", "echo second")
        with pytest.raises(RepositoryError, match="remove the one that you do not need"):
            old.install(intent="pre-receive")
