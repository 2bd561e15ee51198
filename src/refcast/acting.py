"""Doing something as the owner of a state directory, where root installs for that user.

Owns the change of the effective user and back, also for programs that are started meanwhile. What root did itself in a
directory of somebody else's could be led astray by a link there, and what it made could not be used by its owner.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from typing import TypedDict


class Identity(TypedDict, total=False):
    user: int
    group: int


def identity() -> Identity:
    """How `subprocess` is to start a program so that it is wholly the user that this process acts as.

    Else it would be root as well, by its real user, and what a repository's owner has it do could become root again.
    Its groups are that user's already."""
    if os.geteuid() == os.getuid() and os.getegid() == os.getgid():
        return {}
    return {"user": os.geteuid(), "group": os.getegid()}


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Within it, the process is that user, with that user's groups. Nothing happens if it is already, or cannot be:
    then what is tried will say so. For a program of one thread."""
    if uid == os.geteuid() or os.geteuid() != 0:
        yield
        return
    try:
        entry = pwd.getpwuid(uid)
        group, groups, home = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_dir
    except KeyError:
        group, groups, home = uid, [uid], "/"
    before_group, before_groups = os.getegid(), os.getgroups()
    before = dict(os.environ)
    os.setgroups(groups)
    os.setegid(group)
    os.seteuid(uid)
    # git refuses to work where it cannot read the configuration that these lead to.
    os.environ["HOME"] = home
    os.environ.pop("XDG_CONFIG_HOME", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.seteuid(0)
        os.setegid(before_group)
        os.setgroups(before_groups)
