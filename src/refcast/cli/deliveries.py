"""`refcast delivery`: what was sent, and sending it again. `refcast record`: what could not be ingested."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import click

from refcast.cli.common import App, iso, json_option, pass_app, safe, say, show_json, table, when
from refcast.cli.exchange import attempt_facts, show_exchange
from refcast.model import RefUpdate
from refcast.store.reports import DeliveryRow


@click.group()
def delivery() -> None:
    """What was sent, and sending it again."""


@delivery.command(name="list")
@click.option("--endpoint", default="", help="Only those for this endpoint.")
@click.option("--state", type=click.Choice(["waiting", "held", "delivered"]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
@pass_app
def list_(app: App, endpoint: str, state: str | None, limit: int, as_json: bool) -> None:
    """List deliveries, newest first."""
    with app.store() as store:
        if endpoint:
            store.endpoints.get(endpoint)
        rows = store.reports.deliveries(endpoint=endpoint, state=state or "", limit=limit)
    if as_json:
        show_json([_facts(row) for row in rows])
        return
    table(
        ["ID", "CREATED", "ENDPOINT", "EVENT", "REPOSITORY", "REF", "MOVE", "STATE", "TRIES", "LAST"],
        [
            [
                row.id[:8],
                when(row.created_at),
                row.endpoint,
                row.kind,
                row.repository.rsplit("/", 1)[-1],
                RefUpdate(row.old, row.new, row.ref).short,
                f"{row.old[:7]}..{row.new[:7]}",
                row.state,
                row.attempts,
                row.last_status or row.last_error,
            ]
            for row in rows
        ],
    )


@delivery.command()
@click.argument("delivery_id", metavar="ID")
@json_option
@pass_app
def show(app: App, delivery_id: str, as_json: bool) -> None:
    """Show one delivery: its content, and every request with its answer. ID may be its beginning."""
    with app.store() as store:
        details = store.reports.delivery(delivery_id)
    if as_json:
        show_json(
            {
                **_facts(details.row),
                "dialect": details.dialect,
                "content_type": details.content_type,
                "signing": details.signing,
                "headers": details.headers,
                "payload": json.loads(details.payload),
                "incomplete": details.incomplete,
                "attempts": [attempt_facts(attempt) for attempt in details.attempts],
            }
        )
        return
    row = details.row
    click.echo(f"{row.id}  {row.state}  for {row.endpoint} ({details.dialect}, {details.content_type})")
    click.echo(f"{safe(row.kind)}: {safe(row.ref)} {row.old[:12]}..{row.new[:12]} in {safe(row.repository)}")
    click.echo(f"pushed by {safe(row.pusher)}, stored {when(row.created_at)}")
    if details.incomplete:
        click.echo(f"incomplete: {safe(details.incomplete)}")
    click.echo("\n" + json.dumps(json.loads(details.payload), indent=2, ensure_ascii=True))
    for attempt in details.attempts:
        click.echo()
        show_exchange(attempt)


@delivery.command()
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@pass_app
def redeliver(app: App, delivery_ids: tuple[str, ...], as_json: bool) -> None:
    """Send deliveries again, under their old ids and with their old content, signed anew."""
    with app.store() as store:
        found = [store.reports.delivery(one).row.id for one in delivery_ids]  # all of them, or none
        rows = [store.reports.redeliver(one, time.time()) for one in found]
    app.wake()
    if as_json:
        show_json([_facts(row) for row in rows])
        return
    for row in rows:
        held = f"; {row.endpoint} is disabled, so it is held" if row.state == "held" else ""
        click.echo(f"{row.id} is sent again to {row.endpoint}{held}")


def _facts(row: DeliveryRow) -> dict[str, object]:
    return asdict(row) | {"created_at": iso(row.created_at), "finished_at": iso(row.finished_at)}


@click.group()
def record() -> None:
    """What hooks recorded and refcast could not ingest."""


@record.command(name="list")
@json_option
@pass_app
def list_records(app: App, as_json: bool) -> None:
    """List the records that are set aside, with the reason."""
    with app.store() as store:
        asides = store.intake.asides()
    if as_json:
        show_json([asdict(one) | {"since": iso(one.since), "retry_at": iso(one.retry_at)} for one in asides])
    else:
        table(
            ["FILE", "SINCE", "NEXT TRY", "REASON"],
            [[one.path, when(one.since), when(one.retry_at) or "by hand", one.reason] for one in asides],
        )


@record.command()
@click.argument("file", required=False)
@json_option
@pass_app
def retry(app: App, file: str | None, as_json: bool) -> None:
    """Try again what is set aside: one file, or all of them."""
    with app.store() as store:
        count = store.intake.retry_aside(file, time.time())
    app.wake()
    say({"retried": count}, as_json, f"records that are tried again: {count}")
