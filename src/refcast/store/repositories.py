"""Repositories, users and the ledger: the tips of every known ref as of the last ingested push."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.schema import ledger, repositories, users


@dataclass(frozen=True, slots=True)
class Found:
    """What a sweep of one repository found."""

    recovered: int = 0
    """Refs that had moved without a record, and are announced."""
    left: int = 0
    """Refs that differ and are left alone: a push is under way or recorded, or they cannot be read."""
    refs: tuple[str, ...] = ()
    """The first of those that are announced, with their full names."""
    error: str = ""
    """Why it could not be swept; empty if it was."""


@dataclass(frozen=True, slots=True)
class Sweepable:
    """A repository, with when it was swept."""

    number: int
    path: str
    watched: bool
    swept_at: float | None
    asked_at: float | None
    found: Found | None
    """By the last sweep."""


class Repositories:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, path: str) -> int | None:
        """The number of the repository at this resolved path; None if it is not known."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(repositories.c.id).where(repositories.c.path == path))
            return cast("int | None", found.scalar())

    def add(self, path: str, tips: Mapping[str, str], now: float, *, afresh: bool = False) -> int:
        """Make a repository known, with its ledger, which counts as a sweep; its number. If it is known, the ledger
        stays, unless `afresh`."""
        with self._database.write() as connection:
            known = connection.execute(sa.select(repositories.c.id).where(repositories.c.path == path)).scalar()
            if known is not None and not afresh:
                return cast(int, known)
            if known is None:
                new = sa.insert(repositories).values(path=path, added_at=now, watched=True).returning(repositories.c.id)
                known = connection.execute(new).scalar_one()
            connection.execute(sa.update(repositories).where(repositories.c.id == known).values(swept_at=now))
            connection.execute(sa.delete(ledger).where(ledger.c.repository_id == known))
            rows = [{"repository_id": known, "ref": ref, "tip": tip} for ref, tip in tips.items()]
            if rows:
                connection.execute(sa.insert(ledger), rows)
            return cast(int, known)

    def path(self, number: int) -> str:
        """The resolved path of the repository of this number; empty if there is none."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(repositories.c.path).where(repositories.c.id == number))
            return cast("str | None", found.scalar()) or ""

    def watch(self, path: str, *, watched: bool) -> None:
        """Note whether hooks are installed in a known repository."""
        with self._database.write() as connection:
            connection.execute(sa.update(repositories).where(repositories.c.path == path).values(watched=watched))

    def paths(self) -> dict[str, int]:
        """The repositories that are watched: resolved path -> number."""
        query = sa.select(repositories.c.path, repositories.c.id).where(repositories.c.watched)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(repositories.c.path))
            return {row.path: row.id for row in rows}

    def tips(self, number: int) -> dict[str, str]:
        """The ledger of one repository: ref -> id."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(ledger.c.ref, ledger.c.tip).where(ledger.c.repository_id == number))
            return {row.ref: row.tip for row in rows}

    def user_id(self, name: str) -> int:
        """The stable number of a user name, given at first sight."""
        if number := self.find_user(name):
            return number
        with self._database.write() as connection:
            known = connection.execute(sa.select(users.c.id).where(users.c.name == name)).scalar()
            if known is not None:
                return cast(int, known)
            made = connection.execute(sa.insert(users).values(name=name).returning(users.c.id))
            return cast(int, made.scalar_one())

    def find_user(self, name: str) -> int:
        """The number of a user name, or 0 if nobody of that name has pushed."""
        with self._database.read() as connection:
            return cast(int, connection.execute(sa.select(users.c.id).where(users.c.name == name)).scalar() or 0)

    def sweepable(self) -> list[Sweepable]:
        """All that are known, by their path."""
        columns = repositories.c
        with self._database.read() as connection:
            rows = connection.execute(sa.select(repositories).order_by(columns.path))
            return [
                Sweepable(row.id, row.path, row.watched, row.swept_at, row.sweep_asked_at, _found(row.sweep_found))
                for row in rows
            ]

    def ask_sweep(self, number: int, now: float) -> None:
        """Ask the worker to sweep a repository now."""
        with self._database.write() as connection:
            connection.execute(sa.update(repositories).where(repositories.c.id == number).values(sweep_asked_at=now))

    def ask_sweeps(self, now: float) -> None:
        """Ask the worker to sweep all that are watched."""
        with self._database.write() as connection:
            connection.execute(sa.update(repositories).where(repositories.c.watched).values(sweep_asked_at=now))

    def swept(self, number: int, found: Found, *, began_at: float, now: float) -> None:
        """Note what a sweep found that began at `began_at`, or why it could not be done."""
        here = sa.update(repositories).where(repositories.c.id == number)
        asked_at = repositories.c.sweep_asked_at
        with self._database.write() as connection:
            connection.execute(here.values(sweep_found=asdict(found)))
            if not found.error:
                connection.execute(here.values(swept_at=began_at))
            # What was asked meanwhile is still to be done; what lies ahead was asked before the clock was set back.
            answered = sa.or_(asked_at <= began_at, asked_at > now)
            connection.execute(here.where(answered).values(sweep_asked_at=None))


def _found(stored: Mapping[str, Any] | None) -> Found | None:
    return None if stored is None else Found(**{**stored, "refs": tuple(stored["refs"])})
