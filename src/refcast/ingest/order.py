"""The order of records: the chain of each ref's ids decides, and neither clocks nor the names of files.

Owns the rules by which the next record is chosen among those that wait. Values only: it reads no file, store or
repository. Records come to it oldest first by their time, which decides only where the ids leave it open.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from refcast import spool
from refcast.model import RefUpdate, is_zero

_PLACE = re.compile(r"(?:refs/namespaces/[^/]+/)+(?=refs/)")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One record of the spool, with the file that it came in."""

    entry: spool.Entry
    part: spool.Part

    @property
    def prefix(self) -> str:
        """Where git really keeps the refs of this push."""
        return prefix(self.part)

    def moves(self) -> Iterator[tuple[str, RefUpdate]]:
        """Each update with the full name of its ref, which is also its name in the ledger."""
        place = self.prefix
        return ((place + update.ref, update) for update in self.part.updates)


def prefix(part: spool.Part) -> str:
    """Where git keeps the refs of a push into a GIT_NAMESPACE (gitnamespaces(7)); empty for any other push."""
    namespace = dict(part.facts).get("GIT_NAMESPACE", "")
    return "".join(f"refs/namespaces/{name}/" for name in namespace.split("/") if name)


def parted(name: str) -> tuple[str, str]:
    """A ref's full name as the place of its namespace, or nothing, and its name in there."""
    found = _PLACE.match(name)
    return (found[0], name[found.end() :]) if found else ("", name)


def resolved(record: Record, real: Callable[[str], str]) -> Record:
    """The record as it would be if git pushed to no symbolic ref: each of those refs is named by the one it leads to.

    `real` tells that one by full names. Who pushes to a ref by two names moves it once."""
    place = record.prefix
    updates: dict[str, RefUpdate] = {}
    for name, update in record.moves():
        ref = real(name)
        ref = ref.removeprefix(place) if ref.startswith(place) else update.ref
        # git refuses a push that moves one ref to two ids; should it not have, both names are told.
        updates[ref if updates.get(ref, update).new == update.new else update.ref] = update
    if list(updates) == [update.ref for update in record.part.updates]:
        return record
    told = tuple(replace(update, ref=ref) for ref, update in updates.items())
    return Record(record.entry, replace(record.part, updates=told))


def undone(tips: Mapping[str, str], moves: Iterable[tuple[str, RefUpdate]]) -> dict[str, str]:
    """The tips before those of these moves, by full names, that have happened; others were refused, or undone."""
    before = dict(tips)
    led: defaultdict[tuple[str, str], deque[str]] = defaultdict(deque)
    for ref, update in moves:
        led[ref, "" if is_zero(update.new) else update.new].append(update.old)
    for ref in {ref for ref, _ in led}:
        while olds := led.get((ref, before.get(ref, ""))):
            move(before, ref, olds.popleft())
    return before


def tip(tips: Mapping[str, str], ref: str, like: str) -> str:
    """The id of a ref; the zero id, as long as `like`, where it is not there."""
    return tips.get(ref) or "0" * len(like)


def move(tips: dict[str, str], ref: str, to: str) -> None:
    """Have a ref name another id; the zero id removes it."""
    if is_zero(to):
        tips.pop(ref, None)
    else:
        tips[ref] = to


def following(records: Sequence[Record], tips: Mapping[str, str], moving: Collection[str]) -> Record | None:
    """The record whose turn it is when the ledger is at `tips`; None if there is none, or it must wait.

    One whose old ids are the tips comes first. If there is none, a record is missing, and the one behind the gap comes
    next; but it waits if a push of such a ref, one of `moving` (full names), is under way and may be what is missing.
    """
    fitting = [record for record in records if _fits(record, tips)]
    if fitting:
        return next((record for record in fitting if not _strands(record, fitting, records)), fitting[0])
    free = _free(records, tips, moving)
    arrivals = {(ref, update.new) for record in records for ref, update in record.moves()}
    for record in free:
        if not any(
            (ref, update.old) in arrivals for ref, update in record.moves() if tip(tips, ref, update.old) != update.old
        ):
            return record
    return free[0] if free else None


def beginning(records: Iterable[Record], present: Mapping[str, str]) -> dict[str, str]:
    """The tips before these records, when `present` are those of the repository now."""
    tips = dict(present)
    moves: defaultdict[str, list[RefUpdate]] = defaultdict(list)
    for record in records:
        for ref, update in record.moves():
            moves[ref].append(update)
    for ref, updates in moves.items():
        move(tips, ref, _start(updates, tip(present, ref, updates[0].old)))
    return tips


def _start(updates: Sequence[RefUpdate], present: str) -> str:
    """Where a chain of updates, in any order, begins: at the id that they leave once more than they reach it."""
    left = Counter(update.old for update in updates)
    left.subtract(update.new for update in updates)
    for update in updates:
        if left[update.old] > 0:
            return update.old
    # A round, such as A -> B and B -> A: it began where it ended.
    return present if present in left else updates[0].old


def _fits(record: Record, tips: Mapping[str, str]) -> bool:
    return all(tip(tips, ref, update.old) == update.old for ref, update in record.moves())


def _strands(record: Record, fitting: Sequence[Record], records: Sequence[Record]) -> bool:
    """Whether taking this record now leaves another that fits without its turn.

    Two records fit one ref when it left the same id twice: A -> B, B -> A, A -> C. The one from which the others lead
    back to that id comes first."""
    mine = dict(record.moves())
    rivals = {ref for other in fitting if other is not record for ref, _ in other.moves() if ref in mine}
    return any(not _leads_back(ref, mine[ref], record, records) for ref in rivals)


def _leads_back(ref: str, update: RefUpdate, without: Record, records: Sequence[Record]) -> bool:
    steps: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        if record is not without:
            for name, other in record.moves():
                if name == ref:
                    steps[other.old].add(other.new)
    seen: set[str] = set()
    ahead = [update.new]
    while ahead:
        here = ahead.pop()
        if here == update.old:
            return True
        if here not in seen:
            seen.add(here)
            ahead += steps[here]
    return False


def _free(records: Iterable[Record], tips: Mapping[str, str], moving: Collection[str]) -> list[Record]:
    """The records that need not wait: for no push under way, and for no record that waits for one."""
    held = set(moving)
    free = list(records)
    while True:
        waiting = [
            record
            for record in free
            if any(ref in held and tip(tips, ref, update.old) != update.old for ref, update in record.moves())
        ]
        if not waiting:
            return free
        held |= {ref for record in waiting for ref, _ in record.moves()}
        free = [record for record in free if record not in waiting]
