"""The settings of one state directory: `refcast.toml` in it, and what they say of a repository.

Endpoints are not settings: the store holds them. Every setting has a need, named beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from refcast import links, networks, people
from refcast.errors import BadInput
from refcast.links import Urls
from refcast.model import NetworkRules, Repository, printable
from refcast.urls import check_proxy

FILE = "refcast.toml"
GITOLITE = "gitolite.json"
"""Where `refcast install --gitolite` notes what it was installed into."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is stored stays."""

    days: float = 30.0
    """How long a finished delivery is kept."""
    size: int = 1024**3
    """Bytes of finished deliveries, their payloads and attempts, beyond which the oldest go sooner."""
    waiting_days: float = 90.0
    """How long a delivery may wait or be held before it expires."""
    waiting_size: int = 2 * 1024**3
    """Bytes of payloads that wait or are held, beyond which the oldest expire."""


@dataclass(frozen=True, slots=True)
class Settings:
    roots: tuple[str, ...] = ()
    """Directories of repositories: a repository's full name is its path below the root, without `.git`.
    A repository below none of them is named by its last part alone."""
    urls: Urls = field(default_factory=Urls)
    commits: int = 250
    """How many commits an event lists at most. Receivers refuse bodies that are too large."""
    files: int = 3000
    """How many paths a commit lists at most."""
    network: NetworkRules = field(default_factory=NetworkRules)
    """Which addresses endpoints may have."""
    proxy: str = ""
    """The HTTP proxy of the endpoints that name none of their own, `http://host:port`; empty for none."""
    retention: Retention = field(default_factory=Retention)
    people: people.Known = field(default_factory=dict)
    """What is known of user names, by the files that the settings name."""

    def describe(self, path: str, *, id: int = 0, description: str = "", default_branch: str = "") -> Repository:
        """What receivers are told of the repository at the resolved `path`."""
        full_name = self.full_name(path)

        def url(template: str, **more: str) -> str:
            return links.filled(template, full_name, **more)

        return Repository(
            path=path,
            full_name=full_name,
            id=id,
            description=description,
            default_branch=printable(default_branch),
            homepage=url(self.urls.homepage),
            http_url=url(self.urls.http),
            ssh_url=url(self.urls.ssh),
            # The ids are filled in by the dialect, so their places stay.
            commit_url=url(self.urls.commit, id="{id}"),
            compare_url=url(self.urls.compare, old="{old}", new="{new}"),
        )

    def full_name(self, path: str) -> str:
        for root in self.roots:
            if path.startswith(root.rstrip("/") + "/"):
                below = path[len(root.rstrip("/")) + 1 :]
                break
        else:
            below = path.rsplit("/", 1)[-1]
        # A repository that is a .git directory is known by the directory that holds it.
        below = below.removesuffix("/.git").removesuffix(".git")
        return printable(below or path.rstrip("/").rsplit("/", 2)[-2])


def load(state: Path) -> Settings:
    """The settings in the state directory; the defaults where there is no file.

    Raises BadInput, naming file and key."""
    path = state / FILE
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings(roots=_known_roots(state))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    _known(path, "", table, {"roots", "urls", "limits", "network", "pushers", "retention"})
    roots = table.get("roots", [])
    if not isinstance(roots, list) or not all(isinstance(root, str) and root.startswith("/") for root in roots):
        raise BadInput(f"{path}: roots must be a list of absolute paths")
    limits = _table(path, table, "limits", {"commits", "files"})
    for key, value in limits.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100_000:
            raise BadInput(f"{path}: limits.{key} must be a whole number from 0 to 100000")
    return Settings(
        people=_people(path, _table(path, table, "pushers", {"file", "gitolite"})),
        roots=(*(os.path.realpath(root) for root in roots), *_known_roots(state)),
        urls=_urls(path, _table(path, table, "urls", {"preset", "base", *(one.name for one in fields(Urls))})),
        network=_network(path, _table(path, table, "network", {"allow", "refuse", "proxy"})),
        proxy=_proxy(path, _table(path, table, "network", {"allow", "refuse", "proxy"})),
        retention=_retention(path, _table(path, table, "retention", {one.name for one in fields(Retention)})),
        **limits,
    )


def gitolite(state: Path) -> dict[str, Any]:
    """What is noted of a gitolite; empty where refcast was not installed into one."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((state / GITOLITE).read_text("utf-8", "surrogateescape"))
        return facts if isinstance(facts, dict) else {}
    return {}


def _known_roots(state: Path) -> tuple[str, ...]:
    """A gitolite's repositories are named as in gitolite.conf, and as GL_REPO, without being told so."""
    root = gitolite(state).get("repositories")
    return (root,) if root else ()


def _retention(path: Path, table: dict[str, Any]) -> Retention:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if not key.endswith("size"):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 1 <= value <= _LONGEST_DAYS:
                raise BadInput(f"{path}: retention.{key} must be a number of days from 1 to {_LONGEST_DAYS}")
            values[key] = value
            continue
        size = value
        if isinstance(value, str) and (found := _SIZE.match(value)):
            size = int(float(found[1]) * _UNITS[found[2].lower()])
        if not isinstance(size, int) or isinstance(size, bool) or not _SMALLEST <= size <= _LARGEST:
            raise BadInput(
                f"{path}: retention.{key} must be a number of bytes, or a text such as '500 MB' or '2 GiB', "
                "from 1 MiB to 1 PiB"
            )
        values[key] = size
    return Retention(**values)


_LONGEST_DAYS = 36500
_SMALLEST, _LARGEST = 1024**2, 1024**5
_UNITS = {
    unit + suffix: base**power
    for power, unit in enumerate(("k", "m", "g", "t"), 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
} | {"b": 1}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?((?:[kmgt]i?)?b)\Z", re.IGNORECASE)


def _urls(path: Path, table: dict[str, object]) -> Urls:
    places = {"commit": {"id"}, "compare": {"old", "new"}}
    own = {key: value for key, value in table.items() if key not in ("preset", "base")}
    for key, template in own.items():
        allowed = {"path", "name"} | places.get(key, set())
        if not isinstance(template, str):
            raise BadInput(f"{path}: urls.{key} must be a string")
        try:
            parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise BadInput(f"{path}: urls.{key} is not a template: {error}; known: {_braces(allowed)}") from error
        used = {
            f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
            for _, name, spec, conversion in parts
        }
        if not used <= allowed:
            raise BadInput(f"{path}: urls.{key} uses {_braces(used - allowed)}; known: {_braces(allowed)}")
    return replace(_preset(path, table), **{key: str(value) for key, value in own.items()})


def _people(path: Path, table: dict[str, object]) -> people.Known:
    """What the two files say of user names; an authors file is believed before gitolite.conf."""
    found: dict[str, tuple[str, str]] = {}
    for key, parse in (("gitolite", people.gitolite), ("file", people.authors)):
        name = table.get(key, "")
        if not isinstance(name, str) or (name and not name.startswith("/")):
            raise BadInput(f"{path}: pushers.{key} must be an absolute path")
        if name:
            try:
                found |= parse(Path(name).read_text("utf-8", "replace"))
            except OSError as error:
                raise BadInput(f"{path}: pushers.{key}: cannot read {name}: {error.strerror}") from error
            except BadInput as error:
                raise BadInput(f"{path}: pushers.{key}: {name}: {error}") from None
    return found


def _preset(path: Path, table: dict[str, object]) -> Urls:
    """The templates that `preset` and `base` name; none where neither is there."""
    name, base = table.get("preset", ""), table.get("base", "")
    if not isinstance(name, str) or not isinstance(base, str):
        raise BadInput(f"{path}: urls.preset and urls.base must be strings")
    if not name and not base:
        return Urls()
    if not name or not base:
        raise BadInput(f"{path}: urls.preset and urls.base go together: the kind of pages, and where they are")
    try:
        return links.preset(name, base)
    except BadInput as error:
        raise BadInput(f"{path}: urls: {error}") from None


def _network(path: Path, table: dict[str, Any]) -> NetworkRules:
    for key in ("allow", "refuse"):
        entries = table.get(key, [])
        if not isinstance(entries, list):
            raise BadInput(f"{path}: network.{key} must be a list of networks")
        for entry in entries:
            try:
                networks.network(entry)
            except BadInput as error:
                raise BadInput(f"{path}: network.{key}: {error}") from None
    return NetworkRules(tuple(table.get("allow", [])), tuple(table.get("refuse", [])))


def _proxy(path: Path, table: dict[str, Any]) -> str:
    proxy = table.get("proxy", "")
    if not isinstance(proxy, str):
        raise BadInput(f"{path}: network.proxy must be a string")
    if "@" in proxy:
        # The file is no place for a secret, and the error must not repeat it.
        raise BadInput(
            f"{path}: network.proxy holds a user name, which belongs to an endpoint: "
            "refcast endpoint edit NAME --proxy-file FILE"
        )
    try:
        if proxy:
            check_proxy(proxy)
    except BadInput as error:
        raise BadInput(f"{path}: network.proxy: {error}") from None
    return proxy


def _braces(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _table(path: Path, table: Mapping[str, object], key: str, known: set[str]) -> dict[str, Any]:
    inner = table.get(key, {})
    if not isinstance(inner, dict):
        raise BadInput(f"{path}: {key} must be a table")
    _known(path, f"{key}.", inner, known)
    return inner


def _known(path: Path, prefix: str, table: Mapping[str, object], known: set[str]) -> None:
    for key in table:
        if key not in known:
            raise BadInput(f"{path}: {prefix}{key} is not a setting; known: {', '.join(sorted(known))}")
