"""The dialect of Discord's webhooks, as Gogs speaks it: one embed, its author the pusher.

Discord takes a backslash before a mark of its Markdown, but not inside a link's words, where it shows the backslash
(https://github.com/discord/discord-api-docs/issues/6185): only words without marks are linked.
"""

from __future__ import annotations

import re

from refcast.dialects import notices
from refcast.dialects.chat import GREEN, Line, News, fit, health, news, units
from refcast.model import NO_HOOK, Event, Hook, Message, Notice

NAME = "discord"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "none"
COMMITS: int | None = 20
FILES = False
REJECTS = True

DESCRIPTION = 4_000
"""Discord refuses an embed whose description has more than 4,096 characters, or more than 6,000 in all."""

MARKS = re.compile(r"[\\*_~`|<>\[\]()]|:(?=/|\Z)")
"""What makes Markdown, a mention, an emoji, a time or a link of the words around it, save at a line's start."""
SAFE = re.compile(r"[A-Za-z0-9]+(?:[./_-][A-Za-z0-9]+)*")
"""Words that mean nothing to Discord even inside a link. It takes no italics from an underscore inside a word."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message, or none where there is nothing to say."""
    said = news(event)
    if said is None:
        return []
    sentence = headline(said)
    lines = fit(said, written, DESCRIPTION - units(sentence) - 1)
    embed: dict[str, object] = {"description": f"{sentence}\n{lines}".rstrip(), "color": said.colour}
    if said.pusher:
        embed["author"] = {"name": said.pusher}
    return [Message(said.kind, message(embed))]


def test(hook: Hook = NO_HOOK) -> Message:
    words = "This is a test from refcast: what is pushed will be told here."
    return Message("test", message({"description": words, "color": GREEN}))


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    colour, sentence, more = health(notice, escape)
    return Message(notices.kind_of(notice), message({"description": f"{sentence}\n{more}", "color": colour}))


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """Discord reads no headers of a webhook: the delivery's id is told to nobody."""
    return {"User-Agent": "refcast"}


def message(embed: dict[str, object]) -> dict[str, object]:
    """Nobody is pinged, whatever the words hold. An empty address is refused, so fields without a value stay out."""
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def headline(said: News) -> str:
    """`Pushed 2 new commits to team/site/main`, or `Created new branch: team/site/topic`."""
    place = f"{link(said.repository, said.repository_url)}/{link(said.ref, said.ref_url)}"
    count = f"[{said.count}]({said.compare_url})" if said.count and said.compare_url else said.count
    deed = said.deed.capitalize()
    if count and said.kind == "push":
        return f"{deed} {count} to {place}"
    new = "new " if said.deed == "created" else ""
    return f"{deed} {new}{said.thing}: {place}{f', {count}' if count else ''}"


def written(line: Line) -> str:
    """``[`1a2b3c4`](page) Mend the gate - Ada``."""
    code = f"`{line.id}`" if line.id else ""
    place = f"[{code}]({line.url})" if line.id and line.url else code
    words = " - ".join(escape(part) for part in (line.words, line.by) if part)
    return " ".join(part for part in (line.lead, place, words) if part)


def link(words: str, url: str) -> str:
    return f"[{words}]({url})" if url and SAFE.fullmatch(words) else escape(words)


def escape(words: str) -> str:
    """The words as Discord shows them, not as it reads them. After an `@` comes a space of no width."""
    return MARKS.sub(r"\\\g<0>", words).replace("@", "@\u200b")
