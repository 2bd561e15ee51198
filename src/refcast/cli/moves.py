"""`refcast render` and `explain`: what a move of a ref would send, and to whom; they send nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from refcast import dialects, ingest, settings
from refcast.cli.common import App, F, json_option, pass_app, show_json, table
from refcast.errors import BadInput, RepositoryError
from refcast.history import History
from refcast.ingest import own_endpoints, rendering
from refcast.model import ZERO_ID, Endpoint, Event, Push, Pusher, RefUpdate, is_zero
from refcast.settings import Settings
from refcast.store import FILE, Store
from refcast.store.intake import NewEvent


def move_arguments(function: F) -> F:
    """What names a move, and how it came."""
    for option in reversed(
        [
            click.argument("repository", metavar="REPO", type=click.Path(path_type=Path)),
            click.argument("ref"),
            click.argument("old"),
            click.argument("new"),
            click.option("--pusher", help="The user name of who pushed. Default: who did, or the repository's owner."),
            click.option("--option", "options", multiple=True, help="A push option; again for more."),
        ]
    ):
        function = option(function)
    return function


@click.command()
@move_arguments
@click.option("--endpoint", "name", help="As this endpoint gets it: its dialect, limits, ids.")
@click.option("--dialect", help=f"In any dialect, with ids that are made up: {', '.join(dialects.DIALECTS)}.")
@click.option("--content-type", help="json or form. Default: the endpoint's, or the dialect's.")
@click.option("--body", "body_only", is_flag=True, help="Print the bytes of the body and nothing else.")
@json_option
@pass_app
def render(
    app: App,
    repository: Path,
    ref: str,
    old: str,
    new: str,
    pusher: str | None,
    options: tuple[str, ...],
    name: str | None,
    dialect: str | None,
    content_type: str | None,
    body_only: bool,
    as_json: bool,
) -> None:
    """Print what a push would send; send nothing, and sign nothing.

    OLD and NEW are whole ids; 0 stands for the zero id. Of a move that has been announced already it prints the body
    that was sent, with the pusher and the time of then; what depends on other refs may differ if these have moved.
    """
    update, path = _update(old, new, ref), _place(repository)
    if (name is None) == (dialect is None):
        raise BadInput("say for whom: either --endpoint NAME or --dialect NAME")
    with _opened(app, needed=name is not None) as store:
        if store and name:
            endpoint = store.endpoints.get(name)
        else:
            language = dialects.get(dialect or "")
            endpoint = Endpoint(0, "", "", language.NAME, language.CONTENT_TYPES[0])
        # What an endpoint does not want is shown as well.
        plain = Endpoint(endpoint.id, endpoint.name, "", endpoint.dialect, endpoint.content_type, other_refs=True)
        plain = replace(plain, commits=endpoint.commits, files=endpoint.files, signing=endpoint.signing)
        messages = []
        for _, told in _told(settings.load(app.state), store, path, update, pusher, options, [plain]):
            for content in told.contents:
                header, body = dialects.body(content.payload, content_type or endpoint.content_type)
                messages.append(({**content.deliveries[0].headers, "Content-Type": header}, body))
    _print(messages, as_json, body_only)


@click.command()
@move_arguments
@json_option
@pass_app
def explain(
    app: App,
    repository: Path,
    ref: str,
    old: str,
    new: str,
    pusher: str | None,
    options: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say for every endpoint whether a push fires it, and if not, why not; send nothing.

    OLD and NEW are whole ids; 0 stands for the zero id. It judges by the endpoints as they are now. What an announced
    push met is told by `refcast delivery list --skipped`.
    """
    update, path = _update(old, new, ref), _place(repository)
    facts: list[dict[str, object]] = []
    with _opened(app, needed=True) as store:
        assert store is not None
        watched = str(path) in store.repositories.paths()
        endpoints = own_endpoints.present(store, store.repositories.find(str(path)))
        events = list(_told(settings.load(app.state), store, path, update, pusher, options, endpoints))
        for one in endpoints:
            reasons = [reason for _, told in events for reason in told.passed_over.get(one.name, [])]
            if not events:
                reasons = ["the ref does not move"]
            note = f"disabled, so it would be held: {one.reason}" if one.state == "disabled" and not reasons else ""
            facts.append({"endpoint": one.name, "fires": not reasons, "reasons": reasons, "note": note})
    if as_json:
        show_json({"watched": watched, "endpoints": facts})
        return
    if not watched:
        click.echo(
            f"no hooks are installed in {path}: its pushes fire nothing until `refcast install {path}`", err=True
        )
    if not facts:
        click.echo("there is no endpoint yet; add one with `refcast endpoint add`", err=True)
        return
    rows = [[one["endpoint"], "yes" if one["fires"] else "no", _why(one)] for one in facts]
    table(["ENDPOINT", "FIRES", "WHY"], rows)


def _why(one: dict[str, object]) -> str:
    reasons = one["reasons"]
    assert isinstance(reasons, list)
    return "; ".join(reasons) or str(one["note"])


def _told(
    values: Settings,
    store: Store | None,
    path: Path,
    update: RefUpdate,
    pusher: str | None,
    options: Sequence[str],
    endpoints: Sequence[Endpoint],
) -> Iterator[tuple[Event, NewEvent]]:
    """The events of a push of this move, as ingest would store them."""
    with History.open(str(path)) as history:
        number = store.repositories.find(str(path)) if store else None
        told = store.reports.told(number, update.ref, update.old, update.new) if store and number else None
        who, at, record_id = told or (ingest.account_name(path.stat().st_uid), time.time(), "")
        who = pusher or who
        user = store.repositories.find_user(who) if store else 0
        tips = store.repositories.tips(number) if store and number else history.tips()
        tips.pop(update.ref, None)
        if not update.created:
            tips[update.ref] = update.old
        push = Push(record_id, str(path), who, datetime.fromtimestamp(at, UTC), (update,), tuple(options))
        facts = ingest.describe(values, history, str(path), number or 0)
        for event in history.events(
            push,
            tips,
            facts,
            Pusher(who, ingest.full_name_of(who) or who, id=user),
            rendering.widest(endpoints, values),
            other_refs=True,
            paths=rendering.paths(endpoints),
        ):
            event = ingest.introduced(event, values)  # noqa: PLW2901 (the same, with more known)
            yield event, rendering.rendered(event, record_id, endpoints, values)


@contextmanager
def _opened(app: App, *, needed: bool) -> Iterator[Store | None]:
    """The store; None where there is none and none is needed."""
    stored: AbstractContextManager[Store | None] = nullcontext()
    if needed or (app.state / FILE).exists():
        stored = app.store()
    with ExitStack() as stack:
        yield stack.enter_context(stored)


def _update(old: str, new: str, ref: str) -> RefUpdate:
    if not ref.startswith("refs/"):
        raise BadInput(f"{ref!r} is not the full name of a ref: write it as refs/heads/… or refs/tags/…")
    return RefUpdate(_id(old), _id(new), ref)


def _place(repository: Path) -> Path:
    path = repository.resolve()
    if not path.is_dir():
        raise RepositoryError(f"no repository {repository}")
    return path


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
