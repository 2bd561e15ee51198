"""History: what a push did, told as events. The only room that knows pygit2; none of its objects leaves.

Owns the way from a push and the ledger to events: the rules (`telling`), which commits (`walk`), what they say
(`text`) and changed (`trees`), put together (`commits`), all read from the repository's objects (`objects`), as far as
those who can write it may read them (`guard`, `access`). It writes nothing, knows no store and no dialect. A push is
told by the ids it names; what the refs themselves say (`refs`) is for those who ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Self

import pygit2
from pygit2 import Repository as GitRepository

from refcast.filters import Paths
from refcast.history import guard
from refcast.history.objects import Objects, open_repository
from refcast.history.refs import Refs
from refcast.history.telling import Limits, Telling
from refcast.model import Event, Push, Pusher, Repository

__all__ = ["History", "Limits", "libraries"]


def libraries() -> dict[str, str]:
    """The versions of what reads repositories."""
    return {"pygit2": version("pygit2"), "libgit2": pygit2.LIBGIT2_VERSION}


class History:
    """One repository's history, opened. For one thread; make another for another."""

    def __init__(self, repository: GitRepository, stores: Iterable[str]) -> None:
        self._repository = repository
        self._objects = Objects(repository, stores)
        self.refs = Refs(repository)

    @classmethod
    def open(cls, path: str) -> Self:
        """The history of the repository at exactly this path, bare or not. Raises RepositoryError."""
        return cls(*open_repository(path))

    def close(self) -> None:
        """Let go of the repository's files."""
        self._repository.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tips(self) -> dict[str, str]:
        """Every ref and the id it names, annotated tags not peeled; HEAD and other symbolic refs left out.

        Raises RepositoryError where the refs cannot be read.
        """
        return self.refs.all()[0]

    def description(self) -> str:
        """What the file `description` says, as far as it is no link; empty without one."""
        text = guard.read(f"{self._repository.path}description", 4096) or b""
        return text.decode("utf-8", "replace").strip()

    def default_branch(self) -> str:
        """The short name of the branch that HEAD names, even before its first commit; empty if detached."""
        return self.refs.head().removeprefix("refs/heads/")

    def events(
        self,
        push: Push,
        ledger: Mapping[str, str],
        repository: Repository,
        pusher: Pusher,
        limits: Limits,
        *,
        other_refs: bool = False,
        paths: Iterable[Paths] = (),
    ) -> Iterator[Event]:
        """An event for each ref that moved, in the push's order, made one by one as they are asked for.

        `ledger` holds the tip of each ref just before this push. Refs that are neither branches nor tags make
        events only with `other_refs`. Objects that are gone cost commits or file changes, never an event:
        Event.incomplete says what is missing. Event.touched tells which of the `paths` it passes: a commit of the
        push, listed or not, changes such a path, or nothing can be told of that.
        """
        moved = [
            update
            for update in push.updates
            if update.old != update.new
            and not (update.created and update.deleted)
            and (other_refs or update.kind != "other")
        ]
        telling = Telling(self._objects, ledger, moved, limits, list(paths))
        for update in moved:
            told = telling.tell(update)
            yield Event(
                kind="tag_push" if update.kind == "tag" else "push",
                repository=repository,
                pusher=pusher,
                time=push.time,
                update=replace(update, forced=told.forced),
                commits=told.commits,
                total=told.total,
                head=told.head,
                tag=told.tag,
                options=push.options,
                incomplete=told.incomplete,
                touched=frozenset(one.patterns for one in told.touched),
            )
