"""Durable delivery: from a store on disk (SQLite, synchronous=FULL) through the real worker to a fast receiver.

Promised: at least 200 deliveries a second to 8 endpoints, and at least 0.4 of what a bare `requests.Session` loop with
as many threads sends to the same receiver in the same run. A session keeps its connections for ever; refcast keeps one
for what follows at once in a lane, and then for a second at most. So a session that keeps none is compared, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import requests
from push import fsync_ms
from repositories import row
from waiting import Receiver, add, fill, working

from refcast import install
from refcast.store import Store
from refcast.transport import Transport

ENDPOINTS = 8
TIMEOUT = 30.0


def bare(receiver: Receiver, body: bytes, headers: dict[str, str], count: int, *, kept: bool) -> float:
    """Requests a second of one session for each of 8 threads."""

    def send(number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(count):
                more = headers if kept else {**headers, "Connection": "close"}
                session.post(receiver.url(f"bare{number}"), data=body, headers=more, timeout=TIMEOUT)

    start = time.monotonic()
    with ThreadPoolExecutor(ENDPOINTS) as threads:
        list(threads.map(send, range(ENDPOINTS)))
    return ENDPOINTS * count / (time.monotonic() - start)


def durable(receiver: Receiver, scratch: Path, count: int, seed: int) -> tuple[float, bytes, dict[str, str]]:
    """Deliveries a second, by the receiver's count and by the store's; and what one of them looks like."""
    state = scratch / f"state{seed}"
    install.create_state(state)
    with Store.open(state) as store:
        paths = [f"durable{seed}-{number}" for number in range(ENDPOINTS)]
        endpoints = [add(store, path, receiver.url(path)) for path in paths]
        fill(store, endpoints, count, seed)
        row_of = store.reports.delivery(store.reports.deliveries()[0].id)
        start = time.monotonic()
        with working(state, store, Transport()):
            # To ask costs both sides something, so it is done seldom.
            receiver.wait_for([f"/{path}" for path in paths], ENDPOINTS * count, every=0.1)
            while store.lanes.is_pending():
                time.sleep(0.01)
            seconds = time.monotonic() - start
        found = store.reports.counts()
        if found != {"delivered": ENDPOINTS * count}:
            raise SystemExit(f"not all is delivered: {found}")
    return ENDPOINTS * count / seconds, row_of.payload, row_of.headers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few deliveries")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    count = 50 if options.quick else 250
    with tempfile.TemporaryDirectory(dir=options.scratch) as name, Receiver() as receiver:
        scratch = Path(name)
        print(f"fsync of a page in {scratch.parent}: {fsync_ms(scratch):.2f} ms (median)")
        print(f"{ENDPOINTS} endpoints, {count} deliveries each")
        row("", "durable/s", "session/s", "ratio", "one each/s", "ratio")
        rounds = []
        for number in range(options.rounds):
            rate, payload, headers = durable(receiver, scratch, count, options.seed + number)
            headers = {**headers, "Content-Type": "application/json"}
            session = bare(receiver, payload, headers, count, kept=True)
            single = bare(receiver, payload, headers, count, kept=False)
            rounds.append((rate, session, rate / session, single, rate / single))
            row(f"round {number + 1}", *rounds[-1])
        row("median", *(median(column) for column in zip(*rounds, strict=True)))


if __name__ == "__main__":
    main()
