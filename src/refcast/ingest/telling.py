"""What there is to announce of a record: its own moves, but for those told already, and what was missed before them.

Owns the comparison of a record with the ledger. Stores nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from refcast.errors import RepositoryError
from refcast.history import History
from refcast.ingest import late, order
from refcast.ingest.announcing import UNKNOWN, Announcement, Announcer, Origin
from refcast.ingest.lending import Lenders
from refcast.ingest.order import Record
from refcast.model import Push, RefUpdate, printable
from refcast.store import Store
from refcast.store.recoveries import Covered, Recovery

log = logging.getLogger(__name__)

REVIEW = "refs/for/"
"""Where pushes for review go by convention. The system's configuration, which may say so, is not read."""


class Telling:
    def __init__(self, store: Store, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer

    def announcement(
        self,
        number: int,
        record: Record,
        tips: dict[str, str],
        history: History,
        lenders: Lenders,
        followed: Collection[tuple[str, str]],
    ) -> Announcement:
        """What one record has to say. `followed` has the refs and old ids of all that wait, or were told since.

        `tips` is the ledger, and becomes that before the push."""
        intake = self._store.intake
        part, place, time = record.part, record.prefix, record.entry.time
        for stored in reversed(intake.told(part.id)):
            # What an interrupted try has moved is moved back: events are told against the ledger before the push.
            order.move(tips, place + stored.ref, stored.old)
        told: list[RefUpdate] = []
        missed: list[tuple[Origin, RefUpdate]] = []
        covered: list[Covered] = []
        virtual = _virtual(record, followed, history)
        for ref, update in record.moves():
            tip = order.tip(tips, ref, update.old)
            if tip != update.old and update.ref not in virtual:
                if recovery := self.recovery(number, record, ref, update, tip, history):
                    log.info("%s tells late of %s, which is announced already", part.id, printable(update.ref))
                    covered.append(Covered(update.ref, update.old, update.new, recovery.event_id))
                    continue
                if tip == update.new and not intake.is_told(number, place, update.ref, tip):
                    # The ledger was made when this ref had moved already.
                    order.move(tips, ref, update.old)
                else:
                    origin = lenders.origin(self._announcer, ref, tip, update.old)
                    missed.append((origin or Origin(UNKNOWN, time), RefUpdate(tip, update.old, update.ref)))
            told.append(update)
        pusher = self._announcer.pusher(record.entry.uid, part.facts)
        push = Push(part.id, part.repository, pusher.username, time, tuple(told), part.options)
        return Announcement(number, push, pusher, place, missed, covered, virtual, awaited=record.entry.alive)

    def recovery(
        self, number: int, record: Record, ref: str, update: RefUpdate, tip: str, history: History
    ) -> Recovery | None:
        """The recovered event that has announced one of a record's moves, which does not begin at the ledger's tip."""
        return late.covering(
            self._store.intake.recoveries(number, record.prefix, update.ref, but=record.part.id),
            update,
            tip=tip,
            present=_present(history, ref, update.old),
            time=record.entry.time.timestamp(),
        )


def _virtual(record: Record, followed: Collection[tuple[str, str]], history: History) -> frozenset[str]:
    """The refs that a push named and that are none, as pushes for review do: a hook proc-receive knows them alone.

    git asks the hook `update` about real refs only. Of one that was real, and is gone, another record may tell."""
    named = [(ref, update) for ref, update in record.moves() if not update.deleted]
    if not history.refs.has_proc_receive():
        named = [(ref, update) for ref, update in named if update.ref.startswith(REVIEW)]
    if not named:
        return frozenset()
    asked = {(one.ref, one.new) for part in record.entry.intents for one in part.updates}
    return frozenset(
        update.ref
        for ref, update in named
        if (update.ref, update.new) not in asked
        and (ref, update.new) not in followed
        and _present(history, ref, update.new) == "0" * len(update.new)
    )


def _present(history: History, ref: str, like: str) -> str | None:
    """What a ref names now; the zero id, as long as `like`, where there is none; None where that cannot be told."""
    try:
        found = history.refs.look_up(ref)
    except RepositoryError:
        return None
    return "0" * len(like) if found == "" else found
