"""What happened to each ref of one push, in the light of the ledger before it.

Owns the rules by which commits are listed and marked; the walk itself is `walk`'s, the commits' words and paths
are read by `commits`. Which events are made of it, and for whom, is not decided here.

An update lists what its new id reaches and its old id does not, whoever else has it; a creation lists what no
tip in the ledger reaches. `distinct` marks the commits that no tip in the ledger reached; of several refs of one
push, the first that brings a commit marks it. Tags list no commits, so they take no mark away from a branch of
the same push; nor do refs of other kinds, which most endpoints never hear of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from pygit2 import Oid

from refcast.filters import Paths
from refcast.history.commits import Commits
from refcast.history.objects import GoneError, Objects, oid_of
from refcast.history.walk import Range
from refcast.model import Commit, RefUpdate, Tag


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the lists of an event may grow. Totals are exact whatever these say."""

    commits: int = 250
    """Commits listed in an event."""
    files: int = 3000
    """Paths listed in a commit, in all three lists together; FileChanges.cut tells of more."""


@dataclass(slots=True)
class Told:
    """What history knows of one ref update."""

    forced: bool = False
    commits: tuple[Commit, ...] = ()
    total: int = 0
    head: Commit | None = None
    tag: Tag | None = None
    gaps: list[str] = field(default_factory=list)
    """What is missing and why, in words."""
    touched: set[Paths] = field(default_factory=set)
    """The path filters that it passes."""
    bare: dict[str, str] = field(default_factory=dict)
    """Commits without their file changes, each with the object that is gone."""

    @property
    def incomplete(self) -> str:
        """All the gaps in one line; empty where there are none."""
        gaps = list(self.gaps)
        if self.bare:
            some = next(iter(self.bare.values()))
            gaps.append(f"{len(self.bare)} commits lack their file changes: {some} is among the objects that are gone")
        return "; ".join(gaps)


class Telling:
    """The ref updates of one push. Reads objects when the first of them is told, and keeps what they share."""

    def __init__(
        self,
        objects: Objects,
        ledger: Mapping[str, str],
        updates: Sequence[RefUpdate],
        limits: Limits,
        paths: Sequence[Paths] = (),
    ) -> None:
        self._objects = objects
        self._ledger = ledger
        self._updates = updates
        self._limits = limits
        self._paths = paths
        self._commits = Commits(objects, limits.files)
        # Twice the list, so that the next ref's list, which may overlap this one's, finds it here.
        self._commit = lru_cache(2 * limits.commits + 2)(self._commits.read)
        self._brought: dict[bool, set[Oid]] = {True: set(), False: set()}
        """What earlier refs of this push brought: branches under True, refs of other kinds under False."""

    def tell(self, update: RefUpdate) -> Told:
        """What one of the updates did. To be asked in their order, once each."""
        told = Told(touched=set(self._paths))
        if update.deleted:
            return told
        try:
            new = oid_of(update.new)
            told.tag = self._commits.tag(new)
            head = self._objects.peel(new)
        except GoneError as gone:
            told.gaps.append(f"no commit is known: {gone} is among the objects that are gone")
            return told
        if head is None:
            return told
        branches = update.kind != "other"
        if update.kind != "tag":
            self._list_commits(update, head, told)
        if told.commits and told.commits[-1].id == str(head):
            told.head = told.commits[-1]
        else:
            told.head = self._marked(head, branches, told)
        if update.kind != "tag" and len(self._updates) > 1:
            self._bring(head, branches)
        return told

    @cached_property
    def _fresh(self) -> Range:
        """What the push brought and no tip in the ledger reaches: one walk, however many refs moved."""
        starts = []
        for update in self._updates:
            try:
                starts.append(self._objects.peel(oid_of(update.new)))
            except GoneError:
                continue
        return Range(self._objects, [start for start in starts if start], self._ledger_tips())

    def _ledger_tips(self) -> Iterator[Oid]:
        for ref, tip in self._ledger.items():
            try:
                oid = oid_of(tip)
            except GoneError:
                continue
            if ref.startswith("refs/heads/") or self._objects.leads_to_commits(oid):
                yield oid

    def _list_commits(self, update: RefUpdate, head: Oid, told: Told) -> None:
        span = self._fresh
        if not update.created:
            branch = update.kind == "branch"
            try:
                old = self._objects.peel(oid_of(update.old))
            except GoneError as gone:
                told.forced = branch
                told.gaps.append(f"commits are not listed: {gone} is among the objects that are gone")
                return
            span = Range(self._objects, [head], [old] if old else [])
            told.forced = branch and old is not None and head != old and not span.follows(old)
            if span.unsure:
                told.gaps.append(f"commits are not listed: some that {update.old} reaches are objects that are gone")
                return
        elif span.unsure:
            told.gaps.append("commits may be listed that other refs had: these had objects that are gone")
        if span.gone:
            told.gaps.append("not all commits are listed: some are objects that are gone")
        told.total = span.total(head)
        if self._paths and not span.gone:
            told.touched = self._touched(update, head, span, told.forced)
        listed = [
            self._marked(oid, update.kind != "other", told) for oid in reversed(span.newest(head, self._limits.commits))
        ]
        told.commits = tuple(commit for commit in listed if commit)

    def _touched(self, update: RefUpdate, head: Oid, span: Range, forced: bool) -> set[Paths]:
        """The path filters that this update passes: a commit that it lists, or could list, changes such a path.

        What a forced update takes away is a change too. All of them pass where there is nothing to judge by: a
        creation without new commits, objects that are gone.
        """
        everything = set(self._paths)
        commits = span.reached(head)
        if not commits and not forced:
            return everything
        met: set[Paths] = set()
        try:
            if forced:
                met |= self._commits.touched(head, self._objects.peel(oid_of(update.old)), everything)
            for oid in commits:
                if met == everything:
                    break
                node = self._objects.node(oid)
                parents = node[1] if node else []
                met |= self._commits.touched(oid, parents[0] if parents else None, everything - met)
        except GoneError:
            return everything
        return met

    def _bring(self, head: Oid, branches: bool) -> None:
        """Note what a ref brought, for the marks of those that follow."""
        brought = self._brought[branches]
        stack = [head]
        while stack:
            oid = stack.pop()
            if oid in self._fresh.members and oid not in brought:
                brought.add(oid)
                stack += self._fresh.members[oid][1]

    def _marked(self, oid: Oid, branches: bool, told: Told) -> Commit | None:
        """The commit with its mark; None, and a gap, where it is gone after all."""
        try:
            commit, missing = self._commit(oid)
        except GoneError as gone:
            told.gaps.append(f"{gone} is among the objects that are gone")
            return None
        if missing:
            told.bare[commit.id] = missing
        distinct = oid in self._fresh.members and oid not in self._brought[branches]
        return commit if distinct else replace(commit, distinct=False)
