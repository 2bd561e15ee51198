"""`refcast status`: the worker, what waits and where, the spool, the sizes, and what needs a person.

Gathers it and says it. What can be told without the store is told even where the store cannot be used.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import refcast
from refcast import install, settings, spool
from refcast import worker as working
from refcast.cli.common import App, iso, json_option, pass_app, safe, show_json, table, when
from refcast.errors import BadInput, StateError
from refcast.repository_endpoints import GONE
from refcast.store import FILE, Store

FREE_BYTES = 100 * 1024 * 1024
"""Less than that on the disk of the state directory needs a person."""


@click.command()
@json_option
@pass_app
@click.pass_context
def status(context: click.Context, app: App, as_json: bool) -> None:
    """Show the worker, what waits, and what needs a person.

    Exit code 1 if something does, 3 if the store cannot be used.
    """
    install.check_owner(app.state)
    needs: list[str] = []
    facts: dict[str, Any] = {
        "state": str(app.state),
        "version": refcast.__version__,
        "worker": _worker(app.state, needs),
        "spool": _spool(app.state, needs),
        "sizes": _sizes(app.state, needs),
        "store": "",
        "needs_a_person": needs,
    }
    trouble = None
    try:
        settings.load(app.state)
    except BadInput as error:
        needs.append(f"the worker goes on with the settings it had: {error}")
    try:
        if not (app.state / FILE).exists():
            # To open it would make an empty one, and hide that it is gone.
            raise StateError(
                f"there is no store {app.state / FILE}: put a copy from a backup there, "
                "or begin anew with `refcast install`"
            )
        with app.store() as store:
            _tell_of_store(store, app.state, facts, needs)
    except StateError as error:
        trouble = error
        facts["store"] = str(error)
    if as_json:
        show_json(facts)
    else:
        _print(facts)
    if trouble is not None:
        raise trouble
    context.exit(1 if needs else 0)


def _worker(state: Path, needs: list[str]) -> dict[str, Any] | None:
    pid = working.running(state)
    if pid is None:
        return None
    version = working.version(state)
    if version != refcast.__version__:
        needs.append(
            f"the worker that runs is of version {version or '?'}, this is {refcast.__version__}: "
            f"restart it (`systemctl restart refcast`, or `kill {pid}`; the next push starts it)"
        )
    return {"pid": pid, "since": iso(working.since(state)), "version": version}


def _spool(state: Path, needs: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(("records", "under_way", "unfinished", "bytes", "set_aside"), 0)
    facts["unreadable"] = []
    facts["error"] = ""
    try:
        for path in spool.files(state / "spool"):
            facts["bytes"] += _size(path) or 0
            whole = spool.is_complete(path)
            facts["records" if whole else "under_way" if spool.is_alive(path) else "unfinished"] += 1
        for box, error in spool.closed(state / "spool").items():
            facts["unreadable"].append(str(box))
            needs.append(f"what is in {box} is not announced: {error.strerror}; `chmod 2770 {box}` as its owner")
    except StateError as error:
        facts["error"] = str(error)
        needs.append(f"no push is announced: {error}, or make it again with `refcast install`")
    return facts


def _sizes(state: Path, needs: list[str]) -> dict[str, Any]:
    space = os.statvfs(state)
    free = space.f_bavail * space.f_frsize
    if free < FREE_BYTES:
        needs.append(f"only {_human(free)} are free on the disk of {state}: make room, or retain less (refcast.toml)")
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


def _tell_of_store(store: Store, state: Path, facts: dict[str, Any], needs: list[str]) -> None:
    """Add what the store knows."""
    now = time.time()
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
    for one in backlog:
        if one.state == "disabled":
            held = f"; {one.held} deliveries are held" if one.held else ""
            reason = next((each.reason for each in store.endpoints.all() if each.name == one.name), "")
            if reason == GONE:
                continue
            needs.append(f"endpoint {one.name} is disabled: {reason}{held}; `refcast endpoint enable {one.name}`")
        elif one.failing_since is not None and now - one.failing_since > working.NOTICE_SECONDS:
            needs.append(
                f"endpoint {one.name} has been failing since {when(one.failing_since)}: {one.last_error}; "
                f"`refcast endpoint test {one.name}`"
            )
        if one.state == "active" and one.held:
            needs.append(
                f"{one.held} deliveries to {one.name} are beyond its limit for one push; "
                f"`refcast endpoint release {one.name}`"
            )
        for name, number in (("refused", one.refused), ("expired", one.expired)):
            if number:
                which = f"--endpoint {one.name} --state {name}"
                needs.append(
                    f"{number} deliveries to {one.name} are {name}; "
                    f"`refcast delivery redeliver {which}`, or give them up: `refcast delivery cancel {which}`"
                )
    needs += [f"record set aside: {one.reason}; mend it, then `refcast record retry`" for one in asides]
    if not facts["worker"] and (store.lanes.is_pending() or facts["spool"]["records"]):
        needs.append(
            "deliveries wait and no worker runs; `refcast worker` is for a service, or push again to start one"
        )
    _tell_of_retention(store, facts, needs)
    wrong = install.problems_of([Path(one.path) for one in watched], state)
    # What all repositories of a gitolite share is said once.
    needs += dict.fromkeys(line for lines in wrong.values() for line in lines)
    needs += [
        f"{one.path} could not be swept: {one.found.error}; then `refcast sweep {one.path}`"
        for one in watched
        if one.found
        and one.found.error
        and not wrong.get(Path(one.path))
        and not install.removed(Path(one.path), state)
    ]


def _tell_of_retention(store: Store, facts: dict[str, Any], needs: list[str]) -> None:
    figures = store.retention.figures()
    if figures is None:
        return
    facts["sizes"] |= {"waiting": figures.waiting, "finished": figures.finished, "measured": iso(figures.at)}
    if figures.hold_until is not None:
        needs.append(
            f"the clock has leapt by more than a day, so nothing goes by age before {when(figures.hold_until)}: "
            "look at `date`, and set the clock if it is wrong"
        )


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
