"""Filters: which events an endpoint is for, and the reason for each that it is not for.

Owns the one rule for patterns, and the judgement. What a push changed is read by `history`, which asks here only
whether a path is of interest; nothing is read or stored here.

Patterns are those of a .gitignore file (gitignore(5)), as the library pathspec reads them: `*` and `?` stop at a
slash, `**` does not, `!` in front takes back what an earlier one has let in, and the last pattern that matches
decides. A list that begins with a `!` begins with everything. Names of branches, tags, repositories and pushers are
matched from their beginning; a path's pattern without a slash matches at any depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pathspec import PathSpec
from pathspec.pattern import RegexPattern

from refcast.errors import BadInput
from refcast.model import Endpoint, Event

Patterns = tuple[str, ...]

SKIP_OPTIONS = frozenset({"refcast.skip", "ci.skip"})
"""What `git push -o` says to endpoints that skip by push option."""

SKIP_MARKS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip refcast]", "[refcast skip]")
"""What the message of a push's newest commit says, in any case of letters, to endpoints that skip by mark."""

SKIPS = ("option", "mark")

_WILD = frozenset("*?[\\")


def check(patterns: Sequence[str], what: str, *, anchored: bool = True) -> None:
    """BadInput, naming `what` they are for, where one of them is no pattern. Those for paths are not `anchored`."""
    for pattern in patterns:
        try:
            kept = [one for one in _spec((pattern,), anchored).patterns if one.include is not None]
        except ValueError as error:
            raise BadInput(f"{pattern!r} is no pattern for {what}: {error}") from None
        if not kept or not pattern.strip("!/ "):
            raise BadInput(f"{pattern!r} is no pattern for {what}: it says nothing")


def matches(patterns: Patterns, name: str) -> bool:
    """Whether a list of patterns lets a name pass; an empty list lets all pass."""
    return not patterns or _spec(patterns, True).match_file(name)


class Paths:
    """A list of patterns for paths of files."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self._spec = _spec(patterns, False)
        self._literal = [_literal(pattern) for pattern in patterns if not pattern.startswith("!")]
        if patterns and patterns[0].startswith("!"):
            self._literal.append("")

    def match(self, path: str) -> bool:
        return self._spec.match_file(path)

    def may_match_in(self, directory: str) -> bool:
        """Whether a path in this directory (it ends in a slash), or below it, could match."""
        return any(literal.startswith(directory) or directory.startswith(literal) for literal in self._literal)


def refusals(endpoint: Endpoint, event: Event) -> list[str]:
    """Why an endpoint is not for an event, each reason one line; none where it is."""
    found = []
    if endpoint.events and event.kind not in endpoint.events:
        found.append(f"its events are {', '.join(sorted(endpoint.events))}, this is a {event.kind}")
    name = event.repository.full_name
    if not matches(endpoint.repositories, name):
        found.append(f"its repositories are {_list(endpoint.repositories)}, this is {name}")
    if not matches(endpoint.pushers, event.pusher.username):
        found.append(f"its pushers are {_list(endpoint.pushers)}, this is {event.pusher.username}")
    found += _ref_refusals(endpoint, event)
    if endpoint.paths and event.update is not None and endpoint.paths not in event.touched:
        found.append(f"its paths are {_list(endpoint.paths)}, and no commit of this push changes one")
    if "option" in endpoint.skips and (asked := SKIP_OPTIONS & set(event.options)):
        found.append(f"the push option {min(asked)} asks to skip it")
    message = event.head.message.lower() if event.head else ""
    if "mark" in endpoint.skips and (mark := next((mark for mark in SKIP_MARKS if mark in message), "")):
        found.append(f"the newest commit's message says {mark}")
    return found


def _ref_refusals(endpoint: Endpoint, event: Event) -> list[str]:
    update = event.update
    if update is None:
        return []
    if update.kind == "other":
        return [] if endpoint.other_refs else [f"{update.ref} is neither a branch nor a tag: see --other-refs"]
    wanted, others = (
        (endpoint.branches, endpoint.tags) if update.kind == "branch" else (endpoint.tags, endpoint.branches)
    )
    if not wanted and others:
        kind = "branches" if others is endpoint.branches else "tags"
        return [f"its {kind} are {_list(others)}, this is the {update.kind} {update.short}"]
    if not matches(wanted, update.short):
        kind = "branches" if update.kind == "branch" else "tags"
        return [f"its {kind} are {_list(wanted)}, this is {update.short}"]
    return []


def _list(patterns: Patterns) -> str:
    return ", ".join(patterns)


@lru_cache(maxsize=1024)
def _spec(patterns: Patterns, anchored: bool) -> PathSpec[RegexPattern]:
    lines = [_anchored(pattern) for pattern in patterns] if anchored else list(patterns)
    if patterns and patterns[0].startswith("!"):
        lines.insert(0, "**")
    return PathSpec.from_lines("gitignore", lines)


def _anchored(pattern: str) -> str:
    sign = "!" if pattern.startswith("!") else ""
    return f"{sign}/{pattern.removeprefix('!').lstrip('/')}"


def _literal(pattern: str) -> str:
    """What every path that a pattern matches begins with, as far as that can be told; it may be nothing."""
    if "/" not in pattern.rstrip("/"):
        return ""  # it matches at any depth
    pattern = pattern.lstrip("/")
    end = next((index for index, character in enumerate(pattern) if character in _WILD), len(pattern))
    return pattern[:end]
