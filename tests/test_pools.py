"""Pools: a thread for each need up to the limit, and none that nobody needs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from refcast.worker import pools
from refcast.worker.pools import Pool


def until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.001)


class Tasks:
    """Counts the tasks that run; each finds work, wakes the next as a claim does, and waits to be let go."""

    def __init__(self, limit: int, work: int) -> None:
        self.lock = threading.Lock()
        self.work = work
        self.running = 0
        self.most = 0
        self.free = threading.Event()
        self.pool = Pool(self.run, limit)

    def run(self) -> None:
        with self.lock:
            if not self.work:
                return
            self.work -= 1
            self.running += 1
            self.most = max(self.most, self.running)
        self.pool.wake()
        self.free.wait(30)
        with self.lock:
            self.running -= 1

    def end(self) -> None:
        self.free.set()
        self.pool.leave()
        self.pool.join(30)
        assert not self.pool._threads


def test_grows_with_the_need() -> None:
    tasks = Tasks(limit=10, work=4)
    tasks.pool.wake()
    until(lambda: tasks.running == 4)
    tasks.end()


def test_no_further_than_its_limit_and_all_is_done() -> None:
    tasks = Tasks(limit=3, work=20)
    tasks.pool.wake()
    until(lambda: tasks.running == 3)
    tasks.free.set()
    until(lambda: not tasks.work and not tasks.running)
    assert tasks.most == 3
    tasks.end()


def test_a_need_that_comes_while_all_are_busy_is_not_forgotten() -> None:
    tasks = Tasks(limit=1, work=1)
    tasks.pool.wake()
    until(lambda: tasks.running == 1)
    until(lambda: tasks.pool._wanted)
    with tasks.lock:
        tasks.work = 1
    tasks.free.set()
    until(lambda: not tasks.work)
    tasks.end()


def test_threads_that_nobody_needs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.01)
    tasks = Tasks(limit=5, work=3)
    tasks.free.set()
    tasks.pool.wake()
    until(lambda: not tasks.work)
    until(lambda: not tasks.pool._threads)
    tasks.work = 2
    tasks.pool.wake()
    until(lambda: not tasks.work)
    tasks.end()


def test_no_thread_is_started_after_the_end() -> None:
    tasks = Tasks(limit=5, work=0)
    tasks.end()
    tasks.pool.wake()
    assert not tasks.pool._threads


def test_join_does_not_wait_for_ever() -> None:
    tasks = Tasks(limit=1, work=1)
    tasks.pool.wake()
    until(lambda: tasks.running == 1)
    tasks.pool.leave()
    tasks.pool.join(0.0)
    assert tasks.running == 1
    tasks.end()


def test_a_system_that_has_no_more_threads(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    caplog.set_level(logging.ERROR)
    tasks = Tasks(limit=5, work=1)
    monkeypatch.setattr(threading, "Thread", Refused)
    tasks.pool.wake()
    assert "cannot have more than 0 threads" in caplog.text
    monkeypatch.undo()
    tasks.free.set()
    tasks.pool.wake()
    until(lambda: not tasks.work)
    tasks.end()
