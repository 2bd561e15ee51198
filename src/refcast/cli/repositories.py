"""`refcast install` and `uninstall`: hooks into repositories and out again."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import click

from refcast import install as installing
from refcast.cli.common import App, json_option, pass_app, safe, show_json
from refcast.errors import BadInput, RepositoryError, StateError

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
@json_option
@pass_app
@click.pass_context
def install(
    context: click.Context,
    app: App,
    repositories: tuple[Path, ...],
    roots: tuple[Path, ...],
    shared: bool,
    as_json: bool,
) -> None:
    """Have pushes to bare repositories announced.

    What is installed already is checked and upgraded. The hooks that are there keep running. The state directory is
    made if there is none. Of a tree, what cannot be installed is named and left out; the exit code is 4 then.
    """
    places, refused = _given(repositories, roots)
    installing.create_state(app.state)
    with app.store() as store:
        done = list(installing.install(places, app.state, store, shared=shared, now=time.time()))
        none = not store.endpoints.all()
    if as_json:
        show_json(
            [{"repository": str(place.repository), "hooks": str(place.hooks), "done": what} for place, what in done]
        )
    else:
        for place, what in done:
            click.echo(f"{safe(str(place.repository))}: {what}")
        if none:
            click.echo("no endpoint yet: add one with `refcast endpoint add NAME URL`")
    _name(context, refused)


@click.command()
@REPOSITORIES
@ALL
@json_option
@pass_app
@click.pass_context
def uninstall(
    context: click.Context, app: App, repositories: tuple[Path, ...], roots: tuple[Path, ...], as_json: bool
) -> None:
    """Take the hooks out again. Exactly what was there before comes back; endpoints and deliveries stay."""
    places, refused = _given(repositories, roots)
    done = [(place, "uninstalled" if installing.uninstall(place) else "was not installed") for place in places]
    # The repository is what is to be freed, also where the state directory is gone or another user's.
    with suppress(StateError), app.store() as store:
        for place, _ in done:
            store.repositories.watch(str(place.repository), watched=False)
    if as_json:
        show_json([{"repository": str(place.repository), "done": what} for place, what in done])
    else:
        for place, what in done:
            click.echo(f"{safe(str(place.repository))}: {what}")
    _name(context, refused)


def _given(
    repositories: tuple[Path, ...], roots: tuple[Path, ...]
) -> tuple[list[installing.Place], list[RepositoryError]]:
    """The repositories that are named, and those found below the roots; of the latter, also what cannot be used."""
    found = [path for root in roots for path in installing.find(root)]
    if roots and not found:
        raise BadInput(f"there is no bare repository below {', '.join(map(str, roots))}")
    if not repositories and not roots:
        raise BadInput("name a repository, or a directory of repositories with --all")
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
