"""Which records count: those of users who may write there, with ids that fit the ledger and the present refs.

Owns that what does not count is set aside with its reason, and that a repository becomes known only by what is
believed. The rules themselves are those of `trust`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from refcast.history import History
from refcast.ingest import order
from refcast.ingest.asides import Asides
from refcast.ingest.order import Record
from refcast.ingest.telling import Telling
from refcast.ingest.trust import Step, Trust, steps_of
from refcast.model import RefUpdate
from refcast.store import Store


class Sieve:
    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        trust: Trust,
        asides: Asides,
        telling: Telling,
        is_known: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._trust = trust
        self._asides = asides
        self._telling = telling
        self._is_known = is_known

    def by_user(self, records: list[Record]) -> None:
        """Take out of `records` those of users who may not write there."""
        self._sift(records, lambda record: self._trust.against_user(record, self._is_known))

    def by_ids(
        self, path: str, history: History, records: list[Record], over: list[Step], steps: list[Step]
    ) -> int | None:
        """Take out of `records` those whose ids do not fit; the number of the repository.

        None if nothing is left: what nobody who is believed has pushed to stays unknown. First met, its ledger is its
        present refs, with what is told of it undone. `over` are the moves of stale intents, `steps` those of all."""
        number = self._store.repositories.find(path)
        begun: Collection[str] = ()
        if number is None:
            # Only what leads to where the refs are now is evidence of where they were.
            told = [move for record in records for move in record.moves()]
            tips = order.undone(history.tips(), [*told, *over])
        else:
            begun, tips = self._store.intake.begun(number), self._store.repositories.tips(number)
        self._sift(records, self._against_ids(number, begun, records, steps, tips, history))
        if not records:
            return None
        if number is None:
            before = order.undone(order.beginning(records, history.tips()), over)
            number = self._store.repositories.add(path, before, self._clock())
        return number

    def _sift(self, records: list[Record], against: Callable[[Record], str]) -> None:
        """Take out of `records` what does not count, by the reason that `against` gives, and set it aside."""
        for record in list(records):
            if reason := against(record):
                records.remove(record)
                self._asides.doubt(record.entry.path, reason)

    def _against_ids(
        self,
        number: int | None,
        begun: Collection[str],
        records: list[Record],
        intended: Iterable[Step],
        ledger: dict[str, str],
        history: History,
    ) -> Callable[[Record], str]:
        if all(self._trust.is_trusted(record.entry.uid) for record in records):
            return lambda _: ""
        steps, present = steps_of(records, intended), history.tips()

        def against(record: Record) -> str:
            if record.part.id in begun:
                return ""  # it was believed when its first part was told

            def is_excused(ref: str, update: RefUpdate) -> bool:
                tip = order.tip(ledger, ref, update.old)
                # The ledger was made when this ref had moved already; or the move is announced as recovered.
                if tip == update.new:
                    return True
                if tip == update.old or number is None:
                    return False
                return self._telling.recovery(number, record, ref, update, tip, history) is not None

            return self._trust.against_ids(record, steps, ledger, present, is_excused)

        return against
