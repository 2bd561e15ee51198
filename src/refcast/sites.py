"""What the administrator has told refcast of the machine: its front ends, and where all repositories are covered.

Owns one file in the state directory, `site.json`. What is in a gitolite is noted elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from refcast.errors import StateError

FILE = "site.json"


def owner_of(state: Path) -> int:
    """Whom a state directory belongs to. StateError if it is not there."""
    try:
        return state.stat().st_uid
    except OSError as error:
        raise StateError(
            f"no state directory {state}: {error.strerror}; name it with --state, or make it with `refcast install` as "
            f"the worker's user (as root: install -d -m 711 -o USER {state})"
        ) from error


def check_owner(state: Path) -> None:
    """Raise StateError unless `state` is a directory of the present user: files of another would lock its owner out."""
    owner = owner_of(state)
    if owner != os.geteuid():
        raise StateError(
            f"the state directory {state} belongs to user {owner}: run this as that user (sudo -u '#{owner}')"
        )


def front_ends(state: Path) -> frozenset[int]:
    """The users whose word on who has pushed is believed, besides the owner of the state directory."""
    return frozenset(uid for uid in _read(state).get("front_ends", []) if isinstance(uid, int))


def covered_roots(state: Path) -> tuple[str, ...]:
    """The directories below which every repository announces its pushes, resolved."""
    return tuple(root for root in _read(state).get("roots", []) if isinstance(root, str))


def set_front_ends(state: Path, uids: frozenset[int]) -> None:
    _write(state, {**_read(state), "front_ends": sorted(uids)})


def set_covered_roots(state: Path, roots: tuple[str, ...]) -> None:
    _write(state, {**_read(state), "roots": list(roots)})


def is_damaged(state: Path) -> bool:
    """Whether the file is there and cannot be understood: then nothing of it counts."""
    return (state / FILE).exists() and not _read(state)


def _read(state: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((state / FILE).read_text("utf-8", "surrogateescape"))
        return facts if isinstance(facts, dict) else {}
    return {}


def _write(state: Path, facts: dict[str, Any]) -> None:
    """Root may write it, too: it then belongs to the owner of the directory, as all that is in there."""
    path = state / FILE
    try:
        new = path.with_name(f"{FILE}.new")
        new.unlink(missing_ok=True)
        text = json.dumps(facts, indent=2, ensure_ascii=True) + "\n"
        with new.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            info = state.stat()
            if os.geteuid() == 0:
                os.fchown(file.fileno(), info.st_uid, info.st_gid)
        new.replace(path)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}; run this as the owner of {state}") from error
