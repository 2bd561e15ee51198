"""Retention: what is finished is pruned, what waits too long expires, and the file gives its room back.

Owns when and in which order that happens, and not the limits: those are handed down. A round goes over the tables in
small transactions, one for each step, so that deliveries go on between them:

1. finished deliveries older than `days` go, with their attempts and contents
2. what waits, is aside or held longer than `waiting_days` expires
3. contents and attempts are measured, a slice at a time
4. beyond `size` finished ones go: first what was delivered or canceled, then what reached nobody; oldest first
5. beyond `waiting_size` the oldest of what waits expires
6. events that nothing belongs to, and records, go by age, unless the spool holds something as old; so do secrets that
   were kept beside new ones
7. free pages are given back to the file system

What expires is finished by that: it stays, with its payload, until its own time comes, and can be sent again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.endpoints import Endpoints
from refcast.store.expiry import expire_old, expire_oldest, tell
from refcast.store.pruning import REACHED, ROWS, UNREACHED, forget_events, forget_records, measure, prune
from refcast.store.schema import deliveries, meta

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
ROUND_SECONDS = 600.0
"""From the beginning of one round to that of the next."""
KEPT_SECONDS = 3600.0
"""What has just finished is kept whatever its size: somebody may be looking at it, or a request be under way."""
LEAP_SECONDS = DAY
"""A clock that is so far ahead of the last round may have been set wrong. Nothing goes by age for as long again."""

PAGES = 200
"""Pages that one transaction gives back."""
SPARE_PAGES = 1000
"""Free pages that are kept for what comes; and no less than a twentieth of the file."""


class Limits(Protocol):
    """How long what is stored stays: the settings' words. Days, and bytes."""

    @property
    def days(self) -> float: ...
    @property
    def size(self) -> int: ...
    @property
    def waiting_days(self) -> float: ...
    @property
    def waiting_size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What the last round found."""

    at: float
    """When it began."""
    finished: int | None = None
    """Bytes of finished payloads and attempts, after pruning; None until they were measured once."""
    waiting: int | None = None
    """Bytes of the payloads that wait, are aside or held, each counted once."""
    hold_until: float | None = None
    """The clock has leapt: nothing goes by age until then. None if all is well."""


class Retention:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._round: Iterator[None] | None = None
        self._began: float | None = None

    def step(self, now: float, limits: Limits, spooled_since: Callable[[], float] = lambda: 0.0) -> bool:
        """One small transaction of a round, if it is time for one. Whether more is to be done now.

        `spooled_since` tells, once a round, the time of the oldest file in the spool: what is older cannot be read from
        it any more. 0 where nobody knows."""
        if self._round is None:
            if not self._is_due(now):
                return False
            self._began = now
            self._round = self._go(now, limits, spooled_since)
        try:
            next(self._round)
        except StopIteration:
            self._round = None
            return False
        except BaseException:
            self._round = None
            raise
        return True

    def figures(self) -> Figures | None:
        """What the last round found; None before the first."""
        with self._database.read() as connection:
            noted = connection.execute(sa.select(meta.c.value).where(meta.c.key == "retention")).scalar()
        return None if noted is None else Figures(**json.loads(noted))

    def _is_due(self, now: float) -> bool:
        if self._began is None:
            # A worker that was started for one push must not go over the store that the last one has gone over.
            last = self.figures()
            self._began = last.at if last else None
        return self._began is None or not self._began <= now < self._began + ROUND_SECONDS

    def _note(self, figures: Figures) -> None:
        with self._database.write() as connection:
            value = json.dumps(asdict(figures))
            known = sa.update(meta).where(meta.c.key == "retention").values(value=value)
            if not connection.execute(known).rowcount:
                connection.execute(sa.insert(meta).values(key="retention", value=value))

    def _go(self, now: float, limits: Limits, spooled_since: Callable[[], float]) -> Iterator[None]:
        last = self.figures()
        figures = _after(last, now)
        if figures.hold_until is not None and (last is None or last.hold_until is None):
            log.warning(
                "the clock is more than a day ahead of the last look at the store: nothing goes by age before %s",
                datetime.fromtimestamp(figures.hold_until, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        self._note(figures)
        yield
        yield from self._pull_back(now)
        kept = now - KEPT_SECONDS
        if figures.hold_until is None:
            while prune(self._database, (*REACHED, *UNREACHED), min(now - limits.days * DAY, kept))[0]:
                yield
            reason = f"it waited longer than {limits.waiting_days:g} days (retention.waiting_days)"
            yield from expire_old(self._database, now, now - limits.waiting_days * DAY, reason)
        finished, waiting = yield from measure(self._database)
        for states in (REACHED, UNREACHED):
            while finished > limits.size:
                found, freed = prune(self._database, states, kept, finished - limits.size)
                finished -= freed
                if not found:
                    break
                yield
        reason = f"what waits took more than {limits.waiting_size} bytes (retention.waiting_size)"
        expired = 0
        while waiting > limits.waiting_size:
            found, freed = expire_oldest(self._database, now, waiting - limits.waiting_size, reason)
            waiting, finished, expired = waiting - freed, finished + freed, expired + found
            if not found:
                break
            yield
        tell(expired, reason)
        if figures.hold_until is None:
            # What the spool may still tell of stays: a record that is read twice, or one that a recovery covers.
            before = min(now - limits.days * DAY, spooled_since())
            yield from forget_events(self._database, before)
            yield from forget_records(self._database, before)
            Endpoints(self._database).forget_old_secrets(now)
        self._note(replace(figures, finished=finished, waiting=waiting))
        yield
        yield from self._give_back()

    def _pull_back(self, now: float) -> Iterator[None]:
        """What finished in the future did so when the clock was wrong: without this it would stay until then."""
        for state in (*REACHED, *UNREACHED):
            while True:
                ahead = (
                    sa.select(deliveries.c.position)
                    .where(deliveries.c.state == state, deliveries.c.finished_at > now + DAY)
                    .limit(ROWS)
                )
                with self._database.read() as connection:
                    if connection.execute(ahead).first() is None:
                        break
                with self._database.write() as connection:
                    change = sa.update(deliveries).where(deliveries.c.position.in_(ahead)).values(finished_at=now)
                    connection.execute(change)
                yield

    def _give_back(self) -> Iterator[None]:
        while self._database.give_back(PAGES, keep=SPARE_PAGES):
            yield
        self._database.checkpoint()


def _after(last: Figures | None, now: float) -> Figures:
    """How a round begins: whether it may trust the clock."""
    if last is None:
        return Figures(now)
    hold = last.hold_until
    if hold is not None and not hold - LEAP_SECONDS <= now < hold:
        hold = None  # it is over, or the clock was put right
    elif hold is None and now > last.at + LEAP_SECONDS:
        hold = now + LEAP_SECONDS
    return replace(last, at=now, hold_until=hold)
