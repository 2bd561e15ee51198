"""`refcast endpoint`: where deliveries go."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from refcast import answers, deliver, dialects, urls
from refcast.cli.common import App, json_option, pass_app, say, show_json, table, when
from refcast.cli.exchange import attempt_facts, show_exchange
from refcast.cli.options import changed, endpoint_options, told
from refcast.cli.secrets import check_frozen, read_one, rotated
from refcast.cli.values import spelled
from refcast.errors import BadInput
from refcast.model import Endpoint, Hook
from refcast.repository_endpoints import GONE
from refcast.settings import load
from refcast.store import Store
from refcast.store.selection import Selection
from refcast.transport import Transport

WRITTEN = "is written in its repository's configuration: change it there, and push"


@click.group()
def endpoint() -> None:
    """Where deliveries go."""


@endpoint.command()
@click.argument("name")
@click.argument("url", required=False)
@endpoint_options
@json_option
@pass_app
def add(app: App, /, name: str, url: str | None, as_json: bool, **options: Any) -> None:
    """Add an endpoint. Every repository that is installed announces to it what it wants."""
    dialect = dialects.get(options["dialect"] or "refcast")
    address = read_one(url, options["url_file"], "URL", "--url-file")
    if address is None:
        raise BadInput("an endpoint needs a URL: write it behind the name, or into a file for --url-file")
    new = Endpoint(id=0, name=name, url=address, dialect=dialect.NAME, content_type=dialect.CONTENT_TYPES[0])
    new = changed(new, options)
    if options["secret_file"] is not None and not new.secret:
        raise BadInput(f"the secret file {options['secret_file']!r} is empty: requests would go unsigned")
    with app.store() as store:
        new = told(store, new, options["on_failure"])
        added = store.endpoints.add(new, time.time())
        answers.set_bound(app.state, store.endpoints.all())
        _shown(store, added, as_json)


@endpoint.command()
@click.argument("name")
@click.option("--url", help="Where it is now.")
@click.option("--rename", metavar="NEW", help="Its new name.")
@click.option(
    "--keep-old-secret",
    type=float,
    metavar="HOURS",
    help="Sign with the old secret as well for so long, in schemes that can: change it in peace on the other side.",
)
@endpoint_options
@json_option
@pass_app
def edit(
    app: App,
    /,
    name: str,
    url: str | None,
    rename: str | None,
    keep_old_secret: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Change an endpoint. What waits for it keeps its content, and goes to the new URL with the new secret."""
    with app.store() as store:
        old = store.endpoints.get(name)
        if old.origin is not None:
            raise BadInput(f"{name} {WRITTEN}")
        address = read_one(url, options["url_file"], "URL", "--url-file")
        new = replace(old, name=rename or old.name, url=address or old.url)
        if options["dialect"] and options["dialect"] != old.dialect:
            dialect = dialects.get(options["dialect"])
            new = replace(new, dialect=dialect.NAME, content_type=dialect.CONTENT_TYPES[0], signing="")
        new = told(store, changed(new, options), options["on_failure"])
        if keep_old_secret is not None:
            new = rotated(old, new, keep_old_secret)
        elif (new.secret, new.secret_file) != (old.secret, old.secret_file) or old.old_secret_until <= time.time():
            new = replace(new, old_secret="", old_secret_until=0.0)
        check_frozen(new, store.endpoints.frozen_schemes(old.id))
        store.endpoints.change(new)
        answers.set_bound(app.state, store.endpoints.all())
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
            ["NAME", "STATE", "DIALECT", "WAITING", "URL", "FROM", "REASON"],
            [[row[key] for key in ("name", "state", "dialect", "waiting", "url", "from", "reason")] for row in rows],
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
@click.option("--send/--let-go", default=True, help="Send what was held, in order (default), or cancel it.")
@json_option
@pass_app
def enable(app: App, name: str, send: bool, as_json: bool) -> None:
    """Send to it again, with a fresh schedule: what was held, in order, or only what comes from now on."""
    with app.store() as store:
        one = store.endpoints.get(name)
        let_go = 0
        if not send and one.state == "disabled":  # what waits for one that is enabled is on its way, and not held
            let_go = _let_go(store, name, ("waiting", "aside"), "let go when its endpoint was enabled")
        count = store.endpoints.enable(one.id, time.time())
        answers.set_bound(app.state, store.endpoints.all())
        beyond = store.endpoints.beyond_limit(one.id)
    app.wake()
    words = f"{name} is enabled; deliveries on their way: {count}"
    words += "" if send else f", let go: {let_go}"
    words += f"\n{beyond} more are held by --max-events until `refcast endpoint release {name}`" if beyond else ""
    say({"name": name, "state": "active", "sent": count, "let_go": let_go, "held": beyond}, as_json, words)


@endpoint.command()
@click.argument("name")
@click.option("--send/--let-go", default=True, help="Send what was held, in order (default), or cancel it.")
@json_option
@pass_app
def release(app: App, name: str, send: bool, as_json: bool) -> None:
    """Send what --max-events has held of large pushes, each in its place, or let it go."""
    with app.store() as store:
        one = store.endpoints.get(name)
        let_go = 0 if send else _let_go(store, name, ("held",), "let go instead of being released")
        count = store.steering.release(name, time.time()) if send else 0
    app.wake()
    words = f"deliveries to {name} that are released: {count}" if send else f"deliveries to {name}, let go: {let_go}"
    if count and one.state == "disabled":
        words += f"; it is disabled, so they wait until `refcast endpoint enable {name}`"
    say({"name": name, "state": one.state, "released": count, "let_go": let_go}, as_json, words)


def _let_go(store: Store, name: str, states: tuple[str, ...], reason: str) -> int:
    return store.steering.cancel(Selection(endpoint=name), time.time(), reason, states)


@endpoint.command()
@click.argument("name")
@click.option("--reason", default="disabled by hand", help="Why, for those who look.")
@json_option
@pass_app
def disable(app: App, name: str, reason: str, as_json: bool) -> None:
    """Send nothing more to it. What comes meanwhile is held."""
    with app.store() as store:
        store.endpoints.disable(store.endpoints.get(name).id, reason)
        answers.set_bound(app.state, store.endpoints.all())
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
        # What is taken out there is still to be forgotten here, and so is that of a repository that is uninstalled.
        if one.origin is not None and one.reason != GONE and _origin(store, one) in store.repositories.paths():
            raise BadInput(f"{name} {WRITTEN}")
        removed = store.endpoints.remove(one.id, discard=discard)
        answers.set_bound(app.state, store.endpoints.all())
    words = f"{name} is removed" + (f"; deliveries discarded: {removed.discarded}" if removed.discarded else "")
    if removed.told:
        words += f"\nnobody is told any more when these fail: {', '.join(removed.told)}"
    say(
        {"name": name, "state": "removed", "discarded": removed.discarded, "on_failure_of": removed.told},
        as_json,
        words,
    )


@endpoint.command()
@click.argument("name")
@json_option
@pass_app
@click.pass_context
def test(context: click.Context, app: App, name: str, as_json: bool) -> None:
    """Send what the dialect's system sends as a test, and show request and answer. Exit code 1 unless it is 2xx."""
    settings = load(app.state)
    with app.store() as store:
        one = deliver.resolved(store.endpoints.get(name), settings)
    dialect = dialects.get(one.dialect)
    delivery_id = str(uuid.uuid4())
    hook = Hook(one.id, delivery_id)
    message = dialect.test(hook)
    now = time.time()
    request = deliver.build(
        one,
        payload=dialects.encode(message.payload),
        content_type=one.content_type,
        scheme=one.signing or dialect.SIGNING,
        headers=dialect.headers(message.kind, delivery_id, hook),
        delivery_id=delivery_id,
        now=datetime.fromtimestamp(now, UTC),
        settings=settings,
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


def _origin(store: Store, one: Endpoint) -> str:
    """The repository whose own configuration names an endpoint; empty for one of the store's."""
    return "" if one.origin is None else store.repositories.path(one.origin)


def _shown(store: Store, one: Endpoint, as_json: bool) -> None:
    facts = _facts(store, one)
    if as_json:
        show_json(facts)
    else:
        table(["NAME", facts["name"]], [[key, _words(key, value)] for key, value in facts.items()][1:])


def _words(key: str, value: object) -> object:
    """A fact for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == []:
        return "none" if key in ("branches", "tags", "max_events", "on_failure", "batch_window") else "default"
    if key == "schedule":
        return ",".join(map(spelled, value)) if isinstance(value, list) else value
    return ", ".join(value) if isinstance(value, list) else value


def _facts(store: Store, one: Endpoint) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "reason": one.reason,
        "from": _origin(store, one) or "the store",
        "url": deliver.shown_url(one),
        "dialect": one.dialect,
        "content_type": one.content_type,
        "signing": one.signing or dialects.get(one.dialect).SIGNING,
        "secret": "file" if one.secret_file else "set" if one.secret else "none",
        "secret_path": one.secret_file,
        "old_secret_until": when(one.old_secret_until) if one.old_secret_until > time.time() else "",
        "max_commits": one.commits,
        "max_files": one.files,
        "max_events": one.max_events,
        "batch_window": one.batch_window if one.dialect in deliver.BATCHING else None,
        "events": sorted(one.events) or ["all"],
        "repositories": list(one.repositories) or ["**"],
        "branches": list(one.branches) or (["**"] if not one.tags else []),
        "tags": list(one.tags) or (["**"] if not one.branches else []),
        "paths": list(one.paths) or ["**"],
        "pushers": list(one.pushers) or ["**"],
        "skip_by": sorted(one.skips) or ["none"],
        "other_refs": one.other_refs,
        "verify_tls": one.verify_tls,
        "ca_file": one.ca_file,
        "client_cert": one.client_cert,
        "client_key": one.client_key,
        "proxy": urls.masked(one.proxy) if one.proxy and one.proxy != "none" else one.proxy or None,
        "timeout": one.timeout,
        "answer": one.answer,
        "schedule": list(one.schedule),
        "tries": one.tries,
        "rejection": one.rejects,
        "on_failure": store.endpoints.name_of(one.on_failure) if one.on_failure is not None else None,
        "waiting": store.endpoints.waiting(one.id),
    }
