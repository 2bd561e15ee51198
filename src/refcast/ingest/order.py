"""Records and the moves of refs that they tell: by which names, and what they say of where a ref was before.

Owns what is told from ids alone, and neither by clocks nor by the names of files; which record comes next is told by
`turns`. Values only: it reads no file, store or repository.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
