"""`refcast install`, `uninstall` and `render`: what is done with a repository."""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from refcast import dialects, ingest, settings
from refcast import install as installing
from refcast.cli.common import App, json_option, pass_app, safe, show_json
from refcast.errors import BadInput, RepositoryError, StateError
from refcast.history import History
from refcast.ingest import rendering
from refcast.model import ZERO_ID, Endpoint, Push, Pusher, RefUpdate, is_zero
from refcast.store import FILE, Store

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


@click.command()
@click.argument("repository", metavar="REPO", type=click.Path(path_type=Path))
@click.argument("ref")
@click.argument("old")
@click.argument("new")
@click.option("--endpoint", "name", help="As this endpoint gets it: its dialect, limits, ids.")
@click.option("--dialect", help=f"In any dialect, with ids that are made up: {', '.join(dialects.DIALECTS)}.")
@click.option("--content-type", help="json or form. Default: the endpoint's, or the dialect's.")
@click.option("--pusher", help="The user name of who pushed. Default: who did, or the repository's owner.")
@click.option("--option", "options", multiple=True, help="A push option; again for more.")
@click.option("--body", "body_only", is_flag=True, help="Print the bytes of the body and nothing else.")
@json_option
@pass_app
def render(
    app: App,
    repository: Path,
    ref: str,
    old: str,
    new: str,
    name: str | None,
    dialect: str | None,
    content_type: str | None,
    pusher: str | None,
    options: tuple[str, ...],
    body_only: bool,
    as_json: bool,
) -> None:
    """Print what a push would send; send nothing, and sign nothing.

    OLD and NEW are whole ids; 0 stands for the zero id. Of a move that has been announced already it prints the body
    that was sent, with the pusher and the time of then; what depends on other refs may differ if these have moved.
    """
    update = RefUpdate(_id(old), _id(new), ref)
    if not ref.startswith("refs/"):
        raise BadInput(f"{ref!r} is not the full name of a ref: write it as refs/heads/… or refs/tags/…")
    path = repository.resolve()
    if not path.is_dir():
        raise RepositoryError(f"no repository {repository}")
    if (name is None) == (dialect is None):
        raise BadInput("say for whom: either --endpoint NAME or --dialect NAME")
    stored: AbstractContextManager[Store | None] = nullcontext()
    if name or (app.state / FILE).exists():
        stored = app.store()
    with History.open(str(path)) as history, stored as store:
        values = settings.load(app.state)
        if store and name:
            endpoint = store.endpoints.get(name)
        else:
            language = dialects.get(dialect or "")
            endpoint = Endpoint(0, "", "", language.NAME, language.CONTENT_TYPES[0])
        # What an endpoint does not want is shown as well; refs that are no branches are asked for.
        endpoint = replace(endpoint, events=frozenset(), repositories=(), other_refs=True)
        number = store.repositories.find(str(path)) if store else None
        told = store.reports.told(number, ref, update.old, update.new) if store and number else None
        who, at, record_id = told or (ingest.account_name(path.stat().st_uid), time.time(), "")
        who = pusher or who
        user = store.repositories.find_user(who) if store else 0
        tips = store.repositories.tips(number) if store and number else history.tips()
        tips.pop(ref, None)
        if not update.created:
            tips[ref] = update.old
        push = Push(record_id, str(path), who, datetime.fromtimestamp(at, UTC), (update,), options)
        facts = ingest.describe(values, history, str(path), number or 0)
        messages = []
        for event in history.events(
            push, tips, facts, Pusher(who, who, id=user), rendering.limits(endpoint, values), other_refs=True
        ):
            for content in rendering.rendered(event, record_id, [endpoint], values).contents:
                header, body = dialects.body(content.payload, content_type or endpoint.content_type)
                messages.append(({**content.deliveries[0].headers, "Content-Type": header}, body))
    _print(messages, as_json, body_only)


def _print(messages: list[tuple[dict[str, str], bytes]], as_json: bool, body_only: bool) -> None:
    if as_json:
        show_json([{"headers": headers, "body": body} for headers, body in messages])
        return
    for index, (headers, body) in enumerate(messages):
        if not body_only:
            if index:
                click.echo("\n")
            for key, value in headers.items():
                click.echo(f"{key}: {value}")
            click.echo()
        click.echo(body, nl=False)
        if not body_only:
            click.echo()
    if not messages:
        click.echo("this move makes no request in this dialect", err=True)


def _id(text: str) -> str:
    if is_zero(text) and text:
        return ZERO_ID
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise BadInput(f"{text!r} is not an object id: write all its 40 digits, or 0 for none")
    return text
