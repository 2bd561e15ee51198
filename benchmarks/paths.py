"""Path filters: from the record of one large push to its deliveries, without filters and with three of them.

The filters are for three directories; two of them no commit touches, so that every commit of the push is looked at. All
cases are measured in one run, in turns, on the same repository; the fastest round of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

from push import fsync_ms
from repositories import git, load, row, shaped

from refcast import install
from refcast.ingest import Ingest
from refcast.model import Endpoint
from refcast.settings import Settings
from refcast.store import Store

REF = "refs/heads/main"
PLAIN = Endpoint(0, "", "http://127.0.0.1:9/", "codeup", "json")


def ingested(scratch: Path, repository: Path, old: str, new: str, endpoints: list[Endpoint]) -> tuple[float, int]:
    """Seconds from the record of the push to its deliveries, and how many these are."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        state = Path(name) / "state"
        install.create_state(state)
        with Store.open(state) as store:
            for number, one in enumerate(endpoints):
                store.endpoints.add(replace(one, name=f"e{number}"), time.time())
            store.repositories.add(str(repository), {REF: old}, time.time(), afresh=True)
            ingest = Ingest(store, state / "spool", time.time)
            head = ("refcast 1 push", f"id={uuid.uuid4()}", f"repository={repository}")
            record = (*head, f"updates={old} {new} {REF}\n", "end")
            (box,) = (path for path in (state / "spool").iterdir() if path.is_dir())
            (box / "99999999-1.push").write_bytes(b"".join(field.encode() + b"\0" for field in record))
            start = time.perf_counter()
            if ingest.run(Settings()) != 1:
                raise SystemExit("the record was not ingested")
            seconds = time.perf_counter() - start
            return seconds, len(store.reports.deliveries())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    commits, directories, files = (500, 10, 20) if options.quick else (5000, 100, 100)
    names = [f"apps/dir{d:03}/src/file{f:03}.txt" for d in range(directories) for f in range(files)]
    cases = {
        "three endpoints, no filters": [PLAIN] * 3,
        "one of three directories is touched": [
            replace(PLAIN, paths=(f"{directory}/**",)) for directory in ("apps/dir007", "libs/a", "docs")
        ],
        "none is": [replace(PLAIN, paths=(f"{directory}/**",)) for directory in ("tools", "libs/a", "docs")],
        "three patterns at any depth, none met": [replace(PLAIN, paths=(p,)) for p in ("*.c", "*.md", "Makefile")],
    }
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name).resolve()
        repository = scratch / "mono.git"
        load(repository, shaped(names, commits, 3))
        ids = git(repository, "rev-list", "--reverse", "main").decode().split()
        old, new = ids[0], ids[-1]
        print(
            f"{commits} commits in a tree of {len(names)} files; fsync of a page: {fsync_ms(scratch):.2f} ms (median)"
        )
        best = dict.fromkeys(cases, (float("inf"), 0))
        for _ in range(options.rounds):
            for case, endpoints in cases.items():
                best[case] = min(best[case], ingested(scratch, repository, old, new, endpoints))
        plain = next(iter(best.values()))[0]
        row("", "ms", "times", "deliveries")
        for case, (seconds, deliveries) in best.items():
            row(case, seconds * 1e3, f"{seconds / plain:.2f}", deliveries)


if __name__ == "__main__":
    main()
