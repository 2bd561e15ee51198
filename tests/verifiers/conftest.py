"""What the judges are shown: made once, and shared by the processes among which pytest-xdist spreads the tests."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from receiver import Received
from verifiers.story import Story, received, tested

T = TypeVar("T")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make` makes in a directory, made by whoever comes first."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    made = run / f"{name}.pickle"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make(factory.mktemp(name))))
    loaded: T = pickle.loads(made.read_bytes())
    return loaded


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return once(tmp_path_factory, "story", received)


@pytest.fixture(scope="session")
def pings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Received]:
    """What `refcast endpoint test` sends, by endpoint."""
    return once(tmp_path_factory, "pings", tested)
