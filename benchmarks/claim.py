"""Claiming a delivery when 100,000 wait, and when 100 do.

Promised: the one is not slower than the other (ratio under 1.5). Both stores are on the same disk and are asked in
turns, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from repositories import row
from waiting import add, fill

from refcast import install
from refcast.store import Store

NOWHERE = "http://127.0.0.1:9/"


def store_of(state: Path, endpoints: int, waiting: int, seed: int) -> Store:
    install.create_state(state)
    store = Store.open(state)
    fill(store, [add(store, f"e{number}", NOWHERE) for number in range(endpoints)], waiting // endpoints, seed)
    return store


def claims(store: Store, endpoints: int) -> list[float]:
    """Milliseconds for each claim, until every lane is claimed; they are released then."""
    found = []
    for _ in range(endpoints):
        start = time.perf_counter()
        work = store.lanes.claim(time.time(), failing=False)
        found.append((time.perf_counter() - start) * 1e3)
        assert work is not None
    store.lanes.release_all()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 in place of 100,000")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    many = 10_000 if options.quick else 100_000
    with (
        tempfile.TemporaryDirectory(dir=options.scratch) as name,
        store_of(Path(name, "few"), options.endpoints, 100, options.seed) as few,
        store_of(Path(name, "many"), options.endpoints, many, options.seed) as full,
    ):
        small: list[float] = []
        large: list[float] = []
        for number in range(options.rounds):
            turns = [(few, small), (full, large)]
            for store, found in turns if number % 2 else reversed(turns):
                found.extend(claims(store, options.endpoints))
    row(f"{options.rounds * options.endpoints} claims each", "median ms", "least ms")
    row("100 wait", median(small), min(small))
    row(f"{many} wait", median(large), min(large))
    row("ratio", median(large) / median(small), min(large) / min(small))


if __name__ == "__main__":
    main()
