"""The spool's directories: one for each user who pushes, and what else stands there.

Every user of the machine can make something called `spool/<uid>`. The hooks write into no directory of somebody else's,
so whoever takes another's name keeps their pushes from being announced, until the owner of the spool clears the place.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refcast.errors import StateError

SUFFIX = ".push"

MOST_LISTED = 20_000
"""How many names are looked at in a stranger's directory. They come in no order."""


@dataclass(slots=True)
class Look:
    """What one look at the spool has found."""

    files: dict[int, list[Path]] = field(default_factory=dict)
    """What pushes wrote, by users, each with the oldest modification first."""
    boxes: set[Path] = field(default_factory=set)
    closed: dict[Path, OSError] = field(default_factory=dict)
    """The directories among these that cannot be read, each with the error. What is in them is not in `files`."""

    def in_turns(self) -> list[Path]:
        """All files, one of each user after another: nobody's come before others' by their number or age."""
        return [path for some in itertools.zip_longest(*self.files.values()) for path in some if path]


def create(spool: Path, owner_uid: int, group: int = -1, *, closed: bool = False) -> None:
    """Make the spool: others may enter and make their own directory in it, and nothing else (sticky, setgid).

    Their directories get its `group`: who is in it can read and change what all of them write. A `closed` one is for
    its owner alone."""
    try:
        spool.mkdir(mode=0o700, exist_ok=True)
        os.chown(spool, owner_uid, group)
        spool.chmod(0o700 if closed else 0o3733)
        box = spool / str(owner_uid)
        box.mkdir(mode=0o700, exist_ok=True)
        os.chown(box, owner_uid, group)
        box.chmod(0o2770)
    except OSError as error:
        raise StateError(f"cannot make the spool {spool}: {error.strerror}; run this as its owner") from error


def look(spool: Path, is_stranger: Callable[[int], bool] = lambda _: False) -> Look:
    """What is in the spool. A file that vanishes meanwhile is left out.

    Raises StateError if the spool itself cannot be read."""
    seen = Look()
    for box in rightful(spool):
        seen.boxes.add(box)
        uid = int(box.name)
        found: list[tuple[int, Path]] = []
        try:
            with os.scandir(box) as entries:
                for entry in itertools.islice(entries, MOST_LISTED if is_stranger(uid) else None):
                    if entry.name.endswith(SUFFIX):
                        try:
                            found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
                        except FileNotFoundError:
                            continue
        except OSError as error:
            # One user's directory that cannot be read (removed, permissions taken away) must not hide the others'.
            seen.closed[box] = error
        if found:
            seen.files.setdefault(uid, []).extend(path for _, path in sorted(found))
    return seen


def files(spool: Path) -> list[Path]:
    """The files that pushes wrote, oldest modification first. A file that vanishes meanwhile is left out."""
    found: list[tuple[int, Path]] = []
    for path in look(spool).in_turns():
        with contextlib.suppress(OSError):
            found.append((path.lstat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def closed(spool: Path) -> dict[Path, OSError]:
    """The users' directories that cannot be read, each with the error. `files` knows nothing of what is in them."""
    return look(spool).closed


def oldest(spool: Path) -> float:
    """The time of the oldest file that pushes wrote, seconds since the epoch; infinite where there is none, and 0 where
    that cannot be told, for a directory cannot be read."""
    try:
        if closed(spool):
            return 0.0
        return min((path.lstat().st_mtime for path in files(spool)), default=math.inf)
    except (OSError, StateError):
        return 0.0


def rightful(spool: Path) -> Iterator[Path]:
    """The directories of the users who push: named by the uid that owns them, and no links.

    Raises StateError if the spool itself cannot be read."""
    try:
        with os.scandir(spool) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode) and entry.name == str(info.st_uid):
                    yield Path(entry.path)
    except OSError as error:
        raise StateError(f"cannot read the spool {spool}: {error.strerror}; run this as its owner") from error


def squatters(spool: Path) -> Iterator[tuple[Path, int]]:
    """What is named by the number of a user and is no directory of theirs, with the user whom it belongs to."""
    unknown = _unknown_user()
    try:
        with os.scandir(spool) as entries:
            for entry in entries:
                if entry.name.isdecimal():
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if info.st_uid == unknown:
                        continue
                    if not stat.S_ISDIR(info.st_mode) or entry.name != str(info.st_uid):
                        yield Path(entry.path), info.st_uid
    except OSError as error:
        raise StateError(f"cannot read the spool {spool}: {error.strerror}; run this as its owner") from error


def clear(spool: Path) -> list[str]:
    """Have each user's place be free again; a line for each that was not. Only the owner of the spool can do that.

    What is empty or no directory is removed, and anything else is renamed, never opened."""
    said = []
    for path, uid in list(squatters(spool)):
        line = f"{path} was made by user {uid}: pushes by user {path.name} were not announced"
        try:
            _remove(path, uid)
        except FileNotFoundError:
            continue
        except OSError as error:
            said.append(f"{line}; cannot remove it: {error.strerror}; remove it as root")
        else:
            said.append(f"{line}; that place is free again")
    return said


def _unknown_user() -> int | None:
    """What stands for everybody whom this process cannot tell apart, in a namespace of users (PrivateUsers=, a
    container); None where it knows them all."""
    try:
        if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return None


def _remove(path: Path, uid: int) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    try:
        path.rmdir()
    except OSError:
        names = (path.with_name(f"{path.name}.made-by-{uid}.{number}") for number in itertools.count(1))
        path.rename(next(name for name in names if not os.path.lexists(name)))
