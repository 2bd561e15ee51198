"""One hook in one directory: putting ours there, taking it out again, and what is wrong with it.

The hook that was there before is kept beside ours and called by it: a file as `update.before-refcast` (scripts find
what lies beside them), a link as `before-refcast/update` (what it points at often goes by the name it is called by).
Nothing is ever written through a link. Knows nothing of repositories, nor of the store.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from refcast.errors import RepositoryError

HOOKS = ("update", "post-receive")
"""What is installed where nothing else is asked for."""
INTENTS = ("update", "pre-receive")
"""The hooks of which one notes what is about to move: for each ref, or once for a push."""
EVERY = ("update", "pre-receive", "post-receive")

MARK = "# refcast hook: "
KEPT = "before-refcast"
NO_DIRECTORY = "there-was-no-hooks-directory"
"""A file in KEPT that says so."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with an installation, and what mends it: one of refcast's commands, another, or a person."""

    what: str
    refcast: tuple[str, ...] = ()
    """The words of the command behind `refcast`."""
    as_root: bool = False
    """Only root can run it."""
    command: tuple[str, ...] = ()
    by_root: tuple[tuple[str, ...], ...] = ()
    """Commands of root's that come first."""
    as_user: int | None = None
    """Whom `sudo` is to start the command for, in the groups that the first ones have given; None for whoever asks."""
    advice: str = ""

    @property
    def line(self) -> str:
        """All of it for a person."""
        words = ("refcast", *self.refcast) if self.refcast else self.command
        sudo = ("sudo",) if self.as_root else () if self.as_user is None else ("sudo", "-u", f"#{self.as_user}")
        commands = [*(("sudo", *one) for one in self.by_root), (*sudo, *words)]
        line = " && ".join(map(shlex.join, commands))
        return f"{self.what}; {self.advice or f'run `{line}`'}"


def render(name: str, state: Path, owner: int | None = None) -> bytes:
    """The text of a hook for a state directory of the present user, or of the `owner`."""
    package = Path(__file__).parents[1]
    source = files("refcast") / "hooks" / name
    if not source.is_file():  # a checkout that runs from its source
        source = package.parents[1] / "hooks" / name
    text = source.read_text("utf-8")
    uid = os.geteuid() if owner is None else owner
    values = {"STATE": str(state), "OWNER": str(uid), "PYTHON": sys.executable, "PACKAGE": str(package)}
    values["STATE_LINE"] = f"state={shlex.quote(str(state))}"
    for key, value in values.items():
        text = text.replace(f"'@{key}@'", shlex.quote(value))
    return os.fsencode(text)


def present_intent(hooks: Path) -> str:
    """Which hook notes intents there, or is to."""
    return "pre-receive" if is_ours(hooks / "pre-receive") and not is_ours(hooks / "update") else "update"


def place_hook(hooks: Path, name: str, state: Path) -> bool:
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
            keep(hooks, name)
        new = hooks / f"{name}.refcast-new"
        new.unlink(missing_ok=True)
        new.write_bytes(text)
        new.chmod(0o755)
        new.replace(hook)
    except OSError as error:
        raise RepositoryError(f"cannot install into {hooks}: {error.strerror}; run this as its owner") from error
    return True


def take_away(hooks: Path, name: str) -> bool:
    """Remove our hook, if it is there, and bring back what it replaced. Whether there was anything to remove.

    Raises RepositoryError."""
    hook = hooks / name
    kept = kept_hook(hooks, name)
    ours = is_ours(hook)
    try:
        if kept is not None and (ours or not os.path.lexists(hook)):
            _bring_back(kept, hook)
            return True
        if ours:
            hook.unlink()
            return True
        if kept is not None and _is_same(hook, kept):  # an installation that was killed half-way
            kept.unlink()
    except OSError as error:
        raise RepositoryError(f"cannot uninstall from {hooks}: {error.strerror}; run this as its owner") from error
    return False


def hook_problems(hook: Path, state: Path, again: tuple[str, ...], *, as_root: bool = False) -> list[Trouble]:
    """What is wrong with one hook. `again` are the words, behind `refcast`, that install it again."""
    if not is_ours(hook):
        what = f"{hook} is not refcast's: pushes are not announced"
        kept = kept_hook(hook.parent, hook.name)
        if kept is not None and os.path.lexists(hook) and not _is_same(hook, kept):
            one = f"remove the one of it and {kept}, the hook that was there before, that you do not need"
            return [Trouble(what, advice=f"{one}; then `refcast {shlex.join(again)}`")]
    elif hook.read_bytes() != render(hook.name, state):
        what = f"{hook} {_difference(hook.read_bytes(), state)}"
    elif not os.access(hook, os.X_OK):
        what = f"{hook} is not executable, so git ignores it"
    else:
        return []
    return [Trouble(what, refcast=again, as_root=as_root)]


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


def is_ours(hook: Path) -> bool:
    """Whether a hook is refcast's, of whatever version. A link is not, even if it leads to one."""
    try:
        if hook.is_symlink() or not hook.is_file():
            return False
        with hook.open("rb") as file:
            return MARK.encode() in file.read(200)
    except OSError as error:
        raise RepositoryError(f"cannot read {hook}: {error.strerror}; run this as its owner") from error


def keep(hooks: Path, name: str) -> None:
    """Have our hook find what is there, also when something else stands in its place. Raises RepositoryError."""
    hook, kept = hooks / name, kept_hook(hooks, name)
    if kept is None:
        _keep(hook)
    elif not _is_same(hook, kept):  # else an installation was killed at this point
        raise RepositoryError(
            f"{hook} is not refcast's, and {kept} is kept from before: remove the one that you do not need"
        )


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


def kept_hook(hooks: Path, name: str) -> Path | None:
    """What is kept of the hook that was there before."""
    for kept in (hooks / f"{name}.{KEPT}", hooks / KEPT / name):
        if os.path.lexists(kept):
            return kept
    return None
