"""Whether the process that wrote a file of the spool still runs, as its name tells."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from refcast.spool.boxes import SUFFIX

HIDDEN_SECONDS = 3600.0
"""How long a process that cannot be looked at is taken for the push that wrote a file: its id may be another's then."""


def is_alive(path: Path) -> bool:
    """Whether the process that the file's name tells of is there, with the same start time.

    Where /proc hides the processes of others (hidepid), one that is there is taken for it, for a while."""
    pid, _, start = path.name.removesuffix(SUFFIX).partition("-")
    if not pid.isdecimal() or not start:
        return False
    found = start_time(int(pid))
    return found == start if found else _is_hidden(int(pid)) and _age(path) < HIDDEN_SECONDS


def _is_hidden(pid: int) -> bool:
    """Whether there is a process of another user that /proc does not show."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _age(path: Path) -> float:
    try:
        return abs(time.time() - path.lstat().st_mtime)
    except OSError:
        return math.inf


def start_time(pid: int) -> str:
    """A process's start time in clock ticks since boot, as /proc tells it; empty if there is no such process, or it is
    dead and its parent has not looked yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The second field is the name in brackets and may hold anything; the state is behind it, field 22 the twentieth.
    fields = text.rpartition(b") ")[2].split()
    return "" if fields[0] == b"Z" else fields[19].decode()
