"""The endpoints that get a repository's events: those of the store, and those that its own configuration names.

Owns how the store follows that configuration: what is new there is added, what changed is changed, what is gone or
cannot be used is disabled, visibly. What may stand in it is `repository_endpoints`' business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refcast import repository_endpoints
from refcast.errors import BadInput, RepositoryError
from refcast.model import Endpoint, printable
from refcast.repository_endpoints import GONE, Written
from refcast.store import Store

log = logging.getLogger(__name__)

NOTHING = frozenset({"nothing"})
"""The events that an endpoint wants that could not be used from the start: how to render them is not known."""


def present(store: Store, number: int | None) -> list[Endpoint]:
    """The endpoints that are stored for the repository of this number."""
    return [each for each in store.endpoints.all() if each.origin in (None, number) and each.reason != GONE]


class OwnEndpoints:
    """`clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._marks: dict[int, tuple[object, ...]] = {}

    def of(self, number: int, path: str, full_name: str) -> list[Endpoint]:
        """The endpoints for the repository of this number. Its configuration is read if it has changed."""
        mark = (full_name, *repository_endpoints.mark(Path(path)))
        if self._marks.get(number) != mark:
            try:
                self._follow(number, full_name, repository_endpoints.read(Path(path)))
                self._marks[number] = mark
            except RepositoryError as error:
                # What is stored stays in force: a push must not wait for somebody to mend a file.
                log.warning("%s", printable(str(error)))
        return present(self._store, number)

    def _follow(self, number: int, full_name: str, named: list[Written]) -> None:
        stored = {each.name.rpartition(":")[2].partition("#")[0]: each for each in self._store.own_endpoints.of(number)}
        for one in named:
            self._settle(number, full_name, one, stored.pop(one.name, None))
        for gone in stored.values():
            if gone.reason != GONE:
                count = self._store.own_endpoints.retire(gone.id, GONE, self._clock())
                log.info("endpoint %s: %s; %d deliveries are canceled", gone.name, GONE, count)

    def _settle(self, number: int, full_name: str, one: Written, known: Endpoint | None) -> None:
        """Make the store's endpoint as it is written."""
        name = f"{full_name}:{one.name}"
        if one.error:
            if known is None:
                known = self._add(replace(one.endpoint, name=name, origin=number, events=NOTHING))
            if known.reason != one.error:
                self._store.endpoints.disable(known.id, one.error)
            return
        wanted = replace(one.endpoint, name=name, origin=number)
        if known is None:
            self._add(wanted)
            return
        same = replace(wanted, id=known.id, name=known.name, state=known.state, reason=known.reason)
        mended = known.reason == GONE or known.reason.startswith(f"refcast.{one.name}: ") or same != known
        if mended or known.name not in (name, f"{name}#{number}"):
            self._change(replace(wanted, id=known.id))
        if mended and known.state == "disabled":
            # It is written anew, so whatever was wrong with it may be no longer.
            self._store.endpoints.enable(known.id, self._clock())

    def _add(self, new: Endpoint) -> Endpoint:
        try:
            return self._store.endpoints.add(new, self._clock())
        except BadInput:  # two roots have repositories of the same name
            return self._store.endpoints.add(replace(new, name=f"{new.name}#{new.origin}"), self._clock())

    def _change(self, new: Endpoint) -> None:
        try:
            self._store.endpoints.change(new)
        except BadInput:
            self._store.endpoints.change(replace(new, name=f"{new.name}#{new.origin}"))
