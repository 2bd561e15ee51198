"""The worker: one process for a state directory, that ingests what hooks recorded and delivers what endpoints want.

Owns the main loop, its wake-up and its end; `pools` beside it owns the threads, `pushers` what pushers are told; the
lock and what hooks see of it are `presence`. The clock and chance are handed down.

A worker that leaves drops its lock and then looks at the spool once more, so that a hook that still saw it either finds
its record read or starts the next one.
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
from functools import partial
from pathlib import Path

from inotify_simple import INotify, flags

from refcast import settings
from refcast.answers import Answers
from refcast.deliver import Deliver, Sends
from refcast.errors import BadInput, RefcastError, StateError
from refcast.ingest import Ingest
from refcast.ingest.sweep import Sweep
from refcast.notify import ServiceManager
from refcast.presence import PID_FILE, Lock
from refcast.store import Store
from refcast.worker.pools import Pool
from refcast.worker.pushers import NOTICE_SECONDS, refresh_notice

__all__ = ["NOTICE_SECONDS", "Worker", "refresh_notice"]

log = logging.getLogger(__name__)

THREADS = 64
"""How many endpoints that are well can be served at once: so many may hang for the first time before others wait."""

FAILING_THREADS = 16
"""How many of those whose last try failed can be tried at once."""

DRAIN_THREADS = 16

POLL_SECONDS = 5.0
"""Wake-ups are hints; at least this often the worker looks for itself."""

TIDY_SECONDS = 0.05
"""A pause between two steps of what need not be done at once, so that deliveries get most of the machine."""

IDLE_SECONDS = 30.0
"""An on-demand worker leaves when nothing has been pending for this long."""

GRACE_SECONDS = 30.0
"""How long a stop waits for requests that are under way. What is cut off then is sent again later."""

SET_BACK_SECONDS = 60.0
"""A clock that has lost more than this against the monotonic one was set back."""


class Worker:
    def __init__(
        self,
        state: Path,
        store: Store,
        transport: Sends,
        clock: Callable[[], float],
        chance: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        manager: ServiceManager | None = None,
    ) -> None:
        self._state = state
        self._spool = state / "spool"
        self._store = store
        self._clock = clock
        self._steady = steady
        self._seen = (0.0, 0.0)
        self._answers = Answers(state, steady)
        self._ingest = Ingest(store, self._spool, clock, self._between, self._answers)
        self._sweep = Sweep(store, self._spool, clock)
        self._sweeping = False
        self._deliver = Deliver(store, transport, clock, chance, self._patience, self._answers)
        self._settings: settings.Settings | None = None
        self._pools: tuple[Pool, ...] = ()
        self._manager = manager or ServiceManager({}, 0)
        self._looked_at = 0.0
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def close(self) -> None:
        read, write = self._wake_read, self._wake_write
        self._wake_read = self._wake_write = -1  # a signal that comes late must not write into another's file
        os.close(read)
        os.close(write)

    def stop(self) -> None:
        """Have `run` return soon. Safe in a signal handler and from any thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def drain(self) -> bool:
        """Ingest all there is, try each delivery that is due until none is, and return. Whether nothing is left."""
        with Lock(self._state):
            self._begin()
            self._look()
            while self._sweeping and not self._stopping.is_set():
                self._look()
            send = partial(self._send_what_is_due, None, lambda: None)
            threads = [threading.Thread(target=send) for _ in range(DRAIN_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            refresh_notice(self._state, self._store, self._clock())
            while not self._stopping.is_set() and self._tidy():
                pass
            left = self._store.lanes.is_pending() or self._store.intake.asides() or self.has_records()
            return not left

    def run(self, *, on_demand: bool = False, held: Lock | None = None) -> None:
        """Work until `stop`; on demand, until nothing has been pending for a while. Raises AlreadyRunning, unless
        the lock is `held` already."""
        while True:
            with held or Lock(self._state):
                self._serve(on_demand=on_demand)
            held = None
            if self._is_homeless():
                return
            if not self._stopping.is_set() and self._store.is_replaced():
                self._store.reopen()
                continue
            # The lock is dropped: a hook whose record came meanwhile has seen a worker that was leaving, and so has a
            # command.
            if self._stopping.is_set() or not self._is_pending():
                return

    def _serve(self, *, on_demand: bool) -> None:
        log.info("worker %d runs for %s", os.getpid(), self._state)
        self._begin()
        with _listening(self._state / PID_FILE) as inotify, self._sending():
            idle_since = self._clock()
            self._manager.ready()
            while not self._stopping.is_set():
                if self._store.is_replaced():
                    log.warning("another store stands in the place of the one in use: beginning anew with it")
                    return
                if self._is_homeless():
                    log.warning("the state directory %s is gone: the worker leaves", self._state)
                    return
                busy = self._look()
                self._manager.alive("deliveries or records wait" if busy else "nothing waits")
                self._wake()
                now = self._clock()
                if busy or now < idle_since:
                    idle_since = now
                elif on_demand and now - idle_since >= IDLE_SECONDS:
                    log.info("nothing is pending: the worker leaves")
                    return
                pause = TIDY_SECONDS if self._tidy() else POLL_SECONDS
                self._wait(inotify, 0.0 if self._sweeping else pause)
            self._manager.stopping(f"requests under way get {GRACE_SECONDS:.0f} s")
            log.info("told to stop: what is under way gets %.0f s", GRACE_SECONDS)

    def _is_homeless(self) -> bool:
        """Whether refcast was removed, or the state directory moved elsewhere: nothing that is done here would last."""
        try:
            self._state.stat()
        except OSError as error:
            return error.errno == errno.ENOENT
        return False

    def _begin(self) -> None:
        self._answers.begin()
        self._store.lanes.release_all()
        self._sweep = Sweep(self._store, self._spool, self._clock)  # it knows when the worker began
        self._seen = (self._clock(), self._steady())

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        """Within it, threads send when they are woken. It ends with the requests under way, or without them; but not
        where another store is to be used: what was sent from the old one must not be recorded in the new."""
        well = Pool(lambda: self._send_what_is_due(False, well.wake), THREADS)
        failing = Pool(lambda: self._send_what_is_due(True, failing.wake), FAILING_THREADS)
        self._pools = (well, failing)
        try:
            yield
        finally:
            self._pools = ()
            deadline = time.monotonic() + GRACE_SECONDS
            for pool in (well, failing):
                pool.leave()
            for pool in (well, failing):
                pool.join(max(0.0, deadline - time.monotonic()))
            while self._store.is_replaced() and not self._stopping.is_set():
                if well.join(0.1) and failing.join(0.1):
                    break

    def _wake(self) -> None:
        """Have the threads look for what is due."""
        for pool in self._pools:
            pool.wake()

    def _look(self) -> bool:
        """Ingest what there is. Whether anything is pending, now or later."""
        self._looked_at = self._clock()
        self._sweeping = False
        try:
            self._settings = settings.load(self._state)
        except BadInput as error:
            if self._settings is None:
                # What has no settings would be announced by wrong names, and sent to networks that they refuse.
                log.error("nothing is announced or sent before this is mended: %s", error)
                return True
            log.error("the settings stay as they were: %s", error)
        self._deliver.settings = self._settings
        try:
            self._answers.refresh(self._store.endpoints.all())
            self._ingest.run(self._settings)
            self._sweeping = self._sweep.step(self._settings)
            self._looked_at = self._clock()
            self._turn_back()
            self._deliver.pull_back()
            self._store.lanes.put_back()
            refresh_notice(self._state, self._store, self._looked_at)
            return self._sweeping or self._is_pending()
        except (RefcastError, OSError) as error:
            # A full disk, a store that is locked or gone: the spool keeps what comes until the cause is gone.
            log.error("%s; trying again in %.0f s", error, POLL_SECONDS)
            return True
        except Exception:
            # A bug. It must not end the worker, which has other things to deliver.
            log.exception("a bug in refcast; trying again in %.0f s", POLL_SECONDS)
            return True

    def _is_pending(self) -> bool:
        """Whether anything is to be sent, ingested, or tried again, now or later."""
        return self._ingest.is_retrying() or self._store.lanes.is_pending() or self.has_records()

    def _turn_back(self) -> None:
        """If the clock was set back since the last look, move what is to happen along with it: its waits were meant."""
        now, steady = self._clock(), self._steady()
        lost = (steady - self._seen[1]) - (now - self._seen[0])
        if lost > SET_BACK_SECONDS:
            log.warning("the clock was set back by %.0f s", lost)
            self._store.lanes.turn_back(lost)
        self._seen = (now, steady)

    def _between(self) -> bool:
        """Between two transactions of ingest: have sent what is stored. Whether to go on."""
        self._wake()
        return not self._stopping.is_set()

    def has_records(self) -> bool:
        return self._ingest.has_records()

    def _tidy(self) -> bool:
        """A small step of what need not be done at once. Whether there is more of it."""
        if self._settings is None:
            return False
        try:
            return self._store.retention.step(self._clock(), self._settings.retention, self._ingest.oldest)
        except StateError as error:
            log.error("%s; trying again in a while", error)
        except Exception:
            log.exception("a bug in refcast; trying again in a while")
        return False

    def _wait(self, inotify: INotify | None, left: float) -> None:
        """Until a hook has written a record, another lane is due, a signal came, or it is time to look again."""
        with contextlib.suppress(StateError):
            due_at = self._store.lanes.next_due(after=self._looked_at)
            if due_at is not None:
                left = min(left, max(0.0, due_at - self._clock()))
        heard = [self._wake_read] if inotify is None else [self._wake_read, inotify]
        ready, _, _ = select.select(heard, [], [], left)
        if self._wake_read in ready:
            with contextlib.suppress(OSError):
                os.read(self._wake_read, 4096)
        if inotify is not None:
            inotify.read(timeout=0)

    def _send_what_is_due(self, failing: bool | None, claimed: Callable[[], None]) -> None:
        """Deliver until no lane is due of those whose last try failed, or of the others, or of any; or until the worker
        stops. Runs in each of the threads; `claimed` has another look for more."""
        if self._settings is None:
            return
        try:
            sent = False
            while not self._stopping.is_set() and self._deliver.serve(failing, claimed, self._stopping.is_set):
                sent = True
            if sent:
                with contextlib.suppress(OSError):
                    os.write(self._wake_write, b"x")  # a lane may be due sooner than the main thread knows
        except StateError as error:
            log.error("%s; trying again in %.0f s", error, POLL_SECONDS)
        except Exception:
            log.exception("a bug in refcast; trying again in %.0f s", POLL_SECONDS)

    def _patience(self) -> bool:
        return not (self._stopping.wait(POLL_SECONDS) or self._store.is_replaced())


@contextlib.contextmanager
def _listening(pid_file: Path) -> Iterator[INotify | None]:
    """What hears hooks read the pid file; None where the system has no more of that to give: the worker then polls.

    A hook reads it when it has written its record, so to hear it look is to hear of the record. (To watch the spool
    would wake the worker for each ref of a push, ten thousand times in a large one.)"""
    with contextlib.ExitStack() as stack:
        inotify = None
        try:
            inotify = stack.enter_context(INotify())
            inotify.add_watch(str(pid_file), flags.CLOSE_NOWRITE)
        except OSError as error:
            log.warning("cannot listen for records, so looks every %.0f s: %s", POLL_SECONDS, error.strerror)
        yield inotify
