"""kill -9 of the worker at each boundary: judged from the receiver's own book, nothing is lost, and the order is kept.

A delivery comes twice only if the worker died between sending and recording, and then with its id and body.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

import forks
from hard import environment, git
from receiver import Received, Receiver
from refcast.ingest import BATCH_EVENTS
from refcast.presence import running
from refcast.store import Store
from servers import wait_for_end
from spooled import LETTERS, World

KILLING = Path(__file__).with_name("killing.py")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test has started; those that are left are killed."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(world: World, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment(world.root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def worker(world: World, *words: str) -> subprocess.Popen[str]:
    return start(world, "-m", "refcast", "--state", str(world.state), "worker", *words)


def run(world: World, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return forks.run(module, list(words), environment=environment(world.root), cwd=world.root)


def drain(world: World) -> subprocess.CompletedProcess[str]:
    return run(world, "refcast.__main__", "--state", str(world.state), "worker", "--drain")


def killed(world: World, moment: str, number: int = 1) -> None:
    done = run(world, "killing", "one", str(world.state), moment, str(number))
    assert done.returncode == -signal.SIGKILL, done.stderr


def finish(world: World) -> None:
    """A worker that nobody kills. Nothing is left behind it."""
    done = drain(world)
    assert done.returncode == 0, done.stderr
    assert world.spooled() == []


def once_each(book: list[Received]) -> list[Received]:
    """The book without what came twice in a row; whatever came twice was the same, whichever connection it had. A
    request that broke off because its sender died is none."""
    whole = [one for one in book if len(one.body) == int(one.header("Content-Length") or 0)]
    groups = [list(group) for _, group in groupby(whole, lambda one: one.header("X-Gogs-Delivery"))]
    for group in groups:
        assert len({(one.body, *(pair for pair in one.headers if pair[0] != "Connection")) for one in group}) == 1
    ids = [group[0].header("X-Gogs-Delivery") for group in groups]
    assert len(set(ids)) == len(ids)
    return [group[0] for group in groups]


def moves(world: World, book: list[Received]) -> list[str]:
    pushes = [one.json() for one in book if one.header("X-Gogs-Event") == "push"]
    return [world.move(body["ref"], body["before"], body["after"]) for body in pushes]


class TestAtEachBoundary:
    @pytest.mark.parametrize(
        ("moment", "number", "twice"),
        [
            ("record durable", 1, False),
            ("batch stored", 1, False),
            ("event stored", 1, False),
            ("event stored", 2, False),
            ("record removed", 1, False),
            ("lane claimed", 1, False),
            ("request sent", 1, True),
            ("request sent", 3, True),
            ("answer recorded", 1, False),
            ("answer recorded", 2, False),
        ],
    )
    def test_nothing_is_lost_and_only_what_was_sent_comes_twice(
        self, world: World, receiver: Receiver, moment: str, number: int, twice: bool
    ) -> None:
        world.endpoint(url=receiver.url, dialect="gogs")
        # Later first: the order is that of the ids.
        for at, move in enumerate(("main:B>C", "main:A>B", "main:->A")):
            world.put(move, at=world.clock() + at, set_refs=False)
        world.set_refs("main:->C")
        killed(world, moment, number)
        finish(world)
        assert moves(world, once_each(receiver.book)) == ["main:->A", "main:A>B", "main:B>C"]
        assert len(receiver.book) == 4 + twice  # a creation is two messages

    @pytest.mark.parametrize("moment", ["failure not recorded", "failure recorded"])
    def test_a_failure(self, world: World, receiver: Receiver, moment: str) -> None:
        receiver.answers([503])
        world.endpoint(url=receiver.url, dialect="gogs")
        world.put("main:->A")
        world.put("main:A>B")
        killed(world, moment)
        done = drain(world)
        if moment == "failure recorded":
            assert done.returncode == 1  # it waits for its time
            world.sql("UPDATE lanes SET due_at = 0")
        finish(world)
        assert moves(world, once_each(receiver.book)) == ["main:->A", "main:A>B"]
        assert len(receiver.book) == 4

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_between_two_batches_of_a_large_push(self, world: World, receiver: Receiver, number: int) -> None:
        world.endpoint(url=receiver.url, dialect="gogs")
        refs = [f"b{index:03}" for index in range(2 * BATCH_EVENTS + 1)]
        world.put(*(f"{ref}:->A" for ref in refs))
        killed(world, "batch stored", number)
        finish(world)
        assert moves(world, receiver.book) == [f"{ref}:->A" for ref in refs]
        assert len(once_each(receiver.book)) == len(receiver.book)

    def test_again_and_again(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url, dialect="gogs")
        world.put("main:->A")
        for moment in (
            "record durable",
            "batch stored",
            "event stored",
            "lane claimed",
            "request sent",
            "request sent",
        ):
            killed(world, moment)
        finish(world)
        assert [one.header("X-Gogs-Event") for one in receiver.book] == ["create"] * 3 + ["push"]
        assert moves(world, once_each(receiver.book)) == ["main:->A"]


class TestAtEveryStatement:
    def test_of_database_spool_and_transport(self, tmp_path: Path, receiver: Receiver) -> None:
        done = subprocess.run(
            [sys.executable, str(KILLING), "every", str(tmp_path), receiver.url, "3"],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        deaths = int(done.stdout)
        assert deaths > 30
        expected = []
        for number in range(1, deaths + 2):
            old, new = ("AB", "BA")[number % 2] if number > 1 else "-A"
            # The gap is told first: it lies before the push.
            expected += [f"gap{number}:->B", f"one:{old}>{new}", f"two:{old}>{new}", f"gap{number}:B>C"]
        world = World(tmp_path)
        world.letters = letters(tmp_path / "site.git")
        assert moves(world, once_each(receiver.book)) == expected
        assert len(receiver.book) - len(once_each(receiver.book)) <= deaths

    def test_where_endpoints_refuse_and_another_is_told(self, tmp_path: Path, receiver: Receiver) -> None:
        def answer(received: Received) -> int:
            if received.path == "/gone":
                return 410
            if received.path == "/small":
                return 413 if received.body.count(b"refs/heads/") > 1 else 200
            return 400 if b"-bad" in received.body and received.path == "/choosy" else 200

        receiver.answer = answer
        done = subprocess.run(
            [sys.executable, str(KILLING), "judged", str(tmp_path), receiver.url, "7"],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        rounds = int(done.stdout) + 1
        assert rounds > 10
        with Store.open(tmp_path / "state") as store:
            rows = list(reversed(store.reports.deliveries(limit=100_000)))
            reasons = {one.name: one.reason for one in store.endpoints.all()}
        assert not reasons["choosy"], (reasons["choosy"], [row.last_error for row in rows if row.endpoint == "choosy"])
        found = {name: [row.state for row in rows if row.endpoint == name] for name in ("choosy", "small", "crew")}
        assert found["choosy"] == ["refused", "delivered", "refused"] * rounds
        assert found["small"] == ["delivered"] * 3 * rounds
        assert set(found["crew"]) == {"delivered"}
        told = [one.json() for one in receiver.book if one.path == "/crew"]
        ids = [one["id"] for one in told]
        notices = [one for index, one in enumerate(told) if one["id"] not in ids[:index]]
        health = {name: [one["state"] for one in notices if one["endpoint"] == name] for name in ("choosy", "gone")}
        assert health["choosy"] == ["failing", "recovered"] * rounds + ["failing"], "each change is told once"
        assert health["gone"] == ["disabled"] * rounds


def letters(bare: Path) -> dict[str, str]:
    ids = git(bare, "rev-list", "--reverse", "--all").decode().split()
    return {"0" * 40: "-", **dict(zip(ids, LETTERS, strict=False))}


class TestWhileTheAnswerIsOutstanding:
    def test_killed_by_who_should_answer(
        self, world: World, receiver: Receiver, started: list[subprocess.Popen[str]]
    ) -> None:
        def kill(_: Received) -> int:
            if len(receiver.book) == 1:
                started[0].kill()
            return 200

        receiver.answer = kill
        world.endpoint(url=receiver.url, dialect="gogs")
        world.put("main:->A")
        world.put("main:A>B")
        started.append(worker(world))
        started[0].wait()
        finish(world)
        events = [one.header("X-Gogs-Event") for one in receiver.book]
        assert events == ["create", "create", "push", "push"]
        assert moves(world, once_each(receiver.book)) == ["main:->A", "main:A>B"]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_told_to_stop(
        self, world: World, receiver: Receiver, started: list[subprocess.Popen[str]], number: signal.Signals
    ) -> None:
        receiver.hold()
        world.endpoint(url=receiver.url, dialect="gogs")
        world.put("main:->A")
        started.append(worker(world))
        receiver.wait_for(1)
        started[0].send_signal(number)
        assert started[0].stderr is not None
        heard = iter(started[0].stderr.readline, "")
        assert any("told to stop" in line for line in heard)
        receiver.release()
        _, said = started[0].communicate()
        assert started[0].returncode == 0, said
        assert running(world.state) is None
        assert [(row.kind, row.state, row.attempts) for row in reversed(world.store.reports.deliveries())] == [
            ("create", "delivered", 1),
            ("push", "waiting", 0),
        ]
        finish(world)
        assert [one.header("X-Gogs-Event") for one in receiver.book] == ["create", "push"]


class TestSeveral:
    def test_only_one_works(self, world: World, receiver: Receiver, started: list[subprocess.Popen[str]]) -> None:
        world.endpoint(url=receiver.url)
        started += [worker(world), worker(world)]
        descriptors = {os.pidfd_open(process.pid): process for process in started}
        (ended, *more), _, _ = select.select([*descriptors], [], [], 30)
        assert not more
        _, said = descriptors[ended].communicate()
        assert descriptors[ended].returncode == 3
        assert "a worker runs for" in said
        assert said.count("\n") == 1
        (alive,) = [process for process in started if process.poll() is None]
        world.put("main:->A")
        assert running(world.state) == alive.pid  # which also wakes it
        receiver.wait_for(1)
        alive.terminate()
        for descriptor in descriptors:
            assert wait_for_end(descriptor)
            os.close(descriptor)
        finish(world)

    def test_the_lock_of_a_dead_one_is_free(
        self, world: World, receiver: Receiver, started: list[subprocess.Popen[str]]
    ) -> None:
        world.endpoint(url=receiver.url)
        receiver.hold()
        world.put("main:->A")
        started.append(worker(world))
        receiver.wait_for(1)
        started[0].kill()
        started[0].wait()
        receiver.release()
        assert running(world.state) is None
        assert (world.state / "worker.pid").exists()
        finish(world)
        assert len(receiver.book) == 2
