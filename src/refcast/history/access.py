"""Whether another user may do something to a file: by its owner, group, mode and POSIX ACL, as Linux judges it.

Owns that judgement alone. It knows the groups that the system's databases give an account, not those that one process
may have got besides (`newgrp`), and neither NFSv4 ACLs nor what a file server maps users to.
"""

from __future__ import annotations

import os
import pwd
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1
ACL = "system.posix_acl_access"

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    groups: frozenset[int] = frozenset()


def account(uid: int) -> Account:
    """An account with all its groups; a number that has no account is in none."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid)
    return Account(uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def may_push(who: Account, repository: str, refs: Iterable[str]) -> bool:
    """Whether an account may move each of these refs of a repository; without any, whether it may make branches.

    The refs are names that git can have."""
    folders = {folder_of(ref) for ref in refs} or {"refs/heads"}
    return all(may_make_in(who, repository, folder) for folder in folders)


def folder_of(ref: str) -> str:
    return ref.rpartition("/")[0]


def may_make_in(who: Account, repository: str, folder: str) -> bool:
    """Whether an account may reach a repository, and make files where git makes the locks of the refs in a `folder`.

    True also where the repository itself is not there, or closed to us: that is for whoever opens it to say."""
    path = Path(repository)
    try:
        path.stat()
    except (FileNotFoundError, PermissionError):
        return True
    except OSError:
        return False
    try:
        if not all(may(who, above, ENTER) for above in (*path.parents, path)):
            return False
        return may(who, _nearest(path, folder), WRITE | ENTER)
    except OSError:
        return False


def may(who: Account, path: Path, wanted: int) -> bool:
    """Whether an account has all the `wanted` permissions. Raises OSError."""
    if who.uid == 0:
        return True
    info = path.stat()
    entries = _acl(path)
    if entries is None:
        mode = info.st_mode
        entries = [(_USER_OBJ, mode >> 6 & 7, 0), (_GROUP_OBJ, mode >> 3 & 7, 0), (_OTHER, mode & 7, 0)]
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), 7)
    if who.uid == info.st_uid:
        return _has(next(rights for tag, rights, _ in entries if tag == _USER_OBJ), wanted)
    for tag, rights, number in entries:
        if tag == _USER and number == who.uid:
            return _has(rights & mask, wanted)
    groups = [
        rights & mask
        for tag, rights, number in entries
        if (tag == _GROUP_OBJ and info.st_gid in who.groups) or (tag == _GROUP and number in who.groups)
    ]
    if groups:
        return any(_has(rights, wanted) for rights in groups)
    return _has(next(rights for tag, rights, _ in entries if tag == _OTHER), wanted)


def _has(rights: int, wanted: int) -> bool:
    return rights & wanted == wanted


def _nearest(repository: Path, folder: str) -> Path:
    """The directory that git makes the locks in, or makes their directory in. Never outside of `refs`: no link counts.

    Raises OSError without one."""
    first, *others = folder.split("/")
    nearest = repository / first
    if first != "refs" or ".." in others or not stat.S_ISDIR(nearest.lstat().st_mode):
        raise NotADirectoryError(folder)
    for name in others:
        try:
            if not stat.S_ISDIR((nearest / name).lstat().st_mode):
                break
        except FileNotFoundError:
            break
        nearest /= name
    return nearest


def _acl(path: Path) -> list[tuple[int, int, int]] | None:
    """The entries of a POSIX ACL: tag, rights, and uid or gid; None where there is none, as on most files."""
    try:
        data = os.getxattr(path, ACL)
    except OSError:
        return None
    if data[:4] != struct.pack("<I", 2) or len(data) % 8 != 4:
        return None
    return list(struct.iter_unpack("<HHI", data[4:]))
