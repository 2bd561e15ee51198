"""A worker that dies at a chosen moment: `python killing.py one STATE MOMENT NUMBER`, or `… every ROOT URL STEP`, or
`… judged ROOT URL STEP`.

`one` drains a state directory and kills its own process with SIGKILL the NUMBERth time that it is at a moment.
`every` pushes and drains over and over, killed at the first statement that the database or the spool sees, then STEP
later, and so on until a drain comes through; after each death a whole drain follows. It prints how many died.
`judged` does the same where endpoints refuse: one a payload, one a batch, one everything; another is told of it.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refcast import spool
from refcast.ingest import Ingest, announcing
from refcast.store import Store
from refcast.store.intake import Intake
from refcast.store.lanes import Lanes
from refcast.transport import Transport
from refcast.worker import Worker
from spooled import World

MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "record durable": (Ingest, "run", False),
    "batch stored": (Intake, "add", True),
    "event stored": (spool, "remove", False),
    "record removed": (spool, "remove", True),
    "lane claimed": (Lanes, "claim", True),
    "request sent": (Lanes, "delivered", False),
    "answer recorded": (Lanes, "delivered", True),
    "failure not recorded": (Lanes, "retry", False),
    "failure recorded": (Lanes, "retry", True),
}
"""Each by the function at which it is, and whether it is behind it."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(number: int) -> Callable[[], None]:
    """What kills the process when it is called for the NUMBERth time."""
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    return count


def watch(owner: Any, name: str, *, behind: bool, at: Callable[[], None]) -> None:
    real = getattr(owner, name)

    def watched(*arguments: Any, **more: Any) -> Any:
        if not behind:
            at()
        result = real(*arguments, **more)
        if behind:
            at()
        return result

    setattr(owner, name, watched)


def drain(state: Path) -> bool:
    with Store.open(state) as store:
        worker = Worker(state, store, Transport(), time.time, random.random)
        try:
            return worker.drain()
        finally:
            worker.close()


def one(state: Path, moment: str, number: int) -> None:
    owner, name, behind = MOMENTS[moment]
    watch(owner, name, behind=behind, at=counted(number))
    sys.exit(0 if drain(state) else 1)


def every(root: Path, url: str, step: int) -> None:
    announcing.BATCH_EVENTS = 1
    with World(root) as world:
        world.endpoint(url=url, dialect="gogs")
        # No connection may be open when the process forks.
        world.store.close()
        number = 0
        while True:
            number += 1
            old, new = ("AB", "BA")[number % 2] if number > 1 else "-A"
            # The middle one is a gap the first time that it is met.
            world.put(f"one:{old}>{new}", f"two:{old}>{new}", f"gap{number}:B>C")
            died = in_child(world.state, 1 + (number - 1) * step)
            if not died:
                print(number - 1)
                return
            if in_child(world.state, 0):
                raise SystemExit("a whole drain was killed")


def judged(root: Path, url: str, step: int) -> None:
    with World(root) as world:
        crew = world.endpoint("crew", url=f"{url}crew", dialect="refcast", repositories=("no/such",))
        world.endpoint("choosy", url=f"{url}choosy", dialect="refcast", tries=1, on_failure=crew.id)
        world.endpoint("small", url=f"{url}small", dialect="codescoring", tries=1, batch_window=0.0)
        gone = world.endpoint("gone", url=f"{url}gone", dialect="refcast", on_failure=crew.id)
        world.store.close()
        number = 0
        while True:
            number += 1
            # In an order of their own: the first is refused when the second arrives, the third with nothing behind it.
            world.put(f"{number:03}-1-bad:->A", f"{number:03}-2-good:->A", f"{number:03}-3-bad:->A")
            died = in_child(world.state, 1 + (number - 1) * step)
            if died and in_child(world.state, 0):
                raise SystemExit("a whole drain was killed")
            world.store.endpoints.enable(gone.id, world.clock())
            world.store.close()
            if not died:
                print(number - 1)
                return


def in_child(state: Path, number: int) -> bool:
    """Drain in a child that is killed at a statement, or never where `number` is 0. Whether it was."""
    pid = os.fork()
    if pid == 0:
        at = counted(number)

        def trace(connection: sqlite3.Connection, _: Any) -> None:
            connection.set_trace_callback(lambda _: at())

        sa.event.listen(sa.engine.Engine, "connect", trace)
        for behind in (False, True):
            watch(spool, "remove", behind=behind, at=at)
            watch(Transport, "send", behind=behind, at=at)
        try:
            os._exit(0 if drain(state) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"a drain ended with {os.waitstatus_to_exitcode(status)}")
    return False


def main() -> None:
    if sys.argv[1] == "one":
        one(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        run = {"every": every, "judged": judged}[sys.argv[1]]
        run(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))


if __name__ == "__main__":
    main()
