"""A copy of the store while it is in use, and the way back. Nothing but SQLite's own means.

SQLite copies a database that others write to (sqlite.org/backup.html); to copy the file would miss what is in the
write-ahead log, and an old log beside a new file would be taken for that file's own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from refcast.errors import BadInput, StateError
from refcast.store import schema
from refcast.store.upgrade import no_worker

_BESIDE = ("-wal", "-shm", "-journal")


def back_up(store: Path, target: Path) -> None:
    """Write a copy of the store, whole and in itself consistent, into a new file. Raises BadInput or StateError."""
    if os.path.lexists(target):
        raise BadInput(f"{target} is there already: choose another name, or remove it")
    new = target.with_name(f".{target.name}.refcast-new")
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # it holds secrets
        with contextlib.closing(_open(store, "ro")) as source, contextlib.closing(_open(new, "rw")) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        _flush(new)
        new.rename(target)
        _flush(target.parent)
    except OSError as error:
        raise StateError(f"cannot write {target}: {error.strerror}; choose another place") from error
    except sqlite3.Error as error:
        raise StateError(f"cannot copy {store} to {target}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def restore(source: Path, store: Path) -> Path | None:
    """Put a copy in the store's place, of which the former contents are kept beside it: their path, if there were any.

    No worker may run. Raises BadInput if the copy is none of a store, or of a later version; StateError."""
    check(source)
    why = "is to be replaced, but a worker runs: stop it first; one that is a service with `systemctl stop refcast`"
    with no_worker(store, why):
        new = store.with_name(f".{store.name}.restoring")
        try:
            new.unlink(missing_ok=True)
            back_up(source, new)
            kept = _keep(store)
            new.replace(store)
            _flush(store.parent)
        except OSError as error:
            raise StateError(f"cannot restore {store}: {error.strerror}; run this as its owner") from error
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)  # secrets are in it
    return kept


def _keep(store: Path) -> Path | None:
    """Give the store's files a second name, and take away those that would be taken for the new one's."""
    if not store.exists():
        return None
    kept = store.with_name(f"{store.name}.before-restore")
    if os.path.lexists(kept) and not (kept.exists() and kept.samefile(store)):  # else a restore was killed here
        raise StateError(f"{kept} is there from another time: move it away, then restore again")
    _write_log_back(store)
    if not kept.exists():
        os.link(store, kept)
    for end in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            store.with_name(store.name + end).rename(kept.with_name(kept.name + end))
    return kept


def _write_log_back(store: Path) -> None:
    """Have all of a store be in its one file: whoever is killed between two renames must not leave it without its log.

    One that is damaged stays as it is: SQLite would throw its log away."""
    with contextlib.suppress(BadInput, sqlite3.Error):
        check(store)
        with contextlib.closing(_open(store, "rw")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check(copy: Path) -> None:
    """Raise BadInput unless a file is a store that is whole, and of a version that this program knows."""
    try:
        with copy.open("rb"):
            pass
        with contextlib.closing(_open(copy, "ro")) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise BadInput(f"{copy} is damaged: {said}")
            (version,) = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except OSError as error:
        raise BadInput(f"cannot read {copy}: {error.strerror}") from error
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise BadInput(f"{copy} is no backup of a store: {error}") from error
    if not str(version).isdecimal() or int(version) > schema.VERSION:
        raise BadInput(f"{copy} is of version {version}, and this refcast knows {schema.VERSION}: upgrade refcast")


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
