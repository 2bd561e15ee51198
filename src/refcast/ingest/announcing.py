"""From moves of refs to what is stored of them: events with their deliveries, and the ledger, which moves with them.

Owns the bounded transactions, and what events say of the repository and of who pushed. Records and sweeps announce in
the same way, by this room; which moves there are to announce is theirs to find out.
"""

from __future__ import annotations

import pwd
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from refcast import people
from refcast.answers import LONGEST, Answers
from refcast.history import History
from refcast.ingest import order
from refcast.ingest.own_endpoints import OwnEndpoints
from refcast.ingest.rendering import paths, rendered, widest
from refcast.ingest.trust import Trust
from refcast.model import Endpoint, Event, Push, Pusher, RefUpdate, Repository, printable
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Batch, NewEvent
from refcast.store.recoveries import Covered

BATCH_EVENTS = 100
BATCH_DELIVERIES = 200
BATCH_BYTES = 4 * 1024 * 1024
"""What one transaction stores at most, but for one event more: a push of ten thousand refs must neither lock the store
nor hold up another repository's push for long."""

UNKNOWN = Pusher("unknown", "unknown")
"""Who made a move that no record and no intent tells of. Neither the owner of the repository nor that of the files is
known to have pushed. No number is given to it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a move, and when, as far as that is known."""

    pusher: Pusher
    time: datetime


@dataclass(frozen=True, slots=True)
class Announcement:
    """Moves in one place of a repository that are announced together, in this order: what was missed, then the push."""

    number: int
    """The repository's."""
    push: Push
    pusher: Pusher
    place: str = ""
    """What stands before the refs in the repository: refs/namespaces/…/, or nothing."""
    missed: Sequence[tuple[Origin, RefUpdate]] = ()
    """Moves that no record told of: their events are recovered ones."""
    covered: Sequence[Covered] = ()
    """What the record tells late."""
    unlisted: frozenset[str] = frozenset()
    """Refs of the push that the repository does not have, and so neither has the ledger."""
    awaited: bool = False
    """The push is still under way: its hook may wait for the answers of endpoints."""
    sweep: bool = False
    """No record is behind it. Each transaction stands for itself: the next sweep finds what is left."""
    counts: Counter[int] = field(default_factory=Counter)
    """How many events each endpoint has got of it, by its number."""


class Announcer:
    """`clock` gives seconds since the epoch."""

    def __init__(
        self, store: Store, spool_dir: Path, clock: Callable[[], float], answers: Answers | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._answers = answers
        self._endpoints = OwnEndpoints(store, clock)
        self.trust = Trust(spool_dir)
        self.settings = Settings()

    def pusher(self, uid: int, facts: Iterable[tuple[str, str]]) -> Pusher:
        """Who pushed: what a front end says, else the account."""
        known = dict(facts)
        name = ""
        if self.trust.is_front_end(uid):
            name = known.get("GL_USER") or known.get("REMOTE_USER") or ""
        full_name = "" if name else account_full_name(uid)
        name = printable(name or account_name(uid))
        return Pusher(username=name, name=full_name or name, id=self._store.repositories.user_id(name))

    def announce(self, history: History, what: Announcement, tips: dict[str, str]) -> Iterator[None]:
        """Store it, one transaction at a time, and stop behind each. `tips` is the ledger before it, and moves along.

        What an earlier, interrupted try has stored is left as it is."""
        path = what.push.repository
        endpoints = self._endpoints.of(what.number, path, self.settings.full_name(path))
        events = self._events(history, what, tips, endpoints)
        part: list[NewEvent] = []
        deliveries = size = 0
        for event in events:
            new = rendered(event, what.push.id, endpoints, self.settings, what.counts)
            part.append(new)
            deliveries += sum(len(content.deliveries) for content in new.contents)
            size += sum(len(content.payload) for content in new.contents)
            if len(part) >= BATCH_EVENTS or deliveries >= BATCH_DELIVERIES or size >= BATCH_BYTES:
                self._expect(what, part, endpoints)
                self._add(what, part, last=False)
                yield
                part, deliveries, size = [], 0, 0
        self._expect(what, part, endpoints)
        self._add(what, part, last=True)
        if self._answers:
            self._answers.stored(what.push.id, self._asleep)
        yield

    def _expect(self, what: Announcement, part: list[NewEvent], endpoints: list[Endpoint]) -> None:
        if self._answers and what.awaited:
            self._answers.expect(what.push.id, part, endpoints, len(what.push.updates))

    def _asleep(self) -> dict[str, str]:
        """The endpoints that fail and are not tried again while a pusher waits, with what the trouble is."""
        late = self._clock() + LONGEST
        return {one.name: one.error for one in self._store.lanes.failing() if one.due_at > late}

    def _events(
        self, history: History, what: Announcement, tips: dict[str, str], endpoints: list[Endpoint]
    ) -> Iterator[Event]:
        """The events in their order, told one by one as they are asked for."""
        path = what.push.repository
        repository = describe(self.settings, history, path, what.number)
        limits = widest(endpoints, self.settings)
        other_refs = any(endpoint.other_refs for endpoint in endpoints)
        watched = paths(endpoints)

        def told(push: Push, pusher: Pusher) -> Iterator[Event]:
            for event in history.events(push, tips, repository, pusher, limits, other_refs=other_refs, paths=watched):
                yield introduced(event, self.settings)

        for origin in dict.fromkeys(origin for origin, _ in what.missed):
            updates = tuple(update for its, update in what.missed if its == origin)
            gap = Push(what.push.id, path, origin.pusher.username, origin.time, updates)
            for event in told(gap, origin.pusher):
                yield replace(event, recovered=True)
            for update in updates:
                order.move(tips, what.place + update.ref, update.new)
        yield from told(what.push, what.pusher)
        for update in what.push.updates:
            if update.ref in what.unlisted:
                tips.pop(what.place + update.ref, None)
            else:
                order.move(tips, what.place + update.ref, update.new)

    def _add(self, what: Announcement, part: list[NewEvent], *, last: bool) -> None:
        moved = [new.event.update for new in part if new.event.update]
        if last:
            # It also moves the refs that make no event.
            moved += what.push.updates or [update for _, update in what.missed]
        tips = {
            what.place + update.ref: None if update.deleted or update.ref in what.unlisted else update.new
            for update in moved
        }
        push = what.push
        batch = Batch(
            record_id=push.id,
            repository_id=what.number,
            pusher=push.pusher,
            received_at=push.time.timestamp(),
            events=part,
            tips=tips,
            last=last or what.sweep,
            place=what.place,
            covered=what.covered if last else (),
        )
        self._store.intake.add(batch, self._clock())


def describe(settings: Settings, history: History, path: str, number: int) -> Repository:
    """What receivers are told of the open repository at `path`, whose number in the store is `number`."""
    text = history.description()
    if text.startswith("Unnamed repository"):  # what `git init` leaves there
        text = ""
    return settings.describe(path, id=number, description=text, default_branch=history.default_branch())


def introduced(event: Event, settings: Settings) -> Event:
    """The event with what is known of its pusher besides the user name. Of nobody nothing is known."""
    if event.pusher == UNKNOWN:
        return event
    return replace(event, pusher=people.described(event.pusher, settings.people, event.commits))


def account_name(uid: int) -> str:
    """The name of a unix account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def account_full_name(uid: int) -> str:
    """The full name of a unix account, the first field of its comment in passwd(5); empty where it has none."""
    try:
        return _full_name(pwd.getpwuid(uid))
    except KeyError:
        return ""


def full_name_of(username: str) -> str:
    """The same of the account with this name."""
    try:
        return _full_name(pwd.getpwnam(username))
    except (KeyError, ValueError):
        return ""


def _full_name(account: pwd.struct_passwd) -> str:
    return printable(account.pw_gecos.partition(",")[0]).strip()
