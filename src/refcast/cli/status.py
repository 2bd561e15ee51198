"""`refcast status`: the worker, what waits and where, the spool, the sizes, and what needs a person.

Gathers it and says it; what needs a person is what the doctor's quick checks find. What can be told without the store
is told even where the store cannot be used.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import refcast
from refcast import doctor, presence, settings, sites, spool
from refcast.cli.common import App, iso, json_option, pass_app, safe, show_json, table
from refcast.errors import BadInput, StateError
from refcast.store import FILE, Store


@click.command()
@json_option
@pass_app
@click.pass_context
def status(context: click.Context, app: App, as_json: bool) -> None:
    """Show the worker, what waits, and what needs a person.

    Exit code 1 if something does, 3 if the store cannot be used.
    """
    sites.check_owner(app.state)
    facts: dict[str, Any] = {
        "state": str(app.state),
        "version": refcast.__version__,
        "worker": _worker(app.state),
        "spool": _spool(app.state),
        "sizes": _sizes(app.state),
        "store": "",
        "needs_a_person": [],
    }
    trouble = None
    try:
        if not (app.state / FILE).exists():
            # To open it would make an empty one, and hide that it is gone.
            raise StateError(
                f"there is no store {app.state / FILE}: put a copy from a backup there, "
                "or begin anew with `refcast install`"
            )
        with app.store() as store:
            _tell_of_store(store, facts)
            facts["needs_a_person"] = _needs(app.state, store)
    except StateError as error:
        trouble = error
        facts["store"] = str(error)
        facts["needs_a_person"] = _needs(app.state, None)
    if as_json:
        show_json(facts)
    else:
        _print(facts)
    if trouble is not None:
        raise trouble
    context.exit(1 if facts["needs_a_person"] else 0)


def _needs(state: Path, store: Store | None) -> list[str]:
    """What needs a person, a line each, with what mends it."""
    try:
        values = settings.load(state)
    except BadInput:
        values = settings.Settings()  # a check tells of it
    endpoints = tuple(store.endpoints.all()) if store else ()
    case = doctor.Case(state, ("refcast",), time.time(), settings=values, store=store, endpoints=endpoints)
    found, _ = doctor.run(case, [check for check in doctor.CHECKS if check.status])
    return [
        f"{one.what}; `{one.mend}`" if one.is_command else f"{one.what}: {one.mend}"
        for one in found
        if one.severity == "error"
    ]


def _worker(state: Path) -> dict[str, Any] | None:
    pid = presence.running(state)
    if pid is None:
        return None
    return {"pid": pid, "since": iso(presence.since(state)), "version": presence.version(state)}


def _spool(state: Path) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(("records", "under_way", "unfinished", "bytes", "set_aside"), 0)
    facts["unreadable"] = list[str]()
    facts["error"] = ""
    try:
        for path in spool.files(state / "spool"):
            facts["bytes"] += _size(path) or 0
            whole = spool.is_complete(path)
            facts["records" if whole else "under_way" if spool.is_alive(path) else "unfinished"] += 1
        facts["unreadable"] = [str(box) for box in spool.closed(state / "spool")]
    except StateError as error:
        facts["error"] = str(error)
    return facts


def _sizes(state: Path) -> dict[str, Any]:
    space = os.statvfs(state)
    free = space.f_bavail * space.f_frsize
    return {
        "database": _size(state / FILE),
        "wal": _size(state / f"{FILE}-wal"),
        "free": free,
        "waiting": None,
        "finished": None,
        "measured": None,
    }


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def _tell_of_store(store: Store, facts: dict[str, Any]) -> None:
    """Add what the store knows."""
    backlog = store.reports.backlog()
    asides = store.intake.asides()
    known = store.repositories.sweepable()
    watched = [one for one in known if one.watched]
    oldest = store.reports.oldest()
    facts["spool"]["set_aside"] = len(asides)
    facts |= {
        "repositories": len(watched),
        "deliveries": store.reports.counts(),
        "backlog": [
            asdict(one) | {key: iso(getattr(one, key)) for key in ("oldest", "next_try", "failing_since")}
            for one in backlog
        ],
        "oldest_waiting": None,
        "asides": [
            asdict(one) | {"since": iso(one.since), "retry_at": iso(one.retry_at)}
            for one in sorted(asides, key=lambda one: one.since)
        ],
        "sweep": {
            "last": iso(max((one.swept_at for one in known if one.swept_at is not None), default=None)),
            "never": sum(one.swept_at is None for one in watched),
            "recovered": sum(one.found.recovered for one in known if one.found),
            "left": sum(one.found.left for one in known if one.found),
        },
    }
    if oldest is not None:
        facts["oldest_waiting"] = {
            "delivery": oldest.id,
            "endpoint": oldest.endpoint,
            "repository": oldest.repository,
            "ref": oldest.ref,
            "since": iso(oldest.created_at),
        }
    figures = store.retention.figures()
    if figures is not None:
        facts["sizes"] |= {"waiting": figures.waiting, "finished": figures.finished, "measured": iso(figures.at)}


def _print(facts: dict[str, Any]) -> None:
    worker, held, sizes = facts["worker"], facts["spool"], facts["sizes"]
    runs = "does not run; the next push starts it"
    if worker:
        runs = f"runs since {_when(worker['since'])} (pid {worker['pid']}, version {worker['version'] or '?'})"
    lines = [("state", facts["state"]), ("worker", runs)]
    if not facts["store"]:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(facts["deliveries"].items()))
        lines += [("repositories", str(facts["repositories"])), ("deliveries", counts or "none yet")]
        if first := facts["oldest_waiting"]:
            what = " ".join(part for part in (first["repository"], first["ref"]) if part) or "a notice"
            lines.append(
                ("oldest", f"{_when(first['since'])} for {first['endpoint']}: {what} ({first['delivery'][:8]})")
            )
    lines.append(
        ("records", f"{held['records']} in the spool, {held['set_aside']} set aside ({_human(held['bytes'])})")
    )
    if held["under_way"]:
        lines.append(("under way", f"{held['under_way']} pushes"))
    if held["unfinished"]:
        lines.append(("unfinished", f"{held['unfinished']} pushes that were refused or killed after `update`"))
    if not facts["store"]:
        sweep = facts["sweep"]
        found = f"{sweep['recovered']} refs recovered, {sweep['left']} left alone" if sweep["last"] else "none yet"
        lines.append(("sweep", f"{_when(sweep['last'])} {found}".strip()))
    parts = [("database", "the store"), ("wal", "its log"), ("waiting", "wait"), ("finished", "are finished")]
    known = [f"{_human(sizes[key])} {word}" for key, word in parts if sizes[key] is not None]
    lines.append(("sizes", ", ".join([*known, f"{_human(sizes['free'])} are free"])))
    for name, text in lines:
        click.echo(f"{name:<13} {safe(text)}")
    if facts.get("backlog"):
        click.echo()
        heads = ["ENDPOINT", "STATE", "WAITING", "HELD", "OLDEST", "NEXT TRY", "FAILING SINCE", "LAST ERROR"]
        times = ("oldest", "next_try", "failing_since")
        cells = [
            [*(one[key] for key in ("name", "state", "waiting", "held")), *(_when(one[key]) for key in times)]
            for one in facts["backlog"]
        ]
        table(heads, [[*row, one["last_error"]] for row, one in zip(cells, facts["backlog"], strict=True)])
    for line in facts["needs_a_person"]:
        click.echo(f"\n! {safe(line)}")


def _when(moment: str | None) -> str:
    """A machine's time for people; empty for none."""
    return "" if moment is None else f"{moment[:19].replace('T', ' ')}Z"


def _human(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
