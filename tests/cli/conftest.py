"""A state directory, a repository with hooks in it, and `run`, which is refcast's command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from commandline import Run, make_bare
from receiver import Receiver
from refcast.cli import main


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def run(state: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("refcast.cli.common.App.wake", lambda _: None)  # no worker is started behind a test's back

    def invoke(*words: str, **more: Any) -> Result:
        result = CliRunner().invoke(main, ["--state", str(state), *words], catch_exceptions=False, **more)
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return make_bare(tmp_path / "site.git")


@pytest.fixture
def installed(run: Run, bare: Path) -> Path:
    assert run("install", str(bare)).exit_code == 0
    return bare


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
