"""`refcast worker`."""

from __future__ import annotations

import logging
import os
import random
import signal
import time

import click

from refcast import presence, sites
from refcast import worker as working
from refcast.cli import logs
from refcast.cli.common import App, pass_app
from refcast.errors import BadInput, RefcastError, StateError
from refcast.notify import ServiceManager
from refcast.service import end_on_demand
from refcast.transport import Transport

log = logging.getLogger("refcast")

START_SECONDS = 30.0
"""How long a worker may take to start. One that has nothing to do stays for as long."""

LOOK_SECONDS = 0.05
"""How often it is looked whether it has."""


@click.command()
@click.option("--drain", is_flag=True, help="Deliver what is due once, and return. Exit code 1 if something is left.")
@click.option("--replace", is_flag=True, help="End a worker that a push has started, and take its place.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How it logs to standard error: lines for people, or one JSON object in each.",
)
@click.option("--background", is_flag=True, help="Start one that runs by itself, as a push does, and return.")
@click.option("--on-demand", is_flag=True, hidden=True, help="As hooks start it: detached, and leaving when idle.")
@pass_app
@click.pass_context
def worker(
    context: click.Context,
    app: App,
    drain: bool,
    replace: bool,
    log_format: str,
    background: bool,
    on_demand: bool,
) -> None:
    """Ingest and deliver in the foreground.

    That is what a service manager wants. SIGTERM and SIGINT stop it. One worker runs for each state directory.
    Without a service, hooks start one when they need it.
    """
    if background:
        _start(app, drain=drain)
        return
    sites.check_owner(app.state)  # before a log of ours is begun in there
    if on_demand and not app.held:  # it has detached before it took the lock, which is among what is closed
        presence.detach()
    logs.begin(app.state if on_demand else None, log_format)
    if replace and presence.running(app.state) is not None:
        end_on_demand(app.state)  # before the store is opened: an older one could not go on with it
    try:
        with app.store() as store:
            transport = Transport()
            manager = ServiceManager(os.environ, os.getpid())
            one = working.Worker(app.state, store, transport, time.time, random.random, manager=manager)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: one.stop())
            try:
                if drain:
                    context.exit(_drain(one, app))
                _run(one, app, on_demand=on_demand, replace=replace)
            finally:
                one.close()
                transport.close()
    except presence.AlreadyRunning:
        if not on_demand:
            raise
    except RefcastError as error:
        if on_demand:  # nobody reads its standard error
            log.error("the worker ends: %s", error)
        raise
    except Exception:
        if on_demand:
            log.exception("a bug in refcast ends the worker")
        raise


def _start(app: App, *, drain: bool) -> None:
    """Have a worker run in the background. StateError if none does after a while."""
    if drain:
        raise BadInput("--background starts a worker that runs by itself: leave out --drain")
    app.store().close()  # what keeps a worker from starting is told here, and not in a log
    app.wake()
    deadline = time.monotonic() + START_SECONDS
    while (pid := presence.running(app.state)) is None:
        if time.monotonic() > deadline:
            raise StateError(f"no worker has started in {START_SECONDS:.0f} s: {app.state / 'worker.log'} may say why")
        time.sleep(LOOK_SECONDS)
    click.echo(f"a worker runs (pid {pid}), and leaves when nothing waits")


def _drain(one: working.Worker, app: App) -> int:
    done = one.drain()
    if one.has_records():
        app.wake()  # a hook that saw this one run has started none for its record
    return 0 if done else 1


def _run(one: working.Worker, app: App, *, on_demand: bool, replace: bool) -> None:
    while True:
        try:
            one.run(on_demand=on_demand, held=app.held)
            return
        except presence.AlreadyRunning:
            # Between the end of one and the start of this, a push may start another: it has to go, too.
            if not (replace and end_on_demand(app.state)):
                raise
