"""The dialect of Slack's incoming webhooks, as Gogs speaks it: a sentence, and an attachment of commits.

Slack reads `&`, `<` and `>` as its own marks and has entities for them; its `*`, `_`, `~` and backtick cannot
be escaped at all (https://docs.slack.dev/messaging/formatting-message-text), so a look-alike takes their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from refcast.dialects import notices
from refcast.dialects.chat import Line, News, fit, health, news
from refcast.model import NO_HOOK, Event, Hook, Message, Notice

NAME = "slack"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "none"
COMMITS: int | None = 20
FILES = False
REJECTS = True

TEXT = 4_000
"""Slack cuts a text at 40,000 characters, and breaks a longer one than this into several messages."""
ATTACHMENT = 7_500
"""Slack cuts an attachment's text at 8,000 characters."""

ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "*": "∗", "~": "∼", "`": "'", "@": "@\u200b"})
EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that does not stand inside a word: the only one that Slack makes italics of."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message, or none where there is nothing to say."""
    said = news(event)
    if said is None:
        return []
    sentence, plain = headline(said, link), headline(said, unlinked)
    payload = message(sentence if len(sentence) <= TEXT else plain)
    lines = fit(said, written, ATTACHMENT)
    if lines:
        payload["attachments"] = [attachment(said.colour, lines, plain)]
    return [Message(said.kind, payload)]


def test(hook: Hook = NO_HOOK) -> Message:
    return Message("test", message("This is a test from refcast: what is pushed will be told here."))


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    colour, sentence, more = health(notice, escape)
    return Message(notices.kind_of(notice), {**message(sentence), "attachments": [attachment(colour, more, sentence)]})


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """Slack reads no headers of a webhook: the delivery's id is told to nobody."""
    return {"User-Agent": "refcast"}


def message(sentence: str) -> dict[str, object]:
    """Names are not made into links, which would ping whoever has them; pages are not previewed."""
    return {"text": sentence, "unfurl_links": False, "unfurl_media": False, "link_names": False, "attachments": []}


def attachment(colour: int, lines: str, fallback: str) -> dict[str, object]:
    return {"fallback": fallback, "color": f"#{colour:06x}", "text": lines}


def headline(said: News, linked: Callable[[str, str], str]) -> str:
    """`[team/site:main] 2 new commits pushed by ada`, or `[team/site:v1.0] tag created by ada`."""
    place = f"[{linked(said.repository, said.repository_url)}:{linked(said.ref, said.ref_url)}]"
    count = linked(said.count, said.compare_url) if said.count else ""
    by = f" by {escape(said.pusher)}" if said.pusher else ""
    if count and said.kind == "push":
        return f"{place} {count} {said.deed}{by}"
    return f"{place} {said.thing} {said.deed}{by}{f' with {count}' if count else ''}"


def written(line: Line) -> str:
    """`<page|1a2b3c4>: Mend the gate - Ada`."""
    start = " ".join(part for part in (line.lead, link(line.id, line.url)) if part)
    words = " - ".join(escape(part) for part in (line.words, line.by) if part)
    return f"{start}{': ' if line.id and words else ' ' if start and words else ''}{words}"


def link(words: str, url: str) -> str:
    return f"<{url.replace('&', '&amp;')}|{escape(words)}>" if url else escape(words)


def unlinked(words: str, url: str) -> str:
    return escape(words)


def escape(words: str) -> str:
    """The words as Slack shows them, not as it reads them. After an `@` comes a space of no width."""
    return EDGE.sub("ˍ", words).translate(ESCAPES)
