"""`refcast delivery`: what was sent, sending it again, giving it up. `refcast record`: what could not be ingested."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import click

from refcast import dialects
from refcast.cli.common import App, iso, json_option, pass_app, safe, say, show_json, table, when
from refcast.cli.exchange import attempt_facts, show_exchange
from refcast.cli.selecting import chosen_or_narrowed, selected, selection_options, show_shares
from refcast.cli.skipped import list_skipped
from refcast.model import RefUpdate
from refcast.store.reports import DeliveryDetails, DeliveryRow
from refcast.store.steering import CANCELABLE, FINISHED, Share

_WIDEST = 32
"""Characters of a ref or a repository's name in a table."""


@click.group()
def delivery() -> None:
    """What was sent, sending it again, giving it up."""


@delivery.command(name="list")
@selection_options
@click.option("--skipped", is_flag=True, help="Not deliveries, but which endpoints a push did not reach, and why.")
@click.option("--before", metavar="ID", default="", help="Only those older than this one: the next page.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
@pass_app
def list_(app: App, /, skipped: bool, before: str, limit: int, as_json: bool, **options: Any) -> None:
    """List deliveries, newest first; or, with --skipped, the moves of refs that endpoints did not want."""
    if skipped:
        list_skipped(app, before, limit, as_json, options)
        return
    with app.store() as store:
        rows = store.reports.deliveries(selected(app, store, options), before=before, limit=limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    if as_json:
        show_json({"deliveries": [_facts(row) for row in rows], "next": rows[-1].id if more else None})
        return
    table(
        ["ID", "CREATED", "ENDPOINT", "EVENT", "REPOSITORY", "REF", "MOVE", "STATE", "TRIES", "LAST"],
        [
            [
                row.id[:8],
                when(row.created_at),
                row.endpoint,
                row.kind,
                _short(row.repository.rsplit("/", 1)[-1]),
                _short(RefUpdate(row.old, row.new, row.ref).short),
                f"{row.old[:7]}..{row.new[:7]}" if row.ref else "",
                row.state,
                row.attempts,
                row.last_status or row.last_error_class,
            ]
            for row in rows
        ],
    )
    if more:
        click.echo(f"there are older ones: the same again with --before {rows[-1].id[:8]}")


@delivery.command()
@click.argument("delivery_id", metavar="ID")
@click.option("--body", is_flag=True, help="Print the bytes of the body, as sent alone, and nothing else.")
@json_option
@pass_app
def show(app: App, delivery_id: str, body: bool, as_json: bool) -> None:
    """Show one delivery: its content, and every request with its answer. ID may be its beginning."""
    with app.store() as store:
        details = store.reports.delivery(delivery_id)
    row = details.row
    sent = dialects.body(details.payload, details.content_type)[1]
    if body:
        click.echo(sent, nl=False)
    elif as_json:
        tries = zip(details.attempts, details.together, strict=True)
        show_json(
            {
                **_facts(row),
                "dialect": details.dialect,
                "content_type": details.content_type,
                "signing": details.signing,
                "headers": details.headers,
                "payload": json.loads(details.payload),
                "body": sent,
                "incomplete": details.incomplete,
                "recovered": details.recovered,
                "late_records": [asdict(one) | {"received_at": iso(one.received_at)} for one in details.late],
                "attempts": [attempt_facts(one) | {"together_with": others} for one, others in tries],
            }
        )
    else:
        _show(details)


def _show(details: DeliveryDetails) -> None:
    row = details.row
    reason = f" ({safe(row.reason)})" if row.reason else ""
    click.echo(f"{row.id}  {row.state}{reason}  for {row.endpoint} ({details.dialect}, {details.content_type})")
    if row.ref:
        click.echo(f"{safe(row.kind)}: {safe(row.ref)} {row.old[:12]}..{row.new[:12]} in {safe(row.repository)}")
        click.echo(f"pushed by {safe(row.pusher)}, stored {when(row.created_at)}")
    else:
        click.echo(f"{safe(row.kind)}: about another endpoint, stored {when(row.created_at)}")
    if details.recovered:
        click.echo("recovered: no hook had told of this move; it was found in the repository")
    for one in details.late:
        click.echo(
            f"told of later by a push of {safe(one.pusher)}, {when(one.received_at)}, record {safe(one.record_id)}"
        )
    if details.incomplete:
        click.echo(f"incomplete: {safe(details.incomplete)}")
    click.echo("\n" + json.dumps(json.loads(details.payload), indent=2, ensure_ascii=True))
    for attempt, others in zip(details.attempts, details.together, strict=True):
        click.echo()
        note = "the content above" if not others else f"in one batch with {', '.join(one[:8] for one in others)}"
        show_exchange(attempt, note=note)


@delivery.command()
@click.argument("delivery_ids", metavar="[ID...]", nargs=-1)
@selection_options
@click.option("--from", "start", metavar="ID", default="", help="Only this one, and what is behind it in its lane.")
@click.option("--dry-run", is_flag=True, help="Say how many that would be, and change nothing.")
@json_option
@pass_app
def redeliver(
    app: App, /, delivery_ids: tuple[str, ...], start: str, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Send deliveries again: those with these ids, or those that the options choose.

    They keep their ids and their content, and are signed anew. They go before what waits behind them, in their order.
    """
    with app.store() as store:
        chosen = chosen_or_narrowed(app, store, delivery_ids, start, options)
        shares = store.steering.shares(chosen)
        count = _sum(shares, FINISHED) if dry_run else store.steering.redeliver(chosen, time.time())
    if not dry_run:
        app.wake()
    waiting, held = _sum(shares, ("waiting", "aside")), _sum(shares, ("held",))
    if as_json:
        facts = {"dry_run": dry_run, "redelivered": count, "waiting": waiting, "held": held}
        show_json(facts | {"shares": [asdict(one) for one in shares]})
        return
    if dry_run:
        show_shares(shares)
    click.echo(f"deliveries that {'would be' if dry_run else 'are'} sent again: {count}")
    if waiting:
        click.echo(f"deliveries that wait already: {waiting}")
    if held:
        click.echo(f"deliveries that stay held by --max-events: {held}; `refcast endpoint release` sends them")
    for name in dict.fromkeys(one.endpoint for one in shares if one.disabled and one.state in FINISHED):
        click.echo(f"{name} is disabled: those for it are held until `refcast endpoint enable {name}`")


@delivery.command()
@click.argument("delivery_ids", metavar="[ID...]", nargs=-1)
@selection_options
@click.option("--from", "start", metavar="ID", default="", help="Only this one, and what is behind it in its lane.")
@click.option("--reason", default="canceled by hand", show_default=True, help="Why, for those who look.")
@click.option("--dry-run", is_flag=True, help="Say how many that would be, and change nothing.")
@json_option
@pass_app
def cancel(
    app: App,
    /,
    delivery_ids: tuple[str, ...],
    start: str,
    reason: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Give up deliveries that wait, are held, or were refused or expired: by ids, or those that the options choose.

    What was delivered stays so. What is canceled is kept for a while, and can be sent again.
    """
    with app.store() as store:
        chosen = chosen_or_narrowed(app, store, delivery_ids, start, options)
        shares = store.steering.shares(chosen)
        count = _sum(shares, CANCELABLE) if dry_run else store.steering.cancel(chosen, time.time(), reason)
    if not dry_run:
        app.wake()
    left = sum(one.count for one in shares) - _sum(shares, CANCELABLE)
    if as_json:
        facts = {"dry_run": dry_run, "canceled": count, "left": left, "reason": reason}
        show_json(facts | {"shares": [asdict(one) for one in shares]})
        return
    if dry_run:
        show_shares(shares)
    click.echo(f"deliveries that {'would be' if dry_run else 'are'} canceled: {count}")
    if left:
        click.echo(f"deliveries that stay as they are, delivered or canceled before: {left}")


def _sum(shares: list[Share], states: tuple[str, ...]) -> int:
    return sum(one.count for one in shares if one.state in states)


def _short(text: str) -> str:
    """Text that leaves room for the other columns; `delivery show` has all of it."""
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


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
