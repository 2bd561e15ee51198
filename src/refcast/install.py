"""Hooks into repositories and out again, and the state directory that they write to.

The hook that was there before is kept beside ours and called by it: a file as `update.before-refcast` (scripts find
what lies beside them), a link as `before-refcast/update` (what it points at often goes by the name it is called by).
Uninstalling puts back exactly that. Nothing is ever written through a link.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from refcast import spool
from refcast.errors import BadInput, RecordError, RepositoryError, StateError
from refcast.history import History
from refcast.store import Store

HOOKS = ("update", "post-receive")
MARK = "# refcast hook: "
OPTION = "receive.advertisePushOptions"
OPTION_BEFORE = "refcast.pushOptionsBefore"
"""Where the repository's configuration remembers what OPTION was."""


@dataclass(frozen=True, slots=True)
class Place:
    """A repository and the directory of hooks that git uses for it."""

    repository: Path
    """Resolved."""
    hooks: Path
    """Resolved; may not exist yet."""

    @property
    def shared(self) -> bool:
        return not self.hooks.is_relative_to(self.repository)


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


def find(root: Path) -> Iterator[Path]:
    """The bare repositories below a directory, sorted, links not followed. BadInput if there is no such directory."""
    if not root.is_dir():
        raise BadInput(f"{root} is not a directory")
    for directory, names, entries in os.walk(root):
        if "HEAD" in entries and "objects" in names and ("refs" in names or "packed-refs" in entries):
            names.clear()
            if Path(directory).name != ".git":
                yield Path(directory)
        names.sort()


def place(repository: Path) -> Place:
    """Where git looks for the hooks of a bare repository. Raises RepositoryError if it is not one."""
    try:
        resolved = repository.resolve(strict=True)
    except OSError as error:
        raise RepositoryError(f"no repository {repository}: {error.strerror}") from error
    if not resolved.is_dir():
        raise RepositoryError(f"{repository} is not a directory, so it is no bare repository")
    words = _git(resolved, "rev-parse", "--is-bare-repository", "--git-dir", "--git-path", "hooks").split("\n")
    if words[:2] != ["true", "."]:
        raise RepositoryError(f"{repository} is not a bare repository; refcast installs into what people push to")
    object_format = _git(resolved, "rev-parse", "--show-object-format").strip()
    if object_format != "sha1":
        raise RepositoryError(f"{repository} is a {object_format} repository, which libgit2 cannot read yet")
    return Place(resolved, (resolved / words[2]).resolve())


def install(
    places: Iterable[Place], state: Path, store: Store, *, shared: bool, now: float
) -> Iterator[tuple[Place, str]]:
    """Install into each place, and say what was done. Raises before anything is changed if a place must be refused."""
    places = list(places)
    for each in places:
        if each.shared and not shared:
            raise BadInput(_refusal(each, places, store))
    for each in places:
        before = [_is_ours(each.hooks / name) for name in HOOKS]
        _enter_ledger(each, state, store, fresh=not any(before), now=now)
        changed = [_place_hook(each.hooks, name, state) for name in HOOKS]
        _set_push_options(each.repository)
        yield each, "is installed already" if not any(changed) else "upgraded" if any(before) else "installed"


def uninstall(each: Place) -> bool:
    """Bring back what was there before. Whether there was anything to remove."""
    removed = False
    for name in HOOKS:
        hook = each.hooks / name
        kept = _kept(each.hooks, name)
        if _is_ours(hook):
            if kept is None:
                hook.unlink()
            else:
                _bring_back(kept, hook)
            removed = True
    with contextlib.suppress(OSError):
        (each.hooks / "before-refcast").rmdir()
    _restore_push_options(each.repository)
    return removed


def problems(each: Place, state: Path) -> list[str]:
    """What is wrong with the hooks of a repository, a line each; empty if all is well."""
    found = []
    for name in HOOKS:
        hook = each.hooks / name
        if not _is_ours(hook):
            found.append(f"{hook} is not refcast's: pushes are not announced; run `refcast install` again")
        elif hook.read_text() != render(name, state):
            found.append(f"{hook} is of another version, or was changed; run `refcast install` again")
        elif not os.access(hook, os.X_OK):
            found.append(f"{hook} is not executable, so git ignores it; run `refcast install` again")
    return found


def render(name: str, state: Path) -> str:
    """The text of a hook for a state directory of the present user."""
    package = Path(__file__).parent
    source = files("refcast") / "hooks" / name
    if not source.is_file():  # a checkout that runs from its source
        source = package.parents[1] / "hooks" / name
    text = source.read_text("utf-8")
    values = {"STATE": str(state), "OWNER": str(os.geteuid()), "PYTHON": sys.executable, "PACKAGE": str(package)}
    for key, value in values.items():
        text = text.replace(f"'@{key}@'", shlex.quote(value))
    return text


def _place_hook(hooks: Path, name: str, state: Path) -> bool:
    """Put our hook in place of what is there, with no moment in which neither is. Whether anything changed."""
    hook = hooks / name
    text = render(name, state)
    if _is_ours(hook) and hook.read_text() == text and os.access(hook, os.X_OK):
        return False
    if hook.is_dir() and not hook.is_symlink():
        raise RepositoryError(f"{hook} is a directory: move it away, then install again")
    try:
        hooks.mkdir(exist_ok=True)
        if os.path.lexists(hook) and not _is_ours(hook):
            if (kept := _kept(hooks, name)) is not None:
                raise RepositoryError(
                    f"{hook} is not refcast's, and {kept} is kept from before: remove the one that you do not need"
                )
            _keep(hook)
        new = hooks / f"{name}.refcast-new"
        new.unlink(missing_ok=True)
        new.write_text(text)
        new.chmod(0o755)
        new.replace(hook)
    except OSError as error:
        raise RepositoryError(f"cannot install into {hooks}: {error.strerror}; run this as its owner") from error
    return True


def _keep(hook: Path) -> None:
    """Give what is there its second place, while it still has its first."""
    if hook.is_symlink():
        directory = hook.parent / "before-refcast"
        directory.mkdir(exist_ok=True)
        target = str(hook.readlink())
        (directory / hook.name).symlink_to(target if target.startswith("/") else f"../{target}")
        return
    second = hook.with_name(hook.name + ".before-refcast")
    try:
        os.link(hook, second)
    except OSError:  # no hard links here, or not of another user's file
        hook.rename(second)


def _bring_back(kept: Path, hook: Path) -> None:
    if kept.is_symlink() and kept.parent.name == "before-refcast":
        link = hook.with_name(hook.name + ".refcast-new")
        link.unlink(missing_ok=True)
        link.symlink_to(str(kept.readlink()).removeprefix("../"))
        link.replace(hook)
        kept.unlink()
    else:
        kept.replace(hook)


def _kept(hooks: Path, name: str) -> Path | None:
    """What is kept of the hook that was there before."""
    for kept in (hooks / f"{name}.before-refcast", hooks / "before-refcast" / name):
        if os.path.lexists(kept):
            return kept
    return None


def _is_ours(hook: Path) -> bool:
    """Whether a hook is refcast's, of whatever version. A link is not, even if it leads to one."""
    if hook.is_symlink() or not hook.is_file():
        return False
    with hook.open("rb") as file:
        return MARK.encode() in file.read(200)


def _enter_ledger(each: Place, state: Path, store: Store, *, fresh: bool, now: float) -> None:
    """The repository's present tips become its ledger, unless refcast has been watching it, or a push of it waits."""
    path = str(each.repository)
    if store.repositories.find(path) is not None and (not fresh or _has_record(state, path)):
        return
    with History.open(path) as history:
        store.repositories.add(path, history.tips(), now, afresh=True)


def _has_record(state: Path, repository: str) -> bool:
    for file in spool.files(state / "spool"):
        with contextlib.suppress(OSError, RecordError):
            if any(part.repository == repository for part in spool.read(file).records):
                return True
    return False


def _set_push_options(repository: Path) -> None:
    config = str(repository / "config")
    before = _config(config, "--get-all", OPTION)
    if before == ["true"]:
        return
    if not _config(config, "--get", OPTION_BEFORE):
        _config(config, OPTION_BEFORE, before[-1] if before else "unset")
    _config(config, "--replace-all", OPTION, "true")


def _restore_push_options(repository: Path) -> None:
    config = str(repository / "config")
    remembered = _config(config, "--get", OPTION_BEFORE)
    if not remembered:
        return
    if _config(config, "--get-all", OPTION) == ["true"]:  # else somebody has decided otherwise since
        if remembered == ["unset"]:
            _config(config, "--unset-all", OPTION)
        else:
            _config(config, OPTION, remembered[0])
    _config(config, "--unset-all", OPTION_BEFORE)


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


def _config(file: str, *words: str) -> list[str]:
    """The lines that `git config` prints; none where the key is not there."""
    done = subprocess.run(["git", "config", "--file", file, *words], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 5):  # 1: no such key; 5: nothing to unset
        raise RepositoryError(f"cannot change {file}: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return done.stdout.splitlines()


def _git(directory: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(directory), *words],
            capture_output=True,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise RepositoryError("there is no git here: install it (apt install git)") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RepositoryError(
            f"{directory} is not a repository that git can read: {said[-1] if said else 'git failed'}"
        )
    return os.fsdecode(done.stdout)
