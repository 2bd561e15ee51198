"""One SQLite database: how it is opened, its two kinds of transaction, and how its file gives room back.

Facts behind the choices: a deferred transaction that turns into a writer fails at once despite the busy timeout, so
writers begin IMMEDIATE; synchronous=FULL is what makes a commit survive a power cut in WAL mode. WAL needs memory that
all its users share, so all must be on one machine (sqlite.org/wal.html): a network file system is refused.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store import schema
from refcast.store.upgrade import no_worker, upgrade

_BUSY_MS = 30_000
_WAL_BYTES = 8 * 1024 * 1024
"""What the write-ahead log is cut back to when it begins anew."""

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {"afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
_NETWORK |= {f"fuse.{name}" for name in ("ceph", "glusterfs", "rclone", "s3fs", "sshfs")}


class Database:
    def __init__(self, path: Path, engine: sa.Engine) -> None:
        self.path = path
        self._engine = engine
        self._file = _identity(path)
        self._writing = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, locked: bool = False) -> Database:
        """The database at `path`, made with its tables if there is none.

        Raises StateError if it cannot be opened, or is of a later version than this program knows."""
        try:
            system = _network_file_system(path.parent)
            if system:
                raise StateError(
                    f"the store {path} is on {system}, a network file system, which SQLite cannot share safely: "
                    "move the state directory to a local disk"
                )
            _make_private(path)
        except OSError as error:
            raise StateError(f"cannot open the store {path}: {error.strerror}; {_hint(error)}") from error
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
            pool_size=0,  # a connection for each thread, kept
            pool_use_lifo=True,  # who writes next finds in its memory what was written last
            hide_parameters=True,  # errors tell of statements, whose values may be secrets
        )
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        database = cls(path, engine)
        try:
            database._make_tables(locked=locked)
        except BaseException:
            engine.dispose()
            raise
        return database

    def _make_tables(self, *, locked: bool = False) -> None:
        noted = sa.select(schema.meta.c.value).where(schema.meta.c.key == "version")
        with self.read() as connection:
            # To look at a store one must not have to queue for the right to write.
            there = sa.inspect(connection).has_table(schema.meta.name)
            if there and connection.execute(noted).scalar() == str(schema.VERSION):
                return
        with self.write() as connection:
            schema.meta.create(connection, checkfirst=True)
            version = connection.execute(noted).scalar()
            if version is None:
                schema.metadata.create_all(connection)
                connection.execute(sa.insert(schema.meta).values(key="version", value=str(schema.VERSION)))
            elif not version.isdecimal() or int(version) > schema.VERSION:
                raise StateError(
                    f"{self.path} is of version {version}, this refcast knows {schema.VERSION}: upgrade refcast"
                )
            elif int(version) < schema.VERSION:
                alone = no_worker(
                    self.path,
                    f"is of version {version}, and has to become {schema.VERSION}, but a worker of the program before "
                    "still runs: end it with `refcast upgrade`; one that is a service with `systemctl restart refcast`",
                )
                with nullcontext() if locked else alone:
                    upgrade(connection, int(version), schema.VERSION)
                    schema.metadata.create_all(connection)
                    changed = sa.update(schema.meta).where(schema.meta.c.key == "version")
                    connection.execute(changed.values(value=str(schema.VERSION)))

    def close(self) -> None:
        self._engine.dispose()

    def is_replaced(self) -> bool:
        """Whether another file stands in the place of the one that was opened, such as a copy from a backup."""
        there = _identity(self.path)
        return there is not None and there != self._file

    def reopen(self) -> None:
        """Go on with the file that stands there now. Nobody may be at work with the old one. Raises StateError."""
        self._engine.dispose()
        self._file = _identity(self.path)
        self._make_tables()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write: committed at the end, undone if an error leaves it. Keep it short."""
        with (
            self._named_errors(),
            self._turn(),
            self._engine.connect().execution_options(refcast_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the other threads of this program here: SQLite would look again after ever longer pauses."""
        if not self._writing.acquire(timeout=_BUSY_MS / 1000):
            raise StateError(f"the store {self.path} cannot be used: database is locked; {_HINTS['locked']}")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent look at the store; it waits for no writer."""
        with self._named_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    def give_back(self, pages: int, *, keep: int) -> bool:
        """Give up to `pages` free pages back to the file system in one transaction; whether there are more.

        `keep` of them stay, and no less than a twentieth of the file: what comes next would have to ask for them."""
        with self.read() as connection:
            total: int = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            free: int = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        spare = free - max(keep, total // 20)
        if spare <= 0:
            return False
        with self.write() as connection:
            for _ in range(min(pages, spare)):
                # The driver takes one step of a statement that returns no rows, and a step gives one page back.
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
            left: int = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        return spare > pages and left < free  # a store that was put together from a dump has no map for this

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file, as far as that waits for nobody."""
        with self._named_errors():
            raw = self._engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.DatabaseError as error:  # past SQLAlchemy, which would begin a transaction
                raise self._error(error) from error
            finally:
                raw.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        if (there := _identity(self.path)) != self._file:
            gone = "is gone: put it, or a copy from a backup, in its place"
            raise StateError(f"the store {self.path} {gone if there is None else 'was replaced while it was in use'}")
        try:
            yield
        except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:  # the driver's own come of what is `prepared`
            cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            if isinstance(cause, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                raise
            raise self._error(cause) from error

    def _error(self, error: BaseException | None) -> StateError:
        """What SQLite says, with what to do about it."""
        said = str(error)
        hint = next((hint for word, hint in _HINTS.items() if word in said), "look at its disk and its owner")
        return StateError(f"the store {self.path} cannot be used: {said}; {hint}")


_RESTORE = "put a copy from a backup in the place of it and of its -wal and -shm, or move all three away to begin anew"

_HINTS = {
    "locked": "another program holds it: try again, or end that program",
    "full": "make room on its disk",
    "malformed": f"stop the worker, and {_RESTORE}",
    "not a database": f"stop the worker, and {_RESTORE}",
    "disk I/O error": "look at its disk, and whether that is full",
    "readonly": "its disk may be mounted read-only; otherwise run this as its owner",
    "unable to open": "run this as its owner; look at its disk",
}
"""What to do about SQLite's own messages."""


def _hint(error: OSError) -> str:
    return "make room on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "run this as its owner"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _network_file_system(directory: Path) -> str:
    """The type of the file system that a directory is on, if that is one of the network (proc(5), mountinfo).

    One that cannot be told, as in a container without /proc, is taken for a local one."""
    device = directory.stat().st_dev
    try:
        lines = MOUNTS.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == f"{os.major(device)}:{os.minor(device)}" and source.split()[0] in _NETWORK:
            return source.split()[0]
    return ""


def _make_private(path: Path) -> None:
    """Make the file before SQLite would with the umask: the store holds secrets. The WAL's files take its mode.

    One that is there is not opened: to close it again would drop the locks that this process has on it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    cursor = connection.cursor()
    if not cursor.execute("PRAGMA page_count").fetchone()[0]:
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    _into_wal(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", f"journal_size_limit={_WAL_BYTES}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _into_wal(cursor: Any) -> None:
    """SQLite does not wait for its busy timeout where two change the journal of a new store at once."""
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("refcast_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
