"""`refcast install` and `uninstall`: hooks into repositories and out again."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import click

from refcast import install as installing
from refcast.cli import covering
from refcast.cli.common import NO_ENDPOINT, App, json_option, pass_app, safe, say, show_json
from refcast.errors import BadInput, RepositoryError, StateError
from refcast.store import FILE

REPOSITORIES = click.argument("repositories", metavar="REPO...", nargs=-1, type=click.Path(path_type=Path))
ALL = click.option(
    "--all",
    "roots",
    metavar="ROOT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Every bare one below ROOT; again for more.",
)


@click.command()
@REPOSITORIES
@ALL
@click.option("--shared", is_flag=True, help="Even if the hooks directory serves other repositories as well.")
@click.option(
    "--intent",
    type=click.Choice(installing.INTENTS),
    help="The hook that notes what is about to move: update, for each ref, or pre-receive, once for a push. "
    "Default: what is there already, else update.",
)
@click.option("--gitolite", is_flag=True, help="All repositories of the present user's gitolite, and those to come.")
@click.option(
    "--system", is_flag=True, help="All repositories below the --all directories, and those to come; as root."
)
@click.option(
    "--front-end",
    "front_ends",
    metavar="USER",
    multiple=True,
    help="A user whose GL_USER or REMOTE_USER names the pusher, as a web server's; again for more.",
)
@click.option("--keep-rc", is_flag=True, help="With --gitolite: change nothing in its rc, but say what that lacks.")
@json_option
@pass_app
@click.pass_context
def install(
    context: click.Context,
    app: App,
    repositories: tuple[Path, ...],
    roots: tuple[Path, ...],
    shared: bool,
    intent: str | None,
    gitolite: bool,
    system: bool,
    front_ends: tuple[str, ...],
    keep_rc: bool,
    as_json: bool,
) -> None:
    """Have pushes to bare repositories announced.

    What is installed already is checked and upgraded. The hooks that are there keep running. The state directory is
    made if there is none. Of a tree, what cannot be installed is named and left out; the exit code is 4 then.
    """
    if front_ends:
        covering.change_front_ends(app, front_ends, add=True)
        if not (repositories or roots or gitolite or system):
            return
    if system:
        if repositories or gitolite or shared:
            raise BadInput("--system goes with --all alone: it covers all repositories below those directories")
        _name(context, covering.install_system(app, roots, intent, as_json))
        return
    if gitolite:
        if repositories or roots or shared or intent == "update":
            raise BadInput("--gitolite goes alone: it covers all repositories, and has intents by pre-receive")
        _install_gitolite(context, app, keep_rc, as_json)
        return
    if keep_rc:
        raise BadInput("--keep-rc goes with --gitolite: no other server has an rc")
    places, refused = _given(repositories, roots)
    installing.create_state(app.state)
    with app.store() as store:
        done = list(installing.install(places, app.state, store, shared=shared, now=time.time(), intent=intent))
        none = not store.endpoints.all()
    if as_json:
        show_json(
            [{"repository": str(place.repository), "hooks": str(place.hooks), "done": what} for place, what in done]
        )
    else:
        for place, what in done:
            click.echo(f"{safe(str(place.repository))}: {what}")
        for trouble in installing.group.problems(app.state):
            click.echo(f"! {safe(trouble.line)}")
        if none:
            click.echo(NO_ENDPOINT)
    _name(context, refused)


def _install_gitolite(context: click.Context, app: App, keep_rc: bool, as_json: bool) -> None:
    installing.create_state(app.state)
    with app.store() as store:
        done = installing.install_gitolite(app.state, store, keep_rc=keep_rc, now=time.time())
        none = not store.endpoints.all()
    if as_json:
        facts: dict[str, object] = {"gitolite": done.site.rc, "hooks": str(done.site.common), "done": done.what}
        facts |= {"rc_lines": list(done.rc_lines), "repositories": [str(path) for path in done.repositories]}
        show_json(facts | {"explained": list(done.explained)})
    else:
        for line in done.rc_lines:
            click.echo(f"{safe(done.site.rc)}: added {line}")
        click.echo(f"{safe(str(done.site.common))}: {done.what}")
        click.echo(f"{len(done.repositories)} repositories are covered, and those that gitolite will make")
        for line in done.explained:
            click.echo(f"! {safe(line)}")
        if none:
            click.echo(NO_ENDPOINT)
    _name(context, list(done.refused))


@click.command()
@REPOSITORIES
@ALL
@click.option("--gitolite", is_flag=True, help="Out of the present user's gitolite.")
@click.option(
    "--system", is_flag=True, help="What `install --system` did, or for the --all directories alone; as root."
)
@click.option("--front-end", "front_ends", metavar="USER", multiple=True, help="Believe that user no longer.")
@json_option
@pass_app
@click.pass_context
def uninstall(
    context: click.Context,
    app: App,
    repositories: tuple[Path, ...],
    roots: tuple[Path, ...],
    gitolite: bool,
    system: bool,
    front_ends: tuple[str, ...],
    as_json: bool,
) -> None:
    """Take the hooks out again. Exactly what was there before comes back; endpoints and deliveries stay.

    A repository that was removed is forgotten.
    """
    if front_ends:
        covering.change_front_ends(app, front_ends, add=False)
        if not (repositories or roots or gitolite or system):
            return
    if system:
        if repositories or gitolite:
            raise BadInput("--system goes alone, or with the --all directories that are to be covered no longer")
        covering.uninstall_system(app, roots, as_json)
        return
    if gitolite:
        if repositories or roots:
            raise BadInput("--gitolite goes alone: it covers all repositories")
        _uninstall_gitolite(app, as_json)
        return
    done = [(str(path), "forgotten") for path in _forget(app, repositories)]
    left = tuple(path for path in repositories if (str(path.resolve()), "forgotten") not in done)
    places, refused = _given(left, roots) if left or roots or not done else ([], [])
    for place in places:
        what = "uninstalled" if installing.uninstall(place) else "was not installed"
        done.append((str(place.repository), what))
    # The repository is what is to be freed, also where the state directory is gone or another user's.
    with suppress(StateError), app.store() as store:
        for place in places:
            store.repositories.watch(str(place.repository), watched=False)
    if as_json:
        show_json([{"repository": path, "done": what} for path, what in done])
    else:
        for path, what in done:
            click.echo(f"{safe(path)}: {what}")
    _name(context, refused)


def _forget(app: App, repositories: tuple[Path, ...]) -> list[str]:
    """No longer watch those of these repositories that are gone; their paths."""
    gone = [str(path.resolve()) for path in repositories if not os.path.lexists(path)]
    if not gone or not (app.state / FILE).exists():
        return []
    with app.store() as store:
        watched = [path for path in gone if path in store.repositories.paths()]
        for path in watched:
            store.repositories.watch(path, watched=False)
    return watched


def _uninstall_gitolite(app: App, as_json: bool) -> None:
    site, removed = installing.gitolite.uninstall(app.state)
    with suppress(StateError), app.store() as store:
        for path in store.repositories.paths():
            if site.has(Path(path)):
                store.repositories.watch(path, watched=False)
    what = "uninstalled" if removed else "was not installed"
    say({"gitolite": site.rc, "done": what}, as_json, f"{safe(site.rc)}: {what}")


def _given(
    repositories: tuple[Path, ...], roots: tuple[Path, ...]
) -> tuple[list[installing.Place], list[RepositoryError]]:
    """The repositories that are named, and those found below the roots; of the latter, also what cannot be used."""
    found = [path for root in roots for path in installing.find(root)]
    if roots and not found:
        raise BadInput(f"there is no bare repository below {', '.join(map(str, roots))}")
    if not repositories and not roots:
        raise BadInput("name a repository, a directory of repositories with --all, or --gitolite")
    places = {path: installing.place(path) for path in repositories}
    refused = []
    for path in found:
        try:
            places[path] = installing.place(path)
        except RepositoryError as error:
            refused.append(error)
    return list(places.values()), refused


def _name(context: click.Context, refused: list[RepositoryError]) -> None:
    for error in refused:
        click.echo(f"refcast: {safe(str(error))}", err=True)
    if refused:
        context.exit(RepositoryError.exit_code)
