"""The options that say which deliveries: for listing them, sending them again, canceling them."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

import click

from refcast import settings
from refcast.cli.common import App, F, table
from refcast.cli.values import moment
from refcast.errors import BadInput
from refcast.store import Store
from refcast.store.selection import STATES, Selection
from refcast.store.steering import Share


def selection_options(function: F) -> F:
    """Several narrow it further: what fits all of them is meant."""
    for option in reversed(
        [
            click.option("--endpoint", metavar="NAME", default="", help="Only those for this endpoint."),
            click.option(
                "--state",
                "states",
                type=click.Choice(STATES),
                multiple=True,
                help="Only those in this state; again for one of several.",
            ),
            click.option(
                "--repository", metavar="PATTERN", help="Only those of the repositories of this name, pattern or path."
            ),
            click.option("--ref", default="", help="Only those of this ref: a branch, a tag, or its full name."),
            click.option("--pusher", metavar="USER", default="", help="Only those of what this user has pushed."),
            click.option(
                "--since",
                metavar="TIME",
                help="Only those stored then or later: 2h ago, or a date or time, local unless it says Z or an offset.",
            ),
            click.option("--until", metavar="TIME", help="Only those stored before then."),
            click.option(
                "--error",
                metavar="CLASS",
                default="",
                help="Only those whose last try ended so: timeout, tls, status, …",
            ),
        ]
    ):
        function = option(function)
    return function


def selected(app: App, store: Store, options: dict[str, Any], **more: Any) -> Selection:
    """What the options choose. BadInput for names and times that are none."""
    if options["endpoint"]:
        store.endpoints.get(options["endpoint"])
    now = time.time()
    return Selection(
        endpoint=options["endpoint"],
        states=options["states"],
        repositories=None if options["repository"] is None else _repositories(app, store, options["repository"]),
        ref=options["ref"],
        pusher=options["pusher"],
        since=None if options["since"] is None else moment("--since", options["since"], now),
        until=None if options["until"] is None else moment("--until", options["until"], now),
        error=options["error"],
        **more,
    )


def chosen_or_narrowed(app: App, store: Store, ids: tuple[str, ...], start: str, options: dict[str, Any]) -> Selection:
    """What is to be changed: some ids, or what the options choose. BadInput if they choose everything there is."""
    chosen = selected(app, store, options, ids=ids, start=start)
    if chosen == Selection():
        raise BadInput(
            "say which deliveries: their ids, or what narrows them: --endpoint, --state, --repository, --ref, "
            "--pusher, --since, --until, --error, --from"
        )
    if ids and chosen != Selection(ids=ids):
        raise BadInput("give ids, or options that choose: not both")
    return chosen


def show_shares(shares: list[Share]) -> None:
    table(
        ["ENDPOINT", "STATE", "DELIVERIES"],
        [[one.endpoint, f"{one.state}{' (disabled)' if one.disabled else ''}", one.count] for one in shares],
    )


def _repositories(app: App, store: Store, pattern: str) -> tuple[int, ...]:
    known = store.reports.repositories()
    named = settings.load(app.state)
    found = [
        number
        for path, number in known.items()
        if fnmatchcase(named.full_name(path), pattern) or fnmatchcase(path, pattern)
    ]
    if not found:
        raise BadInput(
            f"no repository is called {pattern!r}: write its name as in the payloads, a pattern, or its path"
        )
    return tuple(found)
