"""One SQLite database: how it is opened, and its two kinds of transaction.

Facts behind the choices: a deferred transaction that turns into a writer fails at once despite the busy timeout, so
writers begin IMMEDIATE; synchronous=FULL is what makes a commit survive a power cut in WAL mode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store import schema
from refcast.store.upgrade import upgrade

_BUSY_MS = 30_000


class Database:
    def __init__(self, path: Path, engine: sa.Engine) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> Database:
        """The database at `path`, made with its tables if there is none.

        Raises StateError if it cannot be opened, or is of a later version than this program knows."""
        try:
            _make_private(path)
        except OSError as error:
            raise StateError(f"cannot open the store {path}: {error.strerror}; run this as its owner") from error
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
            pool_size=0,  # a connection for each thread, kept
            hide_parameters=True,  # errors tell of statements, whose values may be secrets
        )
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        database = cls(path, engine)
        try:
            database._make_tables()
        except BaseException:
            engine.dispose()
            raise
        return database

    def _make_tables(self) -> None:
        with self.write() as connection:
            schema.meta.create(connection, checkfirst=True)
            noted = sa.select(schema.meta.c.value).where(schema.meta.c.key == "version")
            version = connection.execute(noted).scalar()
            if version is None:
                schema.metadata.create_all(connection)
                connection.execute(sa.insert(schema.meta).values(key="version", value=str(schema.VERSION)))
            elif not version.isdecimal() or int(version) > schema.VERSION:
                raise StateError(
                    f"{self.path} is of version {version}, this refcast knows {schema.VERSION}: upgrade refcast"
                )
            elif int(version) < schema.VERSION:
                upgrade(connection, int(version), schema.VERSION)
                schema.metadata.create_all(connection)
                changed = sa.update(schema.meta).where(schema.meta.c.key == "version")
                connection.execute(changed.values(value=str(schema.VERSION)))

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write: committed at the end, undone if an error leaves it. Keep it short."""
        with (
            self._named_errors(),
            self._engine.connect().execution_options(refcast_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent look at the store; it waits for no writer."""
        with self._named_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DatabaseError as error:
            if isinstance(error, (sa.exc.IntegrityError, sa.exc.ProgrammingError)):
                raise
            said = str(error.orig)
            hint = next((hint for word, hint in _HINTS.items() if word in said), "check its disk and its owner")
            raise StateError(f"the store {self.path} cannot be used: {said}; {hint}") from error


_HINTS = {
    "locked": "another program holds it: try again, or end that program",
    "full": "make room on its disk",
    "malformed": "put a copy from a backup in its place, or move it away to begin anew",
    "not a database": "put a copy from a backup in its place, or move it away to begin anew",
}
"""What to do about SQLite's own messages."""


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
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("refcast_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
