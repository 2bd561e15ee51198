"""Anything, in any order: hypothesis pushes, ingests, sweeps, answers, crashes, steers, prunes and sets clocks, and
after each step what must always hold is looked at.

Every event is delivered or visibly not; one request of a lane is in flight, and it is the lane's first; ids and bodies
stay as they were; and when all is quiet, the ledger is what the repository's refs are, and nothing waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from refcast import spool
from refcast.deliver import Deliver
from refcast.ingest import Ingest
from refcast.ingest.sweep import Sweep
from refcast.model import Endpoint, Request, Response
from refcast.settings import Retention, Settings
from refcast.store import Store
from refcast.store.selection import Selection
from refcast.transport import Kept
from spooled import DAY, World

REFS = ("main", "dev")
FINISHED = {"delivered", "refused", "canceled", "expired"}
LEFT = {"waiting", "aside", "held"}
ENDPOINTS: dict[str, dict[str, object]] = {
    "one": {"dialect": "gogs"},
    "many": {"dialect": "codescoring", "secret": "s", "batch_window": 5.0},
    "few": {"dialect": "gogs", "max_events": 1, "schedule": (60.0, 300.0), "on_failure": 1},
}
"""What each endpoint is like; `few` tells `one` of its troubles."""

ANSWERS = {
    "200": Response(0.1, 200),
    "500": Response(0.1, 500, error_class="status", error="HTTP 500"),
    "400": Response(0.1, 400, error_class="status", error="HTTP 400"),
    "413": Response(0.1, 413, error_class="status", error="HTTP 413"),
    "410": Response(0.1, 410, error_class="status", error="HTTP 410"),
    "429": Response(0.1, 429, (("Retry-After", "900"),), error_class="status", error="HTTP 429"),
    "timeout": Response(30.0, error_class="timeout", error="no answer within 30 s"),
}
answers = st.sampled_from(["200", *ANSWERS])
names = st.sampled_from(list(ENDPOINTS))
some = st.integers(0, 1000)
"""Chooses one of what there is."""


class Crash(BaseException):
    """kill -9, as far as a process can do that to itself: nothing catches it, and what was not committed is gone."""


class Faults:
    """Crashes at a statement, a commit or the removal of a file, counted from when it is set."""

    def __init__(self) -> None:
        self.left = 0
        self._real = spool.remove
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", self._count)
        sa.event.listen(sa.engine.Engine, "commit", self._count)
        spool.remove = self._remove

    def close(self) -> None:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", self._count)
        sa.event.remove(sa.engine.Engine, "commit", self._count)
        spool.remove = self._real

    def _count(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash

    def _remove(self, path: Path) -> None:
        self._count()
        self._real(path)
        self._count()


class Scripted:
    """Endpoints that answer what they are told to, while somebody looks on."""

    def __init__(self, look: Callable[[Request], None]) -> None:
        self.answer = "200"
        self.meanwhile: Callable[[], None] | None = None
        self.dies = ""
        self.wrong: list[Exception] = []
        self._look = look

    def send(self, request: Request, kept: Kept | None = None) -> Response:
        if self.dies == "before":
            raise Crash
        meanwhile, self.meanwhile = self.meanwhile, None
        answer = ANSWERS[self.answer]
        try:
            self._look(request)
            if meanwhile:
                meanwhile()
        except Exception as error:
            # Who sends takes that for a bug, and goes on.
            self.wrong.append(error)
        if self.dies == "after":
            raise Crash
        return answer


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="refcast-machine-")
        self.world = World(Path(self.directory.name)).__enter__()
        self.faults = Faults()
        self.transport = Scripted(self.look)
        self.late: list[tuple[str, list[str], float]] = []
        """Records that have not come yet."""
        self.under_way: list[str] | None = None
        """The moves of the push whose intent stands in the spool, and whose record does not."""
        self.seen: dict[str, tuple[str, str]] = {}
        """Each delivery by its id: its state when last looked at, and its payload."""
        self.sent: dict[str, tuple[bytes, tuple[tuple[str, str], ...]]] = {}
        """Each delivery that goes alone, as it was sent the first time."""
        self.steered: set[str] = set()
        """What a person has sent again or canceled: they made the order."""
        self.in_flight: Counter[str] = Counter()

    @initialize()
    def begin(self) -> None:
        for name, what in ENDPOINTS.items():
            self.world.endpoint(name, url=f"http://example.org/{name}", **what)
        self.restart()
        for moves in (["main:->A"], ["main:A>B", "dev:->A"], ["dev:A>B"]):
            self.world.put(*moves)
        self.world.run()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.faults.close()
            self.world.store.close()
            self.directory.cleanup()

    # What pushes do

    @rule(
        ref=st.sampled_from(REFS), to=st.sampled_from("-ABCDE"), how=st.sampled_from(["now", "now", "late", "killed"])
    )
    def push(self, ref: str, to: str, how: str) -> None:
        move = self.move(ref, to)
        if move is None:
            return
        if how == "now":
            self.world.put(move)
        elif how == "killed":
            self.world.set_refs(move)
            self.world.intend(move, alive=False)
        else:
            self.world.set_refs(move)
            self.late.append((next(self.world.names), [move], self.world.clock()))

    @rule(to=st.lists(st.sampled_from("-ABCDE"), min_size=2, max_size=2))
    def push_both(self, to: list[str]) -> None:
        moves = [move for ref, letter in zip(REFS, to, strict=True) if (move := self.move(ref, letter))]
        if moves:
            self.world.put(*moves)

    @rule(ref=st.sampled_from(REFS), to=st.sampled_from("-ABCDE"))
    def move_without_a_hook(self, ref: str, to: str) -> None:
        if move := self.move(ref, to):
            self.world.set_refs(move)

    @precondition(lambda self: self.under_way is None)
    @rule(ref=st.sampled_from(REFS), to=st.sampled_from("-ABCDE"), moved=st.booleans())
    def begin_a_push(self, ref: str, to: str, moved: bool) -> None:
        if move := self.move(ref, to):
            self.world.intend(move, alive=True)
            self.under_way = []
            if moved:
                self.world.set_refs(move)
                self.under_way = [move]

    @precondition(lambda self: self.under_way is not None)
    @rule(killed=st.booleans())
    def end_the_push(self, killed: bool) -> None:
        moves, self.under_way = self.under_way, None
        (path,) = self.world.box.glob(f"{os.getpid()}-*.push")
        dead = path.rename(path.with_name(next(self.world.names)))
        if moves and not killed:
            self.world.put(*moves, name=dead.name, set_refs=False)

    @precondition(lambda self: self.late)
    @rule(which=some)
    def the_late_record_comes(self, which: int) -> None:
        name, moves, at = self.late.pop(which % len(self.late))
        self.world.put(*moves, name=name, at=at, set_refs=False)

    # What the worker does

    @rule(crash=st.just(0) | st.integers(1, 60))
    def ingest(self, crash: int) -> None:
        self.crashing(crash, self.world.run)

    @rule(crash=st.just(0) | st.integers(1, 60))
    def sweep(self, crash: int) -> None:
        self.crashing(crash, self.sweep_all)

    @rule(said=st.lists(answers, min_size=1, max_size=8), meanwhile=st.none() | some, waits=st.booleans())
    def work(self, said: list[str], meanwhile: int | None, waits: bool) -> None:
        """Ingest, and send so many requests; `waits` until something is due. Meanwhile something happens once."""
        self.world.run()
        if meanwhile is not None:
            self.transport.meanwhile = lambda: self.something(meanwhile)
        for one in said:
            due = self.world.store.lanes.next_due(after=self.world.clock())
            if waits and due is not None:
                self.world.clock.now = due
            self.transport.answer = one
            self.deliverer.one()
        self.transport.meanwhile = None

    @rule(dies=st.sampled_from(["before", "after"]), crash=st.just(0) | st.integers(1, 12))
    def deliver_and_crash(self, dies: str, crash: int) -> None:
        self.world.run()
        self.transport.dies = "" if crash else dies
        self.crashing(crash, self.deliverer.one)
        self.transport.dies = ""

    @rule(days=st.sampled_from([0.0, 1.0, 30.0]), size=st.sampled_from([0, 3000, 1 << 30]))
    def prune(self, days: float, size: int) -> None:
        limits = Retention(days=days, size=size, waiting_days=max(days, 1.0) * 3, waiting_size=max(size, 3000))
        self.every(lambda: self.world.store.retention.step(self.world.clock(), limits))

    # What people do

    @rule(which=some)
    def redeliver(self, which: int) -> None:
        if row := self.choose(which, FINISHED | {"waiting"}):
            self.steered.add(row)
            self.world.store.steering.redeliver(Selection(ids=(row,)), self.world.clock())

    @rule(which=some)
    def cancel(self, which: int) -> None:
        if row := self.choose(which, LEFT | {"refused", "expired"}):
            self.steered.add(row)
            self.world.store.steering.cancel(Selection(ids=(row,)), self.world.clock(), "canceled by hand")

    @rule(name=names)
    def disable(self, name: str) -> None:
        self.world.store.endpoints.disable(self.endpoint(name).id, "disabled by hand")

    @rule(name=names, let_go=st.booleans())
    def enable(self, name: str, let_go: bool) -> None:
        if let_go:
            self.steered |= {row for row, endpoint, state in self.rows() if endpoint == name and state in LEFT}
            chosen = Selection(endpoint=name)
            self.world.store.steering.cancel(chosen, self.world.clock(), "let go", ("waiting", "aside"))
        self.world.store.endpoints.enable(self.endpoint(name).id, self.world.clock())

    @rule(name=names)
    def release(self, name: str) -> None:
        self.world.store.steering.release(name, self.world.clock())

    @rule(
        name=names,
        schedule=st.sampled_from([(), (60.0,), (60.0, 300.0)]),
        tries=st.sampled_from([None, 1, 4]),
        rejects=st.sampled_from([None, True, False]),
        most=st.sampled_from([None, 1]),
    )
    def edit(
        self, name: str, schedule: tuple[float, ...], tries: int | None, rejects: bool | None, most: int | None
    ) -> None:
        changed = replace(self.endpoint(name), schedule=schedule, tries=tries, rejects=rejects, max_events=most)
        self.world.store.endpoints.change(replace(changed, url=f"http://example.com/{name}"))

    @rule(seconds=st.sampled_from([1.0, 61.0, 400.0, 3700.0, DAY, 5 * DAY, -10.0, -3600.0, -3 * DAY]))
    def set_clock(self, seconds: float) -> None:
        self.world.clock.now += seconds
        if seconds < -60:
            self.world.store.lanes.turn_back(-seconds)
        self.deliverer.pull_back()

    # What must hold

    @invariant()
    def every_event_has_its_deliveries(self) -> None:
        """One for each endpoint; what is gone was finished; and what is not delivered says why."""
        now = {}
        for row, state, payload, reason, finished in self.world.sql(
            "SELECT d.id, d.state, c.payload, d.reason, d.finished_at FROM deliveries d JOIN contents c"
            " ON c.id = d.content_id"
        ):
            now[row] = state, payload
            assert (state in FINISHED) == (finished is not None), (state, finished)
            assert reason or state not in {"refused", "canceled", "expired", "held", "aside"}
            assert self.seen.get(row, now[row])[1] == payload
        for row, (state, _) in self.seen.items():
            assert row in now or state in FINISHED, f"a delivery vanished that was {state}"
        self.seen = now
        doubled = "SELECT c.event_id FROM deliveries d JOIN contents c ON c.id = d.content_id WHERE c.event_id NOT NULL"
        assert self.world.sql(f"{doubled} GROUP BY c.event_id, d.endpoint_id, c.kind HAVING count(*) > 1") == []

    @invariant()
    def every_request_was_right(self) -> None:
        for error in self.transport.wrong:
            raise error

    @invariant()
    def no_lane_is_claimed_for_ever(self) -> None:
        assert self.world.sql("SELECT id FROM lanes WHERE claimed") == []
        stepped = set(self.world.sql("SELECT lane_id, position FROM deliveries WHERE state = 'aside'"))
        assert stepped <= set(self.world.sql("SELECT id, aside FROM lanes"))

    @invariant()
    def each_ref_is_one_chain(self) -> None:
        """The events of a ref lead from each to the next: nothing is missed, nothing told twice."""
        at: dict[str, str] = {}
        for ref, old, new in self.world.sql("SELECT ref, old, new FROM events ORDER BY id"):
            assert at.setdefault(ref, old) == old, self.world.told()
            at[ref] = new

    def look(self, request: Request) -> None:
        """A request has come: it is that of one claimed lane, whose first it is, and as it was the last time."""
        name = request.url.rpartition("/")[2]
        assert self.in_flight[name] == 0
        number = self.endpoint(name).id
        lane, aside = self.world.sql("SELECT id, aside FROM lanes WHERE endpoint_id = ? AND claimed", number)[0]
        waiting = self.world.sql(
            "SELECT d.id, c.payload FROM deliveries d JOIN contents c ON c.id = d.content_id"
            " WHERE d.lane_id = ? AND d.state = 'waiting' ORDER BY d.position",
            lane,
        )
        ids = self.ids_of(request)
        assert ids[0] in [row for row, _ in waiting][:1]
        bodies = [payload for _, payload in waiting]
        if name != "many":
            kept = tuple((key, value) for key, value in request.headers if "Signature" not in key)
            assert self.sent.setdefault(ids[0], (request.body, kept)) == (request.body, kept)
            assert request.body == bodies[0]
        else:
            told = json.loads(request.body)["events"]
            first = [event for payload in bodies[: len(told)] for event in json.loads(payload)["events"]]
            assert told == first
        if aside is None:
            held = "SELECT 1 FROM deliveries WHERE lane_id = ? AND state = 'aside'"
            assert self.world.sql(held, lane) == []

    def ids_of(self, request: Request) -> list[str]:
        headers = {key.lower(): value for key, value in request.headers}
        if "x-gogs-delivery" in headers:
            return [headers["x-gogs-delivery"]]
        number = self.endpoint("many").id
        query = "SELECT id FROM deliveries WHERE endpoint_id = ? AND state = 'waiting' ORDER BY position"
        return [row for (row,) in self.world.sql(query, number)][:1]

    # How it is done

    def move(self, ref: str, to: str) -> str | None:
        """From where a ref is, if that is elsewhere, and no push is moving it."""
        old = self.world.refs().get(ref, "-")
        return None if old == to else f"{ref}:{old}>{to}"

    def endpoint(self, name: str) -> Endpoint:
        return self.world.store.endpoints.get(name)

    def rows(self) -> list[tuple[str, str, str]]:
        query = "SELECT d.id, e.name, d.state FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id"
        return [(row, name, state) for row, name, state in self.world.sql(f"{query} ORDER BY d.position")]

    def choose(self, which: int, states: set[str]) -> str | None:
        found = [row for row, _, state in self.rows() if state in states]
        return found[which % len(found)] if found else None

    def something(self, which: int) -> None:
        """What may happen while a request is under way."""
        name = list(ENDPOINTS)[which % len(ENDPOINTS)]
        lane = self.world.sql("SELECT e.name FROM lanes l JOIN endpoints e ON e.id = l.endpoint_id WHERE l.claimed")
        with self.busy([one for (one,) in lane]):
            (
                lambda: self.cancel(which),
                lambda: self.redeliver(which),
                lambda: self.disable(name),
                lambda: self.enable(name, which % 2 == 0),
                lambda: self.release(name),
                lambda: self.prune(0.0, 0),
                self.world.run,
                self.sweep_all,
                self.deliverer.one,
            )[which % 9]()

    @contextlib.contextmanager
    def busy(self, endpoints: list[str]) -> Iterator[None]:
        self.in_flight.update(endpoints)
        try:
            yield
        finally:
            self.in_flight.subtract(endpoints)

    def restart(self) -> None:
        """A new worker in place of the one that died."""
        self.world.store.close()
        self.world.store = Store.open(self.world.state)
        self.world.ingest = Ingest(self.world.store, self.world.state / "spool", self.world.clock)
        self.deliverer = Deliver(self.world.store, self.transport, self.world.clock, lambda: 0.0, lambda: False)
        self.world.store.lanes.release_all()

    def crashing(self, number: int, work: Callable[[], object]) -> None:
        self.faults.left = number
        try:
            work()
            self.faults.left = 0
        except Crash:
            self.restart()
        finally:
            self.faults.left = 0

    def every(self, step: Callable[[], bool]) -> None:
        for _ in range(500):
            if not step():
                return
        raise AssertionError("it never gets done")

    def sweep_all(self) -> None:
        """Every repository, now, as when a person asks for it."""
        self.world.store.repositories.ask_sweep(1, self.world.clock())
        sweep = Sweep(self.world.store, self.world.state / "spool", self.world.clock)
        before = len(self.world.told())
        self.every(lambda: sweep.step(Settings()))
        told = {event.partition(":")[0] for event in self.world.told()[before:]}
        assert not told & self.named(), "a sweep has told what a record or a push under way is to tell"

    def named(self) -> set[str]:
        """The branches that records in the spool name, and pushes that are under way."""
        entries = [spool.read_intents(path) for path in spool.files(self.world.state / "spool")]
        parts = [part for entry in entries for part in (entry.intents if entry.alive else entry.records)]
        return {update.short for part in parts for update in part.updates}

    def settle(self) -> None:
        """All is well at last: what is there then is all there will be."""
        if self.under_way is not None:
            self.end_the_push(killed=False)
        while self.late:
            self.the_late_record_comes(0)
        self.transport.answer = "200"
        for name in ENDPOINTS:
            self.enable(name, let_go=False)
            self.release(name)
        for _ in range(3):
            self.world.clock.now += 2 * 3600.0
            self.world.run()
            self.sweep_all()
            for name in ENDPOINTS:
                self.release(name)
            self.world.clock.now += 3600.0
            self.every(self.deliverer.one)
        self.every_event_has_its_deliveries()
        self.every_request_was_right()
        self.no_lane_is_claimed_for_ever()
        self.each_ref_is_one_chain()
        assert self.world.tips() == self.world.refs()
        assert [state for _, _, state in self.rows() if state in LEFT] == []
        assert self.world.spooled() == []


Machine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
TestMachine = Machine.TestCase
