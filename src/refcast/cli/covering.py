"""What an administrator installs for a whole machine: all repositories below some directories, and the front ends."""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress
from pathlib import Path

import click

from refcast import install as installing
from refcast import sites
from refcast.acting import acting_as
from refcast.cli.common import NO_ENDPOINT, App, safe, show_json
from refcast.errors import BadInput, RepositoryError, StateError
from refcast.install.system import System, covers


def install_system(app: App, roots: tuple[Path, ...], intent: str | None, as_json: bool) -> list[RepositoryError]:
    """Cover all repositories below the roots; those that are there and cannot be used."""
    system = System.look()
    resolved = [_root(root) for root in roots] or list(system.roots())
    if not resolved:
        raise BadInput("--system needs the directories of repositories that it is to cover: name them with --all ROOT")
    system.check(resolved)
    covered = tuple(dict.fromkeys((*system.roots(), *resolved)))
    owner = sites.owner_of(app.state)
    refused: list[RepositoryError] = []
    count = 0
    with acting_as(owner):
        installing.create_state(app.state)
        sites.set_covered_roots(app.state, covered)
        with app.store() as store:
            for repository in [path for root in resolved for path in installing.find(Path(root))]:
                try:
                    place = installing.place(repository)
                    installing.enter(place, app.state, store, now=time.time())
                    count += 1
                except RepositoryError as error:
                    refused.append(error)
            none = not store.endpoints.all()
    changed = system.install(app.state, owner, resolved, intent or system.intent())
    with acting_as(owner):  # git is run in repositories of others
        left = [one.line for one in system.uncovered(map(Path, resolved)) if isinstance(one, installing.Trouble)]
    what = "installed" if changed else "is installed already"
    if as_json:
        facts: dict[str, object] = {"config": str(system.config), "hooks": str(system.hooks), "roots": list(covered)}
        show_json(facts | {"done": what, "repositories": count, "uncovered": left})
        return refused
    click.echo(f"{safe(str(system.config))}: {what}")
    for root in covered:
        click.echo(f"all repositories below {safe(root)} are covered, and those to come")
    for line in [*left, *(one.line for one in installing.group.problems(app.state))]:
        click.echo(f"! {safe(line)}")
    if none:
        click.echo(NO_ENDPOINT)
    return refused


def uninstall_system(app: App, given: tuple[Path, ...], as_json: bool) -> None:
    """Take away what covers these directories, or all of it."""
    system = System.look()
    known = tuple(dict.fromkeys((*system.roots(), *sites.covered_roots(app.state))))
    gone = tuple(os.path.realpath(root) for root in given) or known
    for root in gone:
        if root not in known:
            raise BadInput(f"{root} is not one of the directories that are covered: {', '.join(known) or 'none is'}")
    left = tuple(root for root in known if root not in gone)
    if left:
        system.narrow(left)
    removed = bool(left) or system.uninstall()
    # What is to be freed is git, also where the state directory is gone or another user's.
    with suppress(StateError), acting_as(sites.owner_of(app.state)):
        sites.set_covered_roots(app.state, left)
        with app.store() as store:
            for path in map(Path, store.repositories.paths()):
                is_below = [any(path.is_relative_to(root) for root in roots) for roots in (gone, left)]
                if is_below == [True, False] and not _has_own(path):
                    store.repositories.watch(str(path), watched=False)
    what = "uninstalled" if removed else "was not installed"
    rest = not left and system.hooks.exists()
    if as_json:
        facts: dict[str, object] = {"config": str(system.config), "done": what, "roots": list(left)}
        show_json(facts | {"rest": str(system.hooks) if rest else None})
        return
    click.echo(f"{safe(str(system.config))}: {what}")
    for root in left:
        click.echo(f"all repositories below {safe(root)} are covered, as before")
    if rest:
        click.echo(
            f"! git receives a push just now, which runs its repository's hooks by {safe(str(system.hooks))}: "
            "that stays until you run this again, a little later"
        )


def change_front_ends(app: App, names: tuple[str, ...], *, add: bool) -> None:
    """Believe what these users say of who has pushed, or no longer."""
    uids = frozenset(_uid(name) for name in names)
    owner = sites.owner_of(app.state) if app.state.exists() else os.geteuid()
    with acting_as(owner):
        installing.create_state(app.state)
        known = sites.front_ends(app.state)
        sites.set_front_ends(app.state, known | uids if add else known - uids)
    for name in names:
        click.echo(f"front end {safe(name)}: {'believed' if add else 'no longer believed'}")


def _has_own(repository: Path) -> bool:
    """Whether hooks are installed in the repository itself."""
    try:
        hooks = installing.place(repository).hooks
        return not covers(hooks) and installing.is_ours(hooks / "post-receive")
    except RepositoryError:
        return False


def _root(root: Path) -> str:
    try:
        resolved = root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{root}: {getattr(error, 'strerror', error)}") from error
    if not resolved.is_dir():
        raise BadInput(f"{root} is not a directory")
    return str(resolved)


def _uid(name: str) -> int:
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_uid
    if name.isdecimal():
        return int(name)
    raise BadInput(f"there is no user {name}")
