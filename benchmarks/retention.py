"""Pruning a store of 100,000 finished deliveries: how long its longest step is, and what it costs delivery.

Shown: the longest and the middle step, the time of a whole round with its pauses, deliveries a second to a fast
loopback receiver without and with a round beside them, and the size of the file before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from push import fsync_ms
from repositories import row

from receiver import Receiver
from refcast.deliver import Deliver
from refcast.model import Endpoint
from refcast.settings import Retention
from refcast.store import FILE, Store
from refcast.transport import Transport
from refcast.worker import TIDY_SECONDS

DAY = 24 * 3600.0
ENDPOINTS = 8


def fill(path: Path, count: int, now: float) -> None:
    """Finished deliveries, each with an event, a content of its own and an attempt; half of them too old to be kept."""
    payload, body = b'{"x": "' + b"x" * 4000 + b'"}', b"y" * 500
    names = json.dumps([["Content-Type", "application/json"]])
    with sqlite3.connect(path) as connection:
        for n in range(1, count + 1):
            at = now - (60 * DAY if n <= count // 2 else DAY) + n / 1000
            connection.execute(
                "INSERT INTO events (id, record_id, repository_id, kind, ref, old, new, pusher, received_at, recovered,"
                " incomplete) VALUES (?, ?, 1, 'push', x'61', ?, ?, x'61', ?, 0, '')",
                (n, f"r{n}", "0" * 40, f"{n:040x}", at),
            )
            connection.execute("INSERT INTO contents VALUES (?, ?, 'codeup', 'push', ?)", (n, n, payload))
            connection.execute(
                "INSERT INTO deliveries (position, id, content_id, endpoint_id, lane_id, content_type, signing,"
                " headers, state, created_at, finished_at)"
                " VALUES (?, ?, ?, ?, ?, 'json', 'none', '{}', 'delivered', ?, ?)",
                (n, f"old-{n}", n, 1 + n % ENDPOINTS, 1 + n % ENDPOINTS, at, at),
            )
            connection.execute(
                "INSERT INTO attempts VALUES (?, ?, 0.1, 'http://x/', ?, 200, ?, ?, '', '', 'delivered')",
                (n, at, names, names, body),
            )
            connection.execute("INSERT INTO attempt_deliveries VALUES (?, ?)", (n, n))
    connection.close()


def queue(path: Path, count: int, now: float, name: str) -> None:
    """Deliveries that wait, spread over the endpoints."""
    with sqlite3.connect(path) as connection:
        for n in range(count):
            connection.execute(
                "INSERT INTO deliveries (id, content_id, endpoint_id, lane_id, content_type, signing, headers, state,"
                " created_at) SELECT ?, max(id), ?, ?, 'json', 'none', '{}', 'waiting', ? FROM contents",
                (f"{name}-{n}", 1 + n % ENDPOINTS, 1 + n % ENDPOINTS, now),
            )
    connection.close()


def delivered(store: Store, count: int) -> float:
    """Deliveries a second, until nothing waits."""
    transport = Transport()
    deliver = Deliver(store, transport, time.time, lambda: 0.0, lambda: False)

    def serve() -> None:
        while deliver.one():
            pass

    threads = [threading.Thread(target=serve) for _ in range(ENDPOINTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    transport.close()
    return count / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    count, sent = (5000, 400) if options.quick else (100_000, 4000)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name, Receiver() as receiver:
        state = Path(name)
        now = time.time()
        with Store.open(state) as store:
            store.repositories.add("/srv/site.git", {}, now)
            for n in range(ENDPOINTS):
                store.endpoints.add(Endpoint(0, f"e{n}", receiver.url, "codeup", "json"), now)
            fill(state / FILE, count, now)
            before = (state / FILE).stat().st_size
            print(f"{count} finished deliveries, fsync of a page: {fsync_ms(state):.2f} ms (median), pid {os.getpid()}")
            queue(state / FILE, sent, now, "alone")
            alone = delivered(store, sent)
            steps: list[float] = []
            stopped = threading.Event()

            def prune() -> None:
                while not stopped.is_set():
                    start = time.perf_counter()
                    more = store.retention.step(now, Retention(days=30.0, size=10**12), lambda: now)
                    steps.append(time.perf_counter() - start)
                    if not more:
                        return
                    time.sleep(TIDY_SECONDS)

            queue(state / FILE, sent, now, "beside")
            pruning = threading.Thread(target=prune)
            start = time.perf_counter()
            pruning.start()
            beside = delivered(store, sent)
            still = pruning.is_alive()
            pruning.join()
            took = time.perf_counter() - start
            left = sum(store.reports.counts().values())
            after = (state / FILE).stat().st_size
        row("", "longest ms", "median ms", "p99 ms", "steps")
        p99 = sorted(steps)[int(len(steps) * 0.99)]
        row("a step", max(steps) * 1e3, statistics.median(steps) * 1e3, p99 * 1e3, len(steps))
        print(f"a round: {took:.1f} s, {count + 2 * sent - left} deliveries pruned")
        print(f"delivered a second: {alone:.0f} alone, {beside:.0f} beside it ({beside / alone:.2f})")
        print(f"the round was {'still going on' if still else 'over'} when all was sent")
        print(f"the file: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")


if __name__ == "__main__":
    main()
