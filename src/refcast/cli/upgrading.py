"""`refcast upgrade`: what there is to do once the program itself is a newer one."""

from __future__ import annotations

import os
import shlex
import time

import click

import refcast
from refcast import install, presence, sites
from refcast.cli.common import App, json_option, pass_app, safe, show_json
from refcast.errors import RefcastError, RepositoryError
from refcast.install.renewing import renew
from refcast.service import alone, end_on_demand, is_on_demand, restart


@click.command()
@json_option
@pass_app
@click.pass_context
def upgrade(context: click.Context, app: App, as_json: bool) -> None:
    """Bring all that is installed up to this version: worker, store, hooks.

    For after `pip install --upgrade`; install.sh does it by itself. Pushes may go on meanwhile. What cannot be renewed
    is named and left out; the exit code is 4 then.
    """
    sites.check_owner(app.state)
    pid = presence.running(app.state)
    ended = set[int]()
    if pid is not None and is_on_demand(pid):
        # First of all: it notes what it has sent into the store that it knows.
        end_on_demand(app.state)
        ended.add(pid)
    try:
        install.make_spool(app.state, os.geteuid())
        with alone(app.state, app.store, ended) as store:
            done = list(renew(app.state, store, now=time.time()))
    finally:
        if ended:
            app.wake()
    restarted = bool(ended)
    failed = [how for _, how in done if isinstance(how, RefcastError)]
    is_old = pid is not None and not restarted and presence.version(app.state) != refcast.__version__
    if as_json:
        things = [
            {"what": what, "done": None if isinstance(how, RefcastError) else how, "error": _text(how)}
            for what, how in done
        ]
        show_json({"renewed": things, "worker_restarted": restarted, "worker_is_old": is_old})
    else:
        renewed = [
            (what, how) for what, how in done if not isinstance(how, RefcastError) and how != "is installed already"
        ]
        for what, how in renewed:
            click.echo(f"{safe(what)}: {how}")
        click.echo(f"hooks: {len(renewed)} renewed, {len(done) - len(renewed) - len(failed)} as they are")
        if restarted:
            click.echo("the worker was restarted")
        for trouble in [*install.group.problems(app.state), *install.problems_for_all(app.state)]:
            click.echo(f"! {safe(trouble.line)}")
        if is_old and pid is not None:
            words, as_root = restart(app.state, pid)
            line = shlex.join((*(("sudo",) if as_root and os.geteuid() else ()), *words))
            click.echo(f"! a worker of the program before still runs (pid {pid}): {safe(line)}")
    for error in failed:
        click.echo(f"refcast: {safe(str(error))}", err=True)
    if failed:
        context.exit(RepositoryError.exit_code)


def _text(how: str | RefcastError) -> str | None:
    return str(how) if isinstance(how, RefcastError) else None
