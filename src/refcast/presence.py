"""That a worker runs: its lock, what the hooks read of it, and how it leaves the push that has started it.

One worker runs for each state directory: it holds the lock on `worker.lock`, and says so to the hooks by its pid and
start time in `worker.pid`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
from pathlib import Path

from refcast import __version__, sites, spool
from refcast.errors import StateError

log = logging.getLogger(__name__)

PID_FILE = "worker.pid"
"""Pid and start time of the worker that runs, for the hooks."""


class AlreadyRunning(StateError):
    """Another worker holds the lock of this state directory."""


class Lock:
    """Being the one worker of a state directory: from when it is made until it is closed, or its `with` ends."""

    def __init__(self, state: Path) -> None:
        """Raises AlreadyRunning, or StateError if the directory cannot be used."""
        sites.check_owner(state)
        self._state = state
        try:
            self._descriptor = os.open(state / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot lock {state}: {error.strerror}; run this as its owner") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError):
                raise StateError(f"cannot lock {state}: {error.strerror}") from error
            raise AlreadyRunning(f"a worker runs for {state} already (pid {running(state) or '?'})") from None
        pid = os.getpid()
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, __version__.encode())
        self._trouble = ""
        """Why hooks cannot see that a worker runs: they start others, which find the lock taken. It is logged when the
        work begins, for there may be no log yet."""
        try:
            write(state / PID_FILE, f"{pid} {spool.start_time(pid)}\n")
        except StateError as error:  # the disk is full
            self._trouble = str(error)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                (self._state / PID_FILE).unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Lock:
        assert self._descriptor >= 0, "it is taken once"
        if self._trouble:
            log.error("%s", self._trouble)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def running(state: Path) -> int | None:
    """The pid of the worker that runs for a state directory; None if none does. The same test as the hook's."""
    try:
        number, start = (state / PID_FILE).read_text("ascii").split()
        pid = int(number)
    except (OSError, ValueError):
        return None
    return pid if spool.start_time(pid) == start else None


def has_news(state: Path, since: float) -> bool:
    """Whether a push has written something since a time, in seconds since the epoch."""
    try:
        return any(at >= since * 1e9 for at in spool.look(state / "spool").times.values())
    except StateError:
        return False


def version(state: Path) -> str:
    """The version of the worker that runs; empty where that is not known."""
    try:
        return (state / "worker.lock").read_text("ascii")
    except (OSError, ValueError):
        return ""


def since(state: Path) -> float | None:
    """When the worker that runs began, in seconds since the epoch; None where that is not known."""
    try:
        return (state / PID_FILE).stat().st_mtime
    except OSError:
        return None


def detach() -> None:
    """Leave the push that started this process: own session, nothing open of it, no umask of it, and its hook's signals
    are heard again. A lock that is held would be lost."""
    with contextlib.suppress(OSError):
        os.setsid()  # fails only where it is done already
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536)
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def write(path: Path, text: str) -> None:
    """Replace a small file that hooks of other users read; they see the old text or the new. Raises StateError."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, "utf-8", "replace")
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
