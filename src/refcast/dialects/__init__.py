"""The dialects: the shapes in which receivers understand an event, and one visible table of them.

A dialect is a module here: it turns an Event into Messages and names the headers that go with them.
This file owns what all of them share, the encoding of a payload into a body. It does not own
signatures (`signing`) nor anything that a single system does its own way.

Adding one: a module with the names of `Dialect`, one line in `DIALECTS`, golden files (docs/dialects.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable
from urllib.parse import quote_plus

from refcast.dialects import codescoring, codeup, deveo, discord, gitcode, gitea, github, gitlab, gogs, refcast, slack
from refcast.errors import BadInput
from refcast.model import NO_HOOK, Commit, Event, FileChanges, Hook, Message, Notice


class Dialect(Protocol):
    """What a module in this package has."""

    NAME: str
    CONTENT_TYPES: tuple[str, ...]
    """What the system's own settings offer, of `json` and `form`; the first is the default."""
    SIGNING: str
    """A key of `signing.SCHEMES`: how its requests are signed where the endpoint does not say otherwise."""
    COMMITS: int | None
    """How many commits the system lists at most; None where the settings decide. An endpoint may say otherwise."""
    FILES: bool
    """Whether it lists the files of a commit."""
    REJECTS: bool
    """Whether 400, 413 and 422 from its receivers condemn a payload, and 410 the endpoint, which may say otherwise."""

    def render(self, event: Event, hook: Hook = NO_HOOK) -> list[Message]:
        """The requests that the system would make of this event, in sending order; none if it has none."""

    def test(self, hook: Hook = NO_HOOK) -> Message:
        """What the system's own test button sends."""

    def notice(self, notice: Notice, hook: Hook = NO_HOOK) -> Message:
        """What tells of another endpoint's health, under a kind that the system itself does not have."""

    def headers(self, kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
        """The headers of a message of this kind but for content type and signature."""


@runtime_checkable
class Batching(Protocol):
    """What a module has besides if its system puts several events into one request; most have it not.

    `isinstance(dialect, Batching)` tells. Events stay frozen as they were rendered: a batch is made of their
    payloads when it is sent, and may be made anew, of more of them or fewer. It is one more payload, with headers,
    an id and a signature of its own.
    """

    def batch(self, payloads: Sequence[bytes]) -> bytes:
        """One payload that tells of all these, which `encode` or `batch` made, in their order."""


def limited(event: Event, commits: int, files: int) -> Event:
    """The event with its newest `commits` commits, each with at most `files` paths. What is exact stays exact."""
    return replace(
        event, commits=tuple(_shorter(one, files) for one in event.commits[max(0, len(event.commits) - commits) :])
    )


def _shorter(commit: Commit, files: int) -> Commit:
    changes = commit.changes
    lists = (changes.added, changes.modified, changes.removed)
    if sum(map(len, lists)) <= files:
        return commit
    added = changes.added[:files]
    modified = changes.modified[: files - len(added)]
    removed = changes.removed[: files - len(added) - len(modified)]
    return replace(commit, changes=FileChanges(added, modified, removed, cut=True))


DIALECTS: dict[str, Dialect] = {
    codescoring.NAME: codescoring,
    codeup.NAME: codeup,
    deveo.NAME: deveo,
    discord.NAME: discord,
    gitcode.NAME: gitcode,
    gitea.NAME: gitea,
    github.NAME: github,
    gitlab.NAME: gitlab,
    gogs.NAME: gogs,
    refcast.NAME: refcast,
    slack.NAME: slack,
}

SURROGATES = re.compile("[\ud800-\udfff]")


def get(name: str) -> Dialect:
    """The dialect of this name; BadInput, naming those there are, when there is none."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise BadInput(f"unknown dialect {name!r}: use one of {', '.join(sorted(DIALECTS))}") from None


def encode(payload: Mapping[str, object]) -> bytes:
    """The payload as compact JSON in UTF-8: the same bytes for the same payload, its keys in their own order.

    A surrogate, which UTF-8 cannot carry, becomes U+FFFD.
    """
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return SURROGATES.sub("\ufffd", text).encode()


def body(json_bytes: bytes, content_type: str) -> tuple[str, bytes]:
    """The Content-Type header's value and the body for a payload that `encode` made.

    `form` puts the JSON into one field, `payload`. BadInput for any other word than `json` and `form`.
    """
    if content_type == "json":
        return "application/json", json_bytes
    if content_type == "form":
        return "application/x-www-form-urlencoded", b"payload=" + quote_plus(json_bytes).encode("ascii")
    raise BadInput(f"unknown content type {content_type!r}: use json or form")
