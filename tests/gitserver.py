"""A git server as an administrator has it: a bare repository, a state directory, and somebody's clone beside them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from refcast import worker

WAIT_SECONDS = 30.0
KEPT = ("PATH", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")


class Server:
    """`with Server(tmp_path) as server:` has refcast installed; no worker of it is left behind afterwards."""

    def __init__(self, root: Path, *, install: bool = True) -> None:
        self.bare, self.work, self.state = root / "site.git", root / "work", root / "state"
        who = {"NAME": "Ann", "EMAIL": "ann@example.org"}
        self.environment = {key: os.environ[key] for key in KEPT if key in os.environ}
        self.environment |= {f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who}
        self.environment |= {"HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", "LOGNAME": "ann"}
        self._install = install

    def __enter__(self) -> Server:
        self._run("git", "init", "-q", "--bare", "-b", "main", str(self.bare))
        self._run("git", "init", "-q", "-b", "main", str(self.work))
        if self._install:
            self.refcast("install", str(self.bare))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop_worker()

    def refcast(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on this server's state directory."""
        command = [sys.executable, "-I", "-m", "refcast", "--state", str(self.state), *words]
        return self._run(*command, check=check, **environment)

    def git(self, *words: str) -> str:
        """Run git in the clone; what it prints, without the line end."""
        return self._run("git", "-C", str(self.work), *words).stdout.strip()

    def commit(self, message: str, files: dict[str, str] | None = None) -> str:
        """A commit on the clone's present branch; its id."""
        for name, text in (files or {}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            self.git("add", "--", name)
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Push from the clone; options of `git push` come first."""
        options = [word for pair in pairwise(words) if pair[0] == "-o" for word in pair]
        refs = words[len(options) :]
        return self._run("git", "-C", str(self.work), "push", *options, str(self.bare), *refs, check=check)

    def hook(self, name: str, script: str) -> Path:
        """Put an executable shell script into the bare repository's hooks."""
        path = self.bare / "hooks" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def settings(self, text: str) -> None:
        (self.state / "refcast.toml").write_text(text)

    def deliveries(self) -> list[str]:
        """The state of every delivery, newest first."""
        return [one["state"] for one in json.loads(self.refcast("delivery", "list", "--json").stdout)]

    def settled(self, moves: int) -> bool:
        """Whether so many moves of refs are announced, and nothing waits."""
        facts = json.loads(self.refcast("status", "--json", check=False).stdout)
        rows = json.loads(self.refcast("delivery", "list", "--json").stdout)
        told = {(row["ref"], row["old"], row["new"]) for row in rows}
        return len(told) == moves and not facts["records_waiting"] and {row["state"] for row in rows} == {"delivered"}

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.02)

    def stop_worker(self) -> None:
        """Stop the worker that a hook has started, if there is one or one is just starting."""
        if not self.state.exists():
            return
        while True:
            pid = worker.running(self.state)
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
                self.wait_until(lambda pid=pid: worker.running(self.state) != pid)  # type: ignore[misc]
            try:
                with worker.lock(self.state):
                    return
            except worker.AlreadyRunning:
                time.sleep(0.02)

    def _run(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, env=self.environment | environment, capture_output=True, text=True, errors="replace", check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done
