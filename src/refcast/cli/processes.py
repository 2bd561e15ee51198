"""`refcast worker`, `status` and `demo`."""

from __future__ import annotations

import logging
import logging.handlers
import os
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from refcast import demo as demonstration
from refcast import install, spool
from refcast import worker as working
from refcast.cli.common import App, iso, json_option, pass_app, safe, show_json, table, when
from refcast.errors import RepositoryError
from refcast.transport import Transport


@click.command()
@click.option("--drain", is_flag=True, help="Deliver what is due once, and return. Exit code 1 if something is left.")
@click.option("--on-demand", is_flag=True, hidden=True, help="As hooks start it: detached, and leaving when idle.")
@pass_app
@click.pass_context
def worker(context: click.Context, app: App, drain: bool, on_demand: bool) -> None:
    """Ingest and deliver in the foreground.

    That is what a service manager wants. SIGTERM and SIGINT stop it. One worker runs for each state directory.
    Without a service, hooks start one when they need it.
    """
    if on_demand:
        working.detach()
    _log_to(app.state if on_demand else None)
    try:
        with app.store() as store:
            transport = Transport()
            one = working.Worker(app.state, store, transport, time.time, random.random)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: one.stop())
            try:
                if drain:
                    done = one.drain()
                    if one.has_records():
                        app.wake()  # a hook that saw this one run has started none for its record
                    context.exit(0 if done else 1)
                one.run(on_demand=on_demand)
            finally:
                one.close()
                transport.close()
    except working.AlreadyRunning:
        if not on_demand:
            raise
    except Exception:
        if on_demand:
            logging.getLogger("refcast").exception("the worker ends")
        raise


def _log_to(state: Path | None) -> None:
    """Log to standard error, where a service manager keeps it; a detached worker has none and keeps its own files."""
    if state is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    else:
        handler = logging.handlers.RotatingFileHandler(state / "worker.log", maxBytes=1_000_000, backupCount=3)
        handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger = logging.getLogger("refcast")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@click.command()
@json_option
@pass_app
@click.pass_context
def status(context: click.Context, app: App, as_json: bool) -> None:
    """Show the worker, what waits, and what needs a person. Exit code 1 if something does."""
    with app.store() as store:
        now = time.time()
        paths = store.repositories.paths()
        endpoints = store.endpoints.all()
        facts: dict[str, Any] = {
            "state": str(app.state),
            "worker": working.running(app.state),
            "repositories": len(paths),
            "deliveries": store.reports.counts(),
            "backlog": [asdict(one) for one in store.reports.backlog()],
            "records_waiting": _records_waiting(app.state),
            "pushes_unfinished": _pushes_unfinished(app.state),
            "records_aside": len(asides := store.intake.asides()),
        }
        needs = [f"endpoint {one.name} is disabled: {one.reason}" for one in endpoints if one.state == "disabled"]
        needs += [
            f"endpoint {one.name} has been failing since {when(one.since)}: {one.error}"
            for one in store.lanes.failing()
            if not one.disabled and now - one.since > working.NOTICE_SECONDS
        ]
        needs += [f"record set aside: {one.reason}; mend it, then `refcast record retry`" for one in asides]
        if not facts["worker"] and (store.lanes.is_pending() or facts["records_waiting"]):
            needs.append(
                "deliveries wait and no worker runs; `refcast worker` is for a service, or push again to start one"
            )
        for path in paths:
            try:
                needs += install.problems(install.place(Path(path)), app.state)
            except RepositoryError as error:
                needs.append(str(error))
    facts["needs_a_person"] = needs
    if as_json:
        for one in facts["backlog"]:
            one |= {key: iso(one[key]) for key in ("oldest", "next_try", "failing_since")}
        show_json(facts)
    else:
        _print_status(facts)
    context.exit(1 if needs else 0)


def _print_status(facts: dict[str, Any]) -> None:
    running = f"runs (pid {facts['worker']})" if facts["worker"] else "does not run; the next push starts it"
    click.echo(f"state         {safe(facts['state'])}")
    click.echo(f"worker        {running}")
    click.echo(f"repositories  {facts['repositories']}")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(facts["deliveries"].items()))
    click.echo(f"deliveries    {counts or 'none yet'}")
    click.echo(f"records       {facts['records_waiting']} in the spool, {facts['records_aside']} set aside")
    if facts["pushes_unfinished"]:
        click.echo(f"unfinished    {facts['pushes_unfinished']} pushes that were refused or killed after `update`")
    if facts["backlog"]:
        click.echo()
        table(
            ["ENDPOINT", "WAITING", "OLDEST", "NEXT TRY", "FAILING SINCE", "LAST ERROR"],
            [
                [
                    one["name"],
                    one["waiting"],
                    *(when(one[key]) for key in ("oldest", "next_try", "failing_since")),
                    one["last_error"],
                ]
                for one in facts["backlog"]
            ],
        )
    for line in facts["needs_a_person"]:
        click.echo(f"\n! {safe(line)}")


def _pushes_unfinished(state: Path) -> int:
    """Pushes that ended after `update` and before post-receive. What they moved, if anything, the next push tells."""
    return sum(not (spool.is_complete(path) or spool.is_alive(path)) for path in spool.files(state / "spool"))


def _records_waiting(state: Path) -> int:
    return sum(spool.is_complete(path) for path in spool.files(state / "spool"))


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
