"""`refcast log`: the last attempts as lines, and with -f what happens from now on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

import click

from refcast.cli.common import App, iso, json_option, pass_app, safe, when
from refcast.errors import StateError
from refcast.model import RefUpdate
from refcast.store import FILE, Store
from refcast.store.following import Happening, Health, Mark

LOOK_SECONDS = 0.5
MANY = 500
"""How much of each kind is taken at a time."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--endpoint", metavar="NAME", default="", help="Only what goes to this endpoint.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=20, show_default=True, help="How many at most.")
@json_option
@pass_app
def log(app: App, follow: bool, endpoint: str, lines: int, as_json: bool) -> None:
    """Show the last attempts, oldest first, a line each.

    With -f it also shows new deliveries, those that are canceled or expire, and endpoints that fail or are disabled,
    now and when that changes. It goes on when the worker is restarted. Ctrl-C ends it with exit code 0.
    """
    show = _show_json if as_json else _show
    try:
        with app.store() as store:
            if endpoint:
                store.endpoints.get(endpoint)
            mark = store.following.mark()
            well = dict.fromkeys(store.following.health(), Health("active", "", False, ""))
            for one in store.following.latest(lines, endpoint) if lines else ():
                show(one)
        if follow:
            for one in _follow(app, endpoint, mark, well):
                show(one)
    except KeyboardInterrupt:
        # It is how following ends, also while the first lines are still shown.
        if not follow:
            raise


def _follow(app: App, endpoint: str, mark: Mark, health: dict[str, Health]) -> Iterator[Happening]:
    """What happens, for ever. A store that cannot be used is waited for; one that was replaced is looked at anew."""
    store: Store | None = None
    said = ""
    while True:
        happened: list[Happening] = []
        try:
            if store is None:
                if not (app.state / FILE).exists():
                    raise StateError(f"there is no store {app.state / FILE}")
                store = app.store()
                newest = store.following.mark()
                # A copy from a backup may stand behind what has been seen of the other.
                mark = Mark(min(mark.attempt, newest.attempt), min(mark.position, newest.position), mark.ended)
            happened, mark = store.following.since(mark, endpoint, MANY)
            now = store.following.health()
            yield from happened
            yield from _changes(health, now, endpoint)
            health, said = now, ""
        except StateError as error:
            if store is not None:
                store.close()
                store = None
            if str(error) != said:
                said = str(error)
                click.echo(f"refcast: {safe(said)}; waiting for it", err=True)
        if len(happened) < MANY:
            time.sleep(LOOK_SECONDS)


def _changes(before: dict[str, Health], now: dict[str, Health], endpoint: str) -> Iterator[Happening]:
    for name, health in now.items():
        known = before.get(name)
        if known is None or endpoint not in ("", name):
            continue
        for what, text in (
            ("disabled" if health.state == "disabled" else "enabled", health.reason)
            if health.state != known.state
            else ("", ""),
            ("failing" if health.failing else "recovered", health.error)
            if health.failing != known.failing
            else ("", ""),
        ):
            if what:
                yield Happening("endpoint", time.time(), name, "", "", "", "", what, decision=text)


def _show(one: Happening) -> None:
    ref = RefUpdate("", "", one.ref).short
    where = " ".join(part for part in (one.repository.rsplit("/", 1)[-1].removesuffix(".git"), ref) if part)
    if one.what == "attempt":
        came = f"{one.status or one.error_class}  {(one.duration or 0.0) * 1000:.0f} ms"
        if one.error_class:
            came += f"  {one.error}"
    else:
        came = " ".join(part for part in (one.what if one.what == "new" else "", one.state, one.decision) if part)
    parts = [when(one.time), one.endpoint, one.kind, where, came, one.delivery[:8]]
    _out("  ".join(safe(part) for part in parts if part))


def _show_json(one: Happening) -> None:
    _out(json.dumps(asdict(one) | {"time": iso(one.time), "ref": safe(one.ref), "repository": safe(one.repository)}))


def _out(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
