"""All that refcast shows, logs, stores and leaves lying about while a test runs, kept by where it was.

Owns how that is gathered: commands called in this process or another, files and their modes, the columns of the store,
the list of processes. Judges nothing.
"""

from __future__ import annotations

import re
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from click.testing import CliRunner, Result

from planted import Echo, Heard
from refcast.cli import main
from refcast.store import FILE
from servers import Server


@dataclass
class Gathered:
    """What was found, by where it was."""

    state: Path
    texts: dict[str, bytes] = field(default_factory=dict)
    """Output, logs, files, the list of processes."""
    columns: dict[str, bytes] = field(default_factory=dict)
    """All values of each column of the store, by `table.column`."""
    modes: dict[str, int] = field(default_factory=dict)
    """Of the files, by their path below the state directory."""
    called: set[str] = field(default_factory=set)
    """The commands, such as `endpoint add`."""
    classes: set[str] = field(default_factory=set)
    """The error classes of all attempts."""
    heard: list[Heard] = field(default_factory=list)
    """What endpoints and proxies received."""


class Haul:
    """Gathers while a test goes on."""

    def __init__(self, server: Server, echo: Echo) -> None:
        self.server = server
        self.echo = echo
        self.gathered = Gathered(server.state)

    def call(self, *words: str, given: str | None = None, **environment: str) -> Result:
        """The command line in this process, with what it printed kept. A traceback is a failure of this test."""
        with self.server.at_home():
            done = CliRunner().invoke(main, ["--state", str(self.server.state), *words], input=given, env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), words
        self.keep(" ".join(words), done.output.encode())
        self.gathered.called.add(command(words))
        return done

    def run(self, *words: str, **environment: str) -> None:
        """The same in a process of its own, for commands that log or start a worker."""
        program = (sys.executable, "-m", "refcast", "--state", self.server.state)
        done = self.server.run(*program, *words, check=False, more=environment)
        self.keep(" ".join(words), (done.stdout + done.stderr).encode("utf-8", "surrogateescape"))
        self.gathered.called.add(command(words))

    def keep(self, where: str, text: bytes) -> None:
        self.gathered.texts[where] = self.gathered.texts.get(where, b"") + text

    def look_around(self) -> None:
        """Every file in the state directory and its mode; all columns of the store."""
        state = self.server.state
        for path in [state, *state.rglob("*")]:
            name = str(path.relative_to(state))
            try:
                self.gathered.modes[name] = stat.S_IMODE(path.lstat().st_mode)
                if path.is_file() and not name.startswith(FILE):
                    self.keep(f"file {name}", path.read_bytes())
            except FileNotFoundError:  # the worker was faster
                continue
        with sqlite3.connect(f"file:{state / FILE}?mode=ro", uri=True) as store:
            for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                rows = store.execute(f'SELECT * FROM "{table}"')
                for name, *values in zip([one[0] for one in rows.description], *rows.fetchall(), strict=True):
                    text = b"\n".join(one if isinstance(one, bytes) else str(one).encode() for one in values)
                    self.gathered.columns[f"{table}.{name}"] = text
            self.gathered.classes = {one for (one,) in store.execute("SELECT DISTINCT error_class FROM attempts")}
        store.close()


def command(words: tuple[str, ...]) -> str:
    """The command's own name, without what follows it."""
    return " ".join(words[: next(n for n in range(1, len(words) + 1) if " ".join(words[:n]) in COMMANDS)])


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None
        if isinstance(one, click.Group):
            yield from commands(one, f"{before}{name} ")
        else:
            yield before + name, one


COMMANDS = dict(commands(main))


TYPED = re.compile(rb"\0refcast\0--state\0[^\0]*\0(?!worker)")
"""The command line of a command that somebody types: what it finds in its environment is theirs, and it hands it on to
what it runs for them, such as git, but to no worker."""

WORKER = re.compile(rb"\0refcast\0--state\0[^\0]*\0worker")


def _parent(process: Path) -> bytes:
    """The command line of the process that has started one."""
    number = int((process / "stat").read_bytes().rpartition(b") ")[2].split()[1])
    return Path(f"/proc/{number}/cmdline").read_bytes() if number else b""


class Processes:
    """Within a `with`: looks at the command lines and environments of all processes, again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            for entry in Path("/proc").iterdir():
                if not entry.name.isdecimal():
                    continue
                try:
                    line = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes()
                    if line == (entry / "cmdline").read_bytes():  # no other program has been started meanwhile
                        typed = TYPED.search(line) or (not WORKER.search(line) and TYPED.search(_parent(entry)))
                        self.seen |= {line} if typed else {line, environment}
                except OSError:
                    continue

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
