"""`python -m refcast`, as hooks start the worker.

While none runs, each push starts one, and to read all of refcast takes half a second of the processor. So the first one
holds the lock, which hooks see, before it has read the rest, and one that finds it held leaves at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from refcast import presence
from refcast.errors import StateError


def main() -> None:
    words, held = sys.argv[1:], None
    if words[:1] == ["--state"] and words[2:] == ["worker", "--on-demand"]:
        presence.detach()
        try:
            held = presence.Lock(Path(words[1]))
        except presence.AlreadyRunning:
            return
        except StateError:
            pass  # the command says it where it can be read
    from refcast.cli import main as command  # noqa: PLC0415

    command(obj=held)


if __name__ == "__main__":
    main()
