"""Repositories for benchmarks, made by `git fast-import` in a directory of the caller's, the same on every run.

Owns the building and the printing that the scripts here share. Measures nothing.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "LC_ALL": "C",
}
START = 1_000_000_000


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """What `git -C repository …` prints, without the user's configuration."""
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], input=stdin, env=ENVIRONMENT, stdout=-1, check=True
    )
    return done.stdout


def load(repository: Path, stream: Iterator[bytes]) -> None:
    """A new bare repository at `repository`, with what the fast-import stream says."""
    repository.mkdir()
    git(repository, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".")
    command = ["git", "-C", str(repository), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdin is not None
        for part in stream:
            process.stdin.write(part)
        process.stdin.close()
        if process.wait():
            raise SystemExit("git fast-import failed")
    git(repository, "pack-refs", "--all")


def commit(ref: str, number: int, parent: str = "") -> bytes:
    """The head of a commit, one minute after the one numbered before it; its file commands follow."""
    time = START + 60 * number
    return (
        f"commit {ref}\nmark :{number + 1}\nauthor Ada Lovelace <ada@example.org> {time} +0100\n"
        f"committer Ben <ben@example.org> {time} +0000\ndata 20\ncommit {number:011d}\n\n"
    ).encode() + (f"from {parent}\n".encode() if parent else b"")


def file(path: str, content: str) -> bytes:
    return f"M 100644 inline {path}\ndata {len(content)}\n{content}\n".encode()


def shaped(paths: list[str], commits: int, touched: int) -> Iterator[bytes]:
    """A branch main: one commit with all the paths, then `commits` that touch that many of them at random."""
    chance = random.Random(1)
    yield commit("refs/heads/main", 0)
    yield from (file(path, path) for path in paths)
    for number in range(1, commits + 1):
        yield commit("refs/heads/main", number)
        yield from (file(path, f"{path} {number}") for path in chance.sample(paths, touched))


def linear(commits: int) -> Iterator[bytes]:
    """A branch main of so many commits in a row, each changing one file of fifty."""
    for number in range(commits):
        yield commit("refs/heads/main", number)
        yield file(f"file{number % 50}", str(number))


def row(*cells: object) -> None:
    """One line of a table: the first cell to the left, the others to the right."""
    first, *others = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print(f"{first:<50}" + "".join(f"{cell:>17}" for cell in others), flush=True)
