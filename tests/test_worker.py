"""The worker: one for a state directory, heard by hooks, never ended by a fault, gone when it is idle.

Here it runs in a thread of the test with a real spool, store and receiver; tests/test_kill.py has it as a process.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from receiver import Received, Receiver
from refcast import ingest, presence, worker
from refcast.errors import RefcastError, StateError
from refcast.ingest import Ingest, sweep
from refcast.presence import AlreadyRunning, running
from refcast.settings import Settings
from refcast.store import FILE, Store
from refcast.store.lanes import Lanes
from refcast.transport import Transport
from refcast.worker import Worker, refresh_notice
from refcast.worker.pools import Pool
from spooled import NOON, Clock, World

NEVER = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.clock.now = time.time()
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as serving:
        yield serving


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test with it passes by polling: a wake-up that is lost stays lost."""
    monkeypatch.setattr(worker, "POLL_SECONDS", NEVER)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.05)


@dataclass
class Running:
    """A worker in a thread, within a `with`. `looks` counts how often it has looked at the spool."""

    world: World
    on_demand: bool = False
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    faults: list[BaseException] = field(default_factory=list)
    looks: int = 0

    def __enter__(self) -> Running:
        self.worker = Worker(self.world.state, self.world.store, Transport(), self.clock, lambda: 0.0, self.steady)
        real = self.worker._look

        def look() -> bool:
            self.looks += 1
            return real()

        self.worker._look = look  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.worker.run(on_demand=self.on_demand)
        except BaseException as fault:
            self.faults.append(fault)

    def wait_for_looks(self, more: int) -> None:
        enough = self.looks + more
        until(lambda: self.looks >= enough)

    def wait_for_end(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive(), "the worker does not end"

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self.wait_for_end()
        self.worker.close()
        assert not self.faults


def until(is_true: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.001)


def draining(world: World) -> bool:
    one = Worker(world.state, world.store, Transport(), time.time, lambda: 0.0)
    try:
        return one.drain()
    finally:
        one.close()


def push(world: World, *moves: str) -> None:
    """What a hook does: write the record, then look whether a worker runs."""
    world.put(*moves)
    running(world.state)


@pytest.mark.usefixtures("patient")
class TestWakeUps:
    def test_a_record_is_heard_of(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        with Running(world):
            push(world, "main:->A")
            receiver.wait_for(1)
            for number, move in enumerate(("main:A>B", "main:B>C", "main:C>D"), 2):
                push(world, move)
                receiver.wait_for(number)
        assert world.sent(receiver) == ["main:->A", "main:A>B", "main:B>C", "main:C>D"]

    def test_what_was_there_before_is_found(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world):
            receiver.wait_for(1)

    def test_a_lane_that_falls_due_is_served(self, world: World, receiver: Receiver) -> None:
        receiver.answers([(503, [("Retry-After", "5")], b"")])
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world):
            receiver.wait_for(1)
            until(world.store.lanes.failing)
            # Five seconds are the least that is waited; here they are over sooner.
            world.sql("UPDATE lanes SET due_at = due_at - 4.9")
            running(world.state)
            receiver.wait_for(2)

    def test_a_delivery_that_comes_while_its_lane_is_busy_follows_at_once(
        self, world: World, receiver: Receiver
    ) -> None:
        world.endpoint(url=receiver.url)
        receiver.hold()
        with Running(world):
            push(world, "main:->A")
            receiver.wait_for(1)
            push(world, "main:A>B")
            until(lambda: len(world.told()) == 2)
            receiver.release()
            receiver.wait_for(2)

    def test_more_lanes_than_threads_are_all_served(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "THREADS", 2)
        for number in range(7):
            world.endpoint(f"e{number}", url=receiver.url)
        with Running(world):
            push(world, "main:->A", "dev:->A")
            receiver.wait_for(14)

    def test_deliveries_go_out_while_a_large_push_is_being_ingested(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "BATCH_EVENTS", 1)
        world.endpoint(url=receiver.url)
        arrived = threading.Event()
        real = Worker._between

        def between(self: Worker) -> bool:
            going_on = real(self)
            if world.told():
                assert arrived.wait(30), "nothing was sent before the end"
            return going_on

        receiver.answer = lambda _: arrived.set() or 200  # type: ignore[func-returns-value]
        monkeypatch.setattr(Worker, "_between", between)
        with Running(world):
            push(world, "one:->A", "two:->A", "three:->A")
            receiver.wait_for(3)

    def test_stop_is_heard_while_waiting(self, world: World) -> None:
        with Running(world) as one:
            one.worker.stop()
            one.wait_for_end()
        assert running(world.state) is None


class TestStop:
    def test_between_two_records(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for ref in ("one", "two", "three"):
            world.put(f"{ref}:->A")
        with Running(world) as one:
            real = one.worker._ingest._announcer.announce

            def and_stop(*arguments: object) -> Iterator[None]:
                one.worker.stop()
                return real(*arguments)  # type: ignore[arg-type]

            one.worker._ingest._announcer.announce = and_stop  # type: ignore[method-assign,assignment]
            running(world.state)
            one.wait_for_end()
        draining(world)
        assert sorted(world.told()) == ["one:->A", "three:->A", "two:->A"]

    def test_after_close_does_no_harm(self, world: World) -> None:
        one = Worker(world.state, world.store, Transport(), time.time, lambda: 0.0)
        one.close()
        read, write = os.pipe2(os.O_NONBLOCK)
        one.stop()
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
        os.close(read)
        os.close(write)


@pytest.mark.usefixtures("hasty")
class TestOnDemand:
    def test_leaves_when_idle(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world, on_demand=True) as one:
            one.wait_for_end()
        assert len(receiver.book) == 1
        assert running(world.state) is None
        assert not (world.state / presence.PID_FILE).exists()

    def test_stays_while_anything_is_pending(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "IDLE_SECONDS", 5)
        receiver.answers([500])
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world, on_demand=True, clock=world.clock) as one:
            until(world.store.lanes.failing)
            world.clock.now += 50
            one.wait_for_looks(3)
            assert one.thread.is_alive()
            world.clock.now += 11
            receiver.wait_for(2)
            until(lambda: not world.store.lanes.is_pending())
            one.wait_for_looks(2)  # so that it has seen that, too
            world.clock.now += 5
            one.wait_for_end()

    def test_a_clock_that_is_set_back_does_not_keep_it_for_long(self, world: World) -> None:
        with Running(world, on_demand=True, clock=world.clock) as one:
            one.wait_for_looks(1)
            world.clock.now -= 365 * 24 * 3600
            one.wait_for_looks(2)
            world.clock.now += 1
            one.wait_for_end()

    def test_a_record_that_comes_as_it_leaves_is_not_left_behind(
        self, world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A hook has seen it run, and starts no other; at that moment the worker has made up its mind."""

        class Hook(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "leaves" in record.getMessage() and not receiver.book:
                    world.put("main:->A")
                    seen.append(running(world.state))

        seen: list[int | None] = []
        caplog.set_level(logging.INFO, "refcast")
        hook = Hook()
        logging.getLogger("refcast.worker").addHandler(hook)
        try:
            world.endpoint(url=receiver.url)
            with Running(world, on_demand=True) as one:
                one.wait_for_end()
        finally:
            logging.getLogger("refcast.worker").removeHandler(hook)
        assert seen == [os.getpid()]
        assert len(receiver.book) == 1
        assert world.spooled() == []

    def test_a_record_that_is_to_be_tried_again_as_it_leaves_is_not_left_behind(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`refcast record retry` has seen it run, and starts no other."""

        @contextlib.contextmanager
        def leaving(self: Worker) -> Iterator[None]:
            with real(self):
                yield
            if not receiver.book:
                world.store.intake.retry_aside(None, world.clock())

        real = Worker._sending
        monkeypatch.setattr(Worker, "_sending", leaving)
        world.endpoint(url=receiver.url)
        path = world.put("main:->A")
        world.store.intake.set_aside(str(path), "a bug in refcast", NOON, None)
        with Running(world, on_demand=True) as one:
            one.wait_for_end()
        assert len(receiver.book) == 1

    def test_stays_for_what_is_left_to_sweep(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each look takes longer than it would stay idle."""
        monkeypatch.setattr(worker, "IDLE_SECONDS", 0.0)
        monkeypatch.setattr(sweep, "SLICE", 1)
        world.endpoint(url=receiver.url)
        world.set_refs("one:->A", "three:->A", "two:->A")
        world.sql("UPDATE repositories SET swept_at = 0")
        with Running(world, on_demand=True) as running_one:
            running_one.wait_for_end()
        assert world.sent(receiver) == ["one:->A", "three:->A", "two:->A"]

    @pytest.mark.parametrize("on_demand", [False, True])
    def test_leaves_when_refcast_was_removed(self, world: World, on_demand: bool) -> None:
        world.endpoint(url="http://127.0.0.1:1/")
        world.put("main:->A")
        gone = world.state.with_name("gone")
        with Running(world, on_demand=on_demand) as one:
            until(world.store.lanes.failing)
            world.state.rename(gone)
            one.wait_for_end()
        assert not world.state.exists()
        gone.rename(world.state)

    def test_what_only_a_person_can_mend_does_not_keep_it(self, world: World) -> None:
        world.write("99999999-0.push", ["refcast 1 push"], at=NOON)
        with Running(world, on_demand=True) as one:
            one.wait_for_end()
        assert len(world.asides()) == 1


class TestReplacedStore:
    """A copy from a backup is put in the place of the store while the worker runs."""

    def test_what_was_sent_from_the_old_one_is_not_recorded_in_the_new(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def reopen(self: Store) -> None:
            was_answered = answered.is_set()
            real(self)
            reopened.append(was_answered)

        def answer(received: Received) -> int:
            if received is receiver.book[0]:
                answered.set()
                return 200
            return 500

        def join(self: Pool, seconds: float) -> object:
            joins.append(seconds)
            return really_join(self, min(seconds, 0.05))

        reopened: list[bool] = []
        joins: list[float] = []
        answered = threading.Event()
        real, really_join = Store.reopen, Pool.join
        monkeypatch.setattr(Store, "reopen", reopen)
        monkeypatch.setattr(Pool, "join", join)
        monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(worker, "GRACE_SECONDS", 0.05)
        world.endpoint(url=receiver.url)
        copy = world.state / "copy"
        world.sql("VACUUM INTO ?", str(copy))
        receiver.answer = answer
        receiver.hold()
        with Running(world) as one:
            push(world, "main:->A")
            receiver.wait_for(1)
            for rest in ("-wal", "-shm"):
                (world.state / (FILE + rest)).unlink()
            copy.replace(world.state / FILE)
            push(world, "main:A>B")
            until(lambda: len(joins) > 6 or reopened)
            receiver.release()
            until(lambda: reopened)
            until(lambda: [row.attempts for row in one.worker._store.reports.deliveries()] == [0, 1])
        assert reopened == [True]
        assert [row.state for row in world.store.reports.deliveries()] == ["waiting", "waiting"]

    def test_a_stop_does_not_wait_for_it(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(worker, "GRACE_SECONDS", 0.05)
        world.endpoint(url=receiver.url)
        copy = world.state / "copy"
        world.sql("VACUUM INTO ?", str(copy))
        receiver.hold()
        with Running(world) as one:
            push(world, "main:->A")
            receiver.wait_for(1)
            copy.replace(world.state / FILE)
            until(lambda: not one.worker._pools)
        receiver.release()


class TestRestoredStore:
    def test_what_it_has_not_seen_is_announced_when_a_worker_starts(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        assert draining(world)
        copy = world.state / "copy"
        world.sql("VACUUM INTO ?", str(copy))
        world.put("main:A>B", "new:->C")
        assert draining(world)
        world.store.close()
        for rest in ("-wal", "-shm"):
            (world.state / (FILE + rest)).unlink(missing_ok=True)
        copy.replace(world.state / FILE)
        world.store = Store.open(world.state)
        world.sql("UPDATE repositories SET swept_at = swept_at - ?", sweep.START_SECONDS + 1)
        assert draining(world)
        assert world.told() == ["main:->A", "main:A>B?", "new:->C?"]
        assert world.sent(receiver) == ["main:->A", *["main:A>B", "new:->C"] * 2]
        assert draining(world)
        assert len(receiver.book) == 5


class Flaky:
    """Fails a few times, then does what it should."""

    def __init__(self, times: int, real: Callable[..., object], fault: Exception) -> None:
        self.left, self.real, self.fault = times, real, fault
        self.lock = threading.Lock()

    def __call__(self, *arguments: object, **more: object) -> object:
        with self.lock:
            self.left -= 1
            failing = self.left >= 0
        if failing:
            raise self.fault
        return self.real(*arguments, **more)


FAULTS = [
    StateError("database is locked"),
    RefcastError("something"),
    OSError(errno.ENOSPC, "No space left on device"),
    AssertionError("a bug"),
    KeyError("a bug"),
]


@pytest.mark.usefixtures("hasty")
class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS, ids=repr)
    @pytest.mark.parametrize(
        ("owner", "name"),
        [(Ingest, "run"), (Lanes, "claim"), (Lanes, "sleeping"), (Lanes, "is_pending"), (worker, "refresh_notice")],
        ids=lambda value: getattr(value, "__name__", value),
    )
    def test_pass_and_the_worker_goes_on(
        self,
        world: World,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        owner: object,
        name: str,
        fault: Exception,
    ) -> None:
        monkeypatch.setattr(worker, "THREADS", 4)
        real = getattr(owner, name)
        flaky = Flaky(2 * worker.THREADS, real, fault)

        def called(*arguments: object, **more: object) -> object:
            return flaky(*arguments, **more)

        monkeypatch.setattr(owner, name, called)
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world):
            receiver.wait_for(1)
            until(lambda: flaky.left < 0)
            world.put("main:A>B")
            receiver.wait_for(2)

    def test_a_spool_that_is_gone_for_a_while(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        away = world.state / "away"
        (world.state / "spool").rename(away)
        with Running(world) as one:
            one.wait_for_looks(3)
            away.rename(world.state / "spool")
            world.put("main:->A")
            receiver.wait_for(1)

    def test_while_it_cannot_look_what_is_stored_is_still_sent(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: Ingest, settings: Settings) -> int:
            raise StateError("cannot read the spool")

        world.endpoint(url=receiver.url)
        world.put("main:->A")
        world.run()
        monkeypatch.setattr(Ingest, "run", broken)
        with Running(world):
            receiver.wait_for(1)

    def test_it_does_not_spin_while_it_cannot_look(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lane that is due while every thread is busy must not have the worker look again and again."""

        def broken(self: Ingest, settings: Settings) -> int:
            raise StateError("cannot read the spool")

        def wait(*arguments: Any) -> Any:
            waits.append(arguments[-1])
            return real(*arguments)

        waits: list[float] = []
        real = select.select
        monkeypatch.setattr(worker, "POLL_SECONDS", NEVER)
        monkeypatch.setattr(worker, "THREADS", 1)
        monkeypatch.setattr(Worker, "_tidy", lambda _: False)
        monkeypatch.setattr(select, "select", wait)
        receiver.hold()
        for name in ("one", "two"):
            world.endpoint(name, url=receiver.url)
        world.put("main:->A")
        world.run()
        monkeypatch.setattr(Ingest, "run", broken)
        with Running(world) as one:
            receiver.wait_for(1)
            until(lambda: waits)
            running(world.state)
            until(lambda: one.looks == 2)
            until(lambda: len(waits) == 2)
            assert waits == [NEVER] * len(waits)
            receiver.release()
            receiver.wait_for(2)

    def test_settings_that_cannot_be_read_leave_the_old_ones(self, world: World, receiver: Receiver) -> None:
        root = world.bare.parent
        (world.state / "refcast.toml").write_text(
            f'roots = ["{root.parent}"]\n[urls]\nhomepage = "http://x/{{path}}"\n'
        )
        world.endpoint(url=receiver.url)
        with Running(world):
            push(world, "main:->A")
            receiver.wait_for(1)
            (world.state / "refcast.toml").write_text("what = \n")
            push(world, "main:A>B")
            receiver.wait_for(2)
        pages = {one.json()["repository"]["homepage"] for one in receiver.book}
        assert pages == {f"http://x/{root.name}/site"}

    def test_settings_that_cannot_be_read_at_the_start_are_waited_for(
        self, world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without them repositories would have other names, and refused networks would be open."""
        settings = world.state / "refcast.toml"
        settings.write_text(f"roots = ['{world.bare.parent.parent}']\n[pushers]\nfile = '{world.root}/authors'\n")
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        assert not draining(world)
        with Running(world) as one:
            one.wait_for_looks(1)
            assert (world.told(), receiver.book, len(world.spooled())) == ([], [], 1)
            assert "nothing is announced or sent before this is mended" in caplog.text
            (world.root / "authors").write_text("ann = Ann Lee <ann@example.org>\n")
            os.write(one.worker._wake_write, b"x")
            receiver.wait_for(1)
        assert receiver.book[0].json()["repository"]["name"] == "site"

    def test_without_inotify_it_polls(self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_left() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(worker, "INotify", none_left)
        world.endpoint(url=receiver.url)
        with Running(world):
            world.put("main:->A")
            receiver.wait_for(1)

    def test_a_disk_too_full_for_the_pid_file(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, text: str) -> None:
            raise StateError("No space left on device")

        monkeypatch.setattr(presence, "write", full)
        world.endpoint(url=receiver.url)
        with Running(world):
            world.put("main:->A")
            receiver.wait_for(1)

    def test_a_stop_does_not_wait_for_a_store_that_fails(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def locked(*_: object, **__: object) -> None:
            failed.set()
            raise StateError("database is locked")

        failed = threading.Event()
        monkeypatch.setattr(worker, "POLL_SECONDS", NEVER)
        monkeypatch.setattr(Lanes, "delivered", locked)
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world):
            assert failed.wait(30)
        monkeypatch.undo()
        assert draining(world)
        assert len(receiver.book) == 2


class TestDrain:
    def test_sends_all_there_is(self, world: World, receiver: Receiver) -> None:
        for number in range(3):
            world.endpoint(f"e{number}", url=receiver.url)
        for move in ("main:->A", "main:A>B", "main:B>C"):
            world.put(move)
        assert draining(world)
        assert len(receiver.book) == 9
        assert draining(world)

    def test_says_what_is_left(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500])
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        assert not draining(world)
        world.sql("UPDATE lanes SET due_at = 0")
        assert draining(world)
        bad = world.box / "99999999-0.push"
        bad.write_bytes(b"")
        os.utime(bad, (NOON, NOON))
        assert not draining(world)
        bad.unlink()
        assert draining(world)
        world.intend("main:A>B", alive=True)
        world.put("main:B>C")
        assert not draining(world)

    def test_what_is_held_is_not_left(self, world: World) -> None:
        world.store.endpoints.disable(world.endpoint().id, "by hand")
        world.put("main:->A")
        assert draining(world)

    def test_releases_what_a_dead_worker_held(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        world.run()
        assert world.store.lanes.claim(time.time())
        assert draining(world)
        assert len(receiver.book) == 1

    def test_not_beside_a_worker(self, world: World, receiver: Receiver) -> None:
        receiver.hold()
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        with Running(world):
            receiver.wait_for(1)
            with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
                draining(world)
            receiver.release()
        assert len(receiver.book) == 1


class TestIsolation:
    @pytest.mark.usefixtures("patient")
    def test_a_hung_endpoint_holds_up_no_other(self, world: World, receiver: Receiver) -> None:
        released = threading.Event()

        def answer(received: Received) -> int:
            if received.path == "/hung":
                released.wait(30)
            return 200

        receiver.answer = answer
        world.endpoint("hung", url=f"{receiver.url}hung")
        world.endpoint("well", url=f"{receiver.url}well")
        with Running(world):
            push(world, "main:->A")
            push(world, "main:A>B")
            push(world, "main:B>C")
            until(lambda: [one.path for one in receiver.book].count("/well") == 3)
            assert [one.path for one in receiver.book].count("/hung") == 1
            released.set()
            receiver.wait_for(6)

    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize("before", [False, True], ids=["for the first time", "again"])
    def test_many_that_hang_hold_up_nobody(self, world: World, receiver: Receiver, before: bool) -> None:
        """More of them than the pool of those that fail has threads."""
        released = threading.Event()
        hung = 2 * worker.FAILING_THREADS

        def answer(received: Received) -> int:
            if received.path.startswith("/hung"):
                released.wait(30)
            return 200

        receiver.answer = answer
        for number in range(hung):
            world.endpoint(f"hung{number}", url=f"{receiver.url}hung{number}")
        for number in range(3):
            world.endpoint(f"well{number}", url=f"{receiver.url}well{number}")
        world.put("main:->A", "dev:->A")
        world.run()
        if before:
            world.sql("UPDATE lanes SET failing_since = 1, step = 1 WHERE id <= ?", hung)

        def well() -> int:
            return sum(one.path.startswith("/well") for one in receiver.book)

        with Running(world):
            until(lambda: well() == 6)
            until(lambda: len(receiver.book) - 6 == (worker.FAILING_THREADS if before else hung))
            push(world, "main:A>B")
            until(lambda: well() == 9)
            released.set()
            receiver.wait_for(3 * (hung + 3))

    @pytest.mark.usefixtures("patient")
    def test_one_that_recovers_drains_with_the_others(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "FAILING_THREADS", 1)
        released = threading.Event()

        def answer(received: Received) -> int:
            if received.path == "/hung":
                released.wait(30)
            return 200

        receiver.answer = answer
        world.endpoint("better", url=f"{receiver.url}better")
        world.endpoint("hung", url=f"{receiver.url}hung")
        for move in ("main:->A", "main:A>B", "main:B>C"):
            world.put(move)
        world.run()
        world.sql("UPDATE lanes SET failing_since = 1, step = 1")
        world.sql("UPDATE lanes SET due_at = due_at + 0.001 WHERE id = 2")
        world.clock.now += 1
        with Running(world):
            until(lambda: [one.path for one in receiver.book].count("/better") == 3)
            released.set()
            receiver.wait_for(6)


class TestSettings:
    @pytest.mark.usefixtures("patient")
    def test_that_change_hold_for_the_next_request(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        with Running(world) as one:
            push(world, "main:->A")
            receiver.wait_for(1)
            looks = one.looks
            (world.state / "refcast.toml").write_text('[network]\nrefuse = ["127.0.0.0/8"]\n')
            running(world.state)  # to look wakes it
            until(lambda: one.looks > looks)
            push(world, "main:A>B")
            until(world.store.lanes.failing)
            assert one.worker._deliver.settings.network.refuse == ("127.0.0.0/8",)
        assert len(receiver.book) == 1


class TestClockSetBack:
    """By less than a decision could have a lane wait for: the monotonic clock tells of it."""

    @pytest.mark.usefixtures("hasty")
    def test_moves_along_what_is_to_happen(self, world: World, receiver: Receiver) -> None:
        receiver.answers([(503, [("Retry-After", "3600")], b"")])
        world.clock.now = NOON
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        steady = Clock(0.0)
        with Running(world, clock=world.clock, steady=steady) as one:
            until(world.store.lanes.failing)
            due = world.store.lanes.next_due(after=0)
            assert due == world.clock() + 3600
            one.wait_for_looks(2)
            world.clock.now -= 7200
            until(lambda: world.store.lanes.next_due(after=0) == due - 7200)
            one.wait_for_looks(2)
            assert world.store.lanes.next_due(after=0) == due - 7200, "once"
            ((not_before, scheduled_at),) = world.sql("SELECT not_before, scheduled_at FROM lanes")
            assert (not_before, scheduled_at) == (due - 7200, due - 7200)
            world.clock.now += 3600
            receiver.wait_for(2)

    @pytest.mark.usefixtures("hasty")
    def test_a_suspended_machine_is_none(self, world: World, receiver: Receiver) -> None:
        """Its monotonic clock stands still meanwhile; the other goes on."""
        receiver.answers([500])
        world.endpoint(url=receiver.url)
        world.put("main:->A")
        steady = Clock(0.0)
        with Running(world, clock=world.clock, steady=steady) as one:
            until(world.store.lanes.failing)
            due = world.store.lanes.next_due(after=0)
            steady.now += 30
            world.clock.now += 45
            one.wait_for_looks(2)
            assert world.store.lanes.next_due(after=0) == due
            world.clock.now += 16  # times are rounded to microseconds
            receiver.wait_for(2)


class TestNotice:
    def test_of_what_has_failed_for_an_hour(self, world: World, receiver: Receiver) -> None:
        def notice(now: float) -> str:
            refresh_notice(world.state, world.store, now)
            path = world.state / "notice"
            return path.read_text() if path.exists() else ""

        world.clock.now = NOON
        receiver.answer = lambda _: 500
        secret = f"http://user:s3cret@127.0.0.1:{receiver.port}/?t0ken"
        number = world.endpoint("broken", url=secret).id
        world.put("main:->A")
        world.run()
        world.send_all()
        assert notice(NOON + 3599) == ""
        said = notice(NOON + 3600)
        assert said == "deliveries to broken have been failing since 2023-11-14 22:13 UTC; what they miss is kept\n"
        assert (world.state / "notice").stat().st_mode & 0o777 == 0o644
        world.store.endpoints.disable(number, "by hand")
        assert "broken (disabled)" in notice(NOON + 3600)
        world.store.endpoints.enable(number, NOON + 3600)
        assert notice(NOON + 7200) == ""
        assert not (world.state / "notice.new").exists()

    def test_of_very_many_names_a_few(self, world: World) -> None:
        world.clock.now = NOON
        for number in range(9):
            world.endpoint(f"e{number}")
        world.put("main:->A")
        world.run()
        world.send_all()
        refresh_notice(world.state, world.store, NOON + 3600)
        said = (world.state / "notice").read_text()
        assert said.count("e") and "and 4 more" in said
        assert said.count("\n") == 1
