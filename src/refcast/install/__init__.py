"""Hooks into repositories and out again, and the state directory that they write to.

The hooks that were there before are kept and called (`hooks`); uninstalling puts back exactly those, and the
configuration byte for byte. A gitolite is installed into as a whole (`gitolite`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from refcast import sites, spool
from refcast.errors import BadInput, RecordError, RepositoryError, StateError
from refcast.history import History
from refcast.install import gitolite, group, site
from refcast.install.checking import again, problems, problems_of, unused
from refcast.install.hooks import (
    EVERY,
    HOOKS,
    INTENTS,
    KEPT,
    MARK,
    NO_DIRECTORY,
    Trouble,
    is_ours,
    place_hook,
    present_intent,
    render,
    take_away,
)
from refcast.install.repository import (
    Place,
    advertise_push_options,
    find,
    git_version,
    place,
    restore_push_options,
    takes_push_options,
)
from refcast.install.site import AGAIN, owns, removed
from refcast.install.system import System, covers
from refcast.store import Store

__all__ = [
    "HOOKS",
    "INTENTS",
    "MARK",
    "Place",
    "Trouble",
    "again",
    "create_state",
    "enter",
    "find",
    "git_version",
    "gitolite",
    "group",
    "install",
    "is_ours",
    "make_spool",
    "place",
    "problems",
    "problems_for_all",
    "problems_of",
    "removed",
    "render",
    "site",
    "takes_push_options",
    "uncovered",
    "uninstall",
    "unused",
]


def create_state(state: Path) -> None:
    """Make the state directory of the present user, or check that it is one. Raises StateError."""
    try:
        # Pushers of other accounts pass through it to the spool; they cannot list it.
        state.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot make the state directory {state}: {error.strerror}; choose another --state"
        ) from error
    sites.check_owner(state)
    if stat.S_IMODE(state.stat().st_mode) & 0o777 != 0o711:
        state.chmod(0o711)
    make_spool(state, os.geteuid())


def make_spool(state: Path, owner: int) -> None:
    """Make the spool of a state directory, or put it right, for the user whom that belongs to. Raises StateError."""
    chosen = group.choose(state / "spool", owner)
    # Without a group that nobody else is in, others' pushes could be read and forged: better not written at all.
    spool.create(state / "spool", owner, -1 if chosen is None else chosen, closed=chosen is None)


def install(
    places: Iterable[Place], state: Path, store: Store, *, shared: bool, now: float, intent: str | None = None
) -> Iterator[tuple[Place, str]]:
    """Install into each place, and say what was done. Raises before anything is changed if a place must be refused.

    `intent` is one of INTENTS; None for what a place has already, else `update`."""
    places = list(places)
    for each in places:
        if covers(each.hooks):
            continue
        if each.shared and not shared:
            raise BadInput(_refusal(each, places, store))
        if owns(each.repository):
            raise BadInput(
                f"{each.repository} is gitolite's, which replaces the hooks in it; "
                f"as its user: refcast {' '.join(AGAIN)}"
            )
        for directory in (each.repository, each.hooks if each.hooks.exists() else each.hooks.parent):
            if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
                raise RepositoryError(f"cannot install into {directory}: not writable; run this as its owner")
    for each in places:
        if covers(each.hooks):
            enter(each, state, store, now=now)
            yield each, "is covered already, as all repositories there"
            continue
        before = [is_ours(each.hooks / name) for name in EVERY]
        enter_ledger(each.repository, state, store, fresh=not any(before), now=now)
        wanted = (intent or present_intent(each.hooks), "post-receive")
        changed = [place_hook(each.hooks, name, state) for name in wanted]
        # Last, so that at no moment a push is without an intent.
        changed += [take_away(each.hooks, name) for name in EVERY if name not in wanted]
        advertise_push_options(each.repository)
        store.repositories.watch(str(each.repository), watched=True)
        yield each, "is installed already" if not any(changed) else "upgraded" if any(before) else "installed"


def install_gitolite(state: Path, store: Store, *, keep_rc: bool, now: float) -> gitolite.Done:
    """Install into the gitolite of the present user, for all of its repositories and those to come."""

    def enter(repository: Path, fresh: bool) -> None:
        enter_ledger(repository, state, store, fresh=fresh, now=now)
        store.repositories.watch(str(repository), watched=True)

    return gitolite.install(state, keep_rc=keep_rc, enter=enter)


def uninstall(each: Place) -> bool:
    """Bring back what was there before. Whether there was anything to remove. Raises RepositoryError."""
    if covers(each.hooks):  # those of all repositories stay
        each = Place(each.repository, each.repository / "hooks")
    try:
        removed = [take_away(each.hooks, name) for name in EVERY]
        marker = each.hooks / KEPT / NO_DIRECTORY
        if made := marker.exists():
            marker.unlink()
        with contextlib.suppress(OSError):  # not there, or not empty
            (each.hooks / KEPT).rmdir()
            if made:
                each.hooks.rmdir()
    except OSError as error:
        raise RepositoryError(f"cannot uninstall from {each.hooks}: {error.strerror}; run this as its owner") from error
    restore_push_options(each.repository)
    return any(removed)


def uncovered(roots: Iterable[Path], known: Container[str] = ()) -> list[Trouble | RepositoryError]:
    """The bare repositories below directories that are covered as a whole whose pushes are not announced, but for the
    known ones."""
    return list(System.look().uncovered(roots, known))


def problems_for_all(state: Path) -> list[Trouble]:
    """What is wrong with the hooks of all repositories, for the present user's state directory; root mends it."""
    roots = sites.covered_roots(state)
    return list(System.look().problems(state, os.geteuid(), roots)) if roots else []


def enter(each: Place, state: Path, store: Store, *, now: float) -> None:
    """Make a repository known whose hooks are in place already, or are about to be. Raises RepositoryError."""
    enter_ledger(each.repository, state, store, fresh=False, now=now)
    store.repositories.watch(str(each.repository), watched=True)


def enter_ledger(repository: Path, state: Path, store: Store, *, fresh: bool, now: float) -> None:
    """Its present tips become the ledger, unless refcast is watching the repository, or a push of it waits. If somebody
    else has taken its hooks away, a sweep tells what moved meanwhile."""
    path = str(repository)
    is_known = store.repositories.find(path) is not None
    if is_known and (not fresh or path in store.repositories.paths() or _has_record(state, path)):
        return
    with History.open(path) as history:
        store.repositories.add(path, history.tips(), now, afresh=True)


def _has_record(state: Path, repository: str) -> bool:
    for file in spool.files(state / "spool"):
        with contextlib.suppress(OSError, RecordError):
            if any(part.repository == repository for part in spool.read(file).records):
                return True
    return False


def _refusal(each: Place, places: list[Place], store: Store) -> str:
    others = {str(one.repository) for one in places if one.hooks == each.hooks}
    for path in store.repositories.paths():
        with contextlib.suppress(RepositoryError):
            if place(Path(path)).hooks == each.hooks:
                others.add(path)
    return (
        f"the hooks of {each.repository} are outside it, in {each.hooks} (core.hooksPath or a link): hooks there "
        f"run for every repository that uses that directory, of those known here {', '.join(sorted(others))}; "
        "pass --shared if that is what you want"
    )
