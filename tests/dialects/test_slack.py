"""The Slack dialect: what it says, and that nothing anybody writes does harm there."""

from __future__ import annotations

import re
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
from refcast.dialects import limited, slack
from refcast.model import Event, Notice, Pusher

HOME = "https://git.example.org/team/site"
SITE_LINK = f"<{HOME}|team/site>"
PLACE = f"[{SITE_LINK}:<{HOME}/src/main|main>]"
TWO_LINE = f"<{HOME}/commit/{C}|{C[:7]}>: Rename &lt;it&gt; &amp; mend it 🚀 - Ada Lovelace"
ONE_LINE = f"<{HOME}/commit/{B}|{B[:7]}>: Add a guide - Ada Lovelace"
V1 = f"[{SITE_LINK}:<{HOME}/src/v1.0|v1.0>]"


def said(event: Event) -> list[str]:
    """The sentence, and the lines below it."""
    (message,) = slack.render(event)
    attachments = message.payload["attachments"]
    assert isinstance(attachments, list)
    return [str(message.payload["text"]), *(line for one in attachments for line in one["text"].split("\n"))]


class TestRender:
    def test_a_push(self) -> None:
        (message,) = slack.render(UPDATE)
        assert message.kind == "push"
        assert message.payload == {
            "text": f"{PLACE} <{HOME}/compare/{A}...{C}|2 new commits> pushed by ada",
            "unfurl_links": False,
            "unfurl_media": False,
            "link_names": False,
            "attachments": [
                {
                    "fallback": "[team/site:main] 2 new commits pushed by ada",
                    "color": "#2f6fde",
                    "text": f"{TWO_LINE}\n{ONE_LINE}",
                }
            ],
        }

    @pytest.mark.parametrize(
        ("event", "kind", "words"),
        [
            (
                NEW_BRANCH,
                "create",
                [
                    f"[{SITE_LINK}:<{HOME}/src/feature/x|feature/x>] branch created by ada with 2 new commits",
                    TWO_LINE,
                    ONE_LINE,
                ],
            ),
            (
                FORCED,
                "push",
                [
                    f"{PLACE} <{HOME}/compare/{D}...{C}|1 new commit> force-pushed by ada",
                    TWO_LINE,
                    f"was <{HOME}/commit/{D}|{D[:7]}>",
                ],
            ),
            (DELETED, "delete", [f"[{SITE_LINK}:main] branch deleted by ada", f"was <{HOME}/commit/{C}|{C[:7]}>"]),
            (TAG, "create", [f"{V1} tag created by ada", "“Version 1.0”", f"at {TWO_LINE}"]),
            (LIGHT_TAG, "create", [f"{V1} tag created by ada", f"at {TWO_LINE}"]),
            (TAG_MOVED, "create", [f"{V1} tag moved by ada", "“Version 1.0”", f"at {TWO_LINE}", f"was {B[:7]}"]),
            (TAG_DELETED, "delete", [f"[{SITE_LINK}:v1.0] tag deleted by ada", f"was {D[:7]}"]),
            (OTHER, "create", [f"[{SITE_LINK}:refs/notes/commits] ref created by ada with 1 new commit", TWO_LINE]),
            (
                replace(branch(C, B, forced=True), head=ONE),
                "push",
                [f"{PLACE} branch force-pushed by ada", f"at {ONE_LINE}", f"was <{HOME}/commit/{C}|{C[:7]}>"],
            ),
            (
                replace(branch(A, C), incomplete="some are gone"),
                "push",
                [f"{PLACE} branch pushed by ada", "incomplete: some are gone"],
            ),
            (
                replace(UPDATE, repository=BARE, commits=(TWO,), total=1, pusher=Pusher("")),
                "push",
                [
                    "[bare:main] 1 new commit pushed",
                    f"{C[:7]}: Rename &lt;it&gt; &amp; mend it 🚀 - Ada Lovelace",
                ],
            ),
            (
                replace(NEW_BRANCH, commits=(), total=0, head=None, repository=BARE),
                "create",
                ["[bare:feature/x] branch created by ada"],
            ),
        ],
    )
    def test_every_kind_of_move_has_its_words(self, event: Event, kind: str, words: list[str]) -> None:
        (message,) = slack.render(event)
        assert message.kind == kind
        assert said(event) == words

    @pytest.mark.parametrize("event", [replace(UPDATE, update=None), branch(A, C)])
    def test_nothing_is_sent_where_there_is_nothing_to_say(self, event: Event) -> None:
        assert slack.render(event) == []

    def test_what_is_left_out_is_counted(self) -> None:
        words = said(replace(UPDATE, total=1000))
        assert "1000 new commits" in words[0]
        assert words[-1] == "… and 998 more"
        many = said(limited(replace(UPDATE, commits=(ONE,) * 50, total=50), slack.COMMITS or 0, 9))
        assert len(many) == 22
        assert many[-1] == "… and 30 more"

    def test_an_address_with_marks_stays_one_link(self) -> None:
        site = replace(SITE, homepage="https://h/a|b?c=<d>&e")
        assert said(replace(UPDATE, repository=site))[0].startswith("[<https://h/a%7Cb?c=%3Cd%3E&amp;e|team/site>:")

    @pytest.mark.parametrize("homepage", ["javascript:alert(1)", "https://" + "h" * 300, "git@h:x", "https://[::1]/"])
    def test_what_is_no_page_is_not_linked(self, homepage: str) -> None:
        site = replace(SITE, homepage=homepage)
        assert said(replace(UPDATE, repository=site))[0] == "[team/site:main] 2 new commits pushed by ada"

    def test_too_long_a_sentence_loses_its_links(self) -> None:
        pages = f"https://h/?{'&' * 280}"
        site = replace(SITE, full_name="&" * 99, homepage=pages[:250], compare_url=pages)
        assert said(replace(UPDATE, repository=site))[0] == f"[{'&amp;' * 99}:main] 2 new commits pushed by ada"


class TestWords:
    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("@here and <!channel>", "@\u200bhere and &lt;!channel&gt;"),
            ("<https://evil.example|click>", "&lt;https://evil.example|click&gt;"),
            ("*bold* `code` ~gone~ _so_ __init__ a_b", "∗bold∗ 'code' ∼gone∼ ˍsoˍ ˍˍinitˍˍ a_b"),
            ("&lt; is not <", "&amp;lt; is not &lt;"),
            ("", "(no message)"),
            ("\n \n> Title\n\nBody", "&gt; Title"),
            ("a\tb \x1b[31m\u202ec", "a b [31mc"),
        ],
    )
    def test_a_subject_is_shown_as_it_was_written(self, written: str, shown: str) -> None:
        words = said(replace(UPDATE, commits=(replace(ONE, message=written),), total=1))
        assert words[1] == f"<{HOME}/commit/{B}|{B[:7]}>: {shown} - Ada Lovelace"

    def test_a_tags_words_do_not_begin_a_line(self) -> None:
        assert TAG.tag is not None
        words = said(replace(TAG, tag=replace(TAG.tag, message="> quoted\n\nBody")))
        assert words[1] == "“&gt; quoted”"


# ---- a reading of Slack's rules of its own ----

OWN_LINK = re.compile(r"<https?://(?:[^\s<>|&]|&amp;)+\|([^<>]+)>")
ENTITY = re.compile(r"&(?:amp|lt|gt);")


def check_text(words: object, *, limit: int) -> None:
    """Raises where Slack would cut the text, ping somebody, or read what somebody wrote as its own marks."""
    assert isinstance(words, str)
    assert 1 <= sum(2 if ord(character) > 0xFFFF else 1 for character in words) <= limit
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", words)
    left = ENTITY.sub("\ue000", OWN_LINK.sub(r"\1", words))
    assert not set(left) & set("<>&*~`")
    assert not re.search(r"@(?!\u200b)", left)
    for found in re.finditer("_", left):
        assert left[found.start() - 1].isalnum()
        assert left[found.end()].isalnum()
    for line in words.split("\n"):
        assert line.strip()
        assert not line.startswith(("&gt;", ">"))


def check(payload: dict[str, object]) -> None:
    assert payload.keys() == {"text", "unfurl_links", "unfurl_media", "link_names", "attachments"}
    assert payload["unfurl_links"] is payload["unfurl_media"] is payload["link_names"] is False
    check_text(payload["text"], limit=4_000)
    assert "\n" not in str(payload["text"])
    attachments = payload["attachments"]
    assert isinstance(attachments, list)
    assert len(attachments) <= 1
    for one in attachments:
        assert one.keys() == {"fallback", "color", "text"}
        assert re.fullmatch("#[0-9a-f]{6}", one["color"])
        check_text(one["fallback"], limit=4_000)
        check_text(one["text"], limit=8_000)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(event=hostile())
def test_no_event_can_do_harm_or_exceed_a_limit(event: Event) -> None:
    for message in slack.render(event):
        check(message.payload)
        below = "\n".join(one["text"] for one in message.payload["attachments"])  # type: ignore[attr-defined]
        told = re.findall(r"^(?:<[^|]*\|)?[0-9a-f]{7}>?: ", below, re.MULTILINE)
        left = re.search(r"^… and ([0-9]+) more$", below, re.MULTILINE)
        if told:
            assert len(told) + int(left[1] if left else 0) == event.total


def test_the_longest_of_all_still_fits() -> None:
    many = replace(
        UPDATE,
        commits=(replace(ONE, message="&" * 5000, author=replace(ONE.author, name="&" * 5000)),) * 250,
        total=10**9,
        pusher=Pusher("&" * 5000),
        repository=replace(SITE, full_name="&" * 5000),
        incomplete="&" * 5000,
    )
    (message,) = slack.render(many)
    check(message.payload)
    told = said(many)[1:]
    assert told[-2:] == [f"… and {10**9 - len(told) + 2} more", f"incomplete: {'&amp;' * 149}…"]
    assert 3 < len(told) < 22


@pytest.mark.parametrize("notice", NOTICES.values(), ids=NOTICES)
def test_no_notice_can_do_harm_or_exceed_a_limit(notice: Notice) -> None:
    check(slack.notice(notice).payload)


@settings(deadline=None)
@given(name=texts, reason=texts)
def test_no_name_and_no_reason_can_do_harm(name: str, reason: str) -> None:
    check(slack.notice(Notice(name, "failing", reason, UPDATE.time)).payload)


def test_the_longest_notice_still_fits() -> None:
    check(slack.notice(Notice("&🚀*" * 5000, "disabled", "&🚀*" * 5000, UPDATE.time, 10**9)).payload)


def test_the_test_is_a_friendly_line() -> None:
    message = slack.test()
    check(message.payload)
    assert message.kind == "test"
    assert "test from refcast" in str(message.payload["text"])


def test_there_are_no_headers_of_its_own() -> None:
    assert slack.headers("push", "an-id") == {"User-Agent": "refcast"}
    assert slack.SIGNING == "none"
