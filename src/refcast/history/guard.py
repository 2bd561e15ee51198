"""Whether a repository of other users may be opened: the worker reads it with rights that they need not have.

Who may write a repository can put a link, or the name of other objects, in the place of what libgit2 reads, and so have
the worker announce what is closed to them; or a pipe, and it would wait for ever. The rule: a link counts as far as who
made it may read. Owns that judgement of what libgit2 reads at its opening, of loose refs and of loose objects, and the
reading of a small file there. What is changed between the look and the use is not seen.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refcast.errors import RepositoryError
from refcast.history.access import ENTER, READ, Account, account, may
from refcast.model import printable

_NOBODY = 2**32 - 2
"""A user who owns nothing: who may do no more than a file's group, or everybody, may."""

_LARGEST = {
    "HEAD": 4096,
    "config": 1024 * 1024,
    "config.worktree": 1024 * 1024,
    "packed-refs": 256 * 1024 * 1024,
    "shallow": 16 * 1024 * 1024,
    "info/grafts": 1024 * 1024,
}
"""Bytes. libgit2 reads such files whole."""
_FOLDERS = ("info", "refs", "refs/heads", "refs/tags")
_LARGEST_REF = 4096
_LARGEST_ALTERNATES = 64 * 1024
_DEPTH = 5
"""How many stores of objects may lend to one another, as in libgit2."""

_INCLUDE = re.compile(rb"\[\s*include", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """What may be read."""

    directory: str
    """Where libgit2 shall look: the repository itself, or the `.git` within."""
    stores: tuple[str, ...]
    """Its directory of objects, and those that it borrows from."""


def place(path: str) -> Place:
    """Of the repository at `path`. RepositoryError, in one line, if it is not to be read."""
    where = os.path.abspath(path)
    if os.path.exists(where) and not os.path.isdir(where):
        # libgit2 would go where a file called `.git` leads.
        raise RepositoryError(_one_line(f"{path}: is not a git repository"))
    readers: list[Account] = []
    for one in (*reversed(Path(where).parents), Path(where)):
        _look(str(one), folder=True)
        readers += _makers(str(one))
    _check_readers(where, READ | ENTER, readers, where)
    within = os.path.join(where, ".git")
    if _look(within, folder=True):
        where = within
    for name in ("commondir", "gitdir"):
        other = os.path.join(where, name)
        if os.path.lexists(other) and (_makers(other) or _authors(os.lstat(other))):
            raise _refusal(other, "leads to another repository")
    for name, most in _LARGEST.items():
        _look(os.path.join(where, name), most=most)
    for name in _FOLDERS:
        _look(os.path.join(where, name), folder=True)
    for name in ("config", "config.worktree"):
        _check_includes(os.path.join(where, name))
    stores: list[str] = []
    _check_store(os.path.join(where, "objects"), readers, stores, 0)
    return Place(where, tuple(stores))


def read(path: str, most: int) -> bytes | None:
    """The first bytes of a regular file; None where there is none. No link is followed, and nothing waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def check_ref(directory: str, ref: str) -> None:
    """Raises RepositoryError where the loose ref of this name is not to be read."""
    path = directory
    parts = ref.split("/")
    for part in parts[:-1]:
        path = os.path.join(path, part)
        if not _look(path, folder=True):
            return
    path = os.path.join(path, parts[-1])
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
    except OSError:
        return
    _look(path, most=_LARGEST_REF)


def check_refs(directory: str) -> None:
    """Raises RepositoryError where one of the loose refs is not to be read."""
    folders = [os.path.join(directory, "refs")]
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink():
                # One to a directory is looked at by its name alone: who made it may read what is in there, or not.
                _look(entry.path, folder=os.path.isdir(entry.path), most=_LARGEST_REF)
            else:
                _look(entry.path, most=_LARGEST_REF)


def check_objects(folder: str) -> None:
    """Raises RepositoryError where one of the loose objects in a folder is not to be read."""
    for entry in _entries(folder):
        if not entry.is_file(follow_symlinks=False):
            _look(entry.path)


def _check_store(objects: str, readers: list[Account], stores: list[str], depth: int) -> None:
    """A directory of objects, and those that it borrows from, to be added to `stores`. All `readers` must be able to
    read what there is."""
    if depth > _DEPTH:
        raise _refusal(objects, "is borrowed from by too many others, one after another")
    stores.append(objects)
    for folder in ("", "info", "pack"):
        path = os.path.join(objects, folder) if folder else objects
        if not _look(path, folder=True):
            continue
        theirs = readers + _makers(objects) + (_makers(path) if folder else [])
        _check_readers(path, READ | ENTER, theirs, path)
        for entry in _entries(path):
            if not folder and len(entry.name) != 2:
                continue  # info and pack, and what nobody reads
            is_folder = entry.is_dir(follow_symlinks=False)
            if not (is_folder or entry.is_file(follow_symlinks=False)):
                _look(entry.path, folder=not folder)
            _check_readers(entry.path, READ | ENTER if is_folder else READ, theirs, path)
    alternates = os.path.join(objects, "info", "alternates")
    if not _look(alternates, most=_LARGEST_ALTERNATES):
        return
    authors = readers + _makers(objects) + _makers(alternates) + _authors(os.stat(alternates))
    with open(alternates, "rb") as file:
        text = file.read(_LARGEST_ALTERNATES)
    for line in text.splitlines():
        if not line or line.startswith(b"#"):
            continue
        if b"\0" in line or line[:1] not in (b"/", b"."):
            # libgit2 would look for it below the worker's own directory.
            raise _refusal(alternates, "names no path that begins with a slash or a dot")
        other = os.path.realpath(os.path.join(objects, os.fsdecode(line)))
        _check_readers(other, READ | ENTER, authors, alternates)
        if os.path.isdir(other):
            _check_store(other, authors, stores, depth + 1)


def _look(path: str, *, folder: bool = False, most: int | None = None) -> bool:
    """Whether there is something. RepositoryError if it is something else than a file, or a folder, too large, or a
    link to where who made it may not read."""
    try:
        info = os.lstat(path)
    except OSError:
        return False  # or it is closed to us: for libgit2 to say
    if stat.S_ISLNK(info.st_mode):
        _check_readers(path, READ | ENTER if folder else READ, _makers(path), path)
        try:
            info = os.stat(path)
        except OSError:
            return False
    if not (stat.S_ISDIR(info.st_mode) if folder else stat.S_ISREG(info.st_mode)):
        raise _refusal(path, f"is no {'directory' if folder else 'regular file'}")
    if most is not None and info.st_size > most:
        raise _refusal(path, f"has {info.st_size} bytes, and may have {most}")
    return True


def _check_readers(path: str, wanted: int, readers: list[Account], named: str) -> None:
    for reader in readers:
        if not _may_read(reader, path, wanted):
            raise _refusal(named, f"leads to {os.path.realpath(path)}, which user {_name(reader)} may not read")


def _may_read(who: Account, path: str, wanted: int) -> bool:
    real = Path(os.path.realpath(path))
    try:
        return all(may(who, above, ENTER) for above in real.parents) and may(who, real, wanted)
    except OSError:
        return False


def _makers(path: str) -> list[Account]:
    """Who made a link, unless that is no link, or was made by root or by the user who reads it."""
    try:
        info = os.lstat(path)
    except OSError:
        return []
    return [account(info.st_uid)] if stat.S_ISLNK(info.st_mode) and info.st_uid not in (0, os.geteuid()) else []


def _authors(info: os.stat_result) -> list[Account]:
    """Who besides root and the user who reads it can have written a file: its owner, its group, everybody."""
    found = [] if info.st_uid in (0, os.geteuid()) else [account(info.st_uid)]
    if info.st_mode & stat.S_IWGRP and info.st_gid:
        found.append(Account(_NOBODY, frozenset({info.st_gid})))
    if info.st_mode & stat.S_IWOTH:
        found.append(Account(_NOBODY))
    return found


def _check_includes(config: str) -> None:
    """What a configuration includes is read with it: that may be said only by who is believed anyway."""
    try:
        info = os.stat(config)
        if not (_makers(config) or _authors(info)):
            return
        with open(config, "rb") as file:
            text = file.read(_LARGEST["config"])
    except OSError:
        return
    if _INCLUDE.search(text):
        raise _refusal(config, "includes another file, and can be written by others than root and the worker's user")


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return  # closed, or not there: for libgit2 to say


def _name(who: Account) -> str:
    return "nobody" if who.uid == _NOBODY else str(who.uid)


def _refusal(path: str, why: str) -> RepositoryError:
    what = _one_line(f"{path} {why}")
    return RepositoryError(f"{what}: the repository is not read; have root or its owner put that right")


def _one_line(words: str) -> str:
    return "\\n".join(printable(words).splitlines())
