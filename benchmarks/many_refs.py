"""A repository of very many refs: one new branch in it, and all of them created in one push.

Promised: a new branch with one commit in a repository of 10,000 refs and 100,000 commits becomes an event in
less than 300 ms, and 10,000 refs created in one push cost one walk, not 10,000.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from repositories import commit, file, git, linear, load, row

from refcast.history import History, Limits
from refcast.model import ZERO_ID, Push, Pusher, RefUpdate, Repository

NEW = "refs/heads/new"


def history(commits: int, refs: int) -> Iterator[bytes]:
    """A long main with refs on commits all along it, a new branch, and as many branches with a commit each."""
    yield from linear(commits)
    for ref in range(refs):
        yield f"reset refs/heads/old/{ref:05}\nfrom :{ref * (commits // refs) + 1}\n\n".encode()
    yield commit(NEW, commits, parent=f":{commits - commits // 10}") + file("new", "new")
    for ref in range(refs):
        number = commits + 1 + ref
        yield commit(f"refs/heads/one/{ref:05}", number, parent=f":{commits}") + file("one", str(ref))


def events(path: Path, tips: Mapping[str, str], ledger: Mapping[str, str], listed: int) -> tuple[float, int]:
    """Seconds for opening the repository and telling of a push that creates `tips`; the sum of the totals."""
    updates = tuple(RefUpdate(ZERO_ID, tip, ref) for ref, tip in tips.items())
    push = Push("0", str(path), "ada", datetime.now(UTC), updates)
    start = time.perf_counter()
    with History.open(str(path)) as opened:
        told = opened.events(push, ledger, Repository(str(path), "many"), Pusher("ada"), Limits(listed))
        total = sum(event.total for event in told)
    return time.perf_counter() - start, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    commits, refs = (5000, 500) if options.quick else (100_000, 10_000)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "many.git")
        load(path, history(commits, refs))
        with History.open(str(path)) as opened:
            every = opened.tips()
        ledger = {ref: tip for ref, tip in every.items() if ref != NEW and "/one/" not in ref}
        one = {ref: tip for ref, tip in every.items() if "/one/" in ref}
        old = {ref: tip for ref, tip in ledger.items() if "/old/" in ref}
        hidden = "".join(f"^{tip}\n" for tip in ledger.values())

        git_seconds = seconds = float("inf")
        for _ in range(options.rounds):
            start = time.perf_counter()
            counted = int(git(path, "rev-list", "--count", "--stdin", stdin=f"{every[NEW]}\n{hidden}".encode()))
            git_seconds = min(git_seconds, time.perf_counter() - start)
            took, total = events(path, {NEW: every[NEW]}, ledger, listed=250)
            seconds = min(seconds, took)
        if not counted == total:
            raise SystemExit(f"refcast counts {total} where git counts {counted}")
        print(f"{len(ledger)} refs, {commits} commits")
        row("", "ms", "ms a ref", "x git")
        row("new branch: git rev-list --count, all refs hidden", git_seconds * 1e3, "", 1.0)
        row("new branch: refcast, its event", seconds * 1e3, "", seconds / git_seconds)
        for name, tips, before, listed in (
            (f"{refs} branches with a commit each", one, ledger, 250),
            (f"{refs} branches along a new history, 20 listed", old, {}, 20),
        ):
            took, total = events(path, tips, before, listed)
            row(name, took * 1e3, took * 1e3 / len(tips), "")


if __name__ == "__main__":
    main()
