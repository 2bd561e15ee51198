"""Statements that run for every delivery: SQLAlchemy writes their SQL, once, and the driver runs it.

SQLAlchemy takes 35 µs for an update that takes SQLite 4, and whoever waits for the right to write waits for that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect

_SQLITE = dialect()


class Prepared:
    """A statement, of which each value that may change is a `bindparam`."""

    def __init__(self, statement: sa.Select[Any] | sa.Insert | sa.Update | sa.sql.dml.ReturningInsert[Any]) -> None:
        compiled = statement.compile(dialect=_SQLITE)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        self._sql = str(compiled)
        self._names = list(compiled.positiontup or ())
        self._fixed: dict[str, Any] = {}
        self._written: list[tuple[str, Callable[[Any], Any]]] = []
        for name in self._names:
            bound = compiled.binds[name]
            write = bound.type.dialect_impl(_SQLITE).bind_processor(_SQLITE)
            if not bound.required:
                self._fixed[name] = write(bound.value) if write else bound.value
            elif write and name not in dict(self._written):
                self._written.append((name, write))

    def run(self, connection: sa.Connection, **values: Any) -> Any:
        """The driver's cursor, whose rows are to be fetched at once; errors are the driver's, too."""
        for name, write in self._written:
            values[name] = write(values[name])
        values |= self._fixed
        return connection.connection.execute(self._sql, [values[name] for name in self._names])


class Reader:
    """Turns the driver's values of these columns into Python's."""

    def __init__(self, columns: Iterable[sa.Column[Any]]) -> None:
        found = [column.type.dialect_impl(_SQLITE).result_processor(_SQLITE, None) for column in columns]
        self._read = [(index, read) for index, read in enumerate(found) if read]

    def read(self, row: Iterable[Any]) -> list[Any]:
        values = list(row)
        for index, read in self._read:
            values[index] = read(values[index])
        return values
