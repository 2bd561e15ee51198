"""The worker: one process for a state directory, that ingests what hooks recorded and delivers what endpoints want.

Owns the lock, the wake-up, the threads, the signals, and the notice to pushers. The clock and chance are handed down.

One worker runs for each state directory: it holds the lock on `worker.lock`, and says so to the hooks by its pid and
start time in `worker.pid`. A worker that leaves drops both and then looks at the spool once more, so that a hook that
still saw it either finds its record read or starts the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from inotify_simple import INotify, flags

from refcast import settings, spool
from refcast.deliver import Deliver, Sends
from refcast.errors import BadInput, RefcastError, StateError
from refcast.ingest import Ingest
from refcast.store import Store

log = logging.getLogger(__name__)

THREADS = 8
"""How many endpoints can be served at once."""

PID_FILE = "worker.pid"
"""Pid and start time of the worker that runs, for the hooks."""

POLL_SECONDS = 5.0
"""Wake-ups are hints; at least this often the worker looks for itself."""

IDLE_SECONDS = 30.0
"""An on-demand worker leaves when nothing has been pending for this long."""

GRACE_SECONDS = 30.0
"""How long a stop waits for requests that are under way. What is cut off then is sent again later."""

NOTICE_SECONDS = 3600.0
"""How long an endpoint must have been failing before pushers are told."""


class AlreadyRunning(StateError):
    """Another worker holds the lock of this state directory."""


class Worker:
    def __init__(
        self, state: Path, store: Store, transport: Sends, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._state = state
        self._spool = state / "spool"
        self._store = store
        self._clock = clock
        self._ingest = Ingest(store, self._spool, clock, self._between)
        self._deliver = Deliver(store, transport, clock, chance, self._patience)
        self._settings = settings.Settings()
        self._threads: _Threads | None = None
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
        with lock(self._state):
            self._store.lanes.release_all()
            self._look()
            threads = [threading.Thread(target=self._send_what_is_due) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            refresh_notice(self._state, self._store, self._clock())
            left = self._store.lanes.is_pending() or self._store.intake.asides() or self.has_records()
            return not left

    def run(self, *, on_demand: bool = False) -> None:
        """Work until `stop`; on demand, until nothing has been pending for a while. Raises AlreadyRunning."""
        while True:
            with lock(self._state):
                self._serve(on_demand=on_demand)
            # The lock is dropped: a hook whose record came meanwhile has seen a worker that was leaving.
            if self._stopping.is_set() or not (self.has_records() or self._store.lanes.is_pending()):
                return

    def _serve(self, *, on_demand: bool) -> None:
        log.info("worker %d runs for %s", os.getpid(), self._state)
        self._store.lanes.release_all()
        with _listening(self._state / PID_FILE) as inotify, _Threads(self._send_what_is_due) as threads:
            self._threads = threads
            idle_since = self._clock()
            while not self._stopping.is_set():
                busy = self._look()
                threads.wake()
                now = self._clock()
                if busy or now < idle_since:
                    idle_since = now
                elif on_demand and now - idle_since >= IDLE_SECONDS:
                    log.info("nothing is pending: the worker leaves")
                    return
                self._wait(inotify)

    def _look(self) -> bool:
        """Ingest what there is. Whether anything is pending, now or later."""
        self._looked_at = self._clock()
        try:
            self._settings = settings.load(self._state)
        except BadInput as error:
            log.error("the settings stay as they were: %s", error)
        try:
            self._ingest.run(self._settings)
            self._looked_at = self._clock()
            self._deliver.pull_back()
            refresh_notice(self._state, self._store, self._looked_at)
            retried = any(aside.retry_at is not None for aside in self._store.intake.asides())
            return retried or self._store.lanes.is_pending() or self.has_records()
        except (RefcastError, OSError) as error:
            # A full disk, a store that is locked or gone: the spool keeps what comes until the cause is gone.
            log.error("%s; trying again in %.0f s", error, POLL_SECONDS)
            return True
        except Exception:
            # A bug. It must not end the worker, which has other things to deliver.
            log.exception("a bug in refcast; trying again in %.0f s", POLL_SECONDS)
            return True

    def _between(self) -> bool:
        """Between two transactions of ingest: have sent what is stored. Whether to go on."""
        if self._threads is not None:
            self._threads.wake()
        return not self._stopping.is_set()

    def has_records(self) -> bool:
        """Whether the spool holds a whole record that is not set aside."""
        resting = {aside.path for aside in self._store.intake.asides()}
        return any(str(path) not in resting and spool.is_complete(path) for path in spool.files(self._spool))

    def _wait(self, inotify: INotify | None) -> None:
        """Until a hook has written a record, another lane is due, a signal came, or it is time to look again."""
        left = POLL_SECONDS
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

    def _send_what_is_due(self) -> None:
        """Deliver until no lane is due, or the worker stops. Runs in each of the threads."""
        try:
            sent = False
            while not self._stopping.is_set() and self._deliver.one():
                sent = True
            if sent:
                with contextlib.suppress(OSError):
                    os.write(self._wake_write, b"x")  # a lane may be due sooner than the main thread knows
        except StateError as error:
            log.error("%s; trying again in %.0f s", error, POLL_SECONDS)
        except Exception:
            log.exception("a bug in refcast; trying again in %.0f s", POLL_SECONDS)

    def _patience(self) -> bool:
        return not self._stopping.wait(POLL_SECONDS)


class _Threads:
    """Threads that run `task` each time they are woken; within a `with`."""

    def __init__(self, task: Callable[[], None]) -> None:
        self._task = task
        self._changed = threading.Condition()
        self._round = 0
        self._leaving = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]

    def wake(self) -> None:
        with self._changed:
            self._round += 1
            self._changed.notify_all()

    def __enter__(self) -> _Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        self.wake()
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        seen = 0
        while not self._leaving:
            with self._changed:
                self._changed.wait_for(lambda last=seen: self._round != last)  # type: ignore[misc]
                seen = self._round
            if not self._leaving:
                self._task()


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


@contextlib.contextmanager
def lock(state: Path) -> Iterator[None]:
    """Be the one worker of a state directory. Raises AlreadyRunning, or StateError if the directory cannot be used."""
    try:
        descriptor = os.open(state / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"cannot lock {state}: {error.strerror}; run this as its owner") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a worker runs for {state} already (pid {running(state) or '?'})") from None
        pid = os.getpid()
        try:
            _write(state / PID_FILE, f"{pid} {spool.start_time(pid)}\n")
        except StateError as error:
            # The disk is full: hooks start workers that find the lock taken, and this one goes on.
            log.error("%s", error)
        try:
            yield
        finally:
            (state / PID_FILE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def running(state: Path) -> int | None:
    """The pid of the worker that runs for a state directory; None if none does. The same test as the hook's."""
    try:
        number, start = (state / PID_FILE).read_text("ascii").split()
        pid = int(number)
    except (OSError, ValueError):
        return None
    return pid if spool.start_time(pid) == start else None


def refresh_notice(state: Path, store: Store, now: float) -> None:
    """Tell pushers, by a line that the hook prints, of endpoints that have been failing for long; no secrets."""
    long = [failing for failing in store.lanes.failing() if now - failing.since >= NOTICE_SECONDS]
    text = ""
    if long:
        since = datetime.fromtimestamp(long[0].since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        names = ", ".join(failing.name + (" (disabled)" if failing.disabled else "") for failing in long[:5])
        more = f" and {len(long) - 5} more" if len(long) > 5 else ""
        text = f"deliveries to {names}{more} have been failing since {since}; what they miss is kept\n"
    path = state / "notice"
    try:
        old = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        old = ""
    if text != old:
        _write(path, text)


def detach() -> None:
    """Leave the push that started this process: own session, nothing open of it, no umask of it."""
    with contextlib.suppress(OSError):
        os.setsid()  # fails only where it is done already
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536)
    os.umask(0o077)


def _write(path: Path, text: str) -> None:
    """Replace a small file that hooks of other users read; they see the old text or the new. Raises StateError."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, "utf-8", "replace")
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
