"""What waits in the spool, by repository, and what of it a pass looks at.

Owns how many of one stranger's files count at a time, and which repositories are left alone for a while. Reads files
through `reading`; what is told of them, and in which order, is others' business.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from refcast import spool
from refcast.errors import RecordError
from refcast.ingest.asides import Asides
from refcast.ingest.order import Record
from refcast.ingest.reading import DoubtError, Reader
from refcast.ingest.trust import Trust, is_doubt
from refcast.spool import boxes

MOST_FILES = 1000
"""How many files of one stranger a pass looks at, the oldest first."""

HOLDING_SECONDS = 30 * 24 * 3600.0
"""How far a stranger's file can hold up that old notes are forgotten: anybody can give theirs any time."""


@dataclass(slots=True)
class Waiting:
    """What the spool holds of one repository."""

    records: list[Record] = field(default_factory=list)
    under_way: list[spool.Entry] = field(default_factory=list)
    """With the intents of pushes that still run."""
    stale: list[spool.Entry] = field(default_factory=list)
    """With the intents of pushes that ended without a record."""


class Queue:
    def __init__(
        self, spool_dir: Path, clock: Callable[[], float], trust: Trust, asides: Asides, is_known: Callable[[str], bool]
    ) -> None:
        self._spool = spool_dir
        self._clock = clock
        self._trust = trust
        self._asides = asides
        self._is_known = is_known
        self._reader = Reader(trust, is_known)
        self._cut: set[int] = set()
        """The users of whose files some were not looked at."""
        self._made_room = False
        """Whether a record of such a user was ingested since."""
        self._oldest: dict[Path, float] | None = None

    def begin(self) -> dict[str, Waiting]:
        """What waits when a pass begins, by repository: those with records that can be ingested now."""
        look, late = self._look()
        self._asides.renew(look)
        return self._read(look, late)

    def again(self) -> dict[str, Waiting]:
        """The same later in the pass."""
        return self._read(*self._look())

    def has_records(self, resting: set[str]) -> bool:
        """Whether there is a whole record that is not among these paths."""
        paths = (path for path in self._some(self._listed()) if str(path) not in resting)
        return any(not self._asides.is_counted(path) and spool.is_complete(path) for path in paths)

    def misses_some_of(self, records: list[Record]) -> bool:
        """Whether there are files of those who pushed these that the pass does not look at."""
        return not self._cut.isdisjoint(record.entry.uid for record in records)

    def ingested(self, record: Record) -> None:
        """It is gone."""
        self._made_room = self._made_room or record.entry.uid in self._cut

    def has_room(self) -> bool:
        """Whether files can be looked at now that could not before."""
        return self._made_room

    def oldest(self) -> float:
        """The time of the oldest file in the spool that may still be told of, as the last pass has found it, in seconds
        since the epoch; infinite where there is none, and 0 where that cannot be told."""
        if self._oldest is None or not self._spool.is_dir():
            return 0.0
        return min((at for path, at in self._oldest.items() if not self._asides.get(path)), default=math.inf)

    def _look(self) -> tuple[boxes.Look, set[Path]]:
        """What is in the spool, and what of it is too late for this pass.

        To list a directory takes its time, and of two files that are made meanwhile it may show the later one alone.
        But what was there before any of a first list is surely in a second one, and was modified no later."""
        first = self._listed()
        if not first.files:
            return first, set()
        look, now = self._listed(), self._clock() * 1e9
        newest = max((at for at in first.times.values() if at <= now), default=0)
        return look, {path for path, at in look.times.items() if path not in first.times and at > newest}

    def _listed(self) -> boxes.Look:
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

    def _read(self, look: boxes.Look, late: set[Path]) -> dict[str, Waiting]:
        """Records come oldest first. What is `late` waits for the next look, as a push that is under way."""
        found: defaultdict[str, Waiting] = defaultdict(Waiting)
        self._reader.keep(path for paths in look.files.values() for path in paths)
        oldest: dict[Path, float] = {}
        begun: set[str] = set()
        for path in self._some(look):
            aside = self._asides.get(path)
            try:
                entry = self._trust.with_believed_intents(self._reader.read(path)[0], self._is_known)
            except FileNotFoundError:
                continue
            except DoubtError as error:
                self._asides.doubt(path, str(error))
                continue
            except (RecordError, OSError) as error:
                if aside is None or self._asides.is_due(aside):
                    lasting = isinstance(error, RecordError) and not self._asides.is_fresh(path)
                    self._asides.set_file(path, _reason(path, error), retry_at=None if lasting else self._asides.soon())
                continue
            if entry.records or entry.intents:
                at = entry.time.timestamp()
                is_trusted = self._trust.is_trusted(entry.uid)
                oldest[path] = at if is_trusted else max(at, self._clock() - HOLDING_SECONDS)
            if path in late:
                entry = self._trust.believed(entry, self._is_known)
                entry = replace(entry, intents=(*entry.intents, *entry.records), records=(), complete=False, alive=True)
                begun |= {part.repository for part in entry.intents}
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
        # Where nothing is known but the present refs, all that has led to them must be told of.
        unclear = {path for path in begun if not self._is_known(path)}
        queue = {
            path: one
            for path, one in found.items()
            if one.records and path not in unclear and not self._rests(path, one.records)
        }
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
                self._asides.set_file(record.entry.path, aside[0].reason, retry_at=aside[0].retry_at)
        return True


def _reason(path: Path, error: RecordError | OSError) -> str:
    return str(error) if isinstance(error, RecordError) else f"{path}: {error.strerror}"
