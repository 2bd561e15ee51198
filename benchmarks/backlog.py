"""Records of many pushes that wait for one repository, as after a worker was away: what each costs.

Promised: with 5,000 waiting a record takes at most twice what it takes with 250. Shown for a branch that goes
back and forth between two commits, where ids alone leave much open, and for pushes to as many branches.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from repositories import commit, file, git, load, row

from refcast import install
from refcast.ingest import Ingest
from refcast.model import ZERO_ID, Endpoint
from refcast.settings import Settings
from refcast.store import Store

Moves = Callable[[list[str], int], Iterator[str]]


def back_and_forth(ids: list[str], count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{ids[number % 2]} {ids[1 - number % 2]} refs/heads/main"


def branches(ids: list[str], count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{ZERO_ID} {ids[0]} refs/heads/b{number}"


def history() -> Iterator[bytes]:
    for number in range(2):
        yield commit("refs/heads/main", number, f":{number}" if number else "") + file("a", str(number))


def cost(scratch: Path, moves: Moves, count: int) -> float:
    """Seconds a record."""
    bare, state = scratch / "site.git", scratch / "state"
    load(bare, history())
    ids = git(bare, "rev-list", "--reverse", "main").decode().split()
    install.create_state(state)
    (box,) = (path for path in (state / "spool").iterdir() if path.is_dir())
    with Store.open(state) as store:
        store.endpoints.add(Endpoint(0, "one", "http://127.0.0.1:9/", "codeup", "json"), time.time())
        store.repositories.add(str(bare), {"refs/heads/main": ids[0]}, time.time())
        lines = list(moves(ids, count))
        for number, line in enumerate(lines):
            fields = ("refcast 1 push", f"id={uuid.uuid4()}", f"repository={bare}", f"updates={line}\n", "end")
            path = box / f"99999999-{number + 1}.push"
            path.write_bytes(b"".join(field.encode() + b"\0" for field in fields))
            os.utime(path, (START + number, START + number))
        last = {line.split()[2]: line.split()[1] for line in lines}
        git(bare, "update-ref", "--stdin", stdin="".join(f"update {ref} {tip}\n" for ref, tip in last.items()).encode())
        ingest = Ingest(store, state / "spool", time.time)
        began = time.perf_counter()
        if ingest.run(Settings()) != count:
            raise SystemExit("not all were ingested")
        return (time.perf_counter() - began) / count


START = time.time() - 24 * 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 instead of 5,000")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    few, many = 250, 1000 if options.quick else 5000
    row("", f"ms with {few}", f"ms with {many}", "ratio")
    for name, moves in {"one branch, back and forth": back_and_forth, "a branch each": branches}.items():
        took = []
        for count in (few, many):
            with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                took.append(cost(Path(scratch).resolve(), moves, count))
        row(name, took[0] * 1e3, took[1] * 1e3, took[1] / took[0])


if __name__ == "__main__":
    main()
