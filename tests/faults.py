"""Faults at system calls, by strace: a process dies at a chosen call, or that call fails.

Owns how faults are counted and injected, into hooks, into git's own programs and into children of a Python process.
Judges nothing. Accounting is strace's: a call is named by its name and its number among the calls of that name, and a
killed process never executes the call that it is killed at.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shlex
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from servers import need

ERRORS: dict[str, tuple[str, ...]] = {
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "writev": ("ENOSPC", "EIO"),
    "read": ("EIO",),
    "pread64": ("EIO",),
    "open": ("ENOSPC", "EIO", "EMFILE"),
    "openat": ("ENOSPC", "EIO", "EMFILE"),
    "mkdir": ("ENOSPC", "EIO"),
    "mkdirat": ("ENOSPC", "EIO"),
    "unlink": ("EIO",),
    "unlinkat": ("EIO",),
    "rename": ("ENOSPC", "EIO"),
    "ftruncate": ("EIO",),
    "fsync": ("ENOSPC", "EIO"),
    "fdatasync": ("ENOSPC", "EIO"),
    "sync": ("EIO",),
    "syncfs": ("ENOSPC", "EIO"),
    "close": ("EIO",),
    "dup": ("EMFILE",),
    "dup2": ("EMFILE",),
    "dup3": ("EMFILE",),
    "fcntl": ("EMFILE",),
    "pipe": ("EMFILE",),
    "pipe2": ("EMFILE",),
    "socket": ("EMFILE",),
    "clone": ("EAGAIN",),
    "clone3": ("EAGAIN",),
    "fork": ("EAGAIN",),
    "vfork": ("EAGAIN",),
    "fstat": ("EIO",),
    "stat": ("EIO",),
    "newfstatat": ("EIO",),
    "statx": ("EIO",),
    "getdents64": ("EIO",),
}
"""What each call may fail with when a disk is full or dies, or files or processes run out."""

SENDING = ("sendto", "sendmsg")
"""By these a request leaves; the log of a fault has them, too."""

_CALL = re.compile(r"(?:([0-9]+) +)?([a-z][a-z0-9_]*)\((.*)")
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = -1


@dataclass(frozen=True, slots=True)
class Fault:
    """The `number`th time that a process makes a system call it dies, or, with an `error`, the call fails."""

    call: str
    number: int
    error: str = ""
    lasting: bool = False
    """Every later such call fails, too."""

    def __str__(self) -> str:
        return f"{self.call}:{self.number}{'+' if self.lasting else ''}:{self.error or 'KILL'}"

    @property
    def words(self) -> list[str]:
        what = f"error={self.error}" if self.error else "signal=KILL"
        when = f"{self.number}{'+' if self.lasting else ''}"
        return ["-e", f"trace={','.join({self.call, *SENDING})}", "-e", f"inject={self.call}:{what}:when={when}"]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a log. `number` counts the calls of this name, in each thread for itself."""

    name: str
    number: int
    said: str
    """Arguments and result, as strace shows them."""


def ready() -> None:
    """Skip a test where there is no strace, or where it may not trace, but not in CI."""
    able = shutil.which("strace") and subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode == 0
    need(bool(able), "strace, and a system that lets it trace")


def tracing(log: Path, fault: Fault | None) -> list[str]:
    """The words before a command that is to be traced. It stays the child of whoever runs it."""
    return ["strace", "-D", "-s", "200", "-o", str(log), *(fault.words if fault else [])]


def shim(path: Path, real: Path, log: Path, fault: Fault | None, *, only: str = "") -> None:
    """A script at `path` that runs `real`, traced; where `only` is given, with this first argument alone."""
    traced = f'exec {shlex.join(tracing(log, fault))} {shlex.quote(str(real))} "$@"'
    if only:
        traced = f'case $1 in {shlex.quote(only)}) {traced};; esac\nexec {shlex.quote(str(real))} "$@"'
    new = path.with_name(path.name + ".new")
    new.write_text(f"#!/bin/sh\n{traced}\n")
    new.chmod(0o755)
    new.replace(path)


def ended(log: Path, seconds: float = 30.0) -> str:
    """The whole log, once its process has ended; AssertionError if it does not."""
    deadline = time.monotonic() + seconds
    while True:
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        if text.rpartition("\n+++ ")[1] or text.startswith("+++ "):
            return text
        assert time.monotonic() < deadline, f"no end of a process in {log}"
        time.sleep(0.002)


def was_killed(log: Path) -> bool:
    return "+++ killed by SIGKILL +++" in ended(log)


def was_injected(log: Path) -> bool:
    """Whether the fault has come: a process that made fewer calls this time is not hurt."""
    text = ended(log)
    return "+++ killed by SIGKILL +++" in text or "(INJECTED)" in text


def calls(text: str) -> list[Call]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    found = []
    for line in text.splitlines():
        if match := _CALL.match(line):
            thread, name, said = match[1] or "", match[2], match[3]
            counts[thread][name] += 1
            found.append(Call(name, counts[thread][name], said))
    return found


def kills(made: Iterable[Call], *, every: bool = False) -> list[Fault]:
    """A death at each call. Of one-byte reads in a row, by which a shell reads a line, the first and the last count,
    unless it is to be `every` one: nothing has changed between them."""
    made = list(made)
    found = []
    for at, call in enumerate(made):
        inside = _is_byte(call) and 0 < at < len(made) - 1 and _is_byte(made[at - 1]) and _is_byte(made[at + 1])
        # strace does not hurt the call by which the process begins.
        if (every or not inside) and call.name != "execve":
            found.append(Fault(call.name, call.number))
    return list(dict.fromkeys(found))


def failures(made: Iterable[Call], *, behind: str = "", every: bool = False) -> list[Fault]:
    """Each failure of each call that can fail, of those behind the last one that mentions `behind`."""
    made = list(made)
    start = max((at + 1 for at, call in enumerate(made) if behind and behind in call.said), default=0)
    # Only to copy a descriptor needs a new one; locks are fcntl's, too.
    spared = {Fault(call.name, call.number) for call in made if call.name == "fcntl" and "F_DUPFD" not in call.said}
    could = [one for one in kills(made[start:], every=every) if one not in spared]
    return [Fault(one.call, one.number, error) for one in could for error in ERRORS.get(one.call, ())]


def _is_byte(call: Call) -> bool:
    return call.name == "read" and call.said.endswith("= 1")


def push(words: list[str], environment: dict[str, str], cwd: Path, seconds: float = 60.0) -> tuple[int, str]:
    """Run a command and wait for all that it has started, orphans included. Its exit status and its errors."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[write],
        )
        os.close(write)
        _, said = process.communicate()
        # Whoever is left has inherited the other end, which nobody writes to.
        assert select.select([read], [], [], seconds)[0], f"{words} left a process behind"
        return process.returncode, said
    finally:
        os.close(read)


def child(work: Callable[[], bool], log: Path, fault: Fault | None = None, *, threads: bool = False) -> int:
    """Fork, and have the child do `work`, traced from its beginning: its status as os.waitstatus_to_exitcode tells it,
    2 for an exception. Only the main thread is hurt, unless `threads` says otherwise: then whichever comes there first.

    The caller must be without threads and without an open store."""
    log.unlink(missing_ok=True)
    heard, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # Where only ancestors may trace.
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)
            os.read(heard, 1)
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    words = ["strace", *(["-f"] if threads else []), "-s", "200", "-o", str(log), *(fault.words if fault else [])]
    tracer = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    os.write(go, b"x")
    _, status = os.waitpid(pid, 0)
    said += tracer.communicate()[1]
    os.close(heard)
    os.close(go)
    assert "attached" in said, said
    return os.waitstatus_to_exitcode(status)
