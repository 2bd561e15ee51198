"""A short soak: what benchmarks/soak.py does with thousands of pushes."""

from __future__ import annotations

from pathlib import Path

from soaking import Soak


def test_pushes_arrive_while_the_worker_is_killed(tmp_path: Path) -> None:
    figures = Soak(tmp_path, pushes=300, seed=4, kill_seconds=(1.0, 2.5)).run()
    assert figures.well, figures
    assert figures.kills > 2
