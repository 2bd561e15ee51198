"""What is wrong with the hooks that are installed, and what mends it. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from refcast import sites
from refcast.errors import RepositoryError
from refcast.install.hooks import EVERY, Trouble, hook_problems, is_ours, kept_hook, present_intent, render
from refcast.install.repository import Place, configured_hooks, place
from refcast.install.site import Site, common_problems, known, link_problems, target_of
from refcast.install.site import problems as problems_of_gitolite
from refcast.install.system import AGAIN as AGAIN_FOR_ALL
from refcast.install.system import System, covers


def problems(each: Place, state: Path) -> list[Trouble]:
    """What is wrong with the hooks of a repository; empty if all is well."""
    if (site := known(state)) and site.has(each.repository):
        return problems_of_gitolite(site, each.repository, state)
    return [
        trouble
        for name in (present_intent(each.hooks), "post-receive")
        for trouble in hook_problems(each.hooks / name, state, again(each))
    ]


def again(each: Place) -> tuple[str, ...]:
    """The words of the command that installs a repository's hooks anew, behind `refcast`."""
    if covers(each.hooks):
        return AGAIN_FOR_ALL
    return ("install", *(["--shared"] if each.shared else []), str(each.repository))


def unused(repositories: Iterable[Path], state: Path) -> Iterator[Path]:
    """The hooks that were there before ours and are not executable, so that they are not run."""
    site = known(state)
    for hooks in _directories(repositories, site):
        for name in EVERY:
            kept = kept_hook(hooks, name)
            # gitolite links what is kept for all repositories into each of them.
            is_common = site is not None and kept is not None and hooks != site.common and _leads_to(kept, site.common)
            if kept is not None and not is_common and not os.access(kept, os.X_OK):
                yield kept


def _directories(repositories: Iterable[Path], site: Site | None) -> Iterator[Path]:
    """Where our hooks are, each directory once. Those for the whole machine run no others than git would."""
    if site is not None:
        yield site.common
    seen = set[Path]()
    for repository in repositories:
        try:
            hooks = repository / "hooks"
            # In the usual place git need not be asked.
            if not (site and site.has(repository)) and not any(is_ours(hooks / name) for name in EVERY):
                hooks = place(repository).hooks
            if hooks not in seen and not covers(hooks):
                seen.add(hooks)
                yield hooks
        except RepositoryError:
            continue


def _leads_to(kept: Path, common: Path) -> bool:
    return any(target_of(link).startswith(f"{common}/") for link in (kept, kept.parent))


def problems_of(repositories: Iterable[Path], state: Path) -> dict[Path, list[Trouble] | RepositoryError]:
    """What is wrong with the hooks of repositories in which they were installed, or why that cannot be told, by where
    it is; only for those that have something.

    Where the hooks stand in their usual place and no configuration can lead git elsewhere, git is not asked: that would
    take seconds for hundreds of repositories. Nothing is wrong where gitolite's users have removed one of theirs. Of
    the hooks for a whole machine nothing is told here."""
    texts = {name: render(name, state) for name in EVERY}
    roots = [Path(root) for root in sites.covered_roots(state)]
    system = System.look() if roots else None
    usual = configured_hooks() == ""
    site = known(state)
    found: dict[Path, list[Trouble] | RepositoryError] = {}
    if site is not None:
        _note(found, site.common, common_problems(site, state))
    for repository in repositories:
        if site is not None and site.has(repository):
            if repository.exists():
                _note(found, repository, link_problems(site, repository))
            continue
        covered = any(repository.is_relative_to(root) for root in roots)
        if usual and _is_plain(repository) and (covered or _has(repository / "hooks", texts)):
            continue
        try:
            there = place(repository)
            if system is not None and covered and (trouble := system.elsewhere(repository, there.hooks)):
                found[repository] = [trouble]
            elif system is None or there.hooks != system.hooks.resolve():
                _note(found, repository, problems(there, state))
        except RepositoryError as error:
            found[repository] = error
    return found


def _note(found: dict[Path, list[Trouble] | RepositoryError], where: Path, troubles: list[Trouble]) -> None:
    if troubles:
        found[where] = troubles


def _is_plain(repository: Path) -> bool:
    """Whether a repository is there, and its configuration names no directory of hooks."""
    try:
        config = (repository / "config").read_bytes().lower()
        return (repository / "HEAD").exists() and not any(
            word in config for word in (b"hookspath", b"include", b"worktree")
        )
    except OSError:
        return False


def _has(hooks: Path, texts: Mapping[str, bytes]) -> bool:
    """Whether our hooks are in a directory, whole."""
    try:
        return all(
            (hooks / name).read_bytes() == texts[name] and os.access(hooks / name, os.X_OK)
            for name in (present_intent(hooks), "post-receive")
        )
    except (OSError, RepositoryError):
        return False
