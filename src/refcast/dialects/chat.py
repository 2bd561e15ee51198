"""What Slack and Discord share: what there is to say of an event, in plain words, each bounded and on one line.

Whatever comes out of `one_line` is still text that anybody may have written: marking it up so that it does
nothing, and fitting the lines into a message, with `fit`, is done by each dialect in its own way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from refcast.dialects.fields import commit_url, compare_url, text, utc_timestamp
from refcast.model import Commit, Event, Notice, RefUpdate, Repository, is_zero

COMMITS = 20
"""How many commits one message tells: what is longer nobody reads in a chat."""
SUBJECT = 150
"""Characters of a message's first line."""
NAME = 100
"""Characters of a repository's, a ref's or a person's name."""
ADDRESS = 300
"""Characters of an address that is linked."""
REASON = 500
"""Characters of what went wrong with an endpoint."""

BLUE, GREEN, ORANGE, RED = 0x2F6FDE, 0x2EB67D, 0xE8912D, 0xD13438

BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TURNS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What turns the direction of the text that follows (Unicode Annex 9, section 2)."""
WEB = re.compile(r"(https?://[A-Za-z0-9.-]+(?::[0-9]+)?)((?:[/?#].*)?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """`lead`, the object's short id with its page, what it says, and who says so; each may be empty."""

    lead: str = ""
    id: str = ""
    url: str = ""
    words: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """What one event means to people. Every text is one line; every address can be linked, or is empty."""

    kind: str
    """Gogs's own word: `push`, `create`, `delete`."""
    deed: str
    """`pushed`, `force-pushed`, `created`, `moved`, `deleted`."""
    thing: str
    """`branch`, `tag`, `ref`."""
    repository: str
    repository_url: str
    ref: str
    ref_url: str
    count: str
    """`1 new commit`, `12 new commits`; empty for none."""
    compare_url: str
    pusher: str
    colour: int
    """Red, green and blue in one number."""
    before: tuple[Line, ...]
    commits: tuple[Line, ...]
    """The newest first."""
    total: int
    """How many commits there are, listed or not."""
    after: tuple[Line, ...]


def news(event: Event) -> News | None:
    """None where there is nothing to say: no ref moved, or one moved forward and brought nothing that is missing."""
    update = event.update
    if update is None:
        return None
    deed, colour = deed_of(event, update)
    if not deed:
        return None
    repository = event.repository
    lists = not update.deleted and update.kind != "tag"
    commits = event.commits[::-1] if lists else ()
    total = max(event.total, len(commits)) if lists else 0
    before, after = around(event, update, bare=not total)
    return News(
        kind={"created": "create", "moved": "create", "deleted": "delete"}.get(deed, "push"),
        deed=deed,
        thing="ref" if update.kind == "other" else update.kind,
        repository=one_line(repository.full_name, NAME) or "?",
        repository_url=address(repository.homepage),
        ref=one_line(update.short, NAME) or "?",
        ref_url=ref_url(repository, update),
        count=f"{total} new commit{'' if total == 1 else 's'}" if total else "",
        compare_url=address(compare_url(repository, update)),
        pusher=one_line(event.pusher.username, NAME),
        colour=colour,
        before=before,
        commits=tuple(commit_line(repository, commit) for commit in commits),
        total=total,
        after=after,
    )


def deed_of(event: Event, update: RefUpdate) -> tuple[str, int]:
    """What was done to the ref, and its colour; an empty word for nothing worth a message."""
    if update.deleted:
        return "deleted", RED
    if update.created:
        return "created", GREEN
    if update.kind == "tag":
        return "moved", ORANGE
    if update.forced:
        return "force-pushed", ORANGE
    return "pushed" if event.total or event.commits or event.incomplete else "", BLUE


def around(event: Event, update: RefUpdate, *, bare: bool) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The lines before and after the commits: the tag's message, where the ref is and was, what is missing.

    `bare` says that no commits are new, so that the ref's own commit is told.
    """
    repository = event.repository
    before: list[Line] = []
    after: list[Line] = []
    if not update.deleted:
        said = one_line(event.tag.message, SUBJECT) if event.tag else ""
        if said:
            before.append(Line(words=f"“{said}”"))
        if event.head and bare:
            before.append(commit_line(repository, event.head, "at"))
    if update.deleted or update.forced or (update.kind == "tag" and not update.created):
        url = "" if update.kind == "tag" else address(commit_url(repository, update.old, below="commit"))
        if not is_zero(update.old):
            after.append(Line("was", update.old[:7], url))
    missing = one_line(event.incomplete, SUBJECT)
    if missing:
        after.append(Line("incomplete:", words=missing))
    return tuple(before), tuple(after)


def commit_line(repository: Repository, commit: Commit, lead: str = "") -> Line:
    return Line(
        lead,
        commit.id[:7],
        address(commit_url(repository, commit.id, below="commit")),
        one_line(commit.message, SUBJECT) or "(no message)",
        one_line(commit.author.name, NAME),
    )


def ref_url(repository: Repository, update: RefUpdate) -> str:
    """The ref's page as Gogs has it, where the repository's pages are all below its homepage.

    A name that is not UTF-8 has none: no address says it.
    """
    short = update.short
    if update.deleted or update.kind == "other" or text(short) != short:
        return ""
    if not repository.homepage or repository.commit_url:
        return ""
    return address(f"{repository.homepage.rstrip('/')}/src/{quote(short, safe='/')}")


def one_line(value: str, limit: int) -> str:
    """The first line of `value` that is not blank, without controls, of at most `limit` characters.

    Empty where nothing can be seen of it. A cut ends in an ellipsis.
    """
    first = next((line for line in map(str.strip, text(value).splitlines()) if visible(line)), "")
    line = " ".join(BREAKS.sub(" ", TURNS.sub("", first)).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def visible(line: str) -> bool:
    """Whether any character is a letter, a number, a punctuation mark or a symbol."""
    return any(unicodedata.category(character)[0] in "LNPS" for character in line)


def address(url: str) -> str:
    """The address of a web page in RFC 3986's letters, none of which can end a link early; empty for any other."""
    web = WEB.fullmatch(text(url))
    if not web:
        return ""
    written = web[1] + quote(web[2], safe="/?#:!$&+,;=~%-._")
    return written if len(written) <= ADDRESS else ""


def units(value: str) -> int:
    """The length in UTF-16, which is never less than that in characters: platforms count one or the other."""
    return len(value.encode("utf-16-le")) // 2


def fit(news: News, written: Callable[[Line], str], room: int) -> str:
    """The lines that `room` units hold, as `written` marks each up; a last one counts the commits left out."""
    before, after = [written(line) for line in news.before], [written(line) for line in news.after]
    kept = as_many([written(line) for line in news.commits], room - taken([*before, *after, more(news.total)]))
    left = news.total - len(kept)
    return "\n".join([*before, *kept, *([more(left)] if kept and left else []), *after])


def as_many(lines: Sequence[str], room: int) -> list[str]:
    """The first of the lines that have room together."""
    kept: list[str] = []
    for line in lines:
        room -= taken([line])
        if room < 0:
            break
        kept.append(line)
    return kept


def taken(lines: Sequence[str]) -> int:
    return sum(units(line) + 1 for line in lines)


def more(count: int) -> str:
    return f"… and {count} more"


HEALTH = {
    "failing": (ORANGE, "\N{WARNING SIGN}\N{VARIATION SELECTOR-16} Deliveries to {} began to fail"),
    "disabled": (RED, "\N{NO ENTRY SIGN} {} is disabled: its deliveries are held until somebody enables it"),
    "recovered": (GREEN, "\N{WHITE HEAVY CHECK MARK} {} takes deliveries again"),
}
"""A colour, and a sentence with a gap for the endpoint."""


def health(notice: Notice, escape: Callable[[str], str]) -> tuple[int, str, str]:
    """A colour, a sentence, and what more there is to say, in one line; name and reason have gone through `escape`.

    Both begin with words of ours: at a line's start more characters are marks than `escape` knows.
    """
    colour, sentence = HEALTH[notice.state]
    name = escape(one_line(notice.endpoint, NAME) or "?")
    reason = escape(one_line(notice.reason, REASON))
    since = f"Since {utc_timestamp(notice.since)}, {notice.waiting} waiting"
    return colour, sentence.replace("{}", f"endpoint {name}"), f"{since}: {reason}" if reason else since
