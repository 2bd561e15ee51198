"""The worker as a service of systemd: its unit is written, started, and taken away without a trace.

Whose manager it is follows from who asks: root's is the system's, and the worker runs as the owner of the state
directory; anybody else's is that of their own account. `unit` has the text, `taking_over` ends a worker in the way.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refcast import sites
from refcast.errors import BadInput, RefcastError, StateError
from refcast.service.taking_over import alone, end_on_demand, is_on_demand
from refcast.service.unit import Unit

__all__ = ["Manager", "Unit", "account", "alone", "end_on_demand", "installed", "is_on_demand", "restart", "unit_of"]

DEFAULT = "refcast"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


def unit_of(state: Path) -> Unit:
    """The unit for a state directory. Raises StateError if there is none, or it is another's and one is not root."""
    owner = sites.owner_of(state)
    if os.geteuid() != 0:
        if owner != os.geteuid():
            raise StateError(f"the state directory {state} belongs to user {owner}: run this as root, or as that user")
        return Unit(state, Path(sys.executable))
    return Unit(state, Path(sys.executable), account(owner))


def installed(state: Path) -> Iterator[tuple[Manager, Unit, str]]:
    """The services of a state directory in root's manager and in that of the present user, as refcast would write them,
    each with its name. Nothing where systemd does not run."""
    if not is_booted():
        return
    owner = state.stat().st_uid
    managers = {Manager.of_root(): account(owner), Manager.mine(): "" if os.geteuid() else account(owner)}
    for manager, user in managers.items():
        unit = Unit(state, Path(sys.executable), user)
        for name in manager.find(unit):
            yield manager, unit, name


def is_booted() -> bool:
    return Path("/run/systemd/system").is_dir()  # sd_booted(3)


def restart(state: Path, pid: int) -> tuple[tuple[str, ...], bool]:
    """The command that has a worker which is no on-demand one end, and another come in its place if it is a service's;
    and whether that is root's to run."""
    for manager, _, name in installed(state):
        if manager.runs(name, pid):
            return (*manager.command, "restart", name), manager == Manager.of_root()
    return ("kill", str(pid)), False


def account(uid: int) -> str:
    """The name of an account as a unit can have it: its number where there is none, or an odd one."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) else str(uid)


@dataclass(frozen=True, slots=True)
class Manager:
    """One systemd: where its administrator's units are, and how it is spoken to."""

    directory: Path
    command: tuple[str, ...]

    @classmethod
    def of_root(cls) -> Manager:
        return cls(Path("/etc/systemd/system"), ("systemctl",))

    @classmethod
    def mine(cls) -> Manager:
        if os.geteuid() == 0:
            return cls.of_root()
        home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return cls(Path(home) / "systemd" / "user", ("systemctl", "--user"))

    def find(self, unit: Unit) -> list[str]:
        """The names of the units that refcast has written for the unit's state directory."""
        return sorted(path.stem for path in self.directory.glob("*.service") if unit.is_for(_read(path)))

    def text(self, name: str) -> str:
        return _read(self.directory / f"{name}.service")

    def is_enabled(self, name: str) -> bool:
        """Whether something has it started. It is read from files: to ask systemctl is not everybody's."""
        return any(self.directory.glob(f"*.wants/{name}.service")) or any(
            self.directory.glob(f"*.requires/{name}.service")
        )

    def runs(self, name: str, pid: int) -> bool:
        """Whether a process is the service's, and not one that it has let go of."""
        with contextlib.suppress(OSError):
            groups = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "surrogateescape").splitlines()
            return any(group.endswith(f"/{name}.service") for group in groups) and not is_on_demand(pid)
        return False

    def install(self, unit: Unit, name: str | None) -> str:
        """Write the unit, and have it run from now on and after each boot; its name. Raises RefcastError."""
        name = name or next(iter(self.find(unit)), DEFAULT)
        if not _NAME.match(name):
            raise BadInput(f"{name!r} is no name for a unit: letters, digits, - and _, such as refcast-team")
        path = self.directory / f"{name}.service"
        if path.exists() and not unit.is_for(_read(path)):
            raise BadInput(f"{path} is there, and not for {unit.state}: choose another --name, or remove it")
        self._need_systemd(name)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{name}.refcast-new")
            new.write_text(unit.text(), "utf-8", "surrogateescape")
            new.chmod(0o644)
            new.replace(path)
        except OSError as error:
            raise RefcastError(f"cannot write {path}: {error.strerror}") from error
        self._run("daemon-reload")
        self._run("enable", path.name)
        self._run("restart", path.name, hint=self._log_of(name))
        return name

    def remove(self, unit: Unit) -> list[str]:
        """Stop the service of a state directory and take its unit away; the names of what there was."""
        names = self.find(unit)
        for name in names:
            self._run("disable", "--now", f"{name}.service")
            (self.directory / f"{name}.service").unlink(missing_ok=True)
        if names:
            self._run("daemon-reload")
            # A unit that failed is remembered until it is forgotten; one that is not known is no error here.
            for name in names:
                subprocess.run([*self.command, "reset-failed", f"{name}.service"], capture_output=True, check=False)
        return names

    def _need_systemd(self, name: str) -> None:
        if not is_booted():
            raise RefcastError(
                f"systemd does not run here, so there can be no service {name}; a push starts a worker without one, "
                "and docs/service.md has the lines for cron and runit"
            )

    def _run(self, *words: str, hint: str = "") -> None:
        try:
            done = subprocess.run([*self.command, "--quiet", *words], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RefcastError("there is no systemctl here: install systemd, or do without a service") from None
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"status {done.returncode}"
            raise RefcastError(f"`{' '.join([*self.command, *words])}` failed: {hint or said}")

    def _log_of(self, name: str) -> str:
        return f"see why with `journalctl {'--user ' if '--user' in self.command else ''}-u {name} -n 20`"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""  # a link that leads nowhere, as a masked unit's may
