"""Hooks into repositories and out again, and the state directory that they write to.

The hook that was there before is kept beside ours and called by it: a file as `update.before-refcast` (scripts find
what lies beside them), a link as `before-refcast/update` (what it points at often goes by the name it is called by).
Uninstalling puts back exactly that, and the configuration byte for byte. Nothing is ever written through a link.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from refcast import spool
from refcast.errors import BadInput, RecordError, RepositoryError, StateError
from refcast.history import History
from refcast.install.repository import (
    Place,
    advertise_push_options,
    configured_hooks,
    find,
    git_version,
    place,
    restore_push_options,
    takes_push_options,
)
from refcast.store import Store

__all__ = [
    "HOOKS",
    "Place",
    "check_owner",
    "create_state",
    "find",
    "git_version",
    "install",
    "is_ours",
    "place",
    "problems",
    "problems_of",
    "takes_push_options",
    "uninstall",
    "unused",
]

HOOKS = ("update", "post-receive")
MARK = "# refcast hook: "
KEPT = "before-refcast"
NO_DIRECTORY = "there-was-no-hooks-directory"
"""A file in KEPT that says so."""


def create_state(state: Path) -> None:
    """Make the state directory of the present user, or check that it is one. Raises StateError."""
    try:
        # Pushers of other accounts pass through it to the spool; they cannot list it.
        state.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot make the state directory {state}: {error.strerror}; choose another --state"
        ) from error
    check_owner(state)
    if stat.S_IMODE(state.stat().st_mode) & 0o777 != 0o711:
        state.chmod(0o711)
    spool.create(state / "spool", os.geteuid())


def check_owner(state: Path) -> None:
    """Raise StateError unless `state` is a directory of the present user: files of another would lock its owner out."""
    try:
        owner = state.stat().st_uid
    except OSError as error:
        raise StateError(
            f"no state directory {state}: {error.strerror}; name it with --state, or make it with `refcast install`"
        ) from error
    if owner != os.geteuid():
        raise StateError(
            f"the state directory {state} belongs to user {owner}: run this as that user (sudo -u '#{owner}')"
        )


def install(
    places: Iterable[Place], state: Path, store: Store, *, shared: bool, now: float
) -> Iterator[tuple[Place, str]]:
    """Install into each place, and say what was done. Raises before anything is changed if a place must be refused."""
    places = list(places)
    for each in places:
        if each.shared and not shared:
            raise BadInput(_refusal(each, places, store))
        for directory in (each.repository, each.hooks if each.hooks.exists() else each.hooks.parent):
            if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
                raise RepositoryError(f"cannot install into {directory}: not writable; run this as its owner")
    for each in places:
        before = [is_ours(each.hooks / name) for name in HOOKS]
        _enter_ledger(each, state, store, fresh=not any(before), now=now)
        changed = [_place_hook(each.hooks, name, state) for name in HOOKS]
        advertise_push_options(each.repository)
        store.repositories.watch(str(each.repository), watched=True)
        yield each, "is installed already" if not any(changed) else "upgraded" if any(before) else "installed"


def uninstall(each: Place) -> bool:
    """Bring back what was there before. Whether there was anything to remove. Raises RepositoryError."""
    removed = False
    try:
        for name in HOOKS:
            hook = each.hooks / name
            kept = _kept(each.hooks, name)
            ours = is_ours(hook)
            if kept is not None and (ours or not os.path.lexists(hook)):
                _bring_back(kept, hook)
                removed = True
            elif ours:
                hook.unlink()
                removed = True
            elif kept is not None and _is_same(hook, kept):  # an installation that was killed half-way
                kept.unlink()
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
    return removed


def problems(each: Place, state: Path) -> list[str]:
    """What is wrong with the hooks of a repository, a line each; empty if all is well. To install again mends it."""
    found = []
    for name in HOOKS:
        hook = each.hooks / name
        if not is_ours(hook):
            found.append(f"{hook} is not refcast's: pushes are not announced")
        elif hook.read_bytes() != render(name, state):
            found.append(f"{hook} {_difference(hook.read_bytes(), state)}")
        elif not os.access(hook, os.X_OK):
            found.append(f"{hook} is not executable, so git ignores it")
    return found


def _difference(text: bytes, state: Path) -> str:
    """What tells a hook of ours from the one that installing would write now."""
    named = {key: _named(text, key) for key in ("state", "python", "package")}
    if named["state"] not in ("", str(state)):
        return f"records pushes for another state directory, {named['state']}"
    for key in ("python", "package"):
        if named[key] and not os.path.exists(named[key]):  # noqa: PTH110 (a str, and of bytes that need not be text)
            return f"cannot start a worker: {named[key]} is gone, or was moved"
    return "is of another version, or was changed"


def _named(text: bytes, key: str) -> str:
    """What installing wrote into a hook under this name; empty if it is not there."""
    for line in os.fsdecode(text).splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name == key:
            with contextlib.suppress(ValueError):
                return "".join(shlex.split(value))
    return ""


def unused(each: Place) -> Iterator[Path]:
    """The hooks that were there before ours and are not executable, so that they are not run."""
    for name in HOOKS:
        kept = _kept(each.hooks, name)
        if kept is not None and not os.access(kept, os.X_OK):
            yield kept


def problems_of(repositories: Iterable[Path], state: Path) -> dict[Path, list[str] | RepositoryError]:
    """What is wrong with the hooks of repositories in which they were installed, or why that cannot be told; only for
    those that have something.

    Where the hooks stand in their usual place and no configuration can lead git elsewhere, git is not asked: that would
    take seconds for hundreds of repositories."""
    texts = {name: render(name, state) for name in HOOKS}
    usual = configured_hooks() == ""
    found: dict[Path, list[str] | RepositoryError] = {}
    for repository in repositories:
        if usual and _is_plain(repository, texts):
            continue
        try:
            if lines := problems(place(repository), state):
                found[repository] = lines
        except RepositoryError as error:
            found[repository] = error
    return found


def _is_plain(repository: Path, texts: Mapping[str, bytes]) -> bool:
    """Whether our hooks are in a repository's own directory, whole, and its configuration names no other."""
    try:
        config = (repository / "config").read_bytes().lower()
        if b"hookspath" in config or b"include" in config or b"worktree" in config:
            return False
        hooks = repository / "hooks"
        return (repository / "HEAD").exists() and all(
            (hooks / name).read_bytes() == text and os.access(hooks / name, os.X_OK) for name, text in texts.items()
        )
    except OSError:
        return False


def render(name: str, state: Path) -> bytes:
    """The text of a hook for a state directory of the present user."""
    package = Path(__file__).parents[1]
    source = files("refcast") / "hooks" / name
    if not source.is_file():  # a checkout that runs from its source
        source = package.parents[1] / "hooks" / name
    text = source.read_text("utf-8")
    values = {"STATE": str(state), "OWNER": str(os.geteuid()), "PYTHON": sys.executable, "PACKAGE": str(package)}
    for key, value in values.items():
        text = text.replace(f"'@{key}@'", shlex.quote(value))
    return os.fsencode(text)


def _place_hook(hooks: Path, name: str, state: Path) -> bool:
    """Put our hook in place of what is there, with no moment in which neither is. Whether anything changed."""
    hook = hooks / name
    text = render(name, state)
    if is_ours(hook) and hook.read_bytes() == text and os.access(hook, os.X_OK):
        return False
    if hook.is_dir() and not hook.is_symlink():
        raise RepositoryError(f"{hook} is a directory: move it away, then install again")
    try:
        if not hooks.exists():
            hooks.mkdir()
            hooks.chmod(0o755)  # whatever the umask: those who push run what is in it
            (hooks / KEPT).mkdir()
            (hooks / KEPT / NO_DIRECTORY).touch()
        if os.path.lexists(hook) and not is_ours(hook):
            kept = _kept(hooks, name)
            if kept is None:
                _keep(hook)
            elif not _is_same(hook, kept):  # else an installation was killed at this point
                raise RepositoryError(
                    f"{hook} is not refcast's, and {kept} is kept from before: remove the one that you do not need"
                )
        new = hooks / f"{name}.refcast-new"
        new.unlink(missing_ok=True)
        new.write_bytes(text)
        new.chmod(0o755)
        new.replace(hook)
    except OSError as error:
        raise RepositoryError(f"cannot install into {hooks}: {error.strerror}; run this as its owner") from error
    return True


def _keep(hook: Path) -> None:
    """Give what is there its second place, while it still has its first."""
    if hook.is_symlink():
        (hook.parent / KEPT).mkdir(exist_ok=True)
        (hook.parent / KEPT / hook.name).symlink_to(_from_below(hook))
        return
    second = hook.with_name(f"{hook.name}.{KEPT}")
    try:
        os.link(hook, second)
    except OSError:  # no hard links here, or not of another user's file
        hook.rename(second)


def _from_below(link: Path) -> str:
    """What a link says, for one that lies a directory deeper."""
    target = str(link.readlink())
    return target if target.startswith("/") else f"../{target}"


def _is_same(hook: Path, kept: Path) -> bool:
    """Whether `kept` is what `_keep` made of the hook that is still there."""
    if hook.is_symlink():
        return kept.is_symlink() and str(kept.readlink()) == _from_below(hook)
    return os.path.samestat(hook.lstat(), kept.lstat())


def _bring_back(kept: Path, hook: Path) -> None:
    if kept.is_symlink() and kept.parent.name == KEPT:
        link = hook.with_name(hook.name + ".refcast-new")
        link.unlink(missing_ok=True)
        link.symlink_to(str(kept.readlink()).removeprefix("../"))
        link.replace(hook)
        kept.unlink()
    else:
        kept.replace(hook)


def _kept(hooks: Path, name: str) -> Path | None:
    """What is kept of the hook that was there before."""
    for kept in (hooks / f"{name}.{KEPT}", hooks / KEPT / name):
        if os.path.lexists(kept):
            return kept
    return None


def is_ours(hook: Path) -> bool:
    """Whether a hook is refcast's, of whatever version. A link is not, even if it leads to one."""
    try:
        if hook.is_symlink() or not hook.is_file():
            return False
        with hook.open("rb") as file:
            return MARK.encode() in file.read(200)
    except OSError as error:
        raise RepositoryError(f"cannot read {hook}: {error.strerror}; run this as its owner") from error


def _enter_ledger(each: Place, state: Path, store: Store, *, fresh: bool, now: float) -> None:
    """Its present tips become the ledger, unless refcast is watching the repository, or a push of it waits. If somebody
    else has taken its hooks away, a sweep tells what moved meanwhile."""
    path = str(each.repository)
    known = store.repositories.find(path) is not None
    if known and (not fresh or path in store.repositories.paths() or _has_record(state, path)):
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
