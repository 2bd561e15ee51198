"""The hooks when something is wrong: no push fails or waits, nothing is lost in silence, and nobody sees another's."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import presence, spool
from refcast.errors import RecordError
from refcast.spool import boxes
from servers import SHELLS, ZERO, Server, need, public_directory, wait_for_end, workers

LINE = f"{ZERO} {'1' * 40} refs/heads/a\n".encode()
ANN, BEN = 65534, 65533
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users, or mount")


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    need(Path(SHELLS[name].split()[0]).exists(), name)
    return name


@pytest.fixture
def server(tmp_path: Path, shell: str) -> Iterator[Server]:
    """With an old hook that notes what it is told, and a worker that seems to run."""
    with Server(tmp_path, install=False, worker=False) as made:
        made.hook("post-receive", f"cat >>'{tmp_path}/seen'")
        made.install()
        made.use_shell(shell)
        made.commit("one")
        yield made


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that the pusher saw, without those that other tests would also see."""
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines()]


def start(server: Server, *words: str | Path, **more: str) -> subprocess.Popen[bytes]:
    """post-receive, run as git would, with its standard input open."""
    return subprocess.Popen(
        words or ["hooks/post-receive"],
        cwd=server.bare,
        env=server.environment | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class TestOneClearLine:
    """The push succeeds, the old hook is told all, and the pusher reads one line of what went wrong."""

    def one(self, server: Server) -> str:
        (line,) = said(server.push("main"))
        assert line.startswith("refcast: ")
        assert (server.root / "seen").read_text().endswith(" refs/heads/main\n")
        return line

    def test_the_spool_is_missing(self, server: Server) -> None:
        shutil.rmtree(server.state / "spool")
        line = self.one(server)
        assert line == (
            "refcast: this push is accepted but NOT announced: "
            f"cannot write to {server.state}/spool (missing, full or not permitted)"
        )

    def test_the_state_directory_is_missing(self, server: Server) -> None:
        server.state.rename(server.root / "moved")
        assert "NOT announced" in self.one(server)
        assert not server.state.exists()

    def test_something_else_stands_in_the_spool_s_place(self, server: Server) -> None:
        shutil.rmtree(server.state / "spool")
        (server.state / "spool").write_text("")
        assert "NOT announced" in self.one(server)

    def test_python_is_gone(self, server: Server) -> None:
        (server.state / presence.PID_FILE).unlink()
        server.set_in_hooks("python", "/nonexistent/python")
        line = self.one(server)
        assert line.startswith("refcast: this push is recorded, but the worker cannot start: /nonexistent/python or ")
        assert len(server.record().updates) == 1

    def test_the_package_is_gone(self, server: Server) -> None:
        (server.state / presence.PID_FILE).unlink()
        server.set_in_hooks("package", "/nonexistent/refcast")
        assert self.one(server).endswith("/nonexistent/refcast is gone; install refcast again")

    def test_nothing_can_be_flushed_to_disk(self, server: Server) -> None:
        with stub(server, "sync", "exit 1") as path:
            (line,) = said(server.push("main", more={"PATH": path}))
        assert line.endswith(f"{server.state}/spool/{os.geteuid()} could not be flushed to disk")
        assert len(server.record().updates) == 1

    def test_the_worker_was_quicker_than_the_flush(self, server: Server) -> None:
        """It took the record and removed it: there is nothing to complain of."""
        with stub(server, "sync", 'rm "$1"; exit 1') as path:
            assert said(server.push("main", more={"PATH": path})) == []

    def test_the_notice_that_the_worker_left(self, server: Server) -> None:
        (server.state / "notice").write_text("deliveries to ci have been failing since yesterday\nand no second line\n")
        assert self.one(server) == "refcast: deliveries to ci have been failing since yesterday"

    @root_only
    def test_the_box_belongs_to_somebody_else(self, server: Server) -> None:
        box = server.state / "spool" / str(os.geteuid())
        os.chown(box, BEN, BEN)
        box.chmod(0o777)
        assert said(server.push("main")) == []
        assert [path.name for path in box.iterdir()] == ["made"]
        assert len(server.record().updates) == 1  # beside it

    @root_only
    def test_the_box_is_a_link(self, server: Server) -> None:
        box = server.state / "spool" / str(os.geteuid())
        shutil.rmtree(box)
        box.symlink_to(server.root)
        assert said(server.push("main")) == []
        assert list(server.root.glob("*.push")) == []
        assert len(server.record().updates) == 1


@contextlib.contextmanager
def stub(server: Server, name: str, body: str) -> Iterator[str]:
    """A PATH on which a program is another."""
    directory = server.root / "stubs"
    server.hook("", body, at=directory / name)
    yield f"{directory}:{server.environment['PATH']}"


@root_only
class TestFullDisk:
    """A file system of a few pages: what does not fit is not announced, says so, and is recognised afterwards."""

    PAGES = 8

    @pytest.fixture
    def box(self, server: Server) -> Iterator[Path]:
        box = server.state / "spool" / "0"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.PAGES * 4096},mode=2770", "none", str(box)],
            capture_output=True,
            check=False,
        )
        need(mounted.returncode == 0, "permission to mount")
        spool.create(server.state / "spool", 0)
        try:
            yield box
        finally:
            subprocess.run(["umount", "--lazy", str(box)], check=True)

    def fill(self, box: Path, *, leave: int = 0) -> Path:
        filler = box / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        os.truncate(filler, filler.stat().st_size - leave * 4096)
        return filler

    def test_full_from_the_start(self, server: Server, box: Path) -> None:
        filler = self.fill(box)
        (line,) = said(server.push("main"))
        assert "NOT announced" in line
        assert (server.root / "seen").read_text().endswith(" refs/heads/main\n")
        for path in spool.files(box.parent):
            assert not spool.is_complete(path)
            with pytest.raises(RecordError):
                spool.read(path)
            path.unlink()
        filler.unlink()
        assert said(server.push("main:two")) == []
        assert server.record().updates[0].ref == "refs/heads/two"

    def test_full_in_the_middle_of_a_record(self, server: Server, box: Path) -> None:
        self.fill(box, leave=2)
        words = ["sh", "-c", "hooks/post-receive; exit $?"]
        with start(server, *words) as hook:
            _, stderr = hook.communicate(LINE * 300)
        assert hook.returncode == 0
        assert stderr.count(b"refcast: ") == 1
        assert b"NOT announced" in stderr
        assert (server.root / "seen").read_bytes() == LINE * 300
        (path,) = spool.files(box.parent)
        assert path.stat().st_size == 2 * 4096
        with pytest.raises(RecordError, match="cut off"):
            spool.read(path)

    @pytest.mark.parametrize("leave", [0, 1])
    def test_full_at_the_intents_but_not_at_the_record(self, server: Server, box: Path, leave: int) -> None:
        """The record is whole and must be read, whatever became of the intents before it."""
        filler = self.fill(box, leave=leave)
        server.hook("reference-transaction", f'cat >/dev/null; [ "$1" != committed ] || rm -f "{filler}"')
        assert said(server.push("--atomic", *[f"main:{'x' * 100}{number}" for number in range(30)])) == []
        (entry,) = server.entries()
        assert len(entry.records[0].updates) == 30
        assert sum(len(part.updates) for part in entry.intents) < 30


class TestKilled:
    def test_by_sigkill_or_a_limit_in_the_middle_of_writing(self, server: Server) -> None:
        """At every half kilobyte: recognised as cut off once the writer is dead, and only then."""
        cut = 0
        for blocks in range(1, 9):
            words = ["sh", "-c", f"ulimit -f {blocks}; hooks/post-receive; :"]
            with start(server, *words) as hook:
                hook.communicate(LINE * 40)
            for path in spool.files(server.state / "spool"):
                pid = os.getpid()
                alive = path.rename(path.with_name(f"{pid}-{spool.start_time(pid)}.push"))
                assert spool.read(alive).complete == spool.is_complete(alive)
                dead = alive.rename(path)
                if spool.is_complete(dead):
                    assert len(spool.read(dead).records[0].updates) == 40
                else:
                    cut += 1
                    with pytest.raises(RecordError, match=r"cut off|nothing in it"):
                        spool.read(dead)
                dead.unlink()
        assert cut >= 2

    def test_by_sigkill_while_the_record_is_flushed(self, server: Server) -> None:
        at = server.root / "at"
        os.mkfifo(at)
        with stub(server, "sync", f"echo $$ >'{at}'; exec sleep 60") as path, start(server, PATH=path) as hook:
            assert hook.stdin is not None
            hook.stdin.write(LINE)
            hook.stdin.close()
            flushing = int(at.read_text())
            hook.kill()
            os.kill(flushing, signal.SIGKILL)  # the hook has it ignore every other
        assert len(server.record().updates) == 1

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE])
    def test_a_pusher_who_hangs_up_does_not_stop_the_record(self, server: Server, number: signal.Signals) -> None:
        with start(server) as hook:
            server.wait_until(lambda: ignores(hook.pid, number))
            assert hook.stdin is not None
            hook.stdin.write(LINE)
            hook.stdin.flush()
            hook.send_signal(number)
            hook.stdin.write(LINE)
            hook.stdin.close()
            assert hook.wait(30) == 0
        assert len(server.record().updates) == 2
        assert (server.root / "seen").read_bytes() == LINE * 2

    def test_nobody_listens_any_more(self, server: Server) -> None:
        """What the hook says breaks the pipe."""
        (server.state / "notice").write_text("deliveries to ci have been failing\n")
        with start(server) as hook:
            for stream in (hook.stdout, hook.stderr):
                assert stream is not None
                stream.close()
            assert hook.stdin is not None
            hook.stdin.write(LINE)
            hook.stdin.close()
            assert hook.wait(30) == 0
        assert len(server.record().updates) == 1
        assert (server.root / "seen").read_bytes() == LINE

    def test_receive_pack_is_killed_before_the_record_is_written(self, server: Server) -> None:
        at = server.root / "at"
        os.mkfifo(at)
        with start(server, "sh", "-c", f"hooks/post-receive <'{at}' & echo $!; read wait") as parent:
            assert parent.stdout is not None
            with at.open("wb") as stdin:
                hook = int(parent.stdout.readline())
                server.wait_until(lambda: ignores(hook, signal.SIGHUP))
                descriptor = os.pidfd_open(hook)
                parent.kill()
                parent.wait()
                stdin.write(LINE)
            assert wait_for_end(descriptor)
            os.close(descriptor)
        (entry,) = server.entries()
        assert not entry.path.name.startswith(f"{parent.pid}-")
        assert (entry.complete, len(entry.records)) == (True, 1)


def ignores(pid: int, number: signal.Signals) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigIgn:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


class TestWorker:
    """A push starts a worker where none runs, and waits for none."""

    def test_one_that_hangs_delays_nobody(self, server: Server) -> None:
        with subprocess.Popen(["sleep", "600"]) as hung:
            hung.send_signal(signal.SIGSTOP)
            (server.state / presence.PID_FILE).write_text(f"{hung.pid} {spool.start_time(hung.pid)}\n")
            assert said(server.push("main")) == []
            hung.kill()
        assert len(server.record().updates) == 1

    @pytest.mark.parametrize("left", ["", "\n", "99999999 1\n", "{pid} 1\n", "{pid}\n", "no worker\n", None])
    def test_what_a_dead_one_left_behind_does_not_pass_for_one(self, server: Server, left: str | None) -> None:
        (server.state / presence.PID_FILE).unlink()
        if left is not None:
            (server.state / presence.PID_FILE).write_text(left.format(pid=os.getpid()))
        assert self.started(server) is not None

    def test_one_that_is_dead_but_that_nobody_has_waited_for_is_none(self, server: Server) -> None:
        """As in a container whose first process waits for nobody."""
        with subprocess.Popen(["sleep", "600"]) as dead:
            start = spool.start_time(dead.pid)
            dead.kill()
            server.wait_until(lambda: spool.start_time(dead.pid) == "")
            assert b") Z " in Path(f"/proc/{dead.pid}/stat").read_bytes()
            (server.state / presence.PID_FILE).write_text(f"{dead.pid} {start}\n")
            assert self.started(server) is not None

    def test_one_that_runs_is_not_started_again(self, server: Server) -> None:
        assert self.started(server) is None

    def test_the_command_and_its_environment(self, server: Server) -> None:
        (server.state / presence.PID_FILE).unlink()
        told = self.started(server)
        assert told is not None
        arguments, where, environment = told.split("|")
        assert arguments == f"-I -m refcast --state {server.state} worker --on-demand"
        assert where == "/"
        names = {line.partition("=")[0] for line in environment.split("\n")}
        assert names <= {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}

    def started(self, server: Server) -> str | None:
        """What a push tells the python that it starts; None if it starts none."""
        told = server.root / "told"
        telling = f"{{ printf '%s|' \"$*\" \"$PWD\"; env; }} >'{told}.new'; mv '{told}.new' '{told}'"
        server.set_in_hooks("python", str(server.hook("", telling, at=server.root / "python")))
        done = server.root / "done"
        with stub(server, "env", f"touch '{done}'; exec /usr/bin/env \"$@\"") as path:
            assert said(server.push("main", more={"PATH": path})) == []
        if presence.running(server.state):
            assert not done.exists()
            return None
        server.wait_until(told.exists)
        return told.read_text().strip()

    def test_it_lets_go_of_the_push(self, server: Server) -> None:
        """The hook's output ends although the worker goes on; nothing of the push is left in it."""
        (server.state / presence.PID_FILE).unlink()
        with start(server, GIT_DIR=".", GIT_QUARANTINE_PATH="x") as hook:
            out, err = hook.communicate(LINE, timeout=60)
        assert (hook.returncode, out, err) == (0, b"", b"")
        server.wait_until(lambda: presence.running(server.state) is not None)
        pid = presence.running(server.state)
        assert pid is not None
        assert pid in workers(server.state)
        process = Path(f"/proc/{pid}")
        assert os.getsid(pid) == os.getpgid(pid) == pid
        assert str((process / "cwd").readlink()) == "/"
        environment = (process / "environ").read_bytes().split(b"\0")
        assert not [one for one in environment if one.startswith((b"GIT_", b"SSH_"))]
        files = {str(one.readlink()) for one in (process / "fd").iterdir() if int(one.name) < 3}
        assert files == {"/dev/null"}
        mask = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Umask"))
        assert mask.split()[1] == "0077"


@root_only
class TestUsers:
    """Several unix users push into one repository; the state belongs to root."""

    @pytest.fixture
    def public(self, shell: str) -> Iterator[Server]:
        """Where every user can come to. Nobody may read another's clone, so each pushes from one of their own."""
        with public_directory() as root, Server(root, worker=False) as server:
            server.commit("one")
            server.use_shell(shell)
            for user in (ANN, BEN):
                shutil.copytree(server.work, root / str(user))
                server.run("chown", "-R", f"{user}:{user}", root / str(user))
            server.run("chmod", "-R", "a+rwX", server.bare)
            yield server

    def push(self, server: Server, user: int, *words: str) -> list[str]:
        repository = ["-c", f"safe.directory={server.bare}"]
        there = f"--receive-pack=git -c safe.directory='{server.bare}' receive-pack"
        words = ("git", *repository, "push", "-q", there, str(server.bare), *words)
        return said(self.as_user(server, user, *words))

    def as_user(self, server: Server, user: int, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            user=user,
            group=user,
            extra_groups=[],
            cwd=server.root / str(user),
            env=server.environment | {"HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_each_has_a_directory_that_no_other_can_read(self, public: Server) -> None:
        assert self.push(public, ANN, "main:ann") == []
        assert self.push(public, BEN, "main:ben") == []
        public.push("main:root")
        entries = {entry.uid: entry for entry in public.entries()}
        assert set(entries) == {0, ANN, BEN}
        for uid, entry in entries.items():
            box, file = entry.path.parent.stat(), entry.path.stat()
            assert (box.st_uid, box.st_gid, box.st_mode & 0o7777) == (uid, os.getgid(), 0o2770)
            assert (file.st_uid, file.st_gid, file.st_mode & 0o7777) == (uid, os.getgid(), 0o660)
        theirs = entries[ANN].path
        for words in (
            ["cat", str(theirs)],
            ["ls", str(theirs.parent)],
            ["ls", str(theirs.parent.parent)],
            ["rm", "-f", str(theirs)],
            ["mv", str(theirs.parent), str(theirs.parent.parent / "moved")],
            ["sh", "-c", f"echo forged >>'{theirs}'"],
            ["sh", "-c", f"echo forged >'{theirs.parent}/1-1.push'"],
            ["ls", str(public.state)],
        ):
            assert self.as_user(public, BEN, *words).returncode != 0
        assert spool.read(theirs) == entries[ANN]

    def test_only_the_owner_starts_a_worker(self, public: Server) -> None:
        (public.state / presence.PID_FILE).unlink()
        (line,) = self.push(public, ANN, "main:ann")
        assert "this push is recorded, but no worker runs" in line
        assert len(public.record().updates) == 1
        assert list(workers(public.state)) == []
        (public.state / presence.PID_FILE).write_text("99999999 1\n")  # one that was killed: it will be back
        (public.state / presence.PID_FILE).chmod(0o644)
        assert self.push(public, ANN, "main:ann-2") == []

    @pytest.mark.parametrize("how", ["mkdir -m 777", "ln -s ../.."])
    def test_who_takes_another_s_directory_learns_nothing(self, public: Server, how: str) -> None:
        box = public.state / "spool" / str(ANN)
        assert self.as_user(public, BEN, *how.split(), str(box)).returncode == 0
        assert self.push(public, ANN, "main:ann") == []
        (record,) = public.root.rglob("*.push")
        assert record.parent.name.startswith(f"{ANN}.")
        assert record.parent.stat().st_mode & 0o7777 == 0o2770
        assert public.record().updates[0].ref == "refs/heads/ann"

    @pytest.mark.parametrize(
        "mark", ["", "mkdir {}/made; chmod 1500 {}/made", "ln -s / {}/made", "mv {}/../other {}/made"]
    )
    def test_a_directory_of_theirs_that_somebody_has_moved_there(self, public: Server, mark: str) -> None:
        """Ben may move what a group lets him move, as a directory of objects that Ann's push has made."""
        objects, box = public.bare / "objects" / "3e", public.state / "spool" / str(ANN)
        for path in (objects, public.bare / "objects" / "other"):
            path.mkdir(exist_ok=True)
            os.chown(path, ANN, BEN)
            path.chmod(0o2775)
        (public.bare / "objects").chmod(0o777)
        script = mark.replace("{}/../other", str(public.bare / "objects" / "other")).format(objects, objects)
        assert self.as_user(public, BEN, "sh", "-c", f"{script or ':'} && mv '{objects}' '{box}'").returncode == 0
        assert self.push(public, ANN, "main:ann") == []
        assert list(box.glob("*.push")) == []
        (record,) = public.root.rglob("*.push")
        assert self.as_user(public, BEN, "cat", str(record)).returncode != 0
        (box / "1-1.push").write_bytes(record.read_bytes())
        os.chown(box / "1-1.push", ANN, -1)
        assert [entry.path for entry in public.entries()] == [record]
        (line,) = boxes.clear(public.state / "spool", time.time())
        assert f"{box} is not a directory that a hook of user {ANN} made" in line
        assert not box.exists()
        assert self.push(public, ANN, "main:again") == []
        assert len(list(box.glob("*.push"))) == 1

    def test_each_name_that_can_be_guessed_is_taken(self, public: Server) -> None:
        public.hook("update", f"mkdir -p '{public.state}/spool/{ANN}'.$PPID-$(cut -d' ' -f22 /proc/$PPID/stat)")
        (public.state / "spool" / str(ANN)).mkdir()
        assert self.push(public, ANN, "main:ann") == []
        assert public.record().updates[0].ref == "refs/heads/ann"

    def test_first_pushes_at_once(self, public: Server) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda n: self.push(public, ANN, f"main:ann-{n}"), range(8)))
        assert said == [[]] * 8
        entries = public.entries()
        assert len([part for entry in entries for part in entry.records]) == 8
        assert len([part for entry in entries for part in entry.intents]) == 8

    def test_the_spool_admits_nobody(self, public: Server) -> None:
        (public.state / "spool").chmod(0o700)
        (line,) = self.push(public, ANN, "main:ann")
        assert "not permitted" in line
