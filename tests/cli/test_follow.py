"""`refcast log`: what it tells of, and that it goes on through all that happens to a store and a worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import Receiver
from refcast.store import FILE, Store
from servers import Server, end_workers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


class Follower:
    """`refcast log -f --json`, and the lines that it prints."""

    def __init__(self, server: Server, *words: str) -> None:
        command = [sys.executable, "-m", "refcast", "--state", str(server.state), "log", "-f", "--json", *words]
        self.process = subprocess.Popen(
            command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.lines: list[dict[str, Any]] = []
        self._rest = b""

    def until(self, seconds: float = 30.0, **wanted: object) -> dict[str, Any]:
        """Read until a line says this."""
        assert self.process.stdout
        deadline = time.monotonic() + seconds
        while True:
            for line in self.lines:
                if all(line[key] == value for key, value in wanted.items()):
                    return line
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"{wanted} is not in {self.lines}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"it ended: {self.process.stderr.read() if self.process.stderr else ''!r}"
            *whole, self._rest = (self._rest + data).split(b"\n")
            self.lines += [json.loads(one) for one in whole]


@contextlib.contextmanager
def following(server: Server, *words: str) -> Iterator[Follower]:
    follower = Follower(server, *words)
    try:
        yield follower
    finally:
        follower.process.kill()
        follower.process.communicate()


def push(server: Server, message: str) -> None:
    server.commit(message)
    server.push("HEAD:main")


class TestLog:
    def test_tells_the_last_attempts_oldest_first(self, server: Server, receiver: Receiver) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        for message in ("one", "two"):
            push(server, message)
        server.wait_until(lambda: server.deliveries() == ["delivered"] * 2)
        lines = server.refcast("log").stdout.splitlines()
        assert len(lines) == 2
        assert [line[:20] for line in lines] == sorted(line[:20] for line in lines)
        assert all("  ci  " in line and "site main" in line and "  200  " in line for line in lines)
        assert server.refcast("log", "-n", "1").stdout.splitlines() == lines[1:]
        assert server.refcast("log", "-n", "0").stdout == ""
        first, second = map(json.loads, server.refcast("log", "--json").stdout.splitlines())
        assert first["time"] <= second["time"]
        assert (first["what"], first["status"], first["ref"]) == ("attempt", 200, "refs/heads/main")
        refused = server.refcast("log", "--endpoint", "nobody", check=False)
        assert (refused.returncode, "there are: ci" in refused.stderr) == (2, True)

    def test_what_an_endpoint_answers_cannot_steer_a_terminal(self, server: Server, receiver: Receiver) -> None:
        receiver.answer = lambda _: (500, [("X", "y")], b"\x1b[31m")
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        server.commit("one")
        server.push("HEAD:refs/heads/\u202e-evil")
        server.wait_until(lambda: "500" in server.refcast("log").stdout)
        assert "\u202e" not in server.refcast("log").stdout
        assert "\\u202e-evil" in server.refcast("log").stdout


class TestFollow:
    def test_a_push_is_seen_stored_and_delivered(self, server: Server, receiver: Receiver) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        server.refcast("endpoint", "add", "other", receiver.url, "--dialect", "codeup")
        push(server, "zero")
        server.wait_until(lambda: server.deliveries() == ["delivered"] * 2)
        with following(server) as all_of_it, following(server, "--endpoint", "ci") as mine:
            for follower in (all_of_it, mine):
                follower.until(what="attempt", endpoint="ci")  # from now on it follows
            all_of_it.lines.clear()
            push(server, "one")
            new = all_of_it.until(what="new", endpoint="ci")
            done = all_of_it.until(what="attempt", endpoint="ci")
            assert new["delivery"] == done["delivery"]
            assert (done["state"], done["status"], done["error_class"]) == ("delivered", 200, "")
            assert done["repository"] == str(server.bare)
            all_of_it.until(what="attempt", endpoint="other")
            mine.until(what="attempt", endpoint="ci")
            push(server, "two")
            mine.until(what="new", endpoint="ci", ref="refs/heads/main")
            assert {line["endpoint"] for line in mine.lines} == {"ci"}

    def test_failures_and_what_people_do(self, server: Server, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        with following(server) as follower:
            push(server, "one")
            failed = follower.until(what="attempt")
            assert (failed["error_class"], failed["status"]) == ("status", 500)
            follower.until(what="endpoint", state="failing")
            server.refcast("endpoint", "disable", "ci", "--reason", "holiday")
            assert follower.until(what="endpoint", state="disabled")["decision"] == "holiday"
            receiver.answer = lambda _: 200
            server.refcast("endpoint", "enable", "ci")
            follower.until(what="endpoint", state="enabled")
            follower.until(what="attempt", status=200)

    def test_goes_on_when_the_worker_is_another_and_the_store_was_gone(
        self, server: Server, receiver: Receiver
    ) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        with following(server) as follower:
            push(server, "one")
            follower.until(what="attempt", status=200)
            server.wait_until(lambda: server.deliveries() == ["delivered"])
            kept = server.state.with_name("kept")
            end_workers(server.state)
            gone = server.state.with_name(f"{server.state.name}.gone")
            with Store.open(gone):
                pass
            gone.rename(kept)
            assert follower.process.stderr
            assert b"waiting for it" in follower.process.stderr.readline()
            kept.rename(server.state)
            copy = server.state / "copy"
            copy.write_bytes((server.state / FILE).read_bytes())
            copy.replace(server.state / FILE)
            follower.lines.clear()
            push(server, "two")
            follower.until(what="attempt", status=200)

    def test_ends_with_ctrl_c_and_is_content(self, server: Server, receiver: Receiver) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        with following(server) as follower:
            push(server, "one")
            follower.until(what="attempt")
            follower.process.send_signal(signal.SIGINT)
            assert follower.process.wait(30) == 0
            assert follower.process.stderr
            assert follower.process.stderr.read() == b""
