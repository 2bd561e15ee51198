"""The hooks in real pushes, under each shell that may be /bin/sh: what they record, and how the old hooks fare."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.model import RefUpdate
from servers import SHELLS, ZERO, Server, need

GOLDEN = Path(__file__).with_name("golden") / "spool" / "push"
NAMELESS = ("LOGNAME", "USER", "SSH_CONNECTION", "REMOTE_USER", "GL_USER")
SHELLS_OWN = re.compile(r"(PWD|OLDPWD|SHLVL|_)=")
"""What any shell between git and a hook sets, and each its own way."""


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    need(Path(SHELLS[name].split()[0]).exists(), name)
    return name


@pytest.fixture
def server(tmp_path: Path, shell: str) -> Iterator[Server]:
    with Server(tmp_path, worker=False) as made:
        made.use_shell(shell)
        yield made


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Server]:
    """A server where refcast is not installed yet."""
    with Server(tmp_path, install=False, worker=False) as made:
        made.commit("one")
        yield made


def receive(server: Server, stdin: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    """post-receive, run as git would."""
    hook = ["hooks/post-receive"]
    return subprocess.run(
        hook, cwd=server.bare, input=stdin, env=server.environment | more, capture_output=True, check=False
    )


class TestRecord:
    def test_the_golden_file_is_what_a_push_writes(self, tmp_path: Path, shell: str) -> None:
        """All that there is to record, in ugly names; tests/test_spool.py reads the same file."""
        with Server(tmp_path, bare='a "b"\n\udcff.git', worker=False) as server:
            for name in NAMELESS:
                server.environment.pop(name, None)
            server.use_shell(shell)
            commit = server.commit("one")
            server.git("tag", "-m", "one", "v1.0")
            tag = server.git("rev-parse", "v1.0")
            options = [word for option in ("ci.skip", "two words", "", "\udce9=") for word in ("-o", option)]
            facts = {"LOGNAME": "git", "USER": "git", "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}
            facts |= {"GL_USER": "ann", "REMOTE_USER": "ann b"}
            server.push(*options, "main", "main:refs/heads/caf\udce9/it's", "v1.0", more=facts)
            (entry,) = server.entries()
            found = entry.path.read_bytes()
            uuid = entry.records[0].id
            for name, stands_for in (
                (str(tmp_path), "/srv/git"),
                (uuid, "00000000-0000-4000-8000-000000000000"),
                (commit, "1" * 40),
                (tag, "2" * 40),
            ):
                found = found.replace(name.encode(), stands_for.encode())
        assert in_order(found) == in_order(GOLDEN.read_bytes())

    def test_every_byte_that_git_allows_in_a_name(self, server: Server) -> None:
        tip = server.commit("one")
        high = bytes(range(0x80, 0x100)).decode("utf-8", "surrogateescape")
        ref = f"refs/heads/{high}/一丁/\"'`$(id)${{x}};&|<>!%#=+,-"
        server.push(f"main:{ref}")
        record = server.record()
        assert record.updates == (RefUpdate(ZERO, tip, ref),)
        (entry,) = server.entries()
        assert [part.updates for part in entry.intents] == [record.updates]

    def test_the_path_is_the_resolved_one(self, server: Server) -> None:
        server.commit("one")
        link = server.root / "a link"
        link.symlink_to(server.bare)
        server.push("main")
        server.run("git", "push", "-q", link, "main:two", cwd=server.work)
        server.run("git", "push", "-q", "--receive-pack=git -C / receive-pack", link, "main:three", cwd=server.work)
        server.run(
            "git",
            "push",
            "-q",
            f"--receive-pack=cd '{link}' && git receive-pack . #",
            link,
            "main:four",
            cwd=server.work,
        )
        entries = server.entries()
        assert len(entries) == 4
        for entry in entries:
            assert {part.repository for part in entry.records + entry.intents} == {str(server.bare)}

    def test_a_creation_an_update_a_deletion_and_a_tag_in_one_push(self, server: Server) -> None:
        first = server.commit("one")
        server.push("main", "main:gone")
        for entry in server.entries():
            entry.path.unlink()
        second = server.commit("two")
        server.push("main", "main:new", ":gone", "main:refs/tags/v1", "main:refs/for/main")
        expected = {
            RefUpdate(first, second, "refs/heads/main"),
            RefUpdate(ZERO, second, "refs/heads/new"),
            RefUpdate(first, ZERO, "refs/heads/gone"),
            RefUpdate(ZERO, second, "refs/tags/v1"),
            RefUpdate(ZERO, second, "refs/for/main"),
        }
        (entry,) = server.entries()
        (intent,) = entry.intents
        assert set(server.record().updates) == set(intent.updates) == expected
        assert (entry.complete, entry.alive, entry.uid) == (True, False, os.geteuid())

    def test_each_push_has_a_file_and_an_id_of_its_own(self, server: Server) -> None:
        server.commit("one")
        for number in range(5):
            server.push(f"main:topic-{number}")
        assert len({part.id for entry in server.entries() for part in entry.records}) == 5

    def test_a_push_of_many_refs(self, server: Server) -> None:
        tip = server.commit("one")
        count = 2000 if "dash" in (server.bare / "hooks/update").read_text().split("\n")[0] else 200
        lines = [f"create refs/heads/many/{number:05} {tip}\n" for number in range(count)]
        subprocess.run(
            ["git", "update-ref", "--stdin"],
            cwd=server.work,
            input="".join(lines).encode(),
            env=server.environment,
            check=True,
        )
        server.push("refs/heads/many/*:refs/heads/many/*")
        (entry,) = server.entries()
        refs = [f"refs/heads/many/{number:05}" for number in range(count)]
        assert sorted(update.ref for part in entry.intents for update in part.updates) == refs
        assert sorted(update.ref for update in server.record().updates) == refs

    def test_a_standard_input_of_many_pieces(self, server: Server) -> None:
        lines = [f"{ZERO} {number:040x} refs/heads/é/{number}" for number in range(2000)]
        done = receive(server, "".join(f"{line}\n" for line in lines).encode())
        assert (done.returncode, done.stderr) == (0, b"")
        assert [f"{one.old} {one.new} {one.ref}" for one in server.record().updates] == lines

    def test_two_hundred_thousand_lines(self, server: Server) -> None:
        line = b"%s %s refs/heads/%%d\n" % (ZERO.encode(), b"1" * 40)
        assert receive(server, b"".join(line % number for number in range(200_000))).returncode == 0
        assert len(server.record().updates) == 200_000

    @pytest.mark.parametrize("count", [29, 30, 31, 100])
    def test_with_and_without_cat_it_is_the_same(self, server: Server, count: int) -> None:
        stdin = b"".join(b"%s %s refs/heads/%d\n" % (ZERO.encode(), b"1" * 40, number) for number in range(count))
        for path in (server.environment["PATH"], "/nonexistent"):
            for end in (b"", b"0000 cut o"):
                assert receive(server, stdin + end, PATH=path).returncode == 0
        lengths = [len(part.updates) for entry in server.entries() for part in entry.records]
        assert lengths == [count] * 4

    def test_what_cat_could_not_read_whole_is_not_recorded(self, server: Server) -> None:
        server.hook("", "/bin/head -n 2; kill -9 $$", at=server.root / "stubs" / "cat")
        stdin = b"".join(b"%s %s refs/heads/%d\n" % (ZERO.encode(), b"1" * 40, number) for number in range(100))
        done = receive(server, stdin, PATH=f"{server.root}/stubs:{server.environment['PATH']}")
        assert done.returncode == 0
        assert b"not recorded: cat ended with 137" in done.stderr
        assert server.entries() == []

    def test_a_line_that_was_not_finished_is_no_ref(self, server: Server) -> None:
        """receive-pack was killed while it told of its refs."""
        assert receive(server, f"{ZERO} {'1' * 40} refs/heads/a\n{ZERO} {'1' * 40} refs/he".encode()).returncode == 0
        assert [update.ref for update in server.record().updates] == ["refs/heads/a"]

    def test_an_environment_with_nothing_in_it(self, server: Server) -> None:
        """No HOME, no PATH, no locale; and one that would mislead a careless script."""
        line = f"{ZERO} {'1' * 40} refs/heads/a\n".encode()
        for number, environment in enumerate(
            ({}, {"IFS": "0r/", "CDPATH": "/", "state": "/x", "uid": "5", "PWD": "/"})
        ):
            done = subprocess.run(
                ["hooks/post-receive"], cwd=server.bare, input=line, env=environment, capture_output=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
            subprocess.run(
                ["hooks/update", "refs/heads/a", ZERO, "1" * 40], cwd=server.bare, env=environment, check=True
            )
            records = [part for entry in server.entries() for part in entry.records]
            assert len(records) == number + 1
            assert {(part.repository, part.facts) for part in records} == {(str(server.bare), ())}

    def test_nobody_else_can_read_it(self, server: Server) -> None:
        server.commit("one")
        server.push("main")
        (entry,) = server.entries()
        assert stat.S_IMODE(entry.path.stat().st_mode) == 0o660
        assert stat.S_IMODE(entry.path.parent.stat().st_mode) == 0o2770


class TestOldHooks:
    """What was there before works as it did, and is told what git tells it."""

    FACTS = """
        {
            umask; pwd; printf '<%s>\\n' "$@"; grep 'Sig[BIC]' /proc/self/status
            env -0 | sort -z | tr '\\0' '\\n'
        } >>"$SEEN/${0##*/}.facts"
        cat >>"$SEEN/${0##*/}.stdin"
        echo "this is ${0##*/}"; echo "and its complaint" >&2"""

    def facts(self, server: Server) -> dict[str, str]:
        """What the old hooks saw of a push of three refs, and the pusher of them."""
        seen = server.root / "seen"
        seen.mkdir()
        mask = os.umask(0o027)
        try:
            done = server.push(
                *("-o", "x=y z", "main", "main:two", "main:refs/tags/a\udcffb"),
                more={"SEEN": str(seen)} | dict.fromkeys(["state", "line", "updates", "file", "name"], "x y"),
            )
        finally:
            os.umask(mask)
        found = {"stderr": "\n".join(sorted(done.stderr.replace(".before-refcast", "").splitlines()))}
        for path in seen.iterdir():
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            lines = [line for line in text.split("\n") if not SHELLS_OWN.match(line)]
            found[path.name.replace(".before-refcast", "")] = "\n".join(lines)
            path.unlink()
        seen.rmdir()
        for ref in ("refs/heads/main", "refs/heads/two", "refs/tags/a\udcffb"):
            server.run("git", "-C", server.bare, "update-ref", "-d", ref)
        return found

    def test_they_see_what_they_saw_without_refcast(self, old: Server, shell: str) -> None:
        old.run("git", "-C", old.bare, "config", "receive.advertisePushOptions", "true")
        for name in ("update", "post-receive"):
            old.hook(name, self.FACTS)
        before = self.facts(old)
        assert set(before) == {"stderr", "update.facts", "update.stdin", "post-receive.facts", "post-receive.stdin"}
        assert before["post-receive.stdin"].count("\n") == 3
        assert before["update.facts"].count("<refs/") == 3
        old.install()
        old.use_shell(shell)
        assert self.facts(old) == before
        assert len(old.record().updates) == 3

    def test_a_refusing_update_is_honoured(self, old: Server, shell: str) -> None:
        old.hook("update", 'case $1 in *forbidden*) echo "not this one" >&2; exit 7;; esac')
        old.install()
        old.use_shell(shell)
        done = old.push("main", "main:forbidden", check=False)
        assert done.returncode == 1
        assert "not this one" in done.stderr
        (entry,) = old.entries()
        for part in (*entry.intents, *entry.records):
            assert [update.ref for update in part.updates] == ["refs/heads/main"]
        assert old.run("git", "-C", old.bare, "for-each-ref", "--format=%(refname)").stdout == "refs/heads/main\n"

    def test_a_push_that_is_refused_whole_leaves_nothing(self, old: Server, shell: str) -> None:
        old.hook("update", "exit 1")
        old.install()
        old.use_shell(shell)
        assert old.push("main", check=False).returncode == 1
        assert old.entries() == []

    @pytest.mark.parametrize("status", [0, 1, 7, 200])
    def test_their_exit_status_is_the_hook_s(self, old: Server, shell: str, status: int) -> None:
        for name in ("update", "post-receive"):
            old.hook(name, f"exit {status}")
        old.install()
        old.use_shell(shell)
        assert receive(old, f"{ZERO} {'1' * 40} refs/heads/a\n".encode()).returncode == status
        words = ["hooks/update", "refs/heads/a", ZERO, "1" * 40]
        assert subprocess.run(words, cwd=old.bare, env=old.environment, check=False).returncode == status

    def test_standard_input_goes_through_byte_for_byte(self, old: Server, shell: str) -> None:
        seen = old.root / "seen"
        old.hook("post-receive", f"cat >'{seen}'")
        old.install()
        old.use_shell(shell)
        whole = b"".join(b"%040d %040d refs/heads/%s\\n\n" % (n, n, bytes([n % 223 + 33]) * 50) for n in range(3000))
        for stdin in (b"", b"\n", b"x", b"\\\n-n\n\n %s \t\n", whole, whole + b"no end"):
            assert receive(old, stdin).returncode == 0
            assert seen.read_bytes() == stdin

    def test_one_that_does_not_read_its_standard_input(self, old: Server, shell: str) -> None:
        old.hook("post-receive", "exec <&-; echo done; exit 3")
        old.install()
        old.use_shell(shell)
        done = receive(old, b"%040d %040d refs/heads/a\n" % (0, 1) * 5000)  # more than a pipe holds
        assert (done.returncode, done.stdout, done.stderr) == (3, b"done\n", b"")
        assert len(old.record().updates) == 5000

    @pytest.mark.parametrize("target", ["../../dispatch", "../inner/dispatch", "inner", "{root}/dispatch"])
    def test_a_link_runs_by_the_name_it_had(self, old: Server, shell: str, target: str) -> None:
        """As a dispatcher wants it: one script, and the name by which it is called tells the hook."""
        target = target.format(root=old.root)
        hooks = old.bare / "hooks"
        script = Path(os.path.normpath(hooks / target))
        old.hook("", 'echo "${0##*/} $#"', at=script)
        for name in ("update", "post-receive"):
            (hooks / name).symlink_to(target)
        before = old.push("main").stderr
        assert sorted(before.split()) == sorted(["remote:", "update", "3", "remote:", "post-receive", "0"])
        text = script.read_bytes()
        old.install()
        old.use_shell(shell)
        assert old.push("main:two").stderr == before
        assert script.read_bytes() == text
        assert old.record().updates[0].ref == "refs/heads/two"

    def test_one_that_is_not_executable_stays_off(self, old: Server, shell: str) -> None:
        for name in ("update", "post-receive"):
            old.hook(name, "echo it ran; exit 1", mode=0o644)
        old.install()
        old.use_shell(shell)
        assert "it ran" not in old.push("main").stderr
        assert len(old.record().updates) == 1

    def test_a_dangling_link_stays_off(self, old: Server, shell: str) -> None:
        for name in ("update", "post-receive"):
            (old.bare / "hooks" / name).symlink_to("/nonexistent/hook")
        old.install()
        old.use_shell(shell)
        assert old.push("main").stderr == ""
        assert len(old.record().updates) == 1

    def test_the_other_hooks_are_left_alone(self, old: Server, shell: str) -> None:
        seen = old.root / "seen"
        for name in ("pre-receive", "post-update", "reference-transaction"):
            old.hook(name, f"echo {name} >>'{seen}'; cat >/dev/null")
        old.install()
        old.use_shell(shell)
        old.push("main")
        assert {"pre-receive", "post-update", "reference-transaction"} == set(seen.read_text().split())


def in_order(content: bytes) -> list[bytes]:
    """The fields of a spool file, with ref updates sorted: git may tell of them in any order."""
    start, updates, end = content.partition(b"\0updates=")
    lines, mark, rest = end.partition(b"\0")
    intents = sorted(field for field in start.split(b"\0") if field.startswith(b"update="))
    others = [field for field in start.split(b"\0") if not field.startswith(b"update=")]
    return [*others, *intents, updates, b"".join(sorted(lines.splitlines(keepends=True))), mark + rest]
