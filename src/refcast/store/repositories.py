"""Repositories, users and the ledger: the tips of every known ref as of the last ingested push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import sqlalchemy as sa

from refcast.store.database import Database
from refcast.store.schema import ledger, repositories, users


class Repositories:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, path: str) -> int | None:
        """The number of the repository at this resolved path; None if it is not known."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(repositories.c.id).where(repositories.c.path == path))
            return cast("int | None", found.scalar())

    def add(self, path: str, tips: Mapping[str, str], now: float, *, afresh: bool = False) -> int:
        """Make a repository known, with its ledger; its number. If it is known, the ledger stays, unless `afresh`."""
        with self._database.write() as connection:
            known = connection.execute(sa.select(repositories.c.id).where(repositories.c.path == path)).scalar()
            if known is not None and not afresh:
                return cast(int, known)
            if known is None:
                new = sa.insert(repositories).values(path=path, added_at=now, watched=True).returning(repositories.c.id)
                known = connection.execute(new).scalar_one()
            connection.execute(sa.delete(ledger).where(ledger.c.repository_id == known))
            rows = [{"repository_id": known, "ref": ref, "tip": tip} for ref, tip in tips.items()]
            if rows:
                connection.execute(sa.insert(ledger), rows)
            return cast(int, known)

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
