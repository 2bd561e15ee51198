"""`refcast backup` and `restore`: a copy of the store while it is in use, and the way back."""

from __future__ import annotations

import time
from pathlib import Path

import click

from refcast import install as installing
from refcast import presence, sites
from refcast.cli.common import App, json_option, pass_app, safe, say
from refcast.errors import StateError
from refcast.service import alone, end_on_demand, is_on_demand
from refcast.store import FILE
from refcast.store.backup import back_up
from refcast.store.backup import restore as put_back

PLACE = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@PLACE
@json_option
@pass_app
def backup(app: App, file: Path, as_json: bool) -> None:
    """Copy the store into a new file, while it is in use.

    Endpoints with their secrets, the ledger, deliveries and attempts: the file is for its owner's eyes alone.
    """
    sites.check_owner(app.state)
    if not (app.state / FILE).exists():
        raise StateError(f"there is no store in {app.state} yet")
    back_up(app.state / FILE, file)
    size = file.stat().st_size
    say({"backup": str(file), "bytes": size}, as_json, f"{safe(str(file))}: {size} bytes")


@click.command()
@PLACE
@json_option
@pass_app
def restore(app: App, file: Path, as_json: bool) -> None:
    """Put a backup in the store's place. What was there is kept beside it.

    What has moved since is announced as recovered when a worker runs. None may run meanwhile: stop the service first. A
    worker that a push has started makes room, and is started anew.
    """
    installing.create_state(app.state)
    ended = set[int]()
    if (pid := presence.running(app.state)) is not None and is_on_demand(pid):
        end_on_demand(app.state)
        ended.add(pid)
    try:
        kept = alone(app.state, lambda: put_back(file, app.state / FILE), ended)
        with app.store() as store:
            # A worker's start sweeps only what has not been swept lately, and the backup says that it was.
            store.repositories.ask_sweeps(time.time())
    finally:
        if ended:
            app.wake()
    words = f"restored from {safe(str(file))}" + (f"; what was there is in {safe(str(kept))}" if kept else "")
    say({"restored": str(file), "kept": str(kept) if kept else None}, as_json, words)
