"""What a commit or an annotated tag says, and what a commit changed, in the model's words.

Owns the putting together of what `text` and `trees` find in an object. Which commits, and whether they are
distinct, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable

from pygit2 import Oid
from pygit2.enums import ObjectType

from refcast.filters import Paths
from refcast.history import text
from refcast.history.objects import GoneError, Objects, oid_of
from refcast.history.trees import Trees
from refcast.model import Commit, FileChanges, Tag


class Commits:
    """The commits and tags of one repository. `files` is how many paths a commit may list."""

    def __init__(self, objects: Objects, files: int) -> None:
        self._objects = objects
        self._trees = Trees(objects)
        self._files = files

    def read(self, oid: Oid) -> tuple[Commit, str]:
        """A commit, and the object for want of which its file changes are missing (empty where none is).

        Raises GoneError where the commit itself is gone.
        """
        kind, raw = self._objects.read(oid)
        node = self._objects.node(oid)  # which knows where a shallow repository ends
        if kind != ObjectType.COMMIT or node is None:
            raise GoneError(str(oid))
        _, parents = node
        headers = text.parse(raw)
        changes, missing = self._changes(headers.tree, parents)
        commit = Commit(
            id=str(oid),
            tree=headers.tree,
            parents=tuple(map(str, parents)),
            author=headers.ident(b"author"),
            committer=headers.ident(b"committer"),
            message=headers.message,
            changes=changes,
        )
        return commit, missing

    def touched(self, oid: Oid, parent: Oid | None, paths: Iterable[Paths]) -> set[Paths]:
        """Which of these are met by what a commit changed against a parent; None is the empty tree. GoneError."""
        left = set(paths)
        met: set[Paths] = set()

        def enter(directory: str) -> bool:
            return any(one.may_match_in(directory) for one in left)

        for path in self._trees.differing(self._tree(parent) if parent else None, self._tree(oid), enter):
            met |= {one for one in left if one.match(path)}
            left = left - met
            if not left:
                break
        return met

    def _tree(self, oid: Oid) -> bytes:
        _, raw = self._objects.read(oid)
        return oid_of(text.parse(raw).tree).raw

    def _changes(self, tree: str, parents: list[Oid]) -> tuple[FileChanges, str]:
        """What changed against the first parent, a root commit against the empty tree."""
        try:
            old = None
            if parents:
                old = self._tree(parents[0])
            return self._trees.changes(old, oid_of(tree).raw, self._files), ""
        except GoneError as gone:
            return FileChanges(cut=True), str(gone)

    def tag(self, oid: Oid) -> Tag | None:
        """The annotated tag with this id; None where it is none. Raises GoneError."""
        if not self._objects.leads_to_commits(oid):
            return None
        kind, raw = self._objects.read(oid)
        if kind != ObjectType.TAG:
            return None
        headers = text.parse(raw)
        return Tag(
            id=str(oid),
            name=headers.text(headers.fields.get(b"tag", b"")),
            target=headers.text(headers.fields.get(b"object", b"")),
            tagger=headers.ident(b"tagger") if b"tagger" in headers.fields else None,
            message=headers.message,
        )
