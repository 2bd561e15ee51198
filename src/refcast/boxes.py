"""What stands in the spool in the place of a user's directory and is not that user's: found, and put out of the way.

Every user of the machine can make something called `spool/<uid>`. The hooks write into no directory of somebody else's,
so whoever takes another's name keeps their pushes from being announced, until the owner of the spool clears the place.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from refcast.errors import StateError


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
