"""A push of 10,000 refs for 10 endpoints, and what it costs a push to another repository meanwhile.

Promised: it is stored in bounded transactions, and delays nobody else's push by more than a second. Printed: how many
transactions, the largest and the longest; and how long another repository's push takes from its record to its stored
deliveries, while the large one is ingested and without it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from many_refs import history
from push import fsync_ms
from repositories import linear, load, row

from refcast import install
from refcast.dialects import DIALECTS
from refcast.history import History
from refcast.ingest import Ingest
from refcast.model import ZERO_ID, Endpoint
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Batch, Intake


class Measured:
    """What each transaction of ingest stores, and how long it takes."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, float]] = []
        real = Intake.add

        def add(intake: Intake, batch: Batch, now: float) -> None:
            start = time.perf_counter()
            real(intake, batch, now)
            deliveries = sum(len(content.deliveries) for event in batch.events for content in event.contents)
            self.batches.append((len(batch.events), deliveries, time.perf_counter() - start))

        Intake.add = add  # type: ignore[method-assign,assignment]


def write_record(state: Path, repository: Path, old: str, tips: Mapping[str, str]) -> str:
    """The record of a push, as post-receive writes it; its id."""
    record_id = str(uuid.uuid4())
    updates = "".join(f"{old} {tip} {ref}\n" for ref, tip in tips.items())
    fields = ("refcast 1 push", f"id={record_id}", f"repository={repository}", f"updates={updates}", "end")
    (box,) = (path for path in (state / "spool").iterdir() if path.is_dir())
    new = box / f"{record_id}.new"
    new.write_bytes(b"".join(field.encode() + b"\0" for field in fields))
    new.rename(box / f"99999999-{record_id}.push")
    return record_id


class Ingesting(threading.Thread):
    """Ingests whenever it is told that there is something, as a worker does."""

    def __init__(self, store: Store, state: Path) -> None:
        super().__init__(daemon=True)
        self.told = threading.Event()
        self.ended = False
        self._ingest = Ingest(store, state / "spool", time.time)

    def run(self) -> None:
        while not self.ended:
            self.told.wait()
            self.told.clear()
            self._ingest.run(Settings())

    def end(self) -> None:
        self.ended = True
        self.told.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which the other repository is pushed to")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    commits, refs = (2000, 1000) if options.quick else (100_000, 10_000)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name).resolve()
        big, small, state = scratch / "big.git", scratch / "small.git", scratch / "state"
        load(big, history(commits, refs))
        load(small, linear(200))
        install.create_state(state)
        with History.open(str(big)) as opened:
            ledger = {ref: tip for ref, tip in opened.tips().items() if "/one/" not in ref}
            push = {ref: tip for ref, tip in opened.tips().items() if "/one/" in ref}
        with History.open(str(small)) as opened:
            tip = opened.tips()["refs/heads/main"]
        with Store.open(state) as store:
            for number, dialect in zip(range(10), [*DIALECTS] * 2, strict=False):
                store.endpoints.add(Endpoint(0, f"e{number}", "http://127.0.0.1:9/", dialect, "json"), time.time())
            store.repositories.add(str(big), ledger, time.time())
            store.repositories.add(str(small), {"refs/heads/main": tip}, time.time())
            measured = Measured()
            ingesting = Ingesting(store, state)
            ingesting.start()

            def delay(number: int) -> float:
                """Seconds from the record of a push of one ref to its stored deliveries."""
                start = time.perf_counter()
                record = write_record(state, small, ZERO_ID, {f"refs/heads/b{number}": tip})
                ingesting.told.set()
                while not store.intake.done([record]):
                    time.sleep(0.002)
                return time.perf_counter() - start

            delay(0)
            alone = [delay(number) for number in range(1, 21)]
            measured.batches.clear()
            start = time.perf_counter()
            record = write_record(state, big, ZERO_ID, push)
            ingesting.told.set()
            beside: list[float] = []
            while not store.intake.done([record]):
                time.sleep(chance.uniform(0.0, 0.5))
                beside.append(delay(100 + len(beside)))
            took = time.perf_counter() - start
            ingesting.end()
        large = [batch for batch in measured.batches if batch[0] > 1]
        print(
            f"{refs} refs for 10 endpoints; fsync of a page: {fsync_ms(scratch):.2f} ms (median); seed {options.seed}"
        )
        row("", "", "")
        row("the large push, in all (s)", took)
        row("its transactions", len(large))
        row("the largest: events", max(batch[0] for batch in large))
        row("the largest: deliveries", max(batch[1] for batch in large))
        row("the longest (ms)", max(batch[2] for batch in large) * 1e3)
        row("another's push, without it: longest (ms)", max(alone) * 1e3)
        row(f"another's push, beside it: longest of {len(beside)} (ms)", max(beside) * 1e3)
        row("its delay by the large one, at most (ms)", (max(beside) - min(alone)) * 1e3)


if __name__ == "__main__":
    main()
