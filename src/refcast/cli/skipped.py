"""`refcast delivery list --skipped`: which endpoints an announced push did not reach, and why."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import click

from refcast.cli.common import App, iso, show_json, table, when
from refcast.cli.selecting import selected
from refcast.errors import BadInput
from refcast.model import RefUpdate


def list_skipped(app: App, before: str, limit: int, as_json: bool, options: dict[str, Any]) -> None:
    """Print the newest moves that are chosen, each with a line for every endpoint that did not want it."""
    for key, option in (("states", "--state"), ("error", "--error")):
        if options[key]:
            raise BadInput(f"{option} tells of deliveries, and what was skipped is none: leave it out")
    if before and not (before.isascii() and before.isdecimal() and len(before) < 19):
        raise BadInput(f"{before!r} is no number of a move: `refcast delivery list --skipped` shows them")
    name = options["endpoint"]
    with app.store() as store:
        # One that has another name by now, or is gone, has had its reasons all the same.
        chosen = replace(selected(app, store, options | {"endpoint": ""}), endpoint=name)
        moves = store.passed.over(chosen, before=int(before) if before else None, limit=limit + 1)
        if name and not moves:
            store.endpoints.get(name)
    more = len(moves) > limit
    moves = moves[:limit]
    if as_json:
        rows = [asdict(one) | {"id": str(one.id), "received_at": iso(one.received_at)} for one in moves]
        show_json({"skipped": rows, "next": rows[-1]["id"] if more else None})
        return
    table(
        ["ID", "RECEIVED", "REPOSITORY", "REF", "MOVE", "PUSHER", "ENDPOINT", "WHY"],
        [
            [
                one.id,
                when(one.received_at),
                one.repository.rsplit("/", 1)[-1],
                RefUpdate(one.old, one.new, one.ref).short,
                f"{one.old[:7]}..{one.new[:7]}",
                one.pusher,
                endpoint,
                "; ".join(reasons),
            ]
            for one in moves
            for endpoint, reasons in one.reasons.items()
        ],
    )
    if more:
        click.echo(f"there are older ones: the same again with --before {moves[-1].id}")
