"""A first push of a long history: memory, the exact count, and the listed commits with their file changes.

Promised for 100,000 commits: less than 200 MB of memory, and counting in at most 3 times the time of
`git -c core.commitGraph=false rev-list --count`. Each measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from repositories import git, linear, load, row

from refcast.history import History, Limits
from refcast.model import ZERO_ID, Push, Pusher, RefUpdate, Repository


def child(path: str, listed: int) -> None:
    """Make the event of a first push of main, and print its figures as JSON."""
    start = time.perf_counter()
    with History.open(path) as history:
        ref = "refs/heads/main"
        update = RefUpdate(ZERO_ID, history.tips()[ref], ref)
        push = Push("0", path, "ada", datetime.now(UTC), (update,))
        limits = Limits(commits=listed)
        (event,) = history.events(push, {}, Repository(path, "long"), Pusher("ada"), limits)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "total": event.total,
                "listed": len(event.commits),
            }
        )
    )


def measured(path: Path, listed: int, rounds: int) -> dict[str, float]:
    """The fastest of so many children."""
    command = [sys.executable, __file__, "--child", str(path), "--listed", str(listed)]
    runs: list[dict[str, float]] = [
        json.loads(subprocess.run(command, stdout=-1, check=True).stdout) for _ in range(rounds)
    ]
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--listed", type=int, default=250, help="commits that the event lists")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.listed)
        return
    commits = 5000 if options.quick else 100_000
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "long.git")
        load(path, linear(commits))
        git_seconds = float("inf")
        for _ in range(options.rounds):
            start = time.perf_counter()
            git_total = int(git(path, "-c", "core.commitGraph=false", "rev-list", "--count", "main"))
            git_seconds = min(git_seconds, time.perf_counter() - start)
        counted = measured(path, 0, options.rounds)
        listed = measured(path, options.listed, options.rounds)
    if not counted["total"] == listed["total"] == git_total:
        raise SystemExit(f"refcast counts {counted['total']} where git counts {git_total}")
    print(f"first push of {git_total} commits")
    row("", "ms", "x git", "peak MB")
    row("git rev-list --count", git_seconds * 1e3, 1.0, "")
    ratio = counted["seconds"] / git_seconds
    row("refcast, counting alone", counted["seconds"] * 1e3, ratio, counted["megabytes"])
    more = listed["seconds"] - counted["seconds"]
    row(f"refcast, {listed['listed']} commits and their changes more", more * 1e3, "", listed["megabytes"])


if __name__ == "__main__":
    main()
