"""Whether a store's file is sound, and of which version its tables are. A look: it changes nothing."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from refcast.store import schema

SQLITE = sqlite3.sqlite_version
VERSION = schema.VERSION
"""Of the tables that this program knows."""

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Health:
    version: int | None = None
    """Of its tables; None where that cannot be told, or it has none yet."""
    damage: str = ""
    """What is broken, in SQLite's words; empty if nothing was found."""
    whole: bool = False
    """Whether all of it was looked at in time."""


def look(path: Path, seconds: float) -> Health:
    """Look at a store for so long at most. One that another program holds is not waited for."""
    deadline = time.monotonic() + seconds
    version = None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                noted = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
                version = int(noted[0]) if noted and str(noted[0]).isdecimal() else None
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return Health(version, "" if said == "ok" else str(said).splitlines()[0], whole=True)
    except sqlite3.OperationalError as error:
        in_time = time.monotonic() <= deadline
        return Health(version, str(error) if in_time and "locked" not in str(error) else "")
    except sqlite3.DatabaseError as error:
        return Health(version, str(error))
