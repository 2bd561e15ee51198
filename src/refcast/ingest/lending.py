"""What stale intents lend: who made a move, and when, that no record tells of. They decide nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from refcast import spool
from refcast.ingest import order
from refcast.ingest.announcing import Announcer, Origin
from refcast.ingest.trust import Trust
from refcast.model import RefUpdate

Intended = tuple[str, RefUpdate, spool.Entry, spool.Part]
"""A ref's full name, the move that was intended, and where that is written."""


def intended(
    entries: Iterable[spool.Entry], repository: str, real: Callable[[str], str], trust: Trust
) -> Iterator[Intended]:
    """What intents say of one repository. `real` names the ref that a push to a name moves, by full names.

    The intents are believed as they are; `trust` judges where those lead that name a symbolic ref."""
    for entry in entries:
        for part in entry.intents:
            if part.repository == repository:
                place = order.prefix(part)
                for update in part.updates:
                    name = place + update.ref
                    ref = real(name)
                    if ref == name or trust.may_move(entry.uid, repository, [ref]):
                        yield ref, update, entry, part


class Lenders:
    def __init__(self, moves: Iterable[Intended]) -> None:
        self._moves: defaultdict[tuple[str, str], list[Intended]] = defaultdict(list)
        for one in moves:
            self._moves[one[0], one[1].new].append(one)

    def origin(self, announcer: Announcer, ref: str, old: str, new: str) -> Origin | None:
        """Of the intent of this very move, else of the newest that led to the same id; None without any."""
        found = self._moves.get((ref, new), [])
        same = [one for one in found if one[1].old == old]
        if not found:
            return None
        _, _, entry, part = max(same or found, key=lambda one: one[2].time)
        return Origin(announcer.pusher(entry.uid, part.facts), entry.time)
