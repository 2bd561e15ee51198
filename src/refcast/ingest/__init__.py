"""From the spool into the store: records -> Push -> Events -> the deliveries that endpoints want.

Owns the spool's files and who takes turns. Which record comes next is told by `turns`, what there is to announce of it
by `telling`, how that is stored by `announcing`; what an event says is `history`'s and the dialects' business. A
record's file goes last, after its events are committed, so that a crash anywhere means reading it again. What no record
tells is found by `sweep`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from refcast import spool
from refcast.answers import Answers
from refcast.errors import RepositoryError, StateError
from refcast.history import History
from refcast.ingest import order
from refcast.ingest.announcing import (
    BATCH_EVENTS,
    Announcement,
    Announcer,
    account_name,
    describe,
    full_name_of,
    introduced,
)
from refcast.ingest.asides import RETRY_SECONDS, Asides
from refcast.ingest.lending import Lenders, intended
from refcast.ingest.order import Record
from refcast.ingest.queue import Queue, Waiting
from refcast.ingest.sifting import Sieve
from refcast.ingest.telling import Telling
from refcast.ingest.turns import Turns
from refcast.model import printable
from refcast.settings import Settings
from refcast.spool import boxes
from refcast.store import Store

__all__ = ["BATCH_EVENTS", "RETRY_SECONDS", "Ingest", "account_name", "describe", "full_name_of", "introduced"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""How long a pass goes on at least before it looks whether other repositories' records have come meanwhile."""

LOOK_SHARE = 0.1
"""How much of its time it may look: the look of a spool with thousands of files is not over at once."""

MOST_AT_ONCE = 32
"""How many repositories take turns: each of them has files open."""


def _go_on() -> bool:
    return True


def _look_again(began: float) -> float:
    """When to look again after a look that has begun then and is over now, in monotonic seconds."""
    now = time.monotonic()
    return now + max(LOOK_SECONDS, (now - began) / LOOK_SHARE)


class Ingest:
    """One pass after another over the spool. `clock` gives seconds since the epoch. `between` is called whenever
    something is stored; where it says False, the pass ends."""

    def __init__(
        self,
        store: Store,
        spool_dir: Path,
        clock: Callable[[], float],
        between: Callable[[], bool] = _go_on,
        answers: Answers | None = None,
    ) -> None:
        self._store = store
        self._spool = spool_dir
        self._clock = clock
        self._between = between
        self._announcer = Announcer(store, spool_dir, clock, answers)
        self._trust = self._announcer.trust
        self._telling = Telling(store, self._announcer)
        self._asides = Asides(store, clock, self._trust.is_trusted)
        self._queue = Queue(spool_dir, clock, self._trust, self._asides, self._is_known)
        self._sieve = Sieve(store, clock, self._trust, self._asides, self._telling, self._is_known)
        self._ended = False

    def run(self, settings: Settings) -> int:
        """Ingest every record that can be ingested now. How many that were; the reasons of the others are stored.

        Repositories take turns, a transaction each: a large push must not hold up another repository's. What comes
        meanwhile is taken along while the records last that were there at first."""
        self._announcer.settings = settings
        self._ended = False
        for line in boxes.clear(self._spool, self._clock()):
            log.warning("%s", printable(line))
        self._trust.renew()
        queue = self._queue.begin()
        first = set(queue)
        turns: dict[str, Generator[int]] = {}
        again_at = time.monotonic() + LOOK_SECONDS  # the first look has read the files, and others need not
        count = 0
        try:
            while (queue or turns) and not self._ended:
                # Most pushes are small, so those that come have their turn before those that go on for long.
                some = list(queue)[: MOST_AT_ONCE - len(turns)]
                turns = {path: self._ingest_repository(path, queue.pop(path)) for path in some} | turns
                for path in list(turns):
                    if self._ended:
                        break  # each of many would still be opened
                    done = next(turns[path], None)
                    if done is None:
                        del turns[path]
                        first.discard(path)
                    else:
                        count += done
                began = time.monotonic()
                if first and began >= again_at:
                    for path, waiting in self._queue.again().items():
                        if path not in turns:
                            queue.setdefault(path, waiting)
                    again_at = _look_again(began)
                if not (queue or turns) and self._queue.has_room():
                    queue = self._queue.again()
        finally:
            for left in turns.values():
                left.close()
            self._asides.store()
        return count

    def has_records(self) -> bool:
        """Whether the spool holds a whole record that is not set aside."""
        self._trust.renew()
        return self._queue.has_records({aside.path for aside in self._store.intake.asides()})

    def is_retrying(self) -> bool:
        """Whether something is set aside that is worth staying for."""
        return self._asides.is_retrying()

    def oldest(self) -> float:
        """The time of the oldest file that may still be told of, as `Queue.oldest` tells it."""
        return self._queue.oldest()

    def _ingest_repository(self, path: str, waiting: Waiting) -> Generator[int]:
        """The records of one repository, in the order in which its refs moved. Stops behind each transaction, with 1
        where a record was done with it, and else with 0."""
        records = waiting.records
        try:
            self._sieve.by_user(records)
            if not records:
                return
            with History.open(path) as history:
                real = history.refs.real
                records[:] = [order.resolved(record, real) for record in records]
                self._sieve.by_user(records)  # a symbolic ref can lead to where its pusher may not write
                under_way = list(intended(waiting.under_way, path, real, self._trust))
                moving = {ref for ref, *_ in under_way}
                if self._queue.misses_some_of(records):  # what is missing may be in a file that is not looked at
                    moving |= {ref for record in records for ref, _ in record.moves()}
                stale = list(intended(waiting.stale, path, real, self._trust))
                self._finish_done(records)
                over = [(ref, update) for ref, update, _, _ in stale]
                steps = [*((ref, update) for ref, update, _, _ in under_way), *over]
                number = self._sieve.by_ids(path, history, records, over, steps)
                if number is None:
                    return
                begun, tips = self._store.intake.begun(number), self._store.repositories.tips(number)
                followed = {(ref, update.old) for record in records for ref, update in record.moves()}
                lenders, turns = Lenders(stale), Turns(records, tips, moving)
                # One that an interruption has left half told comes first.
                half_told = deque(one for one in records if one.part.id in begun)
                while self._goes_on():
                    record = half_told.popleft() if half_told else turns.following()
                    if record is None:
                        break
                    say = partial(self._telling.announcement, number, record, tips, history, lenders, followed)
                    told = yield from self._tell(record, say, tips, history)
                    if told is None:
                        return
                    records.remove(record)
                    if told:
                        self._finish(record, records)
                    else:
                        tips = self._store.repositories.tips(number)
                    if told and record.part.id not in begun:
                        turns.done(record)
                    else:  # what is undone of it need not be what it names
                        turns = Turns(records, tips, moving)
                    yield int(told)
        except StateError:
            raise
        except Exception as error:
            self._put_off(path, records, error)

    def _tell(
        self, record: Record, say: Callable[[], Announcement], tips: dict[str, str], history: History
    ) -> Generator[int, None, bool | None]:
        """Announce what there is to `say` of a record, a transaction at a time. Whether that was done; None where the
        pass ends in the middle of it: it is as after a crash."""
        try:
            for _ in self._announcer.announce(history, say(), tips):
                if not self._goes_on():
                    return None
                yield 0
        except (StateError, RepositoryError, OSError):
            raise
        except Exception as error:
            # A bug. It must not hold up the pushes behind it, nor lose this one.
            log.exception("a bug in refcast met the record %s", record.entry.path)
            self._asides.set_file(record.entry.path, f"a bug in refcast: {error!r}", retry_at=None)
            return False
        return True

    def _put_off(self, path: str, records: list[Record], error: Exception) -> None:
        if not isinstance(error, (RepositoryError, OSError)):
            log.exception("a bug in refcast met the repository %s", printable(path))
        known = self._is_known(path)
        for record in records:
            where = record.entry.path
            # What nobody has ever seen there may be an invention, and there may be thousands.
            retry_at = self._asides.soon() if known else self._asides.later(where)
            self._asides.set_file(where, str(error), retry_at=retry_at)

    def _goes_on(self) -> bool:
        self._ended = self._ended or not self._between()
        return not self._ended

    def _finish_done(self, records: list[Record]) -> None:
        """Take those out that were ingested already, with their files."""
        done = self._store.intake.done([record.part.id for record in records])
        for known in [record for record in records if record.part.id in done]:
            records.remove(known)
            self._finish(known, records)

    def _is_known(self, path: str) -> bool:
        return self._store.repositories.find(path) is not None

    def _finish(self, record: Record, others: list[Record]) -> None:
        """Remove the file of an ingested record, unless it holds another one, or is still being written."""
        path = record.entry.path
        several = len(record.entry.records) > 1
        if not record.entry.complete or (several and any(other.entry is record.entry for other in others)):
            return
        try:
            spool.remove(path)
        except OSError as error:
            # Its own pusher can have caused that, or a disk in trouble; the others' pushes go on.
            reason = f"{path}: it is ingested, but the file cannot be removed: {error.strerror}"
            self._asides.set_file(path, reason, retry_at=self._asides.soon())
            return
        self._asides.forget(path)
        self._queue.ingested(record)
