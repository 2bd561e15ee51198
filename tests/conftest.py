"""What the tests of servers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from people import installed_program, need_root
from receiver import Receiver


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """Where install.sh has put the program. Those who use it run in one process, the group `gitolite`."""
    need_root()
    with installed_program() as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
