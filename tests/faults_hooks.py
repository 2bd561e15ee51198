"""Real pushes of which one program suffers a fault: a hook, what a hook calls, or git's own receive-pack.

Each push makes two branches of its own, so that many pushes can be judged together: what git says has moved must be
what the receiver is told, once. Owns the pushes and that reckoning; which faults there are, `faults` knows.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import faults
from faults import Call, Fault
from receiver import Receiver
from refcast.spool import SUFFIX
from refcast.store import Store
from refcast.transport import Transport
from refcast.worker import Worker
from servers import ZERO, Server

HOOKS = ("update", "pre-receive", "post-receive")
CALLED = ("mkdir", "sync")
"""The programs that hooks start."""

RECEIVE_PACK = "git-receive-pack"
LATER = 3600.0
"""Seconds by which the worker's clock is ahead of the pushes', so that nothing rests any more."""


@dataclass
class Pushed:
    """What came of one push."""

    fault: Fault | None
    reached: bool
    """Whether the fault came at all."""
    status: int
    said: str
    refs: tuple[str, str]


@dataclass
class Pushes:
    """Pushes to one server, whose `program` is traced. No worker runs meanwhile; hooks believe what `started` says."""

    server: Server
    program: str
    number: int = 0
    done: list[Pushed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tip = self.server.commit("one")
        self.server.push("main")
        self.log = self.server.root / "faults.log"
        self.shims = self.server.root / "shims"
        self.shims.mkdir()
        if self.program == "pre-receive":
            self.server.install(intent="pre-receive")
        # A hook that believes that no worker runs starts this.
        self.server.set_in_hooks("python", "/bin/true")
        if self.program in HOOKS:
            self.path = self.server.bare / "hooks" / self.program
            self.real = self.path.with_name(f"real-{self.program}")
            self.path.rename(self.real)
        else:
            self.path = self.shims / self.program
            found = shutil.which(self.program)
            assert found, self.program
            self.real = Path(found)

    def push(self, fault: Fault | None = None) -> Pushed:
        """Push two branches; the first one's `update`, or the only run of another program, suffers."""
        self.number += 1
        first, second = (f"refs/heads/p{self.number:04}-{name}" for name in ("first", "second"))
        self.log.unlink(missing_ok=True)
        faults.shim(self.path, self.real, self.log, fault, only=first if self.program == "update" else "")
        words = ["git", "push", "-q"]
        if self.program == RECEIVE_PACK:
            words.append(f"--receive-pack={self.path}")
        if self.program == "mkdir":
            # The first push of a user.
            self._take_box_away()
        words += [str(self.server.bare), f"{self.tip}:{first}", f"{self.tip}:{second}"]
        path = f"{self.shims}:{self.server.environment['PATH']}"
        status, said = faults.push(words, self.server.environment | {"PATH": path}, self.server.work)
        one = Pushed(fault, fault is not None and faults.was_injected(self.log), status, said, (first, second))
        self.done.append(one)
        return one

    def count(self) -> list[Call]:
        """The calls of the program when nothing goes wrong."""
        self.push()
        return faults.calls(faults.ended(self.log))

    def all(self, which: list[Fault]) -> list[Pushed]:
        return [self.push(fault) for fault in which]

    def _take_box_away(self) -> None:
        for box in (self.server.state / "spool").iterdir():
            if box.name.isdecimal():
                box.rename(self.server.root / f"box-{self.number:04}")

    def moved(self) -> dict[str, str]:
        """Every branch by what git says, with its tip."""
        lines = self.server.run("git", "for-each-ref", "--format=%(refname) %(objectname)", cwd=self.server.bare).stdout
        return dict(line.split(" ") for line in lines.splitlines())

    def drain(self) -> None:
        """What a worker makes of it all, when every file is old enough to be judged."""
        kept = self.server.state / "spool" / str(os.geteuid())
        for box in self.server.root.glob("box-*"):
            if not kept.exists():
                box.rename(kept)
                continue
            for file in box.glob(f"*{SUFFIX}"):
                file.rename(kept / file.name)
        (self.server.state / "worker.pid").unlink(missing_ok=True)
        with self.server.at_home(), Store.open(self.server.state) as store:
            worker = Worker(self.server.state, store, Transport(), lambda: time.time() + LATER, lambda: 0.0)
            try:
                worker.drain()
            finally:
                worker.close()

    def reckon(self, receiver: Receiver) -> Reckoning:
        """Compare what moved with what the receiver was told."""
        told = Counter(
            (body["ref"], body["before"], body["after"]) for body in (received.json() for received in receiver.book)
        )
        moved = {(ref, ZERO, tip) for ref, tip in self.moved().items()}
        with Store.open(self.server.state) as store:
            number = store.repositories.find(str(self.server.bare.resolve()))
            ledger = store.repositories.tips(number) if number is not None else {}
        return Reckoning(
            lost=sorted(ref for ref, *_ in moved - set(told)),
            invented=sorted(ref for ref, *_ in set(told) - moved),
            twice=sorted(ref for (ref, *_), count in told.items() if count > 1),
            ledger_differs=ledger != self.moved(),
        )


@dataclass(frozen=True)
class Reckoning:
    """Names of refs; all empty when all is well."""

    lost: list[str]
    invented: list[str]
    """Told although git knows nothing of it: a half-written record, or a refused ref."""
    twice: list[str]
    ledger_differs: bool
