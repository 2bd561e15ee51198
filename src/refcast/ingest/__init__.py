"""From the spool into the store: records -> Push -> Events -> the deliveries that endpoints want.

Owns the spool's files and who takes turns. Which record comes next is told by `order`, what there is to announce of it
by `telling`, how that is stored by `announcing`; what an event says is `history`'s and the dialects' business. A
record's file goes last, after its events are committed, so that a crash anywhere means reading it again. What no record
tells is found by `sweep`.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from refcast import spool
from refcast.answers import Answers
from refcast.errors import RecordError, RepositoryError, StateError
from refcast.history import History
from refcast.ingest import order
from refcast.ingest.announcing import BATCH_EVENTS, Announcer, account_name, describe, full_name_of, introduced
from refcast.ingest.asides import RETRY_SECONDS, Asides
from refcast.ingest.lending import Lenders, intended
from refcast.ingest.order import Record
from refcast.ingest.reading import DoubtError, Reader
from refcast.ingest.telling import Telling
from refcast.ingest.trust import Step, is_doubt, steps_of
from refcast.model import RefUpdate, printable
from refcast.settings import Settings
from refcast.spool import boxes
from refcast.store import Store
from refcast.store.intake import Aside

__all__ = ["BATCH_EVENTS", "RETRY_SECONDS", "Ingest", "account_name", "describe", "full_name_of", "introduced"]

log = logging.getLogger(__name__)

DOUBT_SECONDS = 3600.0
"""How long a record that is not believed is judged again. After that it rests until somebody has it tried again."""

LOOK_SECONDS = 0.2
"""How long a pass goes on before it looks whether other repositories' records have come meanwhile."""

MOST_FILES = 1000
"""How many files of one stranger a pass looks at, the oldest first."""

HOLDING_SECONDS = 30 * 24 * 3600.0
"""How far a stranger's file can hold up that old notes are forgotten: anybody can give theirs any time."""

MOST_AT_ONCE = 32
"""How many repositories take turns: each of them has files open."""


def _go_on() -> bool:
    return True


@dataclass(slots=True)
class _Waiting:
    """What the spool holds of one repository."""

    records: list[Record] = field(default_factory=list)
    under_way: list[spool.Entry] = field(default_factory=list)
    """With the intents of pushes that still run."""
    stale: list[spool.Entry] = field(default_factory=list)
    """With the intents of pushes that ended without a record."""


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
        self._reader = Reader(self._trust, self._is_known)
        self._asides = Asides(store, clock, self._trust.is_trusted)
        self._cut: set[int] = set()
        """The users of whose files some were not looked at."""
        self._oldest: dict[Path, float] | None = None
        self._made_room = False
        """Whether a record of such a user was ingested since."""
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
        look = self._look()
        self._asides.renew(look)
        queue = self._read(look)
        first = set(queue)
        turns: dict[str, Generator[int]] = {}
        looked_at = time.monotonic()
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
                if first and time.monotonic() - looked_at >= LOOK_SECONDS:
                    for path, waiting in self._read(self._look()).items():
                        if path not in turns:
                            queue.setdefault(path, waiting)
                    looked_at = time.monotonic()
                if not (queue or turns) and self._made_room:
                    queue = self._read(self._look())
        finally:
            for left in turns.values():
                left.close()
            self._asides.store()
        return count

    def is_retrying(self) -> bool:
        """Whether something is set aside that is worth staying for: of what a stranger's files are, an hour long."""
        return any(
            aside.retry_at is not None
            and (self._trust.is_trusted(boxes.user_in(Path(aside.path))) or self._is_recent(aside))
            for aside in self._store.intake.asides()
        )

    def _is_recent(self, aside: Aside) -> bool:
        return abs(self._clock() - aside.since) < DOUBT_SECONDS

    def has_records(self) -> bool:
        """Whether the spool holds a whole record that is not set aside."""
        self._trust.renew()
        resting = {aside.path for aside in self._store.intake.asides()}
        paths = (path for path in self._some(self._look()) if str(path) not in resting)
        return any(not self._asides.is_counted(path) and spool.is_complete(path) for path in paths)

    def oldest(self) -> float:
        """The time of the oldest file in the spool that may still be told of, as the last pass has found it, in seconds
        since the epoch; infinite where there is none, and 0 where that cannot be told."""
        if self._oldest is None or not self._spool.is_dir():
            return 0.0
        return min((at for path, at in self._oldest.items() if not self._asides.get(path)), default=math.inf)

    def _look(self) -> boxes.Look:
        return spool.look(self._spool, lambda uid: not self._trust.is_trusted(uid))

    def _some(self, look: boxes.Look) -> list[Path]:
        """The files that this pass looks at."""
        self._cut, self._made_room = set(), False
        some = {}
        for uid, paths in look.files.items():
            some[uid] = [path for path in paths if not self._is_at_rest(path)]
            if len(some[uid]) > MOST_FILES and not self._trust.is_trusted(uid):
                self._cut.add(uid)
                del some[uid][MOST_FILES:]
        return boxes.Look(some).in_turns()

    def _is_at_rest(self, path: Path) -> bool:
        aside = self._asides.get(path)
        if aside is None:
            return self._asides.is_counted(path) and self._reader.is_bad(path)
        return aside.retry_at is None

    def _read(self, look: boxes.Look) -> dict[str, _Waiting]:
        """What waits, by repository: those with records that can be ingested now. Records come oldest first."""
        found: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        self._reader.keep(path for paths in look.files.values() for path in paths)
        oldest: dict[Path, float] = {}
        for path in self._some(look):
            aside = self._asides.get(path)
            try:
                entry = self._trust.with_believed_intents(self._reader.read(path)[0], self._is_known)
            except FileNotFoundError:
                continue
            except DoubtError as error:
                self._doubt(path, str(error))
                continue
            except (RecordError, OSError) as error:
                if aside is None or self._asides.is_due(aside):
                    lasting = isinstance(error, RecordError) and not self._is_fresh(path)
                    self._set_aside(path, _reason(path, error), retry_at=None if lasting else self._asides.soon())
                continue
            if entry.records or entry.intents:
                at = entry.time.timestamp()
                is_trusted = self._trust.is_trusted(entry.uid)
                oldest[path] = at if is_trusted else max(at, self._clock() - HOLDING_SECONDS)
            for part in entry.records:
                found[part.repository].records.append(Record(entry, part))
            for repository in {part.repository for part in entry.intents}:
                if entry.stale:
                    found[repository].stale.append(entry)
                elif entry.alive and not entry.complete:
                    found[repository].under_way.append(entry)
        self._oldest = oldest
        for one in found.values():
            one.records.sort(key=lambda record: record.entry.time)
        queue = {path: one for path, one in found.items() if one.records and not self._rests(path, one.records)}
        self._asides.store()
        return queue

    def _rests(self, path: str, records: list[Record]) -> bool:
        """Whether the repository is left alone for now. What has come meanwhile then waits with the others, or it
        would be ingested before them."""
        known = [self._asides.get(record.entry.path) for record in records]
        # What is not believed holds up nobody else's, and is judged again.
        aside = [one for one in known if one and not is_doubt(one.reason)]
        if not aside or any(map(self._asides.is_due, aside)):
            return False
        if not all(known) and not self._is_known(path):
            return False  # whoever waits for one that was not there may have told of it before it was made
        for record in records:
            if not self._asides.get(record.entry.path):
                self._set_aside(record.entry.path, aside[0].reason, retry_at=aside[0].retry_at)
        return True

    def _ingest_repository(self, path: str, waiting: _Waiting) -> Generator[int]:
        """The records of one repository, in the order in which its refs moved. Stops behind each transaction, with 1
        where a record was done with it, and else with 0."""
        records = waiting.records
        try:
            self._sift(records, self._against_user)
            if not records:
                return
            with History.open(path) as history:
                real = history.refs.real
                records[:] = [order.resolved(record, real) for record in records]
                self._sift(records, self._against_user)  # a symbolic ref can lead to where its pusher may not write
                under_way = list(intended(waiting.under_way, path, real, self._trust))
                moving = {ref for ref, *_ in under_way}
                if self._cut.intersection(record.entry.uid for record in records):
                    # What is missing may be in a file that this pass does not look at.
                    moving |= {ref for record in records for ref, _ in record.moves()}
                stale = list(intended(waiting.stale, path, real, self._trust))
                lenders = Lenders(stale)
                self._finish_done(records)
                over = [(ref, update) for ref, update, _, _ in stale]
                steps = [*((ref, update) for ref, update, _, _ in under_way), *over]
                number = self._judged(path, history, records, over, steps)
                if number is None:
                    return
                begun, tips = self._store.intake.begun(number), self._store.repositories.tips(number)
                followed = {(ref, update.old) for record in records for ref, update in record.moves()}
                while self._goes_on():
                    # One that an interruption has left half told comes first.
                    half_told = next((one for one in records if one.part.id in begun), None)
                    record = half_told or order.following(records, tips, moving)
                    if record is None:
                        break
                    try:
                        what = self._telling.announcement(number, record, tips, history, lenders, followed)
                        for _ in self._announcer.announce(history, what, tips):
                            if not self._goes_on():
                                return  # in the middle of a record: it is as after a crash
                            yield 0
                    except (StateError, RepositoryError, OSError):
                        raise
                    except Exception as error:
                        # A bug. It must not hold up the pushes behind it, nor lose this one.
                        log.exception("a bug in refcast met the record %s", record.entry.path)
                        self._set_aside(record.entry.path, f"a bug in refcast: {error!r}", retry_at=None)
                        records.remove(record)
                        tips = self._store.repositories.tips(number)
                        continue
                    records.remove(record)
                    self._finish(record, records)
                    yield 1
        except StateError:
            raise
        except Exception as error:
            self._put_off(path, records, error)

    def _put_off(self, path: str, records: list[Record], error: Exception) -> None:
        if not isinstance(error, (RepositoryError, OSError)):
            log.exception("a bug in refcast met the repository %s", printable(path))
        known = self._is_known(path)
        for record in records:
            where = record.entry.path
            # What nobody has ever seen there may be an invention, and there may be thousands.
            retry_at = self._asides.soon() if known else self._asides.later(where)
            self._set_aside(where, str(error), retry_at=retry_at)

    def _judged(
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

    def _sift(self, records: list[Record], against: Callable[[Record], str]) -> None:
        """Take out of `records` what does not count, by the reason that `against` gives, and set it aside."""
        for record in list(records):
            if reason := against(record):
                records.remove(record)
                self._doubt(record.entry.path, reason)

    def _doubt(self, path: Path, reason: str) -> None:
        # A push that is under way, or a group that is just being changed, can make it true.
        lasting = not self._is_fresh(path, DOUBT_SECONDS)
        known = self._asides.get(path)
        if known is None or (known.reason, known.retry_at is None) != (printable(reason), lasting):
            self._set_aside(path, reason, retry_at=None if lasting else self._asides.soon())

    def _against_user(self, record: Record) -> str:
        return self._trust.against_user(record, self._is_known)

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

    def _finish(self, record: Record, others: list[Record]) -> None:
        """Remove the file of an ingested record, unless it holds another one, or is still being written."""
        path = record.entry.path
        if not record.entry.complete or any(other.entry is record.entry for other in others):
            return
        try:
            spool.remove(path)
        except OSError as error:
            # Its own pusher can have caused that, or a disk in trouble; the others' pushes go on.
            reason = f"{path}: it is ingested, but the file cannot be removed: {error.strerror}"
            self._set_aside(path, reason, retry_at=self._asides.soon())
            return
        self._asides.forget(path)
        self._made_room = self._made_room or record.entry.uid in self._cut

    def _set_aside(self, path: Path, reason: str, *, retry_at: float | None) -> None:
        self._asides.set(path, reason, retry_at=retry_at, uid=boxes.user_of(path.parent))

    def _is_fresh(self, path: Path, seconds: float = RETRY_SECONDS) -> bool:
        """Whether a file may still be written to, by a process that cannot be seen from here: in a container."""
        try:
            return abs(self._clock() - path.lstat().st_mtime) < seconds
        except OSError:
            return False


def _reason(path: Path, error: RecordError | OSError) -> str:
    return str(error) if isinstance(error, RecordError) else f"{path}: {error.strerror}"
