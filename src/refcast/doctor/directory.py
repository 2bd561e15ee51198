"""The state directory: its settings, modes and owners, the way to it, the store's file, the disk, the clock."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from refcast import settings, sites, spool
from refcast.doctor.problem import Case, Problem, advice, as_owner, command
from refcast.errors import BadInput, StateError
from refcast.store import FILE, health

FREE_BYTES = 100 * 1024 * 1024
"""Less than that on the disk of the state directory needs a person."""
FREE_FILES = 1000
"""... and no fewer files may be made. Where a file system has no such limit it says 0."""

LOOK_SECONDS = 10.0
"""How long the store's file is looked over."""

CLOCK_SECONDS = 60.0
"""Clocks that differ by less are taken for one."""

_MODES = {
    ".": 0o711,
    "worker.lock": 0o600,
    "worker.pid": 0o644,
    "worker.log*": 0o600,
    "notice": 0o644,
    f"{FILE}*": 0o600,
    "spool": 0o3733,
}
"""As docs/operation.md has them. What is not there is another check's business, or nobody's."""

CLOSED = 0o700
"""What the spool has where others' pushes are not to be recorded: the check of it says why."""

_FACTS = (sites.FILE, settings.GITOLITE)
"""Whoever could change them could have themselves believed."""


def settings_file(case: Case) -> Iterator[Problem]:
    try:
        settings.load(case.state)
    except BadInput as error:
        yield advice(str(error), "mend that file; until then the worker goes on with the settings it had")
    path = case.state / settings.FILE
    with contextlib.suppress(FileNotFoundError):
        if stat.S_IMODE(path.stat().st_mode) & 0o022:
            yield command(
                f"{path} can be written by others: it decides about networks", as_owner(path, "chmod", "go-w", path)
            )


def modes(case: Case) -> Iterator[Problem]:
    """Every file belongs to the directory's owner and has its mode."""
    owner = os.geteuid()
    for path in (case.state / name for name in _FACTS):
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            if info.st_uid != owner:
                line = as_owner(path, "chown", "--no-dereference", str(owner), path)
                yield command(f"{path} belongs to user {info.st_uid}, not to the owner of the state directory", line)
            if info.st_mode & 0o022:
                what = f"{path} can be written by others: it decides who is believed"
                yield command(what, as_owner(path, "chmod", "go-w", path))
    for pattern, mode in _MODES.items():
        for path in sorted(case.state.glob(pattern)) if pattern != "." else [case.state]:
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            if info.st_uid != owner:
                line = as_owner(path, "chown", "--no-dereference", str(owner), path)
                yield command(f"{path} belongs to user {info.st_uid}, not to the owner of the state directory", line)
            now = stat.S_IMODE(info.st_mode)
            if pattern == "spool" and now & 0o777 == CLOSED:
                continue
            # A set-group-id bit that the directory above has handed down does no harm.
            if not stat.S_ISLNK(info.st_mode) and (now ^ mode) & ~(0 if mode & stat.S_ISGID else stat.S_ISGID):
                what = f"{path} has mode {now:o}, not {mode:o}{_meaning(path, now & ~mode, mode & ~now)}"
                yield command(what, as_owner(path, "chmod", f"{mode:04o}", path))


def _meaning(path: Path, more: int, less: int) -> str:
    if more & 0o077 and path.name.startswith(FILE):
        return ": others can read or change the secrets in it"
    if path.name == "spool" and less:
        return ": pushes of others cannot be recorded safely"
    return ""


def parents(case: Case) -> Iterator[Problem]:
    """Who pushes under another account must come through to the spool."""
    if not others_push(case):
        return
    for directory in reversed(case.state.resolve().parents):
        if not directory.stat().st_mode & 0o001:
            yield command(
                f"{directory} lets no other user through to the spool: their pushes are not announced",
                as_owner(directory, "chmod", "o+x", directory),
            )


def others_push(case: Case) -> bool:
    """Whether a watched repository can be written by other users, or has been; or all are covered, whoever's."""
    owner = os.geteuid()
    if sites.covered_roots(case.state) or sites.front_ends(case.state) - {0, owner}:
        return True
    with contextlib.suppress(OSError):
        names = [path.name for path in (case.state / "spool").iterdir()]
        if any(name.isdecimal() and int(name) not in (0, owner) for name in names):
            return True
    for path in case.store.repositories.paths() if case.store else ():
        with contextlib.suppress(OSError):
            info = (Path(path) / "objects").stat()
            if info.st_mode & 0o002 or (info.st_mode & 0o020 and _has_others(info.st_gid, owner)):
                return True
    return False


def _has_others(group: int, owner: int) -> bool:
    """Whether a group has members besides one user and root. (That of a user alone makes repositories writable, too,
    where the umask is 002.)"""
    members = {one.pw_uid for one in pwd.getpwall() if one.pw_gid == group}
    with contextlib.suppress(KeyError):
        names = set(grp.getgrgid(group).gr_mem)
        members |= {one.pw_uid for one in pwd.getpwall() if one.pw_name in names}
    return bool(members - {0, owner})


def store_file(case: Case) -> Iterator[Problem]:
    path = case.state / FILE
    if not path.exists():
        # To open it would make an empty one, and hide that it is gone.
        anew = f"begin anew: {case.refcast('install')} --all ROOT, and add the endpoints"
        yield advice(f"there is no store {path}", f"put a copy from a backup there; or {anew}")
        return
    found = case.health
    if found is None:
        yield advice(f"the store {path} is no file", "move it away, and put a copy from a backup there")
    elif found.damage:
        yield advice(
            f"the store {path} is damaged: {found.damage}",
            "stop the worker, and put a copy from a backup in the place of it and of its -wal and -shm; without one, "
            "see Backup in docs/operation.md",
        )
    elif found.version is not None and found.version > health.VERSION:
        yield advice(
            f"the store {path} is of version {found.version}, this program knows {health.VERSION}",
            "upgrade refcast: run ./install.sh from a newer checkout",
        )
    elif found.version is not None and found.version < health.VERSION:
        line = case.refcast("endpoint", "list")
        yield command(
            f"the store {path} is of version {found.version}; any command brings it to {health.VERSION}", line
        )
    elif case.store is None:
        yield advice(f"the store {path} was not opened", "mend what is said of the state directory, and look again")


def look(state: Path) -> health.Health | None:
    """A look at the store's file; None where there is none."""
    path = state / FILE
    return health.look(path, LOOK_SECONDS) if path.is_file() else None


def usable(state: Path, found: health.Health | None) -> bool:
    """Whether the store can be opened, and without a change to it."""
    if found is None or found.damage or found.version != health.VERSION:
        return False
    return not stat.S_IMODE((state / FILE).stat().st_mode) & 0o077


def disk(case: Case) -> Iterator[Problem]:
    space = os.statvfs(case.state)
    free = space.f_bavail * space.f_frsize
    if free < FREE_BYTES:
        yield advice(
            f"only {free / 1e6:.1f} MB are free on the disk of {case.state}",
            "make room, or retain less (refcast.toml)",
        )
    if space.f_files and space.f_favail < FREE_FILES:
        yield advice(
            f"only {space.f_favail} more files fit on the disk of {case.state}", "make room: each push needs a file"
        )


def clock(case: Case) -> Iterator[Problem]:
    """A clock that was wrong, or is, spoils what goes by time."""
    set_it = "look at `date`, and set the clock if it is wrong (`timedatectl set-ntp true`)"
    late = case.now + CLOCK_SECONDS
    with contextlib.suppress(OSError, StateError):
        newest = max((path.lstat().st_mtime for path in spool.files(case.state / "spool")), default=0.0)
        if newest > late:
            yield advice(f"the newest file in the spool is of {_time(newest)}, which is still to come", set_it)
    if case.store is None:
        return
    newest = case.store.reports.newest_event() or 0.0
    if newest > late:
        yield advice(f"the newest event was received at {_time(newest)}, which is still to come", set_it)
    figures = case.store.retention.figures()
    if figures is not None and figures.hold_until is not None and figures.hold_until > case.now:
        until = _time(figures.hold_until)
        yield advice(f"the clock has leapt by more than a day, so nothing goes by age before {until}", set_it)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
