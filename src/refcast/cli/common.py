"""What the commands share: the state directory, errors to exit codes, tables and JSON, and text made safe to print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from refcast import presence, sites
from refcast.acting import identity
from refcast.errors import RefcastError
from refcast.model import visible
from refcast.store import Store

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class App:
    """What every command gets."""

    state: Path
    held: presence.Lock | None = None
    """The lock of the worker, where a push has started this to be one."""

    def store(self) -> Store:
        """The store of the state directory. StateError if it is missing, or another user's."""
        sites.check_owner(self.state)
        return Store.open(self.state, locked=self.held is not None)

    def wake(self) -> None:
        """Have the worker look now; start one if none runs."""
        if presence.running(self.state) is not None:
            return  # it heard us look, as it hears a hook
        command = [sys.executable, "-I", "-m", "refcast", "--state", str(self.state), "worker", "--on-demand"]
        # What hooks give it too, and no more: a secret may be in this environment, for --secret-env.
        kept = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
        subprocess.Popen(
            command,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **identity(),
        )


pass_app = click.make_pass_decorator(App)

NO_ENDPOINT = "no endpoint yet: add one with `refcast endpoint add NAME URL`"


class Group(click.Group):
    """Turns refcast's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RefcastError as error:
            click.echo(f"refcast: {safe(str(error))}", err=True)
            ctx.exit(error.exit_code)


def default_state() -> Path:
    system = Path("/var/lib/refcast")
    if os.geteuid() == 0 or (system.is_dir() and system.stat().st_uid == os.geteuid()):
        return system
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "refcast"


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(function)


def safe(text: str) -> str:
    """Text from elsewhere, fit for a terminal: control characters, escapes among them, become visible."""
    return visible(text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print columns, each as wide as its widest cell."""
    cells = [list(head), *([safe("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=True, indent=2, default=_plain))


def say(facts: object, as_json: bool, words: str) -> None:
    """What was done, for machines or for people."""
    if as_json:
        show_json(facts)
    else:
        click.echo(words)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def when(seconds: float | None) -> str:
    """A time for people; empty for none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def iso(seconds: float | None) -> str | None:
    """A time for machines."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
