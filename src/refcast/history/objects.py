"""A repository's objects, as libgit2 reads them, with its faults and refusals turned into plain answers.

Owns opening a repository and libgit2's settings for the whole process. Does not know what a push is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pygit2
from pygit2 import Commit, GitError, Oid, Repository, Tag
from pygit2.enums import ConfigLevel, ObjectType, RepositoryOpenFlag

from refcast.errors import RepositoryError
from refcast.history import guard, text
from refcast.model import printable

_MAPPED = 256 * 1024 * 1024
"""Bytes of pack files that libgit2 may keep mapped; they count as the process's memory."""


class GoneError(Exception):
    """An object that history needs is missing or malformed. It never leaves this room."""


@cache
def _settle() -> None:
    """libgit2's settings, once for the process.

    The worker reads repositories of other users, and only reads, so their ownership is no danger. Objects are
    not hashed again as they are read, like git's own rev-list and diff-tree. The object cache holds up to
    256 MB by default, and a walk reads each object once. The configuration of the system and of the worker's
    user says nothing that history needs, and a fault in it must not close every repository.
    """
    pygit2.settings.owner_validation = False
    pygit2.settings.enable_strict_hash_verification(False)
    pygit2.settings.enable_caching(False)
    pygit2.settings.mwindow_mapped_limit = _MAPPED
    for level in (ConfigLevel.PROGRAMDATA, ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
        pygit2.settings.search_path[level] = ""


def open_repository(path: str) -> tuple[Repository, tuple[str, ...]]:
    """The repository at exactly this path, bare or not, and the directories of its objects.

    Raises RepositoryError with one line, also where it is not to be read (`guard`)."""
    _settle()
    where = one_line(path)
    try:
        there = Path(path).exists()
        place = guard.place(path)
        flags = RepositoryOpenFlag.NO_SEARCH | RepositoryOpenFlag.NO_DOTGIT
        return Repository(place.directory, flags), place.stores
    except (GitError, ValueError, KeyError, OSError) as error:
        why = one_line(str(error).removeprefix(f"{path}: "))
        if isinstance(error, OSError):
            why = f"cannot be read: {error.strerror or error}"
        elif not there:
            why = "there is no such repository"
        elif why.startswith("Repository not found"):
            why = "is not a git repository"
        elif "objectformat" in why or "sha256" in why:
            why = "has SHA-256 ids, which cannot be read; refcast needs a repository with SHA-1 ids"
        else:
            why = f"cannot be opened as a git repository: {why}"
        raise RepositoryError(f"{where}: {why}") from error


def one_line(words: str) -> str:
    """Words from libgit2, or a path, fit for one line."""
    return "\\n".join(printable(words).splitlines())


def oid_of(object_id: str) -> Oid:
    """An id as libgit2 has it. Raises GoneError for what is no SHA-1 id: no object can have it."""
    if len(object_id) != 40:
        raise GoneError(object_id)
    try:
        return Oid(hex=object_id)
    except ValueError as error:
        raise GoneError(object_id) from error


class Objects:
    """What the objects of one repository say. Every answer is read anew."""

    def __init__(self, repository: Repository, stores: Iterable[str]) -> None:
        self._repository = repository
        self._odb = repository.odb
        self._stores = tuple(stores)
        self._looked_at: set[int] = set()

    def _look(self, oid: Oid) -> None:
        """What is loose beside an object, once for each directory: one of another user's may be a link, or a pipe."""
        first = oid.raw[0]
        if first not in self._looked_at:
            for store in self._stores:
                guard.check_objects(f"{store}/{first:02x}")
            self._looked_at.add(first)

    def node(self, oid: Oid) -> tuple[int | None, list[Oid]] | None:
        """Where a walk goes on from an object: a commit's time (seconds since 1970) and parents; None and what
        a tag is of; None and nothing for a tree or a blob. None alone where the object is gone.
        """
        self._look(oid)
        try:
            found = self._repository[oid]
        except KeyError:
            return None
        except (ValueError, OSError, GitError):
            return self._malformed_node(oid)
        if isinstance(found, Commit):
            return found.commit_time, found.parent_ids
        if isinstance(found, Tag):
            return None, [found.target]
        return None, []

    def _malformed_node(self, oid: Oid) -> tuple[int | None, list[Oid]] | None:
        """The same for an object that libgit2 will not parse: a commit without an author, a tag without a name."""
        try:
            kind, raw = self.read(oid)
            headers = text.parse(raw)
            if kind == ObjectType.COMMIT:
                parents = [oid_of(parent) for parent in headers.parents]
                return int(headers.ident(b"committer").time.timestamp()), parents
            if kind == ObjectType.TAG:
                return None, [oid_of(headers.fields.get(b"object", b"").decode("ascii", "replace"))]
        except GoneError:
            return None
        return None, []

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """An object's type and content. Raises GoneError."""
        self._look(oid)
        try:
            return self._odb.read(oid)
        except (KeyError, ValueError, OSError, GitError) as error:
            raise GoneError(str(oid)) from error

    def leads_to_commits(self, oid: Oid) -> bool:
        """Whether an object is a commit or a tag, told without reading it: a blob may be huge."""
        self._look(oid)
        try:
            kind, _ = self._odb.read_header(oid)
        except (KeyError, ValueError, OSError, GitError):
            return True  # gone: for the walk to find out
        return kind in (ObjectType.COMMIT, ObjectType.TAG)

    def peel(self, oid: Oid) -> Oid | None:
        """The commit that an id names, through however many tags; None for a tree or a blob. Raises GoneError."""
        while True:
            if not self.leads_to_commits(oid):
                return None
            node = self.node(oid)
            if node is None:
                raise GoneError(str(oid))
            time, ahead = node
            if time is not None:
                return oid
            oid = ahead[0]
