"""A worker dies, or a call of it fails, at a sample of its system calls. By the receiver's own book nothing is lost and
the order is kept; a delivery comes twice only if the worker died between sending and recording.

benchmarks/kill_everywhere.py takes all the calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import faults
from faults_worker import expected, judged
from hard import environment
from receiver import Receiver
from spooled import World
from test_kill import letters, moves, once_each

SCRIPT = Path(__file__).with_name("faults_worker.py")
SEED = 4


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.mark.parametrize(
    ("stage", "kind", "sample"),
    [
        ("ingest", "kills", 10),
        ("ingest", "failures", 8),
        ("ingest", "lasting", 6),
        ("deliver", "kills", 12),
        ("deliver", "failures", 8),
        ("deliver", "lasting", 6),
        ("drain", "kills", 8),
    ],
)
def test_nothing_is_lost(tmp_path: Path, receiver: Receiver, stage: str, kind: str, sample: int) -> None:
    faults.ready()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), receiver.url, stage, kind, str(sample), str(SEED)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(points) == sample
    assert sum(point["reached"] for point in points) >= sample // 2
    world = World(tmp_path)
    world.letters = letters(tmp_path / "site.git")
    book = once_each(receiver.book)
    wanted = [move for number in range(1, sample + 2) for move in expected(number)]
    assert judged(moves(world, book), kind) == judged(wanted, kind)
    assert len(receiver.book) - len(book) <= sum(point["sent"] for point in points)
