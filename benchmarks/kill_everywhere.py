"""Each system call of the hooks, of what they start, of ingest and of delivery dies or fails; what came of it, counted.

Promised: nothing lost, no half-written record accepted, and what comes twice had been sent before the worker died. A
fault is followed by a whole drain that nobody harms. For the worker, `lasting` is a disk that stays full, or the like,
from that call on. All of it takes the better part of an hour; --sample takes so many points of each part, by --seed,
and --part the parts of these programs or stages alone.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import faults
import faults_worker
from faults import Fault
from faults_hooks import CALLED, HOOKS, RECEIVE_PACK, Pushes
from hard import environment
from receiver import Receiver
from refcast.store import Store
from servers import Server
from spooled import ENDPOINT, World
from test_kill import letters, moves, once_each

STAGES = ("ingest", "deliver", "drain")
KINDS = ("kills", "failures", "lasting")
COLUMNS = ("points", "met", "lost", "invented", "twice")


def show(name: str, *figures: object) -> None:
    print(f"{name:<28}" + "".join(f"{figure!s:>10}" for figure in figures), flush=True)


def taken(points: Sequence[Fault], sample: int, seed: int) -> list[Fault]:
    return random.Random(seed).sample(points, min(sample, len(points))) if sample else list(points)


def pushes(program: str, kind: str, sample: int, seed: int) -> bool:
    """Pushes in which a program suffers. Whether all was well."""
    with (
        tempfile.TemporaryDirectory() as root,
        Receiver() as receiver,
        Server(Path(root) / "x", worker=False) as server,
    ):
        with Store.open(server.state) as store:
            store.endpoints.add(replace(ENDPOINT, url=receiver.url), time.time())
        run = Pushes(server, program)
        made = run.count()
        if kind == "kills":
            points = faults.kills(made, every=True)
        else:
            points = faults.failures(made, behind=run.real.name if program in HOOKS else "", every=True)
        done = run.all(taken(points, sample, seed))
        refused = [one for one in done if one.reached and one.status and kind == "failures"]
        run.drain()
        came = run.reckon(receiver)
        met = sum(one.reached for one in done)
        show(f"{program} {kind}", len(done), met, len(came.lost), len(came.invented), len(came.twice))
        for one in refused:
            print(f"  {one.fault}: the push failed: {one.said.strip()}")
        return not (came.lost or came.invented or came.twice or came.ledger_differs or refused)


def worker(stage: str, kind: str, sample: int, seed: int) -> bool:
    """Records whose worker suffers. Whether all was well."""
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        root = Path(name)
        words = [sys.executable, faults_worker.__file__, name, receiver.url, stage, kind, str(sample), str(seed)]
        done = subprocess.run(words, env=environment(root), capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  {stage} {kind}: {done.stderr}")
            return False
        points = [json.loads(line) for line in done.stdout.splitlines()]
        world = World(root)
        world.letters = letters(root / "site.git")
        told = moves(world, once_each(receiver.book))
        expected = [move for number in range(1, len(points) + 2) for move in faults_worker.expected(number)]
        twice, sent = len(receiver.book) - len(told), sum(point["sent"] for point in points)
        lost, invented = max(0, len(expected) - len(told)), max(0, len(told) - len(expected))
        show(f"{stage} {kind}", len(points), sum(point["reached"] for point in points), lost, invented, twice)
        ordered = faults_worker.judged(told, kind) == faults_worker.judged(expected, kind)
        if not ordered:
            print("  not in the order of the pushes")
        return ordered and twice <= sent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sample", type=int, default=0, help="points of each part; all of them if 0")
    arguments.add_argument("--seed", type=int, default=1)
    parts = (*HOOKS, *CALLED, RECEIVE_PACK, *STAGES)
    arguments.add_argument("--part", choices=parts, nargs="+", default=parts, help="which programs or stages")
    given = arguments.parse_args()
    well = True
    show("", *COLUMNS)
    for part in given.part:
        if part in STAGES:
            for kind in KINDS:
                well &= worker(part, kind, given.sample, given.seed)
            continue
        # What git's own program makes of a failure is git's business.
        for kind in ("kills",) if part == RECEIVE_PACK else ("kills", "failures"):
            well &= pushes(part, kind, given.sample, given.seed)
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
