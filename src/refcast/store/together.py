"""The write transactions of several threads made into one: a commit waits for the disk once, for all of them.

Whoever comes first runs its own work and that of those who have come meanwhile; the others wait until it is committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from refcast.errors import StateError
from refcast.store.database import Database

T = TypeVar("T")

MOST = 32
"""How much one transaction takes: the first of them waits for the last."""


class _Work:
    """What one thread wants done, and what came of it."""

    def __init__(self, do: Callable[[sa.Connection], Any]) -> None:
        self.do = do
        self.value: Any = None
        self.error: Exception | None = StateError("the transaction was interrupted")
        self.done = False
        self.called = threading.Lock()
        """Held until it is done, or its thread is to do it."""
        self.called.acquire()


class Together:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: list[_Work] = []
        self._busy = False

    def write(self, do: Callable[[sa.Connection], T]) -> T:
        """What `do` returns, within a transaction that is committed then. If it raises, what it did is undone, and
        nothing else; it may then be called a second time."""
        mine = _Work(do)
        with self._lock:
            self._waiting.append(mine)
            alone = not self._busy
            self._busy = True
        if not alone:
            mine.called.acquire()
        if not mine.done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        value: T = mine.value
        return value

    def _lead(self) -> None:
        with self._lock:
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._run(some)
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting[0].called.release()
                else:
                    self._busy = False
            for one in some:
                one.done = True
                one.called.release()

    def _run(self, some: Sequence[_Work]) -> None:
        try:
            with self._database.write() as connection:
                for one in some:
                    one.value = one.do(connection)
            for one in some:
                one.error = None
        except StateError as error:
            for one in some:
                one.error = error
        except Exception as error:
            if len(some) == 1:
                some[0].error = error
                return
            for one in some:  # each alone: the one that fails must not undo the others'
                self._run([one])
