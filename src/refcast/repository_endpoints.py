"""Endpoints that a repository's own git configuration names: `refcast.<name>.url` and the like.

Owns the reading of that file and what may stand in it. Whoever can write it (gitolite's administrators, in group-shared
repositories perhaps every pusher) is trusted less than the owner of the store: it names no file, no environment
variable and no exception from the network's rules, and it is read without what it includes. Stores nothing.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from refcast import dialects, filters, signing, urls
from refcast.errors import BadInput, RepositoryError
from refcast.model import Endpoint, NetworkRules

PATTERNS = ("branches", "tags", "paths", "pushers")
KEYS = ("url", "dialect", "contentType", "secret", "signing", "events", *PATTERNS, "skipBy", "otherRefs")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
EVENTS = frozenset({"push", "tag_push"})
GONE = "no longer in the repository's configuration"
"""Why one is disabled that was named there once. Nothing is held for it, and nobody need look."""
MAX_BYTES = 1024 * 1024
"""A larger configuration is not read."""
MAX_ENDPOINTS = 20
"""Of one repository: each is a lane of its own, and a payload for each push."""

MAX_PATTERNS = 50
MAX_STARS = 3
"""In one pattern. With more of them a match may take very long, and pushes to other repositories wait for it."""
MAX_PATTERN = 256
"""Characters of one."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "::1/128", "::/128", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 6890, as far as something may listen there."""
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


@dataclass(frozen=True, slots=True)
class Written:
    """One endpoint as it is written; with an `error` it cannot be used as it is."""

    name: str
    endpoint: Endpoint
    error: str = ""


def read(repository: Path) -> list[Written]:
    """What the repository's configuration names, sorted by name. Raises RepositoryError if it cannot be read."""
    text = _bytes(repository / "config")
    # Most repositories name none, and then no program is run.
    return written(_entries(repository, text)) if b"refcast" in text.lower() else []


def mark(repository: Path) -> tuple[int, ...]:
    """What changes whenever the configuration does. Empty where there is none."""
    try:
        info = (repository / "config").lstat()
    except OSError:
        return ()
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def written(entries: Iterable[tuple[str, str]]) -> list[Written]:
    """The endpoints of configuration entries, `(refcast.<name>.<key>, value)`. Of a key that stands twice the last
    value counts, as in git; an empty one counts as none."""
    sections: dict[str, dict[str, str]] = {}
    for key, value in entries:
        name, _, option = key.partition(".")[2].rpartition(".")
        if name:
            sections.setdefault(name, {})[option.lower()] = value
    found: list[Written] = []
    for name, options in sorted(sections.items()):
        given = {option: value for option, value in options.items() if value}
        if given:
            found.append(_endpoint(name, given, too_many=len(found) >= MAX_ENDPOINTS))
    return found


def strict(rules: NetworkRules) -> NetworkRules:
    """The rules for such an endpoint: public addresses only, but for what the administrator allows."""
    allowed = [ipaddress.ip_network(network, strict=False) for network in rules.allow]
    refused = [
        str(network)
        for network in _NOT_PUBLIC
        if not any(
            network.subnet_of(one)  # type: ignore[arg-type]
            for one in allowed
            if one.version == network.version
        )
    ]
    return replace(rules, refuse=(*rules.refuse, *refused))


def _endpoint(name: str, given: dict[str, str], *, too_many: bool) -> Written:
    one = Endpoint(0, name, given.get("url", ""), "refcast", "json")
    try:
        if too_many:
            raise BadInput(f"a repository may name {MAX_ENDPOINTS} endpoints, and this is one more")
        return Written(name, _checked(one, name, given))
    except BadInput as error:
        # Whatever else is wrong with it, its name must be fit for the store and for people.
        shown = name if NAME.match(name) else re.sub("[^A-Za-z0-9_-]", "-", f"x{name}")[:64]
        return Written(shown, replace(one, name=shown), f"refcast.{shown}: {error}")


def _checked(one: Endpoint, name: str, given: dict[str, str]) -> Endpoint:
    if not NAME.match(name):
        raise BadInput("the name of an endpoint has up to 64 letters, digits, dots, hyphens and underscores")
    if unknown := given.keys() - {key.lower() for key in KEYS}:
        raise BadInput(f"{min(unknown)} cannot be set in a repository's configuration; known: {', '.join(KEYS)}")
    if not one.url:
        raise BadInput("it has no url")
    urls.check_url(one.url)
    dialect = dialects.get(given.get("dialect", one.dialect))
    content_type = given.get("contenttype", dialect.CONTENT_TYPES[0])
    if content_type not in dialect.CONTENT_TYPES:
        raise BadInput(f"{dialect.NAME} has no content type {content_type!r}: use {' or '.join(dialect.CONTENT_TYPES)}")
    events = frozenset(given.get("events", "").replace(",", " ").split()) - {"all"}
    if others := events - EVENTS:
        raise BadInput(f"unknown event {min(others)!r}: use push, tag_push or both")
    skips = frozenset(given.get("skipby", "").replace(",", " ").split()) - {"none"}
    if others := skips - set(filters.SKIPS):
        raise BadInput(f"{min(others)!r} cannot be: use {', '.join(filters.SKIPS)} or none for skipBy")
    branches, tags, paths, pushers = (_patterns(key, given.get(key, "")) for key in PATTERNS)
    one = replace(
        one,
        branches=branches,
        tags=tags,
        paths=paths,
        pushers=pushers,
        skips=skips,
        dialect=dialect.NAME,
        content_type=content_type,
        secret=given.get("secret", ""),
        signing=given.get("signing", ""),
        events=events,
        other_refs=_truth(given.get("otherrefs", "")),
    )
    _check_signing(one)
    return one


def _check_signing(one: Endpoint) -> None:
    """BadInput for a secret that the scheme cannot use, and for headers that would stand twice."""
    dialect = dialects.get(one.dialect)
    scheme = one.signing or dialect.SIGNING
    mine = {name.lower() for name in signing.check(scheme, one.secret)}
    if one.secret and scheme == "none":
        raise BadInput(f"{dialect.NAME} signs nothing: leave the secret out, or say how with signing")
    if one.signing and one.signing != "none" and not one.secret:
        raise BadInput(f"the signing scheme {one.signing} needs a secret")
    theirs = {name.lower() for name in dialect.headers("", "")}
    if mine & theirs:
        raise BadInput(f"the header {min(mine & theirs)} is one of the dialect's own: choose another signing")
    if "authorization" in mine and "@" in urlsplit(one.url).netloc:
        raise BadInput("the URL's user name and the secret would both be the header Authorization: use one of them")


def _patterns(key: str, value: str) -> tuple[str, ...]:
    """Patterns, with spaces between them."""
    found = tuple(value.split())
    filters.check(found, key, anchored=key != "paths")
    if len(found) > MAX_PATTERNS:
        raise BadInput(f"{key} may have {MAX_PATTERNS} patterns, and these are {len(found)}")
    for one in found:
        if len(one) > MAX_PATTERN or len(re.findall(r"\*+", one)) > MAX_STARS:
            raise BadInput(
                f"{one[:MAX_PATTERN]!r} cannot be in a repository's configuration: a pattern may have {MAX_PATTERN} "
                f"characters, and a star in {MAX_STARS} places"
            )
    return found


def _truth(value: str) -> bool:
    if value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise BadInput("otherRefs is neither true nor false")


def _bytes(config: Path) -> bytes:
    """What is in the file itself: a link there would have another's configuration read, with its secrets."""
    try:
        descriptor = os.open(config, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_BYTES:
                raise RepositoryError(f"{config}: not a regular file of at most {MAX_BYTES} bytes")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise RepositoryError(f"{config}: cannot be read for endpoints: {error.strerror}") from error


def _entries(repository: Path, text: bytes) -> list[tuple[str, str]]:
    """As git reads them; libgit2 cannot be told to leave out what the file includes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "config", "--file", "-", "--no-includes", "--null", "--get-regexp", r"^refcast\."],
            input=text,
            capture_output=True,
            env=environment,
            cwd="/",
            check=False,
        )
    except OSError as error:
        raise RepositoryError(f"cannot run git: {error.strerror}; install it (apt install git)") from error
    if done.returncode not in (0, 1):  # 1: nothing matches
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RepositoryError(f"{repository}/config: {said[-1] if said else 'git cannot read it'}")
    found = []
    for entry in done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, equals, value = entry.partition("\n")
        found.append((key, value if equals else "true"))  # a key without a value says true
    return found
