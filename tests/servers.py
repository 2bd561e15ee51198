"""A git server for tests: a bare repository with refcast installed, its state directory, and a clone to push from.

Owns the clean environment in which git runs, and the ending of workers: when a test is over no process is left.
Knows nothing of receivers and judges nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

import forks
from hard import environment
from refcast import install, presence, spool
from refcast.cli import main
from refcast.store import Store

ZERO = "0" * 40
LISTENING = "0A"
"""The state of a socket in /proc/net/tcp (proc_pid_net(5))."""

SHELLS = {"dash": "/bin/dash", "bash": "/bin/bash --posix", "busybox": "/bin/busybox ash"}
"""What /bin/sh is on one system or another: the interpreter and its argument, as a `#!` line takes them."""

DEAD = "99999999-1.push"
"""The name of a spool file whose push is over: no process id is as large."""


def alive_name() -> str:
    """The name of a spool file whose push is under way: this process."""
    return f"{os.getpid()}-{spool.start_time(os.getpid())}.push"


QUICK: dict[str, set[str]] = {
    "delivery": {"list", "show"},
    "endpoint": {"add", "edit", "list", "show"},
    "record": {"list"},
    **{name: set() for name in ("install", "render", "status", "uninstall")},
}
"""The commands that can run in the process of the tests, with their verbs, if they have any: they set up no logging,
take no signals, start no worker."""


class Server:
    """Within a `with`: `bare` and `work` in `root`, and the state directory, into which real pushes write.

    A push starts a real worker, unless `worker` is False: then this process poses as the one that runs."""

    def __init__(self, root: Path, *, bare: str = "site.git", install: bool = True, worker: bool = True) -> None:
        self.root = root
        self.bare = root / bare
        self.work = root / "work"
        self.state = root / "state"
        self.environment = environment(root)
        """Of every program that is run here, and so of the hooks."""
        self._install = install
        self._worker = worker

    def __enter__(self) -> Server:
        self.root.mkdir(exist_ok=True)
        self.run("git", "init", "-q", "--bare", "-b", "main", str(self.bare))
        self.run("git", "init", "-q", "-b", "main", str(self.work))
        self.git("remote", "add", "origin", str(self.bare))
        if self._install:
            self.install()
        return self

    def __exit__(self, *_: object) -> None:
        end_workers(self.state)

    def install(self, bare: Path | None = None, *, shared: bool = False, intent: str | None = None) -> str:
        """Install into a repository, in this process; what was done."""
        install.create_state(self.state)
        with self.at_home(), Store.open(self.state) as store:
            places = [install.place(bare or self.bare)]
            now = time.time()
            ((_, done),) = install.install(places, self.state, store, shared=shared, now=now, intent=intent)
        if not self._worker:
            pose_as_worker(self.state)
        return done

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """For what runs in this process: the same environment as that of other programs here."""
        with unittest.mock.patch.dict(os.environ, self.environment, clear=True):
            yield

    def run(
        self, *words: str | Path, check: bool = True, cwd: Path | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A program and what it printed; `more` is added to its environment. It must succeed, unless told otherwise."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.root,
            env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def git(self, *words: str, **more: str) -> str:
        """What git prints in the clone, without the last line's end."""
        return self.run("git", *words, cwd=self.work, more=more).stdout.rstrip("\n")

    def refcast(self, *words: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """`refcast --state …`, for what ends by itself: what is QUICK in this process, and anything else in a fork of
        one that has read refcast already, for to start it takes ten times as long."""
        if words[0] not in QUICK or (QUICK[words[0]] and words[1] not in QUICK[words[0]]):
            given = ["--state", str(self.state), *words]
            done = forks.run("refcast.__main__", given, environment=self.environment | more, cwd=self.root)
            if check and done.returncode:
                raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}")
            return done
        with self.at_home(), unittest.mock.patch.dict(os.environ, more), contextlib.chdir(self.root):
            result = CliRunner().invoke(main, ["--state", str(self.state), *words], catch_exceptions=False)
        if check and result.exit_code:
            raise AssertionError(f"{words} ended with {result.exit_code}: {result.stderr}{result.stdout}")
        return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)

    def commit(self, message: str, files: dict[str, str] | None = None) -> str:
        """A commit on the branch that is checked out, with these files or one of its own; its id."""
        for name, content in (files or {f"file-{time.monotonic_ns()}": f"{message}\n"}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(
        self, *words: str, check: bool = True, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`git push` of refspecs or options to the bare repository."""
        return self.run("git", "push", "-q", self.bare, *words, cwd=self.work, check=check, more=more)

    def hook(self, name: str, body: str, *, mode: int = 0o755, at: Path | None = None) -> Path:
        """A shell script in the place of a hook."""
        path = at or self.bare / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(mode)
        return path

    def hooks(self) -> list[Path]:
        """refcast's own that are installed."""
        found = [self.bare / "hooks" / name for name in ("update", "pre-receive", "post-receive")]
        return [path for path in found if path.exists() and install.is_ours(path)]

    def use_shell(self, name: str) -> None:
        """Have the installed hooks run by one of SHELLS."""
        for path in self.hooks():
            path.write_bytes(path.read_bytes().replace(b"#!/bin/sh\n", f"#!{SHELLS[name]}\n".encode(), 1))

    def set_in_hooks(self, name: str, value: str) -> None:
        """Change what installing wrote into the hooks: `state`, `python` or `package`."""
        for path in self.hooks():
            path.write_text(re.sub(rf"(?m)^(\s*{name})=.*$", rf"\1='{value}'", path.read_text()))

    def settings(self, text: str) -> None:
        (self.state / "refcast.toml").write_text(text)

    def entries(self) -> list[spool.Entry]:
        """What the spool holds, but for what a worker removes meanwhile."""
        found = []
        for path in spool.files(self.state / "spool"):
            with contextlib.suppress(FileNotFoundError):
                found.append(spool.read(path))
        return found

    def record(self) -> spool.Part:
        """The one record that the spool holds."""
        (record,) = [part for entry in self.entries() for part in entry.records]
        return record

    def deliveries(self) -> list[str]:
        """The states of all deliveries, newest first."""
        with Store.open(self.state) as store:
            return [row.state for row in store.reports.deliveries(limit=10_000)]

    def wait_until(self, is_true: Callable[[], bool], seconds: float = 30.0) -> None:
        """For what another process does; AssertionError if it does not."""
        deadline = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain"
            time.sleep(0.01)


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user can enter, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="refcast-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def need(there: bool, what: str) -> None:
    """Skip a test for want of something, but not where CI promises to have it all."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"this needs {what}")


def pose_as_worker(state: Path) -> None:
    """Make hooks believe that a worker runs: this process."""
    pid = os.getpid()
    (state / presence.PID_FILE).write_text(f"{pid} {spool.start_time(pid)}\n")


def workers(state: Path) -> Iterator[int]:
    """The processes that were started as workers of a state directory, whether or not they hold its lock yet."""
    words = os.fsencode(f"-m\0refcast\0--state\0{state}\0worker")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if words in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def end_workers(state: Path) -> None:
    """Stop the workers of a state directory and wait until they are gone. A hung one is killed."""
    for pid in workers(state):
        end(pid)
    if state.exists():
        # One that a hook has started but that does not run yet finds no state directory, and ends.
        gone = state.with_name(f"{state.name}.gone")
        state.rename(gone)
    for pid in workers(state):
        end(pid)


def end(pid: int, seconds: float = 10.0) -> None:
    """Have a process end, by SIGTERM and then SIGKILL, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            for number in (signal.SIGCONT, signal.SIGTERM):
                signal.pidfd_send_signal(descriptor, number)
            if not wait_for_end(descriptor, seconds):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                assert wait_for_end(descriptor, seconds), f"process {pid} does not end"
        finally:
            os.close(descriptor)


def port_of(process: subprocess.Popen[bytes], seconds: float = 30) -> int:
    """The loopback port on which a process listens, once it does. The system chose it, and only the system tells."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "it has ended"
        place = Path(f"/proc/{process.pid}")
        links = set()
        for descriptor in (place / "fd").iterdir():
            with contextlib.suppress(OSError):
                links.add(str(descriptor.readlink()))
        for line in (place / "net/tcp").read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == LISTENING and f"socket:[{field[9]}]" in links:
                return int(field[1].partition(":")[2], 16)
        time.sleep(0.02)
    raise AssertionError("it does not listen")


def wait_for_end(descriptor: int, seconds: float = 30.0) -> bool:
    """Whether the process of a pidfd ends in time."""
    return bool(select.select([descriptor], [], [], seconds)[0])
