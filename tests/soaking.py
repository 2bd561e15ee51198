"""A soak: pushers at work at once, endpoints good and bad, and a worker that is killed again and again.

Owns the run and its reckoning, by the books of receivers that are a process of their own. `python soaking.py
DIRECTORY` is that process: it prints its ports, and writes what it receives into DIRECTORY until its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

from receiver import Answer, Received, Receiver, Script
from refcast import presence, spool
from refcast.model import Endpoint
from refcast.store import Store
from servers import ZERO, Server, end, workers

GOOD = 7
HOSTILE = ("hangs", "resets", "500s")
NAMES = (*(f"good{number}" for number in range(GOOD)), *HOSTILE)
PUSHERS = 8
REPOSITORIES = 20

ENDPOINT = Endpoint(0, "", "", "codeup", "json", timeout=1.0, schedule=(0.2, 0.5, 1.0), tries=1_000_000)
"""With waits so short that what is hostile is met often, and never given up."""

EXAMPLES = 8
"""How many of what went wrong are shown."""

FAILS = 0.03
"""How often a good one answers 503 or nothing."""


# The receivers' process


def receive(directory: Path) -> None:
    chance = random.Random(1)
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in NAMES:
            if name == "hangs":
                silent = socket.create_server(("127.0.0.1", 0), backlog=256)
                stack.callback(silent.close)
                ports[name] = silent.getsockname()[1]
                threading.Thread(target=_accept, args=(silent,), daemon=True).start()
                continue
            book = stack.enter_context((directory / name).open("a"))
            receiver = stack.enter_context(Receiver())
            receiver.answer = _answering(name, book, chance, receiver)
            ports[name] = receiver.port
        print(json.dumps(ports), flush=True)
        sys.stdin.read()


def _accept(silent: socket.socket) -> None:
    """Take connections and never say a word; as many as a worker can have open stay so."""
    taken: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            taken.append(silent.accept()[0])
            if len(taken) > 200:
                taken.pop(0).close()


def _answering(name: str, book: TextIO, chance: random.Random, receiver: Receiver) -> Script:
    lock = threading.Lock()

    def answer(received: Received) -> Answer | int | None:
        if name == "resets":
            return None
        if name == "500s":
            return 500
        whole = len(received.body) == int(received.header("Content-Length") or 0)
        with lock:
            receiver.book.clear()  # the file is the book
            failing = chance.random() < FAILS
            if whole:
                body = json.loads(received.body)
                line = {
                    "id": received.header("X-Codeup-Delivery"),
                    "repository": body["repository"]["name"],
                    "ref": body["ref"],
                    "move": [body["before"], body["after"]],
                    "body": sha256(received.body).hexdigest(),
                    "ok": not failing,
                }
                book.write(json.dumps(line) + "\n")
                book.flush()
        return (503 if chance.random() < 0.5 else None) if failing else 200

    return answer


# The run


@dataclass
class Figures:
    """What came of it."""

    pushes: int
    seconds: float
    """Of the pushing alone."""
    kills: int
    lost: int = 0
    invented: int = 0
    twice: int = 0
    """Requests that repeat one: of a delivery that had been answered with success."""
    out_of_order: int = 0
    changed: int = 0
    """Deliveries whose body was not the same each time."""
    troubles: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    """Of what is lost, invented or out of order."""

    def show(self, example: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    @property
    def well(self) -> bool:
        return not (self.lost or self.invented or self.out_of_order or self.changed or self.troubles)


class Soak:
    """`root` takes it all. `seed` chooses who pushes where, and when the worker dies."""

    def __init__(self, root: Path, pushes: int, seed: int, kill_seconds: tuple[float, float] = (0.5, 2.0)) -> None:
        self.root = root
        self.pushes = pushes
        self.chance = random.Random(seed)
        self.kill_seconds = kill_seconds
        self.made: dict[str, list[tuple[str, str]]] = {}
        """What each branch of each repository did: `repository ref` -> its moves, in order."""
        self._lock = threading.Lock()

    def run(self, patience: float = 120.0) -> Figures:
        """`patience` is how many seconds may pass without any progress, once all is pushed."""
        books = self.root / "books"
        books.mkdir()
        with Server(self.root, bare="r0.git", worker=True) as server, self._receivers(books) as ports:
            commits = [server.commit(f"commit {number}") for number in range(30)]
            bares = [self.root / f"r{number}.git" for number in range(REPOSITORIES)]
            for bare in bares[1:]:
                server.run("git", "init", "-q", "--bare", "-b", "main", bare)
                server.install(bare)
            with Store.open(server.state) as store:
                for name in NAMES:
                    url = f"http://127.0.0.1:{ports[name]}/"
                    store.endpoints.add(replace(ENDPOINT, name=name, url=url), time.time())
            stop, kills = threading.Event(), [0]
            killer = threading.Thread(target=self._kill, args=(server, stop, kills))
            killer.start()
            begun = time.monotonic()
            try:
                with ThreadPoolExecutor(PUSHERS) as pool:
                    list(pool.map(lambda seed: self._push(server, bares, commits, seed), self._seeds()))
                seconds = time.monotonic() - begun
                self._take_in(server, patience)
            finally:
                stop.set()
                killer.join()
            figures = Figures(self.pushes, seconds, kills[0])
            self._finish(server, figures, patience)
            self._reckon(books, figures)
            return figures

    def _seeds(self) -> list[tuple[int, int]]:
        share, more = divmod(self.pushes, PUSHERS)
        return [(self.chance.randrange(1 << 30), share + (number < more)) for number in range(PUSHERS)]

    def _push(self, server: Server, bares: list[Path], commits: list[str], share: tuple[int, int]) -> None:
        """One pusher: it moves branches of its own in any repository, forwards, backwards, away and anew."""
        seed, pushes = share
        chance = random.Random(seed)
        tips: dict[str, str] = {}
        for _ in range(pushes):
            bare = chance.choice(bares)
            updates = []
            for number in range(chance.choice([1, 1, 1, 2])):
                ref = f"refs/heads/u{seed}-{number}"
                key = f"{bare.stem} {ref}"
                old = tips.get(key, ZERO)
                new = ZERO if old != ZERO and chance.random() < 0.1 else chance.choice(commits)
                if new != old:
                    updates.append((key, ref, old, new))
            words = [f"+{'' if new == ZERO else new}:{ref}" for _, ref, _, new in updates]
            if not words:
                continue
            server.run("git", "push", "-q", bare, *words, cwd=server.work)
            with self._lock:
                for key, _, old, new in updates:
                    tips[key] = new
                    self.made.setdefault(key, []).append((old, new))

    def _kill(self, server: Server, stop: threading.Event, kills: list[int]) -> None:
        chance = random.Random(self.chance.random())
        while not stop.wait(chance.uniform(*self.kill_seconds)):
            for pid in workers(server.state):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills[0] += 1

    @contextlib.contextmanager
    def _receivers(self, books: Path) -> Iterator[dict[str, int]]:
        process = subprocess.Popen(
            [sys.executable, __file__, str(books)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.communicate()
            if process.returncode:
                raise AssertionError(f"the receivers ended with {process.returncode}")

    def _take_in(self, server: Server, patience: float) -> None:
        """Workers that are still killed, one after another, until all records are ingested: on a small machine most of
        them wait when the last push is over, because those who push leave a worker no time between two kills."""
        last, seen = time.monotonic(), 0
        while (left := len(spool.files(server.state / "spool"))) and time.monotonic() - last < patience:
            if left != seen:
                last, seen = time.monotonic(), left
            if presence.running(server.state):
                time.sleep(0.05)
            else:
                program = (sys.executable, "-m", "refcast", "--state", server.state)
                server.run(*program, "worker", "--on-demand", check=False)

    def _finish(self, server: Server, figures: Figures, patience: float) -> None:
        """A worker that nobody kills, until the good ones have it all. The hostile ones' backlog stays."""
        for pid in workers(server.state):
            end(pid)
        command = [sys.executable, "-m", "refcast", "--state", str(server.state), "worker"]
        last_one = subprocess.Popen(command, env=server.environment, cwd="/", stderr=subprocess.DEVNULL)
        try:
            self._wait(server, figures, patience)
        finally:
            last_one.terminate()
            last_one.wait()

    def _wait(self, server: Server, figures: Figures, patience: float) -> None:
        query = (
            "SELECT count(*) FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id"
            " WHERE d.state = 'waiting' AND e.name LIKE 'good%'"
        )
        last, seen = time.monotonic(), (-1, -1)
        while True:
            now = len(list((server.state / "spool").rglob("*.push"))), self._count(server, query)
            if now == (0, 0):
                return
            if now != seen:
                last, seen = time.monotonic(), now
            if time.monotonic() - last > patience:
                figures.troubles.append(f"{now[0]} files in the spool and {now[1]} deliveries do not get done")
                return
            time.sleep(0.05)

    @staticmethod
    def _count(server: Server, query: str) -> int:
        connection = sqlite3.connect(server.state / "refcast.db", timeout=30)
        try:
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()

    def _reckon(self, books: Path, figures: Figures) -> None:
        """What the good ones' books say, against what was pushed: each ref's moves, in order, each at least once."""
        orders: list[dict[str, list[str]]] = []
        for name in NAMES[:GOOD]:
            lines = [json.loads(line) for line in (books / name).read_text().splitlines()]
            bodies: defaultdict[str, set[str]] = defaultdict(set)
            done: set[str] = set()
            met: set[str] = set()
            told: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
            order: defaultdict[str, list[str]] = defaultdict(list)
            for line in lines:
                bodies[line["id"]].add(line["body"])
                figures.twice += line["id"] in done
                if line["ok"]:
                    done.add(line["id"])
                if line["id"] not in met:
                    met.add(line["id"])
                    order[line["repository"]].append(f"{line['ref']} {line['move']}")
                    told[f"{line['repository']} {line['ref']}"].append(tuple(line["move"]))
            figures.changed += sum(len(some) > 1 for some in bodies.values())
            for key in self.made.keys() | told.keys():
                made, heard = self.made.get(key, []), told.get(key, [])
                figures.lost += len([move for move in made if move not in heard])
                figures.invented += len([move for move in heard if move not in made])
                if made != heard:
                    figures.out_of_order += 1
                    at = next(n for n, (one, other) in enumerate(zip_longest(made, heard)) if one != other)
                    figures.show(f"{name}: {key}: move {at + 1} of {len(made)}: {made[at:][:3]}, told {heard[at:][:3]}")
            orders.append(order)
        # Which of two branches moved first nobody here knows; but all endpoints are to hear the same.
        figures.out_of_order += sum(order != orders[0] for order in orders)


if __name__ == "__main__":
    receive(Path(sys.argv[1]))
