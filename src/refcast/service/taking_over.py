"""Taking the place of a worker that a push has started: it is told to leave, and waited for.

A worker that somebody or something else keeps running (a service, a terminal) is left alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from refcast import presence, worker
from refcast.errors import StateError

_TRIES = 3

_MORE_SECONDS = 15.0
"""What a worker may take beyond the grace that it gives to its requests."""


T = TypeVar("T")


def alone(state: Path, act: Callable[[], T], ended: set[int]) -> T:
    """What `act` gives, beside which no worker may run: one that a push has started meanwhile makes room.

    Its pid is put into `ended`: another has to be started for what that push has recorded. Raises what `act` raises,
    where another cause of that is left after some tries."""
    for _ in range(_TRIES):
        try:
            return act()
        except StateError:
            pid = presence.running(state)
            if (pid is not None and not is_on_demand(pid)) or not end_on_demand(state):
                raise
            if pid is not None:
                ended.add(pid)
    return act()


def is_on_demand(pid: int) -> bool:
    """Whether a process is a worker that a push, or a command, has started."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"--on-demand" in words and b"refcast" in b" ".join(words)
    return False


def end_on_demand(state: Path) -> bool:
    """Have the on-demand worker of a state directory leave, if one runs. Whether another can try to take its place."""
    pid = presence.running(state)
    if pid is None:
        time.sleep(0.1)  # one is about to hold the lock, or has just let go of it
        return True
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Looked at when the descriptor is there, so that both mean the same process.
        if not is_on_demand(pid):
            return presence.running(state) != pid
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        return bool(select.select([process], [], [], worker.GRACE_SECONDS + _MORE_SECONDS)[0])
    finally:
        os.close(process)
