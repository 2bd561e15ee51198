"""Whether git receives a push just now. Such a push has read where its hooks are, and runs them only at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

WORDS = (b"git-receive-pack", b"receive-pack")


def is_receiving(roots: Iterable[str]) -> bool:
    """Whether any user's receive-pack works in a repository below one of these directories; root sees them all."""
    below = [*map(Path, roots)]
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = (process / "cmdline").read_bytes().split(b"\0")[:2]
            if any(word.rpartition(b"/")[2] in WORDS for word in words):
                repository = (process / "cwd").readlink()
                if any(repository.is_relative_to(root) for root in below):
                    return True
    return False
