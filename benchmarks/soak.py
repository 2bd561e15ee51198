"""Pushes at work at once into 20 repositories, 10 endpoints of which 3 are hostile, a worker killed every few seconds.

Promised: each push at every healthy endpoint at least once, each ref's moves in order, and what comes twice with the
same id and body. Receivers are a process of their own, and keep the books from which that is told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from soaking import Soak


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pushes", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--kill-seconds", type=float, nargs=2, default=(2.0, 5.0), metavar=("FROM", "TO"))
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="refcast-soak-") as root:
        figures = Soak(Path(root), given.pushes, given.seed, tuple(given.kill_seconds)).run(patience=600.0)
    print(f"{figures.pushes} pushes, {figures.pushes / figures.seconds:.1f} a second; seed {given.seed}")
    print(f"the worker was killed {figures.kills} times")
    print(f"lost {figures.lost}, invented {figures.invented}, out of order {figures.out_of_order}")
    print(f"sent again after a success {figures.twice}; with another body {figures.changed}")
    for line in figures.troubles + figures.examples:
        print(line)
    raise SystemExit(0 if figures.well else 1)


if __name__ == "__main__":
    main()
