"""An endpoint as a table in a file, and back: the keys, each of which stands for an option of `refcast endpoint add`.

What the values may be is said by the options (`options`), whose errors are told here by key. No secret goes out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from refcast import deliver, dialects, filters, urls
from refcast.cli.document import Document
from refcast.cli.options import changed, endpoint_options
from refcast.cli.secrets import WAYS, check_frozen, read
from refcast.cli.values import spelled
from refcast.errors import BadInput
from refcast.model import Endpoint

Read = Callable[[Document, object], object]

STORED = "stored"
"""What stands for a secret that only the store has."""


def _text(_: Document, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput("write a text in quotes, which is not empty")
    return value


def _path(document: Document, value: object) -> str:
    text = _text(document, value)
    if text == "-":
        raise BadInput("name a file: standard input is for the command line")
    return text if text == "none" else str(document.directory / text)


def _texts(_: Document, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInput('write a list of texts, such as ["main", "release/*"]')
    return tuple(value)


def _skips(document: Document, value: object) -> tuple[str, ...]:
    found = _texts(document, value)
    for one in found:
        if one not in (*filters.SKIPS, "none"):
            raise BadInput(f"{one!r} cannot be: use {', '.join(filters.SKIPS)} or none")
    return found


def _flag(_: Document, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadInput("write true or false")
    return value


def _number(_: Document, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadInput("write a number of seconds")
    return float(value)


def _count(_: Document, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadInput("write a whole number")
    return str(value)


def _waits(_: Document, value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise BadInput('write a list of waits, such as ["1m", "5m"], or "default"')
    return value


@dataclass(frozen=True, slots=True)
class Key:
    option: str
    """The name that click has for the option."""
    read: Read


KEYS: dict[str, Key] = {
    "url": Key("url", _text),
    "url_file": Key("url_file", _path),
    "dialect": Key("dialect", _text),
    "content_type": Key("content_type", _text),
    "signing": Key("signing", _text),
    "secret": Key("secret", _text),
    "secret_file": Key("secret_file", _path),
    "secret_env": Key("secret_env", _text),
    "secret_path": Key("secret_path", _path),
    "events": Key("events", _texts),
    "repositories": Key("repositories", _texts),
    "branches": Key("branches", _texts),
    "tags": Key("tags", _texts),
    "paths": Key("paths", _texts),
    "pushers": Key("pushers", _texts),
    "skip_by": Key("skips", _skips),
    "other_refs": Key("other_refs", _flag),
    "verify_tls": Key("verify_tls", _flag),
    "timeout": Key("timeout", _number),
    "answer": Key("answer", _number),
    "schedule": Key("schedule", _waits),
    "tries": Key("tries", _count),
    "rejection": Key("rejection", _flag),
    "max_commits": Key("max_commits", _count),
    "max_files": Key("max_files", _count),
    "max_events": Key("max_events", _count),
    "batch_window": Key("batch_window", _number),
    "on_failure": Key("on_failure", _text),
    "proxy": Key("proxy", _text),
    "proxy_file": Key("proxy_file", _path),
    "ca_file": Key("ca_file", _path),
    "client_cert": Key("client_cert", _path),
    "client_key": Key("client_key", _path),
    "enabled": Key("enabled", _flag),
}
"""What a table may have. `secret`, `url` and `enabled` are no options; the others are, under nearly the same names."""

APPLIED_DISABLED = "disabled by the file that was applied"

_WAY = ("secret", "secret_file", "secret_env", "secret_path")


def _parameters() -> list[click.Option]:
    found = click.command()(endpoint_options(lambda: None)).params
    return [one for one in found if isinstance(one, click.Option)]


OPTIONS: dict[str, Any] = {
    one.name or "": () if one.multiple else False if one.is_flag and not one.secondary_opts else None
    for one in _parameters()
}
"""What `options.changed` is handed where nothing is said."""

_CALLED = {
    word: name
    for one in _parameters()
    for name, key in KEYS.items()
    if key.option == one.name
    for word in (*one.opts, *one.secondary_opts)
} | {"--no-secret": 'secret = "none"'}
"""The keys by the words of the command line."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a table says an endpoint is to be."""

    endpoint: Endpoint
    """Without whom it tells of its failures."""
    on_failure: str
    """The name of the endpoint that it tells; empty for none."""


def wanted(document: Document, name: str, old: Endpoint | None, frozen: set[str]) -> Described:
    """The endpoint that the table of this name describes, checked; what it says nothing of has its default.

    `old` is the one that is stored under this name: of that its number, its state and its secrets stay, where nothing
    is said of these. `frozen` are the schemes by which what waits for it is to be signed. BadInput names file, line
    and key."""
    place = ("endpoints", name)
    values: dict[str, Any] = {}
    for key, value in document.endpoints[name].items():
        if key not in KEYS:
            raise document.error((*place, key), f"there is no such key; known: {', '.join(KEYS)}")
        try:
            values[key] = KEYS[key].read(document, value)
        except BadInput as error:
            raise document.error((*place, key), str(error)) from None

    url = _url(document, place, values, old)

    def made(keys: Iterable[str]) -> Endpoint:
        return _made(name, url, {key: values[key] for key in keys}, old, frozen)

    try:
        one = made(values)
    except BadInput as error:
        raise document.error((*place, *_culprit(made, list(values), str(error))), _by_key(str(error))) from None
    told = str(values.get("on_failure", "none"))
    return Described(one, "" if told == "none" else told)


def _culprit(made: Callable[[list[str]], Endpoint], keys: list[str], said: str) -> tuple[str, ...]:
    """The key without which there would not be this error. The checks speak of options, and not all of them of one."""
    # Without its dialect an endpoint is another one: that comes last.
    for key in sorted(keys, key=lambda key: key == "dialect"):
        try:
            made([one for one in keys if one != key])
        except BadInput as error:
            if str(error) == said:
                continue
        return (key,)
    return ()


def _by_key(message: str) -> str:
    message = message.replace(WAYS, "secret_file, secret_env or secret_path")
    return re.sub(r"--[a-z-]+", lambda found: _CALLED.get(found[0], found[0]), message)


def _made(name: str, url: str, values: Mapping[str, Any], old: Endpoint | None, frozen: set[str]) -> Endpoint:
    dialect = dialects.get(values.get("dialect", "refcast"))
    one = Endpoint(0, name, url, dialect.NAME, dialect.CONTENT_TYPES[0])
    if old:
        one = replace(one, id=old.id, secret=old.secret, secret_file=old.secret_file, state=old.state)
        one = replace(one, old_secret=old.old_secret, old_secret_until=old.old_secret_until, reason=old.reason)
        # What its dialect has no use for cannot be said, and so not be taken back.
        one = replace(one, batch_window=one.batch_window if dialect.NAME in deliver.BATCHING else old.batch_window)
        one = replace(one, files=one.files if dialect.FILES else old.files)
    options = dict(OPTIONS)
    options |= {KEYS[key].option: value for key, value in values.items() if KEYS[key].option in OPTIONS}
    if "proxy" in values and "proxy_file" in values:
        raise BadInput("give the proxy in one way: proxy or proxy_file")
    if urls.HIDDEN in values.get("proxy", ""):
        one = replace(one, proxy=_stored(values["proxy"], urls.masked(old.proxy) if old else "", "proxy", old))
        options["proxy"] = None
    if sum(key in values for key in _WAY) > 1:
        raise BadInput(f"give the secret in one way: {', '.join(_WAY[:-1])} or {_WAY[-1]}")
    if secret := values.get("secret"):
        if secret not in (STORED, "none"):
            raise BadInput(
                f'a secret does not belong into the file: name it by {WAYS}; "{STORED}" leaves what is stored, "none" '
                "takes it away"
            )
        if secret == STORED and not (old and (old.secret or old.secret_file)):
            raise BadInput(f"no secret is stored for it: name it by {WAYS}")
        options["no_secret"] = secret == "none"  # noqa: S105 (the word for no secret)
    one = changed(one, options)
    if "secret_file" in values and not one.secret:
        raise BadInput(f"the secret file {values['secret_file']!r} is empty: requests would go unsigned")
    if old and (one.secret, one.secret_file) != (old.secret, old.secret_file):
        one = replace(one, old_secret="", old_secret_until=0.0)
    check_frozen(one, frozen)
    if "enabled" in values and values["enabled"] != (one.state == "active"):
        if values["enabled"]:
            return replace(one, state="active", reason="")
        return replace(one, state="disabled", reason=APPLIED_DISABLED)
    return one


def _url(document: Document, place: tuple[str, ...], values: Mapping[str, Any], old: Endpoint | None) -> str:
    """The URL, checked. BadInput names file, line and key."""
    named = [key for key in ("url", "url_file") if key in values]
    if len(named) != 1:
        raise document.error((*place, *named[1:]), "an endpoint needs a url, or a url_file that holds it; not both")
    try:
        if "url_file" in values:
            url = read(values["url_file"], "URL")
        elif urls.HIDDEN in values["url"]:
            return _stored(values["url"], deliver.shown_url(old) if old else "", "url", old)
        else:
            url = values["url"]
        urls.check_url(url)
    except BadInput as error:
        raise document.error((*place, *named), str(error)) from None
    return url


def _stored(masked: str, shown: str, key: str, old: Endpoint | None) -> str:
    """What is stored, where that is shown as the file has it."""
    if not old or masked != shown:
        raise BadInput(f"what {urls.HIDDEN} stands for is not stored here: write it into a file for {key}_file")
    return old.url if key == "url" else old.proxy


def facts(one: Endpoint, on_failure: str) -> dict[str, Any]:
    """What a table says of an endpoint, key by key in the order of `KEYS`; None where nothing needs to be said."""
    dialect = dialects.get(one.dialect)
    values: dict[str, Any] = {
        "url": deliver.shown_url(one),
        "dialect": one.dialect,
        "content_type": one.content_type,
        "signing": one.signing or None,
        "secret": STORED if one.secret else None,
        "secret_path": one.secret_file or None,
        "events": sorted(one.events),
        "repositories": list(one.repositories),
        "branches": list(one.branches),
        "tags": list(one.tags),
        "paths": list(one.paths),
        "pushers": list(one.pushers),
        "skip_by": sorted(one.skips),
        "other_refs": one.other_refs,
        "verify_tls": one.verify_tls,
        "timeout": _short(one.timeout),
        "answer": _short(one.answer),
        "schedule": [spelled(wait) for wait in one.schedule],
        "tries": one.tries,
        "rejection": one.rejects,
        "max_commits": one.commits,
        "max_files": one.files if dialect.FILES else None,
        "max_events": one.max_events,
        "batch_window": _short(one.batch_window) if one.dialect in deliver.BATCHING else None,
        "on_failure": on_failure or None,
        "proxy": (one.proxy if one.proxy == "none" else urls.masked(one.proxy)) if one.proxy else None,
        "ca_file": one.ca_file or None,
        "client_cert": one.client_cert or None,
        "client_key": one.client_key or None,
        "enabled": one.state == "active",
    }
    return {key: values[key] for key in KEYS if key in values}


def described(one: Endpoint, on_failure: str) -> dict[str, Any]:
    """The table of an endpoint: its URL, its dialect, and what is not as it is by default."""
    plain = Endpoint(0, one.name, "", one.dialect, dialects.get(one.dialect).CONTENT_TYPES[0])
    default = facts(plain, "")
    return {
        key: value
        for key, value in facts(one, on_failure).items()
        if key in ("url", "dialect") or (value != default[key] and value is not None)
    }


def _short(number: float) -> float | int:
    return int(number) if number == int(number) else number
