"""A worker that meets a fault at a system call: `python faults_worker.py ROOT URL STAGE KIND SAMPLE SEED`.

STAGE is `ingest`, `deliver` (each in one thread, so that every call can be met) or `drain`, the whole worker with all
its threads. KIND is `kills`, `failures` or `lasting`: failures that go on until the process ends. SAMPLE points are
taken by SEED of all that there are; 0 takes all. For each there are two records, a run that meets the fault, and a
whole drain. It prints one JSON object for each point. Who was told what, the receiver's book says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faults
from refcast import presence, worker
from refcast.deliver import Deliver
from refcast.ingest import Ingest
from refcast.settings import Settings
from refcast.store import Store
from refcast.transport import Transport
from refcast.worker import Worker
from spooled import LETTERS, World

HOURS = 7200.0
"""Between one point and the next, and between the fault and the drain: nothing rests or waits as long."""

TRIES = 3
"""How often what came of a request is tried to be stored."""


def moves(number: int) -> list[list[str]]:
    """What the records of a point tell, the first being 1. Between the points of `gap` one is missing."""
    old, new, far, back = ("A", "B", "B", "C") if number % 2 else ("B", "A", "B", "A")
    return [[f"one:{old}>{new}"], [f"two:{old}>{new}", f"gap:{far}>{back}"]]


def expected(number: int) -> list[str]:
    """What the receiver is to be told of it, in order."""
    (one,), (two, gap) = moves(number)
    missed = "gap:A>B" if number % 2 else "gap:C>B"
    return [one, missed, two, gap]


def judged(told: list[str], kind: str) -> list[str] | dict[str, list[str]]:
    """What is to be the same. A record that cannot be read for now lets those of other refs pass: then, by ref."""
    if kind == "kills":
        return told
    refs: dict[str, list[str]] = {}
    for move in told:
        refs.setdefault(move.partition(":")[0], []).append(move)
    return refs


class Stages:
    """The jobs of a worker, each to be done in a process of its own."""

    def __init__(self, world: World) -> None:
        self._state = world.state
        self._clock = world.clock

    def ingest(self) -> bool:
        with Store.open(self._state) as store:
            Ingest(store, self._state / "spool", self._clock).run(Settings())
        return True

    def deliver(self) -> bool:
        left = iter(range(TRIES))
        with Store.open(self._state) as store, presence.Lock(self._state):
            store.lanes.release_all()
            one = Deliver(store, Transport(), self._clock, lambda: 0.0, lambda: next(left, None) is not None).one
            while one():
                pass
        return True

    def drain(self) -> bool:
        with Store.open(self._state) as store:
            whole = Worker(self._state, store, Transport(), self._clock, lambda: 0.0)
            try:
                return whole.drain()
            finally:
                whole.close()


def plain(work: Callable[[], bool]) -> int:
    """The exit status of a child that does the work unharmed."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(root: Path, url: str, stage: str, kind: str, sample: int, seed: int) -> None:
    worker.POLL_SECONDS = 0.01
    log = root / "faults.log"
    with World(root) as world:
        world.endpoint(url=url, dialect="gogs", timeout=2.0)
        # The last one keeps every commit in reach, for who reads the book.
        for ref, letter in (("one", "A"), ("two", "A"), ("gap", "A"), ("all", LETTERS[-1])):
            world.set_refs(f"{ref}:->{letter}")
            world.sql("INSERT INTO ledger VALUES (1, ?, ?)", f"refs/heads/{ref}".encode(), world.ids[letter])
        # No connection may be open when the process forks.
        world.store.close()
        stages = Stages(world)
        work, threads = getattr(stages, stage), stage == "drain"

        def prepare(number: int) -> None:
            world.clock.now += HOURS
            for at, some in enumerate(moves(number)):
                world.put(*some, at=world.clock() + at - 10)
            if stage == "deliver" and plain(stages.ingest):
                raise SystemExit("an unharmed ingest did not come through")

        def finish() -> None:
            for _ in range(3):  # a slow machine may lose a request
                world.clock.now += HOURS
                if (status := plain(stages.drain)) == 0:
                    return
            raise SystemExit(f"an unharmed drain ended with {status}")

        prepare(1)
        faults.child(work, log, threads=threads)
        made = faults.calls(log.read_text("utf-8", "replace"))
        finish()
        if kind == "kills":
            points = faults.kills(made)
        else:
            points = [replace(one, lasting=kind == "lasting") for one in faults.failures(made)]
        if sample:
            points = random.Random(seed).sample(points, min(sample, len(points)))
        for number, fault in enumerate(points, start=2):
            prepare(number)
            status = faults.child(work, log, fault, threads=threads)
            text = log.read_text("utf-8", "replace")
            reached = status == -signal.SIGKILL if kind == "kills" else "(INJECTED)" in text
            sent = any(f"{call}(" in text for call in faults.SENDING)
            finish()
            print(json.dumps({"fault": str(fault), "status": status, "reached": reached, "sent": sent}), flush=True)


if __name__ == "__main__":
    _, where, url, stage, kind, sample, seed = sys.argv
    run(Path(where), url, stage, kind, int(sample), int(seed))
