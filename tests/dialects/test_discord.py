"""The Discord dialect: what it says, and that nothing anybody writes does harm there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from events import (
    BARE,
    DELETED,
    FORCED,
    LIGHT_TAG,
    NEW_BRANCH,
    NOTICES,
    ONE,
    OTHER,
    SITE,
    TAG,
    TAG_DELETED,
    TAG_MOVED,
    TWO,
    UPDATE,
    A,
    B,
    C,
    D,
    branch,
)
from hostile import hostile, texts
from refcast.dialects import discord, limited
from refcast.model import ZERO_ID, Event, Notice, Pusher

HOME = "https://git.example.org/team/site"
PLACE = f"[team/site]({HOME})/[main]({HOME}/src/main)"
TWO_LINE = f"[`{C[:7]}`]({HOME}/commit/{C}) Rename \\<it\\> & mend it 🚀 - Ada Lovelace"
ONE_LINE = f"[`{B[:7]}`]({HOME}/commit/{B}) Add a guide - Ada Lovelace"
V1 = f"[team/site]({HOME})/[v1.0]({HOME}/src/v1.0)"


def said(event: Event) -> str:
    (message,) = discord.render(event)
    embeds = message.payload["embeds"]
    assert isinstance(embeds, list)
    description = embeds[0]["description"]
    assert isinstance(description, str)
    return description


class TestRender:
    def test_a_push(self) -> None:
        (message,) = discord.render(UPDATE)
        assert message.kind == "push"
        assert message.payload == {
            "embeds": [
                {
                    "description": f"Pushed [2 new commits]({HOME}/compare/{A}...{C}) to {PLACE}"
                    f"\n{TWO_LINE}\n{ONE_LINE}",
                    "color": 0x2F6FDE,
                    "author": {"name": "ada"},
                }
            ],
            "allowed_mentions": {"parse": []},
        }

    @pytest.mark.parametrize(
        ("event", "kind", "words"),
        [
            (
                NEW_BRANCH,
                "create",
                f"Created new branch: [team/site]({HOME})/[feature/x]({HOME}/src/feature/x), 2 new commits"
                f"\n{TWO_LINE}\n{ONE_LINE}",
            ),
            (
                FORCED,
                "push",
                f"Force-pushed [1 new commit]({HOME}/compare/{D}...{C}) to {PLACE}\n{TWO_LINE}"
                f"\nwas [`{D[:7]}`]({HOME}/commit/{D})",
            ),
            (
                DELETED,
                "delete",
                f"Deleted branch: [team/site]({HOME})/main\nwas [`{C[:7]}`]({HOME}/commit/{C})",
            ),
            (TAG, "create", f"Created new tag: {V1}\n“Version 1.0”\nat {TWO_LINE}"),
            (LIGHT_TAG, "create", f"Created new tag: {V1}\nat {TWO_LINE}"),
            (TAG_MOVED, "create", f"Moved tag: {V1}\n“Version 1.0”\nat {TWO_LINE}\nwas `{B[:7]}`"),
            (TAG_DELETED, "delete", f"Deleted tag: [team/site]({HOME})/v1.0\nwas `{D[:7]}`"),
            (OTHER, "create", f"Created new ref: [team/site]({HOME})/refs/notes/commits, 1 new commit\n{TWO_LINE}"),
            (
                replace(branch(C, B, forced=True), head=ONE),
                "push",
                f"Force-pushed branch: {PLACE}\nat {ONE_LINE}\nwas [`{C[:7]}`]({HOME}/commit/{C})",
            ),
            (
                replace(branch(A, C), incomplete="some are gone"),
                "push",
                f"Pushed branch: {PLACE}\nincomplete: some are gone",
            ),
            (
                replace(UPDATE, repository=BARE, commits=(TWO,), total=1),
                "push",
                f"Pushed 1 new commit to bare/main\n`{C[:7]}` Rename \\<it\\> & mend it 🚀 - Ada Lovelace",
            ),
        ],
    )
    def test_every_kind_of_move_has_its_words(self, event: Event, kind: str, words: str) -> None:
        (message,) = discord.render(event)
        assert message.kind == kind
        assert said(event) == words

    @pytest.mark.parametrize("event", [replace(UPDATE, update=None), branch(A, C)])
    def test_nothing_is_sent_where_there_is_nothing_to_say(self, event: Event) -> None:
        assert discord.render(event) == []

    def test_what_is_left_out_is_counted(self) -> None:
        words = said(replace(UPDATE, total=1000)).splitlines()
        assert words[0].startswith("Pushed [1000 new commits]")
        assert words[-1] == "… and 998 more"
        many = limited(replace(UPDATE, commits=(ONE,) * 50, total=50, repository=BARE), discord.COMMITS or 0, 9)
        assert len(said(many).splitlines()) == 22
        assert said(many).endswith("\n… and 30 more")

    def test_a_pusher_who_is_nobody_is_no_author(self) -> None:
        (message,) = discord.render(replace(UPDATE, pusher=Pusher("\u200b")))
        assert "author" not in message.payload["embeds"][0]  # type: ignore[index]

    def test_only_a_name_without_marks_is_linked(self) -> None:
        site = replace(SITE, full_name="team/a_b.c-d")
        assert f"[team/a_b.c-d]({HOME})" in said(replace(UPDATE, repository=site))
        site = replace(SITE, full_name="team/_b")
        assert "to team/\\_b/" in said(replace(UPDATE, repository=site))

    def test_pages_of_templates_are_linked_and_a_ref_then_has_none(self) -> None:
        site = replace(SITE, commit_url="https://h/c?{id}", compare_url="https://h/d?{old}&{new}")
        words = said(replace(UPDATE, repository=site))
        assert f"[2 new commits](https://h/d?{A}&{C}) to [team/site]({HOME})/main\n" in words
        assert f"[`{C[:7]}`](https://h/c?{C})" in words


class TestWords:
    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("@everyone and <@1>", "@\u200beveryone and \\<@\u200b1\\>"),
            ("[click](https://evil.example)", "\\[click\\]\\(https\\://evil.example\\)"),
            ("**bold** `code` ||spoiler||", "\\*\\*bold\\*\\* \\`code\\` \\|\\|spoiler\\|\\|"),
            ("C:\\n", "C:\\\\n"),
            ("", "(no message)"),
            ("\n \n# Title\n\nBody", "# Title"),
            ("a\tb \x1b[31m\u202ec", "a b \\[31mc"),
        ],
    )
    def test_a_subject_is_shown_as_it_was_written(self, written: str, shown: str) -> None:
        words = said(replace(UPDATE, commits=(replace(ONE, message=written),), total=1)).splitlines()[1]
        shown = "\\(no message\\)" if shown == "(no message)" else shown
        assert words == f"[`{B[:7]}`]({HOME}/commit/{B}) {shown} - Ada Lovelace"

    def test_a_tags_words_do_not_begin_a_line(self) -> None:
        assert TAG.tag is not None
        words = said(replace(TAG, tag=replace(TAG.tag, message="# Title\n\nBody"))).splitlines()
        assert words[1] == "“# Title”"


# ---- a reading of Discord's rules of its own ----

OWN_LINK = re.compile(r"\[(?:`[0-9a-f]{7}`|[0-9]+ new commits?|[A-Za-z0-9./_-]+)\]\(https?://[^\s()<>\[\]\\*`|\"']+\)")
OWN_CODE = re.compile(r"`[0-9a-f]{7}`")
OF_A_LINE = re.compile(r"\s*(?:#|-|\*|\+|>|[0-9]+[.)])")


def plain(words: str) -> Iterator[str]:
    """What is left of a description without its own links and code and without what a backslash makes plain."""
    at = 0
    while at < len(words):
        own = OWN_LINK.match(words, at) or OWN_CODE.match(words, at)
        if own:
            at = own.end()
            yield "\ue000"
        elif words[at] == "\\" and words[at + 1 : at + 2] and not re.match(r"[A-Za-z0-9\s]", words[at + 1]):
            at += 2
            yield "\ue001"
        else:
            yield words[at]
            at += 1


def length(words: str) -> int:
    """As the strictest reader counts: in UTF-16."""
    return sum(2 if ord(character) > 0xFFFF else 1 for character in words)


def check(payload: dict[str, object]) -> None:
    """Raises where Discord would refuse the message, ping somebody, or read what somebody wrote as its own marks."""
    assert payload.keys() == {"embeds", "allowed_mentions"}
    assert payload["allowed_mentions"] == {"parse": []}
    embeds = payload["embeds"]
    assert isinstance(embeds, list)
    (embed,) = embeds
    assert embed.keys() <= {"description", "color", "author"}
    assert 0 <= embed["color"] <= 0xFFFFFF
    description = embed["description"]
    author = embed.get("author", {"name": ""})
    assert author.keys() == {"name"}
    assert "author" not in embed or author["name"].strip()
    assert length(author["name"]) <= 256
    assert 1 <= length(description) <= 4096
    assert length(description) + length(author["name"]) <= 6000
    assert description == description.strip()
    lines = description.split("\n")
    for line in lines:
        assert line.strip()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line)
        left = "".join(plain(line))
        assert not set(left) & set("\\*~`|<>[]()")
        assert not re.search(r"https?:/", left)
        assert not re.search(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", left)
        assert not re.search(r"@(?!\u200b)", line)
        assert not OF_A_LINE.match(line)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(event=hostile())
def test_no_event_can_do_harm_or_exceed_a_limit(event: Event) -> None:
    for message in discord.render(event):
        check(message.payload)
        embeds = message.payload["embeds"]
        assert isinstance(embeds, list)
        told = re.findall(r"^(?:\[`|`)[0-9a-f]{7}`", embeds[0]["description"], re.MULTILINE)
        left = re.search(r"^… and ([0-9]+) more$", embeds[0]["description"], re.MULTILINE)
        count = re.search(r"\b([0-9]+) new commits?\b", embeds[0]["description"].split("\n")[0])
        if told:
            assert count is not None
            assert len(told) + int(left[1] if left else 0) == event.total


def test_the_longest_of_all_still_fits() -> None:
    many = replace(
        UPDATE,
        commits=(replace(ONE, message="(" * 5000, author=replace(ONE.author, name="🚀" * 5000)),) * 250,
        total=10**9,
        pusher=Pusher("🚀" * 5000),
        repository=replace(SITE, full_name="*" * 5000),
        incomplete="🚀" * 5000,
    )
    (message,) = discord.render(many)
    check(message.payload)
    told = said(many).splitlines()[1:]
    assert told[-2:] == [f"… and {10**9 - len(told) + 2} more", f"incomplete: {'🚀' * 149}…"]
    assert 3 < len(told) < 22


@pytest.mark.parametrize("notice", NOTICES.values(), ids=NOTICES)
def test_no_notice_can_do_harm_or_exceed_a_limit(notice: Notice) -> None:
    check(discord.notice(notice).payload)


@settings(deadline=None)
@given(name=texts, reason=texts)
def test_no_name_and_no_reason_can_do_harm(name: str, reason: str) -> None:
    check(discord.notice(Notice(name, "failing", reason, UPDATE.time)).payload)


def test_the_longest_notice_still_fits() -> None:
    check(discord.notice(Notice("&🚀*" * 5000, "disabled", "&🚀*" * 5000, UPDATE.time, 10**9)).payload)


def test_the_test_is_a_friendly_line() -> None:
    message = discord.test()
    check(message.payload)
    assert message.kind == "test"
    assert "test from refcast" in str(message.payload)


def test_there_are_no_headers_of_its_own() -> None:
    assert discord.headers("push", "an-id") == {"User-Agent": "refcast"}
    assert discord.SIGNING == "none"


def test_a_zero_id_is_never_where_a_ref_was() -> None:
    assert ZERO_ID[:7] not in said(replace(DELETED, update=replace(NEW_BRANCH.update, new=ZERO_ID)))  # type: ignore[type-var]
