"""Events whose every text tries to do harm in a chat: to ping, to link, to format, to break lines, to be long.

Owns the strategy alone. What harm is, each chat dialect's tests say for themselves, without its code.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from events import commits, events
from refcast.model import Commit, Event, Ident, Pusher, Repository, Tag

PIECES = (
    *"*_~`|<>[](){}\\/:@#&!-+=.,;'\"^$%? \n\r\t\v\f\0\x1b\x7f\x85\xa0\u200b\u200d\u2028\u2029\u202e\u2066\u3000é🚀aZ09",
    "\ud800",
    "\udcff",
    "\U000e0041",
    "```",
    "||",
    "__init__",
    "a_b",
    "@everyone",
    "@here",
    "@ada",
    "<@1>",
    "<@&1>",
    "<#1>",
    "<!channel>",
    "<!subteam^S1>",
    "<t:0:R>",
    "<:x:1>",
    "</a:1>",
    "[a](https://evil.example)",
    "<https://evil.example|a>",
    "https://evil.example/a_b",
    "![a](http://evil.example)",
    "&lt;",
    "&amp;amp;",
    "\n# a\n",
    "\n> a\n",
    "\n- a\n",
    "1. a",
    "x" * 300,
    "🚀" * 300,
    "&" * 300,
    "\\" * 301,
)

texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.lists(st.sampled_from(PIECES)).map(
    lambda pieces: "".join(pieces * 20)
)
templates = st.sampled_from(["", "{id}", "/{old}..{new}"])
starts = st.sampled_from(["", "https://git.example.org/a", "javascript:", "https://git.example.org:8080"])
urls = st.builds("{}{}{}".format, starts, st.just("") | texts, templates)


@st.composite
def hostile(draw: st.DrawFn) -> Event:
    """Any event, with up to sixty commits, of which it may have more than it lists."""
    event = draw(events)

    def ident(known: Ident) -> Ident:
        return replace(known, name=draw(texts), email=draw(texts))

    def written(commit: Commit) -> Commit:
        return replace(commit, message=draw(texts), author=ident(commit.author))

    listed = tuple(written(commit) for commit in draw(st.lists(commits, min_size=1, max_size=3)))
    listed *= draw(st.integers(0, 20))
    tag = event.tag
    return replace(
        event,
        repository=Repository(
            path="",
            full_name=draw(texts),
            homepage=draw(urls),
            commit_url=draw(st.just("") | urls),
            compare_url=draw(st.just("") | urls),
        ),
        pusher=Pusher(draw(texts), draw(texts)),
        update=event.update and replace(event.update, ref=event.update.ref + draw(texts), forced=draw(st.booleans())),
        commits=listed,
        total=len(listed) + draw(st.sampled_from([0, 0, 1, 10**12])),
        head=event.head and written(event.head),
        tag=tag and Tag(tag.id, tag.name, tag.target, tag.tagger, draw(texts)),
        incomplete=draw(st.just("") | texts),
    )
