"""What a check finds, what it looks at, and how a command is written so that it can be pasted. Looks at nothing."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from refcast.install import Trouble
from refcast.model import Endpoint, Request
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.health import Health
from refcast.transport import Probe

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    what: str
    """One line."""
    mend: str
    """A line for the shell; or, where no command can mend it, who must do what."""
    is_command: bool
    severity: Severity = "error"
    """A warning tells of what may be meant so."""
    check: str = ""
    """The name of the check that has found it."""

    def as_warning(self) -> Problem:
        return replace(self, severity="warning")


def command(what: str, line: str) -> Problem:
    return Problem(what, line, is_command=True)


def advice(what: str, sentence: str) -> Problem:
    return Problem(what, sentence, is_command=False)


@dataclass(frozen=True)
class Case:
    """What is looked at, and all that the checks may use."""

    state: Path
    program: tuple[str, ...]
    """How this program is called, with its options before the command."""
    now: float
    settings: Settings = field(default_factory=Settings)
    store: Store | None = None
    """None where it cannot be used."""
    health: Health | None = None
    """What a look at the store's file has found; None where there is none."""
    endpoints: tuple[Endpoint, ...] = ()
    """Those that are looked at."""
    roots: tuple[Path, ...] = ()
    """Directories of repositories, besides those of the settings."""
    probe: Callable[[Request], Probe] | None = None
    """None where nothing is to be connected to."""

    @property
    def opened(self) -> Store:
        assert self.store is not None, "this check needs the store"
        return self.store

    def refcast(self, *words: str | Path) -> str:
        """A command of this program, for this state directory."""
        return shell(*self.program, *words)

    def sudo(self, *words: str | Path, user: str = "") -> str:
        """The same by root, or by `user`, if that is somebody else: with another PATH and another home."""
        if not os.geteuid():
            return self.refcast(*words)
        found = shutil.which(self.program[0]) or self.program[0]
        named = () if "--state" in self.program else ("--state", self.state)
        return shell("sudo", *(("-u", user) if user else ()), found, *self.program[1:], *named, *words)


def told(case: Case, trouble: Trouble) -> Problem:
    """What is wrong with an installation, as a problem."""
    if trouble.advice:
        return advice(trouble.what, trouble.advice)
    if trouble.as_user is not None:
        line = case.sudo(*trouble.refcast, user=f"#{trouble.as_user}")
    elif trouble.refcast:
        line = (case.sudo if trouble.as_root else case.refcast)(*trouble.refcast)
    else:
        line = by_root(*trouble.command) if trouble.as_root else shell(*trouble.command)
    return command(trouble.what, " && ".join([*(by_root(*words) for words in trouble.by_root), line]))


def shell(*words: str | Path) -> str:
    """A line that a POSIX shell takes apart into these words, whatever bytes are in them. It is fit for a terminal."""
    return " ".join(_quoted(str(word)) for word in words)


def by_root(*words: str | Path) -> str:
    return shell(*(("sudo",) if os.geteuid() else ()), *words)


def by_owner(path: Path, *words: str | Path) -> str:
    """The command, by the path's owner and nobody else: what it writes must stay theirs."""
    owner = path.lstat().st_uid
    return shell(*(() if owner == os.geteuid() else ("sudo", "-u", f"#{owner}")), *words)


def as_owner(path: Path, *words: str | Path) -> str:
    """The command, by `sudo` where only the path's owner or root may do it and that is somebody else."""
    mine = os.geteuid() in (0, path.lstat().st_uid)
    return shell(*(() if mine else ("sudo",)), *words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    octal = "".join(f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"\"$(printf '{octal}')\""
