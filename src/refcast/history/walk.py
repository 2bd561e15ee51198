"""Which commits: what some ids reach and others do not, counted exactly and put in order.

Owns the walk over the graph of commits, and nothing else: what a commit says and changes is not read here.
git's own rule, `rev-list STARTS --not HIDDEN`, is followed, by a walk of its own because libgit2's takes
seconds to hide ten thousand tips.

What is guaranteed: no commit is ever missing, whatever the clocks say, and parents come before children, for the
order heeds the graph first and the committers' dates second. No commit too many is listed where commits are not
older than their parents, nor, whatever their dates, in an update to a descendant without merges, nor where the
hidden side has few commits. Otherwise dates decide when to stop, as they do in git, and a run of dates that are
too early may keep the walk from finding that a commit is hidden. git visits five commits more than the dates
demand; this walk visits `_SLOP`, and does not let one early date put off its parents by more than a month.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

from pygit2 import Oid

from refcast.history.objects import Objects

_SLOP = 500
"""How many hidden commits are visited although the dates say that they cannot matter any more."""

_MONTH = 30 * 24 * 3600
"""Seconds by which one commit with a wrong, early date may delay the visit of its parents."""

Members = dict[Oid, tuple[int, list[Oid]]]
"""Commits with their time (seconds since 1970) and parents."""


class Range:
    """The commits that `starts` reach and `hidden` do not. Walks when it is made.

    `starts` are ids of commits. `hidden` may name annotated tags too, and whatever else: it hides nothing.
    """

    def __init__(self, objects: Objects, starts: Iterable[Oid], hidden: Iterable[Oid]) -> None:
        self.members: Members = {}
        self._missing: set[Oid] = set()
        self._hidden_gone = False
        self._objects = objects
        self._hidden = list(dict.fromkeys(hidden))
        self._is_hidden = dict.fromkeys(self._hidden, True)
        self._starts = [start for start in dict.fromkeys(starts) if start not in self._is_hidden]
        self._rank: dict[Oid, int] = {}
        self._totals: dict[Oid, int] = {}
        if self._starts:
            self._walk()

    @property
    def gone(self) -> bool:
        """Whether a commit that belongs here, a start or the parent of a member, is missing."""
        return bool(self._missing)

    @property
    def unsure(self) -> bool:
        """Whether too much may be listed, because a commit that would have hidden it is missing."""
        return self._hidden_gone and bool(self.members) and not self._all_descend_from_hidden()

    def follows(self, oid: Oid) -> bool:
        """Whether a hidden commit is the parent of a member: whether the starts descend from it."""
        return any(oid in parents for _, parents in self.members.values())

    def _walk(self) -> None:
        # Ids wait under the time of the child that led to them, and are read when their turn comes: marking
        # then runs one commit ahead of the dates, and tips, which have no child, all come first.
        self._wanted = len(self._starts)
        self._oldest = float("inf")
        self._is_hidden |= dict.fromkeys(self._starts, False)
        self._heap: list[tuple[float, Oid]] = [(-float("inf"), oid) for oid in self._is_hidden]
        heapify(self._heap)
        self._run(0)
        if self.members and self._heap and not self._all_descend_from_hidden():
            self._run(_SLOP)
        self._heap.clear()

    def _run(self, slop: int) -> None:
        """Visit commits, the newest first, until what is still hidden cannot touch a member, and `slop` more."""
        heap = self._heap
        while heap:
            if not self._wanted and -heap[0][0] < self._oldest:
                if slop <= 0 or not self.members:
                    return
                slop -= 1
            key, oid = heappop(heap)
            node = self._objects.node(oid)
            if self._is_hidden[oid]:
                self._visit_hidden(key, node)
            else:
                self._visit_wanted(key, oid, node)

    def _visit_hidden(self, key: float, node: tuple[int | None, list[Oid]] | None) -> None:
        if node is None:
            self._hidden_gone = True
            return
        time, parents = node
        key = key if time is None else _key(key, time)
        for parent in parents:
            seen = self._is_hidden.get(parent)
            if seen is None:
                self._is_hidden[parent] = True
                heappush(self._heap, (key, parent))
            elif not seen:
                self._hide(parent)

    def _visit_wanted(self, key: float, oid: Oid, node: tuple[int | None, list[Oid]] | None) -> None:
        self._wanted -= 1
        time, parents = node or (None, [])
        if time is None:
            self._missing.add(oid)
            return
        self.members[oid] = time, parents
        self._oldest = min(self._oldest, time)
        key = _key(key, time)
        for parent in parents:
            if parent not in self._is_hidden:
                self._is_hidden[parent] = False
                self._wanted += 1
                heappush(self._heap, (key, parent))

    def _hide(self, oid: Oid) -> None:
        """Strike a commit that was taken for a member, or was to become one, and all that it reaches."""
        stack = [oid]
        while stack:
            oid = stack.pop()
            if self._is_hidden[oid]:
                continue
            self._is_hidden[oid] = True
            if oid in self.members:
                stack += self.members.pop(oid)[1]
            elif oid in self._missing:
                self._missing.remove(oid)
            else:
                self._wanted -= 1

    def _all_descend_from_hidden(self) -> bool:
        """Whether each member descends from the one hidden id: then nothing unread can hide a member."""
        if len(self._hidden) != 1:
            return False
        descend = set(self._hidden)
        for oid in reversed(list(self._order())):
            if not descend.isdisjoint(self.members[oid][1]):
                descend.add(oid)
        return len(descend) == len(self.members) + 1

    def _order(self) -> Iterator[Oid]:
        """The members, children before parents, else the newest first by committer's time (then by id)."""
        members = self.members
        children: dict[Oid, int] = dict.fromkeys(members, 0)
        for _, parents in members.values():
            for parent in parents:
                if parent in children:
                    children[parent] += 1
        heap = [(-members[oid][0], oid) for oid, count in children.items() if not count]
        heapify(heap)
        while heap:
            _, oid = heappop(heap)
            yield oid
            for parent in members[oid][1]:
                if parent in children:
                    children[parent] -= 1
                    if not children[parent]:
                        heappush(heap, (-members[parent][0], parent))

    def newest(self, start: Oid, limit: int) -> list[Oid]:
        """The newest `limit` members that `start` reaches, the newest first, children before parents."""
        members = self.members
        if start not in members:
            return []
        if self._starts == [start]:
            return list(islice(self._order(), limit))
        if not self._rank:
            self._rank = {oid: rank for rank, oid in enumerate(self._order())}
        # A parent ranks behind its children, so taking the first rank again and again keeps the order.
        rank = self._rank
        heap = [(rank[start], start)]
        queued = {start}
        found: list[Oid] = []
        while heap and len(found) < limit:
            _, oid = heappop(heap)
            found.append(oid)
            for parent in members[oid][1]:
                if parent in members and parent not in queued:
                    queued.add(parent)
                    heappush(heap, (rank[parent], parent))
        return found

    def reached(self, start: Oid) -> Collection[Oid]:
        """All members that `start`, one of the starts, reaches, in no order."""
        if self._starts == [start]:
            return self.members
        found = {start} & self.members.keys()
        stack = list(found)
        while stack:
            ahead = {parent for parent in self.members[stack.pop()][1] if parent in self.members} - found
            found |= ahead
            stack += ahead
        return found

    def total(self, start: Oid) -> int:
        """How many members `start`, one of the starts, reaches."""
        if start not in self.members:
            return 0
        if self._starts == [start]:
            return len(self.members)
        if not self._totals:
            self._count()
        return self._totals[start]

    def _count(self) -> None:
        """Count what each start reaches, all in one pass over the members, parents first.

        What a commit reaches is a number with one bit for each member, kept only until its last child has
        been counted.
        """
        members = self.members
        waiting: dict[Oid, int] = dict.fromkeys(members, 0)
        for _, parents in members.values():
            for parent in parents:
                if parent in waiting:
                    waiting[parent] += 1
        starts = set(self._starts)
        reached: dict[Oid, int] = {}
        for bit, oid in enumerate(self._depth_first()):
            bits = 1 << bit
            for parent in members[oid][1]:
                if parent in members:
                    bits |= reached[parent]
                    waiting[parent] -= 1
                    if not waiting[parent]:
                        del reached[parent]
            if waiting[oid]:
                reached[oid] = bits
            if oid in starts:
                self._totals[oid] = bits.bit_count()

    def _depth_first(self) -> Iterator[Oid]:
        """The members, parents before children, each soon after its last parent."""
        members = self.members
        done: set[Oid] = set()
        for start in self._starts:
            stack = [start] if start in members else []
            while stack:
                oid = stack[-1]
                missing = [p for p in members[oid][1] if p in members and p not in done]
                if missing and oid not in done:
                    stack += missing
                else:
                    stack.pop()
                    if oid not in done:
                        done.add(oid)
                        yield oid


def _key(key: float, time: int) -> float:
    """Under which (negative) time the parents of a commit wait that waited under `key` itself."""
    return -time if key == -float("inf") else -max(time, -key - _MONTH)
