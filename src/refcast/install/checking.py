"""What is wrong with the hooks that are installed, and what mends it. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from refcast.errors import RepositoryError
from refcast.install.hooks import EVERY, Trouble, hook_problems, kept_hook, present_intent, render
from refcast.install.repository import Place, configured_hooks, place
from refcast.install.site import known, removed
from refcast.install.site import problems as problems_of_gitolite
from refcast.install.system import AGAIN as AGAIN_FOR_ALL
from refcast.install.system import covers


def problems(each: Place, state: Path) -> list[Trouble]:
    """What is wrong with the hooks of a repository; empty if all is well."""
    if (site := known(state)) and site.has(each.repository):
        return problems_of_gitolite(site, each.repository, state)
    return [
        Trouble(what, refcast=again(each), as_root=covers(each.hooks))
        for name in (present_intent(each.hooks), "post-receive")
        for what in hook_problems(each.hooks / name, state)
    ]


def again(each: Place) -> tuple[str, ...]:
    """The words of the command that installs a repository's hooks anew, behind `refcast`."""
    if covers(each.hooks):
        return AGAIN_FOR_ALL
    return ("install", *(["--shared"] if each.shared else []), str(each.repository))


def unused(each: Place) -> Iterator[Path]:
    """The hooks that were there before ours and are not executable, so that they are not run."""
    for name in EVERY:
        kept = kept_hook(each.hooks, name)
        if kept is not None and not os.access(kept, os.X_OK):
            yield kept


def problems_of(repositories: Iterable[Path], state: Path) -> dict[Path, list[Trouble] | RepositoryError]:
    """What is wrong with the hooks of repositories in which they were installed, or why that cannot be told; only for
    those that have something.

    Where the hooks stand in their usual place and no configuration can lead git elsewhere, git is not asked: that would
    take seconds for hundreds of repositories. Nothing is wrong where gitolite's users have removed one of theirs."""
    texts = {name: render(name, state) for name in EVERY}
    usual = configured_hooks() == ""
    found: dict[Path, list[Trouble] | RepositoryError] = {}
    site = known(state)
    for repository in repositories:
        if site and site.has(repository):
            if removed(repository, state):
                continue
        elif usual and _is_plain(repository, texts):
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
            (hooks / name).read_bytes() == texts[name] and os.access(hooks / name, os.X_OK)
            for name in (present_intent(hooks), "post-receive")
        )
    except (OSError, RepositoryError):
        return False
