"""`refcast apply` and `export`: the endpoints as a file, made for Ansible and the like."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import tomli_w

from refcast import answers
from refcast.cli.common import App, json_option, pass_app, safe, show_json
from refcast.cli.described import KEYS, Described, described, facts, wanted
from refcast.cli.document import Document
from refcast.cli.endpoints import WRITTEN
from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store import Store
from refcast.store.endpoints import Removed, Wanted

_SIGNS = {"added": "+", "changed": "~", "removed": "-", "kept": "="}


@dataclass(frozen=True, slots=True)
class Difference:
    """What the file makes of one endpoint."""

    name: str
    change: str
    """A key of `_SIGNS`; `kept` are those that the file does not have."""
    fields: list[dict[str, Any]] = field(default_factory=list)
    """`key`, `before`, `after`. Secrets, which are shown by neither, have none of both."""
    waiting: int = 0
    """Deliveries that are still to be sent to it, where it is removed."""


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option(
    "--dry-run/--no-dry-run", default=False, help="Say what that would change, and change nothing. Default: change it."
)
@click.option("--prune", is_flag=True, help="Remove the endpoints that the file does not have.")
@click.option("--discard", is_flag=True, help="Prune even if deliveries wait for them: they are lost.")
@json_option
@pass_app
def apply(app: App, file: str, dry_run: bool, prune: bool, discard: bool, as_json: bool) -> None:
    """Have the endpoints be as a TOML file describes them: all of it, or nothing where it has an error.

    What the file says nothing of has its default, but for secrets, which stay. Applied again it changes nothing. FILE
    may be - for standard input.
    """
    if discard and not prune:
        raise BadInput("--discard goes with --prune: nothing else loses deliveries")
    document = Document.read(file)
    with app.store() as store:
        stored = store.endpoints.all()
        # What repositories' own configurations name is theirs to describe.
        before = [one for one in stored if one.origin is None]
        for one in stored:
            if one.origin is not None and one.name in document.endpoints:
                raise document.error(("endpoints", one.name), f"it {WRITTEN}")
        after = _described(document, store, before, prune=prune)
        gone = [one for one in before if one.name not in after] if prune else []
        found = _differences(store, before, list(after.values()), gone, prune=prune)
        lost = sum(one.waiting for one in found)
        if lost and not discard:
            names = ", ".join(one.name for one in found if one.waiting)
            raise BadInput(f"{lost} deliveries wait for {names}: send them first, or pass --discard to lose them")
        changes = any(one.change != "kept" for one in found)
        removed: list[Removed] = []
        if changes and not dry_run:
            told = {one.endpoint.name: one.on_failure for one in after.values() if one.on_failure}
            those = Wanted(stored, [one.endpoint for one in after.values()], told, [one.id for one in gone])
            removed = store.endpoints.match(those, time.time(), discard=discard)
            answers.set_bound(app.state, store.endpoints.all())
    if any(one["key"] == "enabled" and one["after"] for each in found for one in each.fields) and not dry_run:
        app.wake()
    _print(found, changes, dry_run, sum(one.discarded for one in removed), as_json)


@click.command()
@pass_app
def export(app: App) -> None:
    """Print the endpoints as a TOML file for `refcast apply`. No secret is in it."""
    with app.store() as store:
        stored = [one for one in store.endpoints.all() if one.origin is None]
    names = {one.id: one.name for one in stored}
    tables = {one.name: described(one, names.get(one.on_failure or 0, "")) for one in stored}
    # A header for each, and none for a list of nothing.
    text = tomli_w.dumps({"endpoints": tables}) if tables else "[endpoints]\n"
    # Names of files, and patterns for them, are bytes that need not be UTF-8.
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)


def _described(document: Document, store: Store, before: Sequence[Endpoint], *, prune: bool) -> dict[str, Described]:
    """What the file describes, by names, checked. BadInput names file, line and key."""
    old = {one.name: one for one in before}
    found: dict[str, Described] = {}
    for name in document.endpoints:
        frozen = store.endpoints.frozen_schemes(old[name].id) if name in old else set()
        found[name] = wanted(document, name, old.get(name), frozen)
    there = set(found) if prune else {*found, *old}
    for name, one in found.items():
        place = ("endpoints", name, "on_failure")
        if one.on_failure == name:
            raise document.error(place, "it cannot be told of its own failure: name another endpoint")
        if one.on_failure and one.on_failure not in there:
            also = ", and --prune removes what the file does not have" if one.on_failure in old else ""
            raise document.error(place, f"there is no endpoint {one.on_failure!r}{also}")
    return found


def _differences(
    store: Store, before: Sequence[Endpoint], after: Sequence[Described], gone: Sequence[Endpoint], *, prune: bool
) -> list[Difference]:
    """What is to be done, in the order of the file; behind it what the file does not have."""
    old = {one.name: one for one in before}
    names = {one.id: one.name for one in before}
    found = []
    for one in after:
        was = old.get(one.endpoint.name)
        fields = _fields(was, names.get(was.on_failure or 0, "") if was else "", one)
        if fields:
            found.append(Difference(one.endpoint.name, "changed" if was else "added", fields))
    described_names = {one.endpoint.name for one in after}
    found += [Difference(each.name, "kept") for each in before if each.name not in described_names and not prune]
    return found + [Difference(each.name, "removed", [], store.endpoints.waiting(each.id)) for each in gone]


def _fields(old: Endpoint | None, old_told: str, new: Described) -> list[dict[str, Any]]:
    one = new.endpoint
    after = facts(one, new.on_failure) if old else described(one, new.on_failure)
    before = facts(old, old_told) if old else {}
    found = [
        {"key": key, "before": before.get(key), "after": after.get(key)}
        for key in KEYS
        if key != "secret" and before.get(key) != after.get(key)
    ]
    named = {each["key"] for each in found}
    secrets = {"url": (old.url if old else one.url, one.url), "proxy": (old.proxy if old else one.proxy, one.proxy)}
    secrets["secret"] = (old.secret if old else "", one.secret)
    found += [{"key": key} for key, (was, now) in secrets.items() if was != now and key not in named]
    return sorted(found, key=lambda each: list(KEYS).index(each["key"]))


def _print(found: list[Difference], changes: bool, dry_run: bool, discarded: int, as_json: bool) -> None:
    if as_json:
        endpoints = [{"name": one.name, "change": one.change, "fields": one.fields} for one in found]
        facts = {"dry_run": dry_run, "changed": changes, "discarded": discarded}
        show_json(facts | {"waiting": sum(one.waiting for one in found), "endpoints": endpoints})
        return
    for one in found:
        start = f"{_SIGNS[one.change]} {safe(one.name)}"
        if one.change == "kept":
            click.echo(f"{start}: the file does not have it; --prune removes it")
        elif one.change == "removed":
            lost = f"; deliveries discarded: {one.waiting}" if one.waiting else ""
            click.echo(f"{start}{lost}")
        for each in one.fields:
            click.echo(f"{start}: {_words(one.change, each)}")
    if not changes:
        click.echo("nothing changes")
    elif dry_run:
        click.echo("nothing is changed yet: this was a dry run")


def _words(change: str, one: dict[str, Any]) -> str:
    if "after" not in one:
        return f"{one['key']}: {'set' if change == 'added' else 'changed'}"
    after = _value(one["after"])
    return f"{one['key']} {after}" if change == "added" else f"{one['key']} {_value(one['before'])} -> {after}"


def _value(value: object) -> str:
    if value is None:
        return "default"
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
