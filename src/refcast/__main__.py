"""`python -m refcast`, as hooks start the worker.

While none runs, each push starts one, and to read all of refcast takes half a second of the processor. So the first one
holds the lock, which hooks see, before it has read the rest, and one that finds it held leaves at once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from refcast import presence
from refcast.errors import StateError

AGAIN_SECONDS = 1.0


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["--state"] and words[2:] == ["worker", "--on-demand"]:
        sys.argv[2] = str(Path(words[1]).absolute())
        presence.detach()
        _work(Path(sys.argv[2]))
    else:
        _run(None)


def _work(state: Path) -> None:
    """Be the worker. What came while one was seen here that could not go on has started no other: then begin anew."""
    began = time.time()
    try:
        held = presence.Lock(state)
    except presence.AlreadyRunning:
        return
    except StateError:
        _run(None)  # which says it where it can be read
        return
    try:
        _run(held)
    except (SystemExit, Exception) as end:
        if getattr(end, "code", 1) in (None, 0) or not presence.has_news(state, began):
            raise
    else:
        return
    time.sleep(AGAIN_SECONDS)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-4], *sys.argv[1:]])  # noqa: S606 (no shell is wanted)


def _run(held: presence.Lock | None) -> None:
    from refcast.cli import main as command  # noqa: PLC0415

    command(obj=held)


if __name__ == "__main__":
    main()
