"""The command line, run in this process. The fixtures that use it are in cli/conftest.py. Judges nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Run = Callable[..., Result]
"""What follows `refcast` on a command line -> its output and exit code."""


def make_bare(path: Path, *more: str) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", *more, str(path)], check=True)
    return path


def refusal(result: Result, code: int) -> str:
    """The one line that a refusal prints."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("refcast: ")
    return line
