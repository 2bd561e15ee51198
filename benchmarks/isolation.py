"""Healthy endpoints beside dead ones: 50 that accept and never answer, all due at once, beside 5 that are well.

Promised: what the healthy ones take in a second is at least 0.9 of what it is without the dead. And ten thousand
deliveries that wait for one endpoint do not delay another's first: that is measured beside a delivery that is alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from repositories import row
from waiting import Receiver, add, fill, working

from refcast import install
from refcast.presence import running
from refcast.store import Store
from refcast.transport import Transport

HEALTHY = 5
DEAD = 50
PATIENCE = 20.0
"""Seconds after which a request to a dead endpoint is given up: longer than a round lasts."""


def throughput(receiver: Receiver, state: Path, dead: int, count: int, seed: int) -> float:
    """Deliveries a second to the healthy ones."""
    install.create_state(state)
    with Store.open(state) as store:
        hung = [f"hang/{state.name}-{number}" for number in range(dead)]
        names = [f"{state.name}-{number}" for number in range(HEALTHY)]
        # The dead are older, and so are served first.
        if hung:
            lost = [add(store, name, receiver.url(name), timeout=PATIENCE) for name in hung]
            fill(store, lost, 3, seed)
        endpoints = [add(store, name, receiver.url(name)) for name in names]
        fill(store, endpoints, count, seed + 1)
        start = time.monotonic()
        with working(state, store, Transport()) as stop:
            if hung:
                receiver.wait_for([f"/{name}" for name in hung], dead)
                if sum(receiver.counts().get(f"/{name}", 0) for name in names) == HEALTHY * count:
                    raise SystemExit("the healthy were served before the dead were tried: ask for more --count")
            end = receiver.wait_for([f"/{name}" for name in names], HEALTHY * count)
            receiver.hang_up()  # or the worker would wait for their deadline
            stop()
    return HEALTHY * count / (end - start)


def first(receiver: Receiver, state: Path, waiting: int, seed: int) -> float:
    """Milliseconds from a delivery's being stored to its arrival, while so many wait for another endpoint."""
    install.create_state(state)
    with Store.open(state) as store:
        busy, other = (add(store, f"{state.name}-{name}", receiver.url(f"{state.name}-{name}")) for name in "bo")
        fill(store, [busy], waiting, seed)
        with working(state, store, Transport()) as stop:
            if waiting:
                receiver.wait_for([f"/{busy.name}"], 20)
            time.sleep(0.3)  # the worker has begun, and would wait if it could
            start = time.monotonic()
            fill(store, [other], 1, seed + 1)
            running(state)  # as a hook does: the worker hears it
            end = receiver.wait_for([f"/{other.name}"], 1, every=0.001)
            if waiting and receiver.counts()[f"/{busy.name}"] >= waiting:
                raise SystemExit("the others were gone before: ask for more --waiting")
            stop()
    return (end - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few deliveries")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--count", type=int, help="deliveries for each healthy endpoint")
    parser.add_argument("--waiting", type=int, help="deliveries that wait for the other endpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    count = options.count or (100 if options.quick else 1500)
    waiting = options.waiting or (1000 if options.quick else 10_000)
    rounds = range(options.rounds)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name, Receiver() as receiver:
        scratch = Path(name)
        row(f"{HEALTHY} healthy endpoints, {count} deliveries each", "alone/s", f"beside {DEAD}/s", "ratio")
        found = []
        for number in rounds:
            alone = throughput(receiver, scratch / f"alone{number}", 0, count, options.seed + number)
            beside = throughput(receiver, scratch / f"beside{number}", DEAD, count, options.seed + number)
            found.append((alone, beside, beside / alone))
            row(f"round {number + 1}", *found[-1])
        row("median", *(median(column) for column in zip(*found, strict=True)))
        row("first delivery to an endpoint, ms", "alone", f"beside {waiting}", "difference")
        found = []
        for number in rounds:
            alone = first(receiver, scratch / f"lone{number}", 0, options.seed + number)
            beside = first(receiver, scratch / f"busy{number}", waiting, options.seed + number)
            found.append((alone, beside, beside - alone))
            row(f"round {number + 1}", *found[-1])
        row("median", *(median(column) for column in zip(*found, strict=True)))


if __name__ == "__main__":
    main()
