"""`refcast worker` and `demo`."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from pathlib import Path

import click

from refcast import demo as demonstration
from refcast import worker as working
from refcast.cli import logs
from refcast.cli.common import App, pass_app
from refcast.errors import RefcastError
from refcast.notify import ServiceManager
from refcast.service import end_on_demand
from refcast.transport import Transport

log = logging.getLogger("refcast")


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
@click.option("--on-demand", is_flag=True, hidden=True, help="As hooks start it: detached, and leaving when idle.")
@pass_app
@click.pass_context
def worker(context: click.Context, app: App, drain: bool, replace: bool, log_format: str, on_demand: bool) -> None:
    """Ingest and deliver in the foreground.

    That is what a service manager wants. SIGTERM and SIGINT stop it. One worker runs for each state directory.
    Without a service, hooks start one when they need it.
    """
    if on_demand:
        working.detach()
    logs.begin(app.state if on_demand else None, log_format)
    if replace and working.running(app.state) is not None:
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
                    done = one.drain()
                    if one.has_records():
                        app.wake()  # a hook that saw this one run has started none for its record
                    context.exit(0 if done else 1)
                _run(one, app.state, on_demand=on_demand, replace=replace)
            finally:
                one.close()
                transport.close()
    except working.AlreadyRunning:
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


def _run(one: working.Worker, state: Path, *, on_demand: bool, replace: bool) -> None:
    while True:
        try:
            one.run(on_demand=on_demand)
            return
        except working.AlreadyRunning:
            # Between the end of one and the start of this, a push may start another: it has to go, too.
            if not (replace and end_on_demand(state)):
                raise


@click.command()
@click.option("--dialect", default="codeup", show_default=True, help="What the receiver is to understand.")
@click.option("--keep", is_flag=True, help="Keep the scratch directory, to look around in it.")
@click.pass_context
def demo(context: click.Context, dialect: str, keep: bool) -> None:
    """Show it at work in a scratch directory.

    It makes a bare repository, a receiver on loopback and real pushes, shows the payloads as they arrive, and removes
    it all.
    """
    os.umask(0o077)
    context.exit(demonstration.run(dialect, keep=keep, show=click.echo))
