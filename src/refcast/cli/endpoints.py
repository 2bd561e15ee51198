"""`refcast endpoint`: where deliveries go."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from refcast import deliver, dialects, signing, urls
from refcast.cli.common import App, iso, json_option, pass_app, safe, say, show_json, table, when
from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store import Store
from refcast.store.lanes import Attempt
from refcast.transport import Transport

F = TypeVar("F", bound=Callable[..., Any])

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@click.group()
def endpoint() -> None:
    """Where deliveries go."""


def _options(function: F) -> F:
    """The options that `add` and `edit` share. Without one, `add` takes the default and `edit` leaves what is."""
    for option in reversed(
        [
            click.option("--dialect", help=f"What the receiver understands: {', '.join(dialects.DIALECTS)}."),
            click.option("--content-type", help="json or form, where the dialect has both."),
            click.option("--secret-file", type=click.Path(), help="Read the secret from a file; - for standard input."),
            click.option("--secret-env", metavar="NAME", help="Read the secret from an environment variable."),
            click.option("--ask-secret", is_flag=True, help="Ask for the secret."),
            click.option(
                "--event", "events", multiple=True, help="push or tag_push; again for more. Default: all; `all` again."
            ),
            click.option(
                "--repository",
                "repositories",
                multiple=True,
                help="A shell pattern for the names of the repositories it wants; again for more. Default: all.",
            ),
            click.option(
                "--other-refs/--no-other-refs",
                default=None,
                help="Whether it also wants refs that are neither branches nor tags.",
            ),
            click.option(
                "--verify-tls/--no-verify-tls", default=None, help="Whether its certificate must be valid (default)."
            ),
            click.option("--timeout", type=float, help="Seconds for one whole request, 1 to 300. Default: 30."),
        ]
    ):
        function = option(function)
    return function


@endpoint.command()
@click.argument("name")
@click.argument("url")
@_options
@json_option
@pass_app
def add(app: App, /, name: str, url: str, as_json: bool, **options: Any) -> None:
    """Add an endpoint. Every repository that is installed announces to it what it wants."""
    dialect = dialects.get(options["dialect"] or "codeup")
    new = Endpoint(id=0, name=name, url=url, dialect=dialect.NAME, content_type=dialect.CONTENT_TYPES[0])
    with app.store() as store:
        added = store.endpoints.add(_changed(new, options), time.time())
        _shown(store, added, as_json)


@endpoint.command()
@click.argument("name")
@click.option("--url", help="Where it is now.")
@click.option("--rename", metavar="NEW", help="Its new name.")
@_options
@json_option
@pass_app
def edit(app: App, /, name: str, url: str | None, rename: str | None, as_json: bool, **options: Any) -> None:
    """Change an endpoint. What waits for it keeps its content, and goes to the new URL with the new secret."""
    with app.store() as store:
        old = store.endpoints.get(name)
        new = replace(old, name=rename or old.name, url=url or old.url)
        if options["dialect"] and options["dialect"] != old.dialect:
            dialect = dialects.get(options["dialect"])
            new = replace(new, dialect=dialect.NAME, content_type=dialect.CONTENT_TYPES[0])
        store.endpoints.change(_changed(new, options))
        _shown(store, store.endpoints.get(new.name), as_json)


@endpoint.command(name="list")
@json_option
@pass_app
def list_(app: App, as_json: bool) -> None:
    """List the endpoints."""
    with app.store() as store:
        rows = [_facts(store, each) for each in store.endpoints.all()]
    if as_json:
        show_json(rows)
    else:
        table(
            ["NAME", "STATE", "DIALECT", "WAITING", "URL", "REASON"],
            [[row[key] for key in ("name", "state", "dialect", "waiting", "url", "reason")] for row in rows],
        )


@endpoint.command()
@click.argument("name")
@json_option
@pass_app
def show(app: App, name: str, as_json: bool) -> None:
    """Show one endpoint. Its secret is never shown."""
    with app.store() as store:
        _shown(store, store.endpoints.get(name), as_json)


@endpoint.command()
@click.argument("name")
@json_option
@pass_app
def enable(app: App, name: str, as_json: bool) -> None:
    """Send to it again. What was held is sent now, in order."""
    with app.store() as store:
        count = store.endpoints.enable(store.endpoints.get(name).id, time.time())
    app.wake()
    say(
        {"name": name, "state": "active", "sent": count},
        as_json,
        f"{name} is enabled; deliveries on their way: {count}",
    )


@endpoint.command()
@click.argument("name")
@click.option("--reason", default="disabled by hand", help="Why, for those who look.")
@json_option
@pass_app
def disable(app: App, name: str, reason: str, as_json: bool) -> None:
    """Send nothing more to it. What comes meanwhile is held."""
    with app.store() as store:
        store.endpoints.disable(store.endpoints.get(name).id, reason)
    words = f"{name} is disabled; deliveries for it are held until `refcast endpoint enable {name}`"
    say({"name": name, "state": "disabled", "reason": reason}, as_json, words)


@endpoint.command()
@click.argument("name")
@click.option("--discard", is_flag=True, help="Even if deliveries wait for it: they are lost.")
@json_option
@pass_app
def remove(app: App, name: str, discard: bool, as_json: bool) -> None:
    """Forget an endpoint, its deliveries and their records."""
    with app.store() as store:
        one = store.endpoints.get(name)
        waiting = store.endpoints.waiting(one.id)
        if waiting and not discard:
            raise BadInput(f"{waiting} deliveries wait for {name}: send them first, or pass --discard to lose them")
        store.endpoints.remove(one.id)
    words = f"{name} is removed" + (f"; deliveries discarded: {waiting}" if waiting else "")
    say({"name": name, "state": "removed", "discarded": waiting}, as_json, words)


@endpoint.command()
@click.argument("name")
@json_option
@pass_app
@click.pass_context
def test(context: click.Context, app: App, name: str, as_json: bool) -> None:
    """Send what the dialect's system sends as a test, and show request and answer. Exit code 1 unless it is 2xx."""
    with app.store() as store:
        one = store.endpoints.get(name)
    dialect = dialects.get(one.dialect)
    message = dialect.test()
    delivery_id = str(uuid.uuid4())
    now = time.time()
    request = deliver.build(
        one,
        payload=dialects.encode(message.payload),
        content_type=one.content_type,
        scheme=dialect.SIGNING,
        headers=dialect.headers(message.kind, delivery_id),
        delivery_id=delivery_id,
        now=datetime.fromtimestamp(now, UTC),
    )
    transport = Transport()
    response = transport.send(request)
    transport.close()
    exchange = deliver.attempt(one, request, response, now, "test")
    if as_json:
        show_json({**attempt_facts(exchange), "request_body": request.body})
    else:
        show_exchange(exchange, request.body)
    context.exit(0 if response.ok else 1)


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    return {
        "started_at": iso(attempt.started_at),
        "duration_ms": round(attempt.duration * 1000, 1),
        **{
            name: getattr(attempt, name)
            for name in ("url", "request_headers", "status", "response_headers", "response_body")
        },
        **{name: getattr(attempt, name) for name in ("error_class", "error", "decision")},
    }


def show_exchange(attempt: Attempt, body: bytes | None = None) -> None:
    """Request and answer, as one reads them in a protocol's description."""
    click.echo(f"{when(attempt.started_at)}  POST {safe(attempt.url)}")
    for name, value in attempt.request_headers:
        click.echo(f"> {safe(name)}: {safe(value)}")
    if body is not None:
        click.echo(f">\n> {safe(body.decode('utf-8', 'replace'))}")
    ms = f"{attempt.duration * 1000:.0f} ms"
    if attempt.status is None:
        click.echo(f"< no answer after {ms}: {attempt.error_class}: {safe(attempt.error)}")
    else:
        click.echo(f"< HTTP {attempt.status} after {ms}")
    for name, value in attempt.response_headers:
        click.echo(f"< {safe(name)}: {safe(value)}")
    if attempt.response_body:
        click.echo("<")
        for line in attempt.response_body.decode("utf-8", "replace").splitlines():
            click.echo(f"< {safe(line)}")
    click.echo(f"= {safe(attempt.decision)}")


def _changed(one: Endpoint, options: dict[str, Any]) -> Endpoint:
    """The endpoint with what the options say, checked. BadInput names what cannot be, and the alternatives."""
    if not NAME.match(one.name):
        raise BadInput(
            f"{one.name!r} cannot name an endpoint: use up to 64 letters, digits, dots, hyphens, underscores"
        )
    urls.check_url(one.url)
    dialect = dialects.get(one.dialect)
    content_type = options["content_type"] or one.content_type
    if content_type not in dialect.CONTENT_TYPES:
        raise BadInput(f"{dialect.NAME} has no content type {content_type!r}: use {' or '.join(dialect.CONTENT_TYPES)}")
    events = frozenset(options["events"]) or one.events
    if unknown := events - {"push", "tag_push", "all"}:
        raise BadInput(f"unknown event {min(unknown)!r}: use push, tag_push or all")
    timeout = one.timeout if options["timeout"] is None else options["timeout"]
    if not 1 <= timeout <= 300:
        raise BadInput(f"a timeout of {timeout:g} seconds cannot be: use 1 to 300")
    secret = _secret(options)
    secret = one.secret if secret is None else secret
    signing.check(dialect.SIGNING, secret)
    return replace(
        one,
        content_type=content_type,
        secret=secret,
        events=frozenset() if "all" in events else events,
        repositories=options["repositories"] or one.repositories,
        other_refs=one.other_refs if options["other_refs"] is None else options["other_refs"],
        verify_tls=one.verify_tls if options["verify_tls"] is None else options["verify_tls"],
        timeout=timeout,
    )


def _secret(options: dict[str, Any]) -> str | None:
    """The secret that the options lead to; None if they name none. It is never an argument: `ps` would show it."""
    ways = [key for key in ("secret_file", "secret_env", "ask_secret") if options[key]]
    if len(ways) > 1:
        raise BadInput("give the secret in one way: --secret-file, --secret-env or --ask-secret")
    if options["secret_file"]:
        try:
            with click.open_file(options["secret_file"], "rb") as file:
                return os.fsdecode(file.read(65536)).rstrip("\r\n")
        except OSError as error:
            raise BadInput(f"cannot read the secret from {options['secret_file']}: {error.strerror}") from error
    if options["secret_env"]:
        try:
            return os.environ[options["secret_env"]]
        except KeyError:
            raise BadInput(f"there is no environment variable {options['secret_env']}") from None
    return str(click.prompt("Secret", hide_input=True)) if options["ask_secret"] else None


def _shown(store: Store, one: Endpoint, as_json: bool) -> None:
    facts = _facts(store, one)
    if as_json:
        show_json(facts)
    else:
        table(["NAME", facts["name"]], [[k, ", ".join(v) if isinstance(v, list) else v] for k, v in facts.items()][1:])


def _facts(store: Store, one: Endpoint) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "reason": one.reason,
        "url": urls.masked(one.url),
        "dialect": one.dialect,
        "content_type": one.content_type,
        "secret": "set" if one.secret else "none",
        "events": sorted(one.events) or ["all"],
        "repositories": list(one.repositories) or ["*"],
        "other_refs": one.other_refs,
        "verify_tls": one.verify_tls,
        "timeout": one.timeout,
        "waiting": store.endpoints.waiting(one.id),
    }
