"""`refcast sweep`: have repositories compared with what is announced of them, now."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from refcast import presence, settings
from refcast.cli.common import App, iso, json_option, pass_app, safe, show_json
from refcast.errors import RepositoryError
from refcast.ingest.sweep import Sweep
from refcast.model import printable
from refcast.store import Store
from refcast.store.repositories import Sweepable

WAIT_SECONDS = 120.0
"""How long a worker that runs may take for it."""

LOOK_SECONDS = 0.1
"""How often it is looked whether the worker is done."""


@click.command()
@click.argument("repositories", metavar="[REPOSITORY]...", nargs=-1, type=click.Path(path_type=Path))
@json_option
@pass_app
@click.pass_context
def sweep(context: click.Context, app: App, repositories: tuple[Path, ...], as_json: bool) -> None:
    """Announce moves that no hook has told of.

    Compares the refs of repositories, of all that are watched if none is named, with what is announced of them. The
    worker does so by itself, at its start and every hour. Exit code 1 if a worker that runs does not come to it, 4 if a
    repository cannot be swept.
    """
    with app.store() as store:
        chosen = _chosen(store, repositories)
        done = _swept(app, store, chosen)
        app.wake()  # for what is announced now, and for a record that came while this command was the worker
    late = [path for path in chosen if path not in done]
    if as_json:
        show_json([_facts(one) for one in done.values()])
    else:
        for one in done.values():
            _print(one)
    for path in late:
        click.echo(f"refcast: {safe(path)}: the worker has not come to it in {WAIT_SECONDS:.0f} s", err=True)
    failed = [one for one in done.values() if one.found and one.found.error]
    context.exit(RepositoryError.exit_code if failed else 1 if late else 0)


def _chosen(store: Store, repositories: tuple[Path, ...]) -> list[str]:
    """The resolved paths of what is to be swept. RepositoryError for one that is not watched."""
    watched = store.repositories.paths()
    paths = [str(path.resolve()) for path in repositories]
    for path in paths:
        if path not in watched:
            raise RepositoryError(f"{path} is not watched: `refcast install` it")
    return list(dict.fromkeys(paths)) or list(watched)


def _swept(app: App, store: Store, paths: list[str]) -> dict[str, Sweepable]:
    """Sweep these ourselves, or have the worker that runs do it. Those that it came to in time, by their paths."""
    deadline = time.monotonic() + WAIT_SECONDS
    began_at = time.time()
    asked = False
    while time.monotonic() < deadline:
        try:
            with presence.Lock(app.state):
                one = Sweep(store, app.state / "spool", time.time)
                values = settings.load(app.state)
                for path in paths:
                    one.one(path, values)
                return _those(store, paths)
        except presence.AlreadyRunning:
            if not asked:
                for repository in _those(store, paths).values():
                    store.repositories.ask_sweep(repository.number, began_at)
                asked = True
        presence.running(app.state)  # to look wakes it
        done = {path: one for path, one in _those(store, paths).items() if one.asked_at is None}
        if len(done) == len(paths):
            return done
        time.sleep(LOOK_SECONDS)
    return {path: one for path, one in _those(store, paths).items() if one.asked_at is None}


def _those(store: Store, paths: list[str]) -> dict[str, Sweepable]:
    known = {one.path: one for one in store.repositories.sweepable()}
    return {path: known[path] for path in paths}


def _facts(one: Sweepable) -> dict[str, Any]:
    assert one.found is not None
    found = asdict(one.found) | {"refs": [printable(ref) for ref in one.found.refs]}
    return {"repository": printable(one.path), "swept_at": iso(one.swept_at), **found}


def _print(one: Sweepable) -> None:
    assert one.found is not None
    if one.found.error:
        click.echo(f"{safe(one.path)}: not swept: {safe(one.found.error)}")
        return
    words = f"{one.found.recovered} announced as recovered" if one.found.recovered else "nothing had moved unheard of"
    left = f", {one.found.left} left alone: under way, recorded, or not to be read" if one.found.left else ""
    click.echo(f"{safe(one.path)}: {words}{left}")
    for ref in one.found.refs:
        click.echo(f"  {safe(ref)}")
    if more := one.found.recovered - len(one.found.refs):
        click.echo(f"  and {more} more")
