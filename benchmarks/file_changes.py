"""File changes of commits: refcast's comparison of tree objects beside libgit2's and git's own.

Promised: at least 10 times faster than libgit2's tree-to-tree diff, and at most 6 times the time of
`git diff-tree --stdin`, in a tree of 100 directories with 1,000 files each. Two other shapes stand beside it.
All three are given the same commits, and what refcast finds is compared with what git prints.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pygit2
from repositories import git, load, row, shaped

from refcast.history.objects import Objects, open_repository
from refcast.history.trees import Trees

LIMIT = 3000


def shapes(quick: bool) -> dict[str, list[str]]:
    """Paths by the name of their shape."""
    directories, files, flat, side = (20, 100, 2000, 6) if quick else (100, 1000, 20_000, 18)
    return {
        f"{directories} directories x {files} files": [
            f"dir{d:03}/file{f:04}.txt" for d in range(directories) for f in range(files)
        ],
        f"one directory of {flat} files": [f"file{f:05}.txt" for f in range(flat)],
        f"four levels deep, {side} entries each": [
            f"a{a:02}/b{b:02}/c{c:02}/file{d:02}.txt"
            for a in range(side)
            for b in range(side)
            for c in range(side)
            for d in range(side)
        ],
    }


def ours(path: Path, pairs: list[tuple[bytes, bytes]]) -> tuple[float, int]:
    trees = Trees(Objects(*open_repository(str(path))))
    start = time.perf_counter()
    found = [trees.changes(old, new, LIMIT) for old, new in pairs]
    seconds = time.perf_counter() - start
    return seconds, sum(len(each.added) + len(each.modified) + len(each.removed) for each in found)


def libgit2(path: Path, pairs: list[tuple[bytes, bytes]]) -> float:
    repository, _ = open_repository(str(path))
    start = time.perf_counter()
    for old, new in pairs:
        before, after = repository[pygit2.Oid(raw=old)], repository[pygit2.Oid(raw=new)]
        assert isinstance(before, pygit2.Tree) and isinstance(after, pygit2.Tree)
        for delta in before.diff_to_tree(after).deltas:
            _ = delta.status, delta.new_file.path
    return time.perf_counter() - start


def diff_tree(path: Path, commits: list[str]) -> tuple[float, int]:
    command = ("diff-tree", "--stdin", "-r", "--no-renames", "--no-commit-id")
    stdin = "".join(f"{commit}\n" for commit in commits).encode()
    start = time.perf_counter()
    lines = git(path, *command, stdin=stdin)
    return time.perf_counter() - start, lines.count(b"\n")


def measure(name: str, path: Path, rounds: int, sample: int) -> None:
    repository, _ = open_repository(str(path))
    commits = git(path, "rev-list", "--reverse", "main").decode().split()
    roots = [repository[commit].peel(pygit2.Tree).id.raw for commit in commits]
    pairs = list(pairwise(roots))
    best_ours = best_git = float("inf")
    for _ in range(rounds):
        seconds, found = ours(path, pairs)
        best_ours = min(best_ours, seconds)
        seconds, printed = diff_tree(path, commits[1:])
        best_git = min(best_git, seconds)
        if found != printed:
            raise SystemExit(f"refcast found {found} changes where git found {printed}")
    theirs = libgit2(path, pairs[:sample]) / min(sample, len(pairs))
    mine, gits = best_ours / len(pairs), best_git / len(pairs)
    row(name, mine * 1e3, theirs * 1e3, gits * 1e3, theirs / mine, mine / gits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts")
    options = parser.parse_args()
    commits, touched = (50, 5) if options.quick else (500, 5)
    print(f"{commits} commits that touch {touched} files each; milliseconds a commit, git's start included")
    row("shape", "refcast", "libgit2", "git", "libgit2/refcast", "refcast/git")
    for name, paths in shapes(options.quick).items():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "shape.git")
            load(path, shaped(paths, commits, touched))
            measure(name, path, options.rounds, sample=50)


if __name__ == "__main__":
    main()
