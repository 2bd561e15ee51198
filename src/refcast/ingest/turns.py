"""Whose turn it is among the records that wait for one repository: the chain of each ref's ids decides.

Owns the rules by which the next record is chosen, and what makes that quick: thousands may wait, and each is chosen
once. Values only: it reads no file, store or repository.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from refcast.ingest.order import Record
from refcast.model import is_zero


def _id(object_id: str) -> str:
    """An id as the ledger has it, where what is not there has none."""
    return "" if is_zero(object_id) else object_id


class Turns:
    """Records come oldest first by their time, which decides only where the ids leave it open.

    `tips` is the ledger, which moves on with what is told. `moving` are the refs (full names) that pushes under way may
    move."""

    def __init__(self, records: Iterable[Record], tips: Mapping[str, str], moving: Collection[str]) -> None:
        self._tips = tips
        self._moving = moving
        self._records = dict(enumerate(records))
        self._numbers = {record: number for number, record in self._records.items()}
        self._moves = {number: dict(record.moves()) for number, record in self._records.items()}
        self._of: defaultdict[str, set[int]] = defaultdict(set)
        """The records that move a ref."""
        self._from: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        """... and that move it from an id."""
        self._arrivals: Counter[tuple[str, str]] = Counter()
        """How many records move a ref to an id."""
        self._steps: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """Where records move a ref from an id, and how many there."""
        self._at: dict[str, str] = {}
        """The tips by which it is known which records fit."""
        self._misfits: dict[int, int] = {}
        """How many moves of a record do not begin at the tip of their ref."""
        self._fitting: set[int] = set()
        for number, moves in self._moves.items():
            for ref, update in moves.items():
                self._of[ref].add(number)
                self._from[ref, _id(update.old)].add(number)
                self._arrivals[ref, update.new] += 1
                self._steps[ref, update.old][update.new] += 1
                self._at[ref] = self._tips.get(ref, "")
        for number in self._records:
            self._misfits[number] = sum(not self._begins_at_tip(number, ref) for ref in self._moves[number])
            if not self._misfits[number]:
                self._fitting.add(number)

    def following(self) -> Record | None:
        """The record whose turn it is; None if there is none, or it must wait.

        One whose old ids are the tips comes first. If there is none, a record is missing, and the one behind the gap
        comes next; but it waits if a push of such a ref is under way and may be what is missing."""
        if self._fitting:
            first = min(self._fitting)
            if self._strands(first):
                first = next((number for number in sorted(self._fitting) if not self._strands(number)), first)
            return self._records[first]
        held = self._held()
        free = [number for number in self._records if number not in held]
        return next((self._records[number] for number in free if not self._may_follow(number)), None) or (
            self._records[free[0]] if free else None
        )

    def done(self, record: Record) -> None:
        """The record waits no longer, and the tips of its refs have moved on, or not."""
        number = self._numbers.pop(record)
        del self._records[number], self._misfits[number]
        self._fitting.discard(number)
        moves = self._moves.pop(number)
        for ref, update in moves.items():
            self._of[ref].discard(number)
            self._from[ref, _id(update.old)].discard(number)
            self._arrivals[ref, update.new] -= 1
            self._steps[ref, update.old][update.new] -= 1
        for ref in moves:
            before, now = self._at[ref], self._tips.get(ref, "")
            if before == now:
                continue
            self._at[ref] = now
            for other in self._from[ref, before]:
                self._misfits[other] += 1
                self._fitting.discard(other)
            for other in self._from[ref, now]:
                self._misfits[other] -= 1
                if not self._misfits[other]:
                    self._fitting.add(other)

    def _begins_at_tip(self, number: int, ref: str) -> bool:
        return self._at[ref] == _id(self._moves[number][ref].old)

    def _may_follow(self, number: int) -> bool:
        """Whether a record that waits may be what is missing before this one."""
        return any(
            self._arrivals[ref, update.old] > 0
            for ref, update in self._moves[number].items()
            if not self._begins_at_tip(number, ref)
        )

    def _strands(self, number: int) -> bool:
        """Whether taking this record now leaves another that fits without its turn.

        Two records fit one ref when it left the same id twice: A -> B, B -> A, A -> C. The one from which the others
        lead back to that id comes first."""
        return any(
            not self._fitting.isdisjoint(self._from[ref, _id(update.old)] - {number})
            and not self._leads_back(ref, update.old, update.new)
            for ref, update in self._moves[number].items()
        )

    def _leads_back(self, ref: str, old: str, new: str) -> bool:
        """Whether the other records move a ref, one after another, from where this one leaves it to where it was."""
        seen: set[str] = set()
        ahead = [new]
        while ahead:
            here = ahead.pop()
            if here == old:
                return True
            if here not in seen:
                seen.add(here)
                ahead += [there for there, count in self._steps[ref, here].items() if count]
        return False

    def _held(self) -> set[int]:
        """The records that wait for a push under way, or for a record that does."""
        held: set[int] = set()
        refs = set(self._moving)
        ahead = [*refs]
        while ahead:
            ref = ahead.pop()
            for number in self._of.get(ref, set()) - held:
                if not self._begins_at_tip(number, ref):
                    held.add(number)
                    ahead += [other for other in self._moves[number] if other not in refs]
                    refs.update(self._moves[number])
        return held
