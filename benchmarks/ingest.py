"""From a record in the spool to the deliveries in the store, in a repository of very many refs.

Promised: a new branch with one commit in a repository of 10,000 refs and 100,000 commits takes less than 300 ms. Shown
beside it: 10,000 new branches with a commit each in one push, and what of each is spent before the store is written.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from many_refs import NEW, events, history
from push import fsync_ms
from repositories import load, row

from refcast import install
from refcast.history import History
from refcast.ingest import Ingest
from refcast.model import ZERO_ID, Endpoint
from refcast.settings import Settings
from refcast.store import Store


def write_record(state: Path, repository: Path, tips: Mapping[str, str]) -> None:
    """The record of a push that creates these refs, as post-receive writes it."""
    updates = "".join(f"{ZERO_ID} {tip} {ref}\n" for ref, tip in tips.items())
    fields = ("refcast 1 push", f"id={uuid.uuid4()}", f"repository={repository}", f"updates={updates}", "end")
    (box,) = (path for path in (state / "spool").iterdir() if path.is_dir())
    (box / "99999999-1.push").write_bytes(b"".join(field.encode() + b"\0" for field in fields))


def ingested(state: Path, repository: Path, ledger: Mapping[str, str], tips: Mapping[str, str]) -> float:
    """Seconds from a record to its deliveries, and nothing left over."""
    with Store.open(state) as store:
        store.repositories.add(str(repository), ledger, time.time(), afresh=True)
        ingest = Ingest(store, state / "spool", time.time)
        write_record(state, repository, tips)
        start = time.perf_counter()
        if ingest.run(Settings()) != 1:
            raise SystemExit("the record was not ingested")
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    commits, refs = (5000, 500) if options.quick else (100_000, 10_000)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name).resolve()
        repository, state = scratch / "many.git", scratch / "state"
        load(repository, history(commits, refs))
        install.create_state(state)
        with Store.open(state) as store:
            store.endpoints.add(Endpoint(0, "one", "http://127.0.0.1:9/", "codeup", "json"), time.time())
        with History.open(str(repository)) as opened:
            every = opened.tips()
        ledger = {ref: tip for ref, tip in every.items() if ref != NEW and "/one/" not in ref}
        print(f"{len(ledger)} refs, {commits} commits; fsync of a page: {fsync_ms(scratch):.2f} ms (median)")
        row("", "ms", "ms a ref", "history alone ms")
        cases = {
            "a new branch with one commit": {NEW: every[NEW]},
            f"{refs} new branches with a commit each": {ref: tip for ref, tip in every.items() if "/one/" in ref},
        }
        for case, tips in cases.items():
            rounds = options.rounds if len(tips) == 1 else 1
            alone = min(events(repository, tips, ledger, listed=250)[0] for _ in range(rounds))
            took = min(ingested(state, repository, ledger, tips) for _ in range(rounds))
            row(case, took * 1e3, took * 1e3 / len(tips), alone * 1e3)


if __name__ == "__main__":
    main()
