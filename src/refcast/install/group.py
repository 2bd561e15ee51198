"""The group of the spool: through it the worker reads what others' pushes wrote, so nobody else may be in it.

Owns the choice of that group, and the list of what is wrong with it. It goes by the system's databases of accounts:
what a directory server does not list it does not know.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from refcast.install.hooks import Trouble


def others_in(group: int, uid: int) -> list[str]:
    """The accounts in a group, but for root and the one of this uid; sorted."""
    try:
        named = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        named = set()
    found = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group or entry.pw_name in named}
    return sorted(name for name in named | set(found) if found.get(name, -1) not in (0, uid))


def choose(spool: Path, uid: int) -> int | None:
    """A group of the account that nobody else is in; the one that the spool has already, or the primary one if it can
    be. None if there is none."""
    try:
        entry = pwd.getpwuid(uid)
        groups = [entry.pw_gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)]
    except KeyError:
        groups = [os.getegid()] if uid == os.geteuid() else []
    if spool.exists() and spool.stat().st_gid in groups:
        groups.insert(0, spool.stat().st_gid)
    if uid == os.geteuid() != 0:
        # What the databases say of an account counts for its next login.
        groups = [one for one in groups if one in {os.getegid(), *os.getgroups()}]
    return next((one for one in groups if not others_in(one, uid)), None)


def problems(state: Path) -> list[Trouble]:
    """Who could read and forge what others' pushes wrote, or why these cannot write; empty if all is well.

    Raises OSError if the spool cannot be looked at."""
    spool = state / "spool"
    info = spool.stat()
    name, group = _user(info.st_uid), _group(info.st_gid)
    found = []
    if not info.st_mode & stat.S_IXOTH:
        what = f"pushes by others than {name} are not announced: {spool} is closed to them"
        if choose(spool, info.st_uid) is None:
            what += f", for each group of {name} has other members, who could forge them"
        found.append(_choose_anew(spool, info.st_uid, what))
    elif others := others_in(info.st_gid, info.st_uid):
        what = f"{', '.join(others)} can read and forge what others push, as members of the group {group} of {spool}"
        found.append(_choose_anew(spool, info.st_uid, what))
    for box in sorted(spool.iterdir()):
        there = box.lstat()
        if stat.S_ISDIR(there.st_mode) and box.name == str(there.st_uid) and there.st_gid != info.st_gid:
            what = f"{box} has another group than {spool}: what is in it is not announced"
            found.append(Trouble(what, command=("chgrp", "-R", group, str(box)), as_root=True))
    return found


def _choose_anew(spool: Path, uid: int, what: str) -> Trouble:
    """To upgrade chooses the group anew, if there is a good one; else one must be made first."""
    if choose(spool, uid) is not None:
        return Trouble(what, refcast=("upgrade",))
    name = "refcast-spool" if _group_id("refcast-spool") is None else f"refcast-spool-{uid}"
    if _group_id(name) is not None:
        advice = f"have {_user(uid)} be alone in a group, by `gpasswd --delete`, then log in anew: `refcast upgrade`"
        return Trouble(what, advice=advice)
    by_root = (("groupadd", "--system", name), ("usermod", "-aG", name, _user(uid)))
    return Trouble(what, refcast=("upgrade",), by_root=by_root, as_user=uid)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
