"""What the judges are shown, made once."""

from __future__ import annotations

import pytest

from once import once
from receiver import Received
from verifiers.story import Story, received, tested


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return once(tmp_path_factory, "story", received)


@pytest.fixture(scope="session")
def pings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Received]:
    """What `refcast endpoint test` sends, by endpoint."""
    return once(tmp_path_factory, "pings", tested)
