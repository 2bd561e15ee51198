"""Which records and intents count: those of users who may write the repository, and whose ids fit what happened.

The spool is open to every user of the machine, so a file in it proves who wrote it and nothing else. Owns that
judgement. What does not count is set aside with the reason by whoever asks here; nothing is removed.

Root, the worker's own user and the front ends that the administrator has registered are believed as they are. Of any
other user a record counts only if

- its repository is named by its resolved path, as hooks name it: by a link it would be another one, or lie elsewhere;
- it is known already, or lies where all repositories are covered (`refcast install --system`);
- the user may write that repository where each of its refs is (`access`);
- its ids fit: the ledger's tips lead to its old ids, and its new ids to where the refs are now, over what all records
  and intents tell. A gap on one side is let pass where nothing that is told leads from the ledger to the refs: somebody
  moved a ref without a push.

So nobody announces what they could not have pushed. Who may push can still tell of a push and of its undoing.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from refcast import sites, spool
from refcast.errors import StateError
from refcast.history.access import Account, account, folder_of, may_make_in
from refcast.ingest import order
from refcast.ingest.order import Record
from refcast.model import RefUpdate, printable

DOUBT = "is not believed: "
"""In each reason that is given here, behind the path. What is set aside for it is judged again in each pass, for it may
turn out to be true, and holds up nobody else's."""

Step = tuple[str, RefUpdate]
"""A ref's full name, and a move of it."""

Graph = defaultdict[str, set[str]]


class Trust:
    """The judgement for one spool. `renew` begins a pass: what was found out of files and groups holds for one."""

    def __init__(self, spool_dir: Path, look_up: Callable[[int], Account] = account) -> None:
        self._spool = spool_dir
        self._look_up = look_up
        self._may: dict[tuple[int, str, str], bool] = {}
        with contextlib.suppress(StateError):  # it may be put right before the first pass
            self.renew()

    def renew(self) -> None:
        """Raises StateError if there is no spool."""
        try:
            self._owner = self._spool.stat().st_uid
        except OSError as error:
            raise StateError(f"cannot read the spool {self._spool}: {error.strerror}; run this as its owner") from error
        self._front_ends = sites.front_ends(self._spool.parent)
        self._roots = sites.covered_roots(self._spool.parent)
        self._accounts: dict[int, Account] = {}
        self._may = {}

    def is_front_end(self, uid: int) -> bool:
        """Whether what the environment of its pushes says of the pusher is believed."""
        return uid == self._owner or uid in self._front_ends

    def is_trusted(self, uid: int) -> bool:
        """Whether its records are believed as they are."""
        return uid == 0 or self.is_front_end(uid)

    def may_write(self, uid: int, part: spool.Part) -> bool:
        """Whether a user may write each ref that a record or intent is about."""
        if self.is_trusted(uid):
            return True
        place = order.prefix(part)
        return self.may_move(uid, part.repository, [place + update.ref for update in part.updates])

    def may_move(self, uid: int, repository: str, refs: Iterable[str]) -> bool:
        """Whether a user may move each of these refs, by their full names."""
        if self.is_trusted(uid):
            return True
        who = self._accounts.get(uid) or self._accounts.setdefault(uid, self._look_up(uid))
        for folder in {folder_of(ref) for ref in refs} or {"refs/heads"}:
            known = self._may.get((uid, repository, folder))
            if known is None:
                known = self._may[uid, repository, folder] = may_make_in(who, repository, folder)
            if not known:
                return False
        return True

    def with_believed_intents(self, entry: spool.Entry, is_known: Callable[[str], bool]) -> spool.Entry:
        """The file without the intents of who may not write the repository: nobody else's push waits for those."""
        if self.is_trusted(entry.uid):
            return entry
        return replace(entry, intents=self._counting(entry.uid, entry.intents, is_known))

    def believed(self, entry: spool.Entry, is_known: Callable[[str], bool]) -> spool.Entry:
        """The same without such records, too: for whoever asks what a push may still tell of, as a sweep does."""
        if self.is_trusted(entry.uid):
            return entry
        records = self._counting(entry.uid, entry.records, is_known)
        return replace(entry, intents=self._counting(entry.uid, entry.intents, is_known), records=records)

    def against_user(self, record: Record, is_known: Callable[[str], bool]) -> str:
        """Why a record does not count, whatever its ids are; empty if it does."""
        why = self._against_part(record.entry.uid, record.part, is_known)
        return self._reason(record, why) if why else ""

    def _against_part(self, uid: int, part: spool.Part, is_known: Callable[[str], bool]) -> str:
        path = part.repository
        if self.is_trusted(uid):
            return ""
        if os.path.realpath(path) != path:
            return f"{path} leads elsewhere by a link"
        if not any(path.startswith(root.rstrip("/") + "/") for root in self._roots) and not is_known(path):
            return f"refcast is not installed in {path}; `refcast install` it, if it is yours"
        return "" if self.may_write(uid, part) else f"user {uid} may not write {path}"

    def _counting(
        self, uid: int, parts: tuple[spool.Part, ...], is_known: Callable[[str], bool]
    ) -> tuple[spool.Part, ...]:
        return tuple(part for part in parts if not self._against_part(uid, part, is_known))

    def against_ids(
        self,
        record: Record,
        steps: Mapping[str, Steps],
        ledger: Mapping[str, str],
        present: Mapping[str, str],
        is_excused: Callable[[str, RefUpdate], bool],
    ) -> str:
        """Why a record does not count by its ids; empty if they fit.

        `steps` are those of all that is told of this repository, `present` its refs, read after all that was.
        `is_excused` tells of a move that does not fit whether there is another reason for it, as of one that was
        announced as recovered already."""
        if self.is_trusted(record.entry.uid):
            return ""
        for ref, update in record.moves():
            was, now = order.tip(ledger, ref, update.old), order.tip(present, ref, update.old)
            ahead, behind = steps[ref].ahead(was), steps[ref].behind(now)
            begins, ends = update.old in ahead, update.new in behind
            if (begins and ends) or _is_none(ref, was, now):
                continue
            if (begins or ends) and now not in ahead:
                continue
            if not is_excused(ref, update):
                move = f"{printable(update.ref)} was not moved {update.old[:12]}..{update.new[:12]}"
                return self._reason(record, f"{move}, as far as refs and ledger tell")
        return ""

    def _reason(self, record: Record, why: str) -> str:
        return f"{record.entry.path} {DOUBT}{why}"


class Steps:
    """All moves of one ref that are told of. What was found of them is kept, so all of them are told first."""

    def __init__(self) -> None:
        self._onward: Graph = defaultdict(set)
        self._back: Graph = defaultdict(set)
        self._ahead: dict[str, set[str]] = {}
        self._behind: dict[str, set[str]] = {}

    def add(self, update: RefUpdate) -> None:
        self._onward[update.old].add(update.new)
        self._back[update.new].add(update.old)

    def ahead(self, here: str) -> set[str]:
        """Where they lead from an id, which is among them."""
        return self._ahead.get(here) or self._ahead.setdefault(here, _reached(self._onward, here))

    def behind(self, here: str) -> set[str]:
        """From where they lead to an id, which is among them."""
        return self._behind.get(here) or self._behind.setdefault(here, _reached(self._back, here))


def steps_of(records: Iterable[Record], intended: Iterable[Step] = ()) -> defaultdict[str, Steps]:
    """All moves that are told of, by the full names of their refs."""
    steps: defaultdict[str, Steps] = defaultdict(Steps)
    for record in records:
        for ref, update in record.moves():
            steps[ref].add(update)
    for ref, update in intended:
        steps[ref].add(update)
    return steps


def is_doubt(reason: str) -> bool:
    """Whether something was set aside for a reason that was given here."""
    return DOUBT in reason


def _reached(steps: Graph, here: str) -> set[str]:
    seen = {here}
    ahead = [here]
    while ahead:
        found = steps.get(ahead.pop(), set()) - seen
        seen |= found
        ahead += found
    return seen


def _is_none(ref: str, was: str, now: str) -> bool:
    """Whether a ref is one that only a push names, as one for review does: a hook takes it, and it never is there."""
    real = any(f"/{kind}/" in f"/{ref}" for kind in ("refs/heads", "refs/tags"))
    return not real and not (was.strip("0") or now.strip("0"))
