"""The spool's directories: one or more for each user who pushes, and what else stands there.

Every user of the machine can make something in the spool, and move a directory of somebody else's there that a group
lets them move. What tells a rightful one is what only a hook of that user can have made there: `<uid>` or
`<uid>.<anything>` that belongs to that user, and has the group that the spool gives, and mode 2770. The hooks cannot
ask for a group, so they go by a mark in it: a directory of that user's with a mode that git and people give to none.

Whatever else has such a name is put out of the way. The hooks make another directory meanwhile: no push waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from refcast.errors import StateError

SUFFIX = ".push"

MODE = 0o2770
MARK, MARK_MODE = "made", 0o1500
"""What the hooks make in a directory of theirs: sticky, and without leave to write for its owner."""

MOST_BOXES = 100
"""How many directories of one stranger are looked at."""

MOST_CLEARED = 1000
"""How many places are cleared at once."""

OLD_SECONDS = 60.0
"""A directory that has been empty for so long is not about to be written to by the hook that made it."""

_NAME = re.compile(r"(0|[1-9][0-9]{0,9})(?:\..*)?", re.DOTALL)

MOST_LISTED = 20_000
"""How many names are looked at in a stranger's directory. They come in no order."""


@dataclass(slots=True)
class Look:
    """What one look at the spool has found."""

    files: dict[int, list[Path]] = field(default_factory=dict)
    """What pushes wrote, by users, each with the oldest modification first."""
    times: dict[Path, int] = field(default_factory=dict)
    """When each of these was modified, in nanoseconds since the epoch."""
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
        if group == -1 and os.geteuid() and spool.stat().st_gid not in {os.getegid(), *os.getgroups()}:
            group = os.getegid()  # the kernel lets nobody set setgid for another's
        regrouped = list(rightful(spool)) if group not in (-1, spool.stat().st_gid) and not os.geteuid() else []
        os.chown(spool, owner_uid, group)
        for box in regrouped:
            os.chown(box, -1, group, follow_symlinks=False)
        spool.chmod(0o700 if closed else 0o3733)
        _make(spool, owner_uid)
    except OSError as error:
        raise StateError(f"cannot make the spool {spool}: {error.strerror}; run this as its owner") from error


def _make(spool: Path, owner_uid: int) -> None:
    """The directory of the spool's owner, which hooks and worker find as it must be. By descriptors: others may put
    links there."""
    box = spool / str(owner_uid)
    if os.path.lexists(box) and box.lstat().st_uid not in (owner_uid, os.geteuid()):
        _put_away(spool, box)
    box.mkdir(mode=0o700, exist_ok=True)
    for path, mode in ((box, MODE), (box / MARK, MARK_MODE)):
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_uid not in (owner_uid, os.geteuid()):
                raise PermissionError(errno.EPERM, f"{path} is of another user")
            os.fchown(descriptor, owner_uid, spool.stat().st_gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def look(spool: Path, is_stranger: Callable[[int], bool] = lambda _: False) -> Look:
    """What is in the spool. A file that vanishes meanwhile is left out.

    Raises StateError if the spool itself cannot be read."""
    seen = Look()
    by_user: dict[int, list[tuple[int, Path]]] = {}
    count: Counter[int] = Counter()
    for box in rightful(spool):
        uid = user_of(box)
        count[uid] += 1
        if count[uid] > MOST_BOXES and is_stranger(uid):
            continue
        seen.boxes.add(box)
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
        by_user.setdefault(uid, []).extend(found)
    seen.times = {path: at for found in by_user.values() for at, path in found}
    seen.files = {uid: [path for _, path in sorted(found)] for uid, found in by_user.items() if found}
    return seen


def files(spool: Path) -> list[Path]:
    """The files that pushes wrote, oldest modification first. A file that vanishes meanwhile is left out."""
    times = look(spool).times
    return sorted(times, key=lambda path: (times[path], path))


def closed(spool: Path) -> dict[Path, OSError]:
    """The users' directories that cannot be read, each with the error. `files` knows nothing of what is in them."""
    return look(spool).closed


def rightful(spool: Path) -> Iterator[Path]:
    """The directories of the users who push. Raises StateError if the spool itself cannot be read."""
    return (path for path, _, is_rightful in _named(spool) if is_rightful)


def squatters(spool: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What stands in the place of such a directory. Raises StateError if the spool itself cannot be read."""
    return ((path, info) for path, info, is_rightful in _named(spool) if not is_rightful)


def user_of(box: Path) -> int:
    """The user whom a directory's name names; 0 for any other name."""
    found = _NAME.fullmatch(box.name)
    return int(found[1]) if found else 0


def user_in(path: Path) -> int:
    """The user whom a directory, or the one that a file is in, belongs to by its name."""
    return user_of(path.parent if path.suffix == SUFFIX else path)


def _named(spool: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    unknown = _unknown_user()
    try:
        whole = spool.stat()
        with os.scandir(spool) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    is_rightful = _is_rightful(entry.name, info, whole)
                    if is_rightful or info.st_uid != unknown:
                        yield Path(entry.path), info, is_rightful
    except OSError as error:
        raise StateError(f"cannot read the spool {spool}: {error.strerror}; run this as its owner") from error


def _is_rightful(name: str, info: os.stat_result, spool: os.stat_result) -> bool:
    found = _NAME.fullmatch(name)
    if not (found and stat.S_ISDIR(info.st_mode) and int(found[1]) == info.st_uid):
        return False
    # Into a closed one nobody else can put anything. Modes of the owner's own are for doctor to look at.
    is_closed = not spool.st_mode & 0o077
    is_own = info.st_uid == spool.st_uid
    return is_closed or (info.st_gid == spool.st_gid and (is_own or stat.S_IMODE(info.st_mode) == MODE))


def clear(spool: Path, now: float) -> list[str]:
    """Have each user's place be free again; a few lines about those that were not. Only the owner of the spool can do
    that.

    What is empty or no directory is removed, and anything else is renamed, never opened."""
    said: dict[int, list[str]] = {}
    seen = list(_named(spool))
    wrong = ((path, info) for path, info, is_rightful in seen if not is_rightful)
    for path, info in itertools.islice(wrong, MOST_CLEARED):
        line = f"{path} is not a directory that a hook of user {user_of(path)} made: it belongs to user {info.st_uid}"
        line += f", group {info.st_gid}, and has mode {stat.S_IMODE(info.st_mode):o}"
        try:
            if not _put_away(spool, path):
                continue
        except FileNotFoundError:
            continue
        except OSError as error:
            line += f"; cannot remove it: {error.strerror}; remove it as root"
        else:
            line += "; that place is free again"
        said.setdefault(info.st_uid, []).append(line)
    for box, _, is_rightful in seen:
        if is_rightful:
            _remove_empty(box, now)
    owner = spool.stat().st_uid
    if owner == os.geteuid() and not os.path.lexists(spool / str(owner) / MARK):
        with contextlib.suppress(OSError):
            _make(spool, owner)
    return [line for uid, lines in said.items() for line in _few(uid, lines)]


def _few(uid: int, lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - 3} more places in the spool that user {uid} has taken"] if len(lines) > 3 else []
    return lines[:3] + more


def _put_away(spool: Path, path: Path) -> bool:
    """Whether it was: between the look at it and now the rightful one may have come to its place, and is left there."""
    whole = spool.stat()
    if _is_rightful(path.name, path.lstat(), whole):
        return False
    random = secrets.token_hex(8)
    away = path.with_name(f"squatted.{path.name}.{random}"[:255])
    path.rename(away)
    info = away.lstat()
    if _is_rightful(path.name, info, whole):
        # Any name of that user's will do, and that of before may be taken.
        away.rename(path.with_name(f"{info.st_uid}.{random}"))
        return False
    if stat.S_ISDIR(info.st_mode):
        with contextlib.suppress(OSError):
            away.rmdir()
    else:
        away.unlink()
    return True


def _remove_empty(box: Path, now: float) -> None:
    """Remove one that a hook made because its user's usual place was taken, or one without the mark, which no hook
    uses."""
    with contextlib.suppress(OSError):
        is_usual = box.name.isdecimal() and os.path.lexists(box / MARK)
        if is_usual or now - box.lstat().st_mtime <= OLD_SECONDS:
            return
        if all(path.name == MARK for path in itertools.islice(box.iterdir(), 2)):
            with contextlib.suppress(FileNotFoundError):
                (box / MARK).rmdir()
            box.rmdir()


def _unknown_user() -> int | None:
    """What stands for everybody whom this process cannot tell apart, in a namespace of users (PrivateUsers=, a
    container); None where it knows them all."""
    try:
        if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return None
