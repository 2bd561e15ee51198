"""The GitLab dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from events import (
    BARE,
    DELETED,
    FORCED,
    LIGHT_TAG,
    NEW_BRANCH,
    ONE,
    OTHER,
    OTHER_DELETED,
    SAMPLES,
    SITE,
    TAG,
    TAG_DELETED,
    TAG_MOVED,
    TREE_TAG,
    TWO,
    UPDATE,
    A,
    B,
    C,
    D,
)
from refcast.dialects import gitlab, limited
from refcast.model import ZERO_ID, Event, Hook, Pusher

HOME = "https://git.example.org/team/site"
SECOND = {
    "id": C,
    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
    "title": "Rename <it> & mend it 🚀",
    "timestamp": "2024-05-06T02:03:04-03:30",
    "url": f"{HOME}/-/commit/{C}",
    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org"},
    "added": ["new.txt"],
    "modified": ["README.md"],
    "removed": ["old.txt"],
}
FIELDS = [
    "object_kind",
    "event_name",
    "before",
    "after",
    "ref",
    "ref_protected",
    "checkout_sha",
    "message",
    "user_id",
    "user_name",
    "user_username",
    "user_email",
    "user_avatar",
    "project_id",
    "project",
    "commits",
    "total_commits_count",
    "push_options",
    "repository",
]


def told(event: Event) -> dict[str, Any]:
    (message,) = gitlab.render(event)
    return message.payload


class TestRender:
    def test_a_push(self) -> None:
        (message,) = gitlab.render(UPDATE)
        assert message.kind == "Push Hook"
        payload: dict[str, Any] = message.payload
        assert [commit["id"] for commit in payload["commits"]] == [B, C]
        assert payload["commits"][1] == SECOND
        assert {key: payload[key] for key in payload if key != "commits"} == {
            "object_kind": "push",
            "event_name": "push",
            "before": A,
            "after": C,
            "ref": "refs/heads/main",
            "ref_protected": False,
            "checkout_sha": C,
            "message": None,
            "user_id": 7,
            "user_name": "Ada Lovelace",
            "user_username": "ada",
            "user_email": "ada@example.org",
            "user_avatar": None,
            "project_id": 15,
            "project": {
                "id": 15,
                "name": "site",
                "description": "The site",
                "web_url": HOME,
                "avatar_url": None,
                "git_ssh_url": "git@git.example.org:team/site.git",
                "git_http_url": f"{HOME}.git",
                "namespace": "team",
                "visibility_level": 0,
                "path_with_namespace": "team/site",
                "default_branch": "main",
                "ci_config_path": None,
                "homepage": HOME,
                "url": "git@git.example.org:team/site.git",
                "ssh_url": "git@git.example.org:team/site.git",
                "http_url": f"{HOME}.git",
            },
            "total_commits_count": 2,
            "push_options": {},
            "repository": {
                "name": "site",
                "url": "git@git.example.org:team/site.git",
                "description": "The site",
                "homepage": HOME,
                "git_http_url": f"{HOME}.git",
                "git_ssh_url": "git@git.example.org:team/site.git",
                "visibility_level": 0,
            },
        }

    def test_a_tag_lists_its_commit(self) -> None:
        (message,) = gitlab.render(TAG)
        assert message.kind == "Tag Push Hook"
        payload = message.payload
        assert payload["object_kind"] == payload["event_name"] == "tag_push"
        assert (payload["before"], payload["after"]) == (ZERO_ID, D)
        assert payload["checkout_sha"] == C
        assert payload["message"] == "Version 1.0"
        assert payload["commits"] == [SECOND]
        assert payload["total_commits_count"] == 1

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_event_has_the_same_fields(self, name: str) -> None:
        assert list(told(SAMPLES[name])) == FIELDS

    def test_a_light_tag_has_an_empty_message(self) -> None:
        assert told(LIGHT_TAG)["message"] == ""
        assert told(LIGHT_TAG)["checkout_sha"] == C

    def test_a_tag_of_a_tree_has_nothing_to_check_out(self) -> None:
        payload = told(TREE_TAG)
        assert payload["checkout_sha"] is None
        assert (payload["commits"], payload["total_commits_count"]) == ([], 0)
        assert payload["message"] == "Version 1.0"

    def test_a_moved_tag_keeps_its_old_id(self) -> None:
        assert (told(TAG_MOVED)["before"], told(TAG_MOVED)["after"]) == (B, D)

    def test_a_new_branch_is_a_push_from_the_zero_id(self) -> None:
        assert told(NEW_BRANCH)["before"] == ZERO_ID
        assert told(NEW_BRANCH)["ref"] == "refs/heads/feature/x"

    def test_a_forced_push_lists_what_is_new(self) -> None:
        assert [commit["id"] for commit in told(FORCED)["commits"]] == [C]

    @pytest.mark.parametrize(("event", "kind"), [(DELETED, "push"), (TAG_DELETED, "tag_push")])
    def test_a_deletion_goes_to_the_zero_id_with_nothing_to_check_out(self, event: Event, kind: str) -> None:
        payload = told(replace(event, total=9, commits=(ONE,), head=ONE))
        assert payload["object_kind"] == kind
        assert payload["after"] == ZERO_ID
        assert payload["checkout_sha"] is None
        assert payload["message"] is None
        assert (payload["commits"], payload["total_commits_count"]) == ([], 0)

    def test_lists_the_newest_twenty_with_an_exact_total(self) -> None:
        many = tuple(replace(ONE, id=f"{n:040}") for n in range(1, 101))
        payload = told(limited(replace(UPDATE, commits=many, total=100_000), gitlab.COMMITS or 0, 9))
        assert [commit["id"] for commit in payload["commits"]] == [commit.id for commit in many[-20:]]
        assert payload["total_commits_count"] == 100_000

    def test_a_branch_whose_commit_is_gone_still_names_it(self) -> None:
        assert told(replace(UPDATE, head=None, commits=(), incomplete="gone"))["checkout_sha"] == C

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert gitlab.render(OTHER)[0].kind == "Push Hook"
        assert told(OTHER)["ref"] == "refs/notes/commits"
        assert told(OTHER_DELETED)["after"] == ZERO_ID

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert gitlab.render(replace(UPDATE, update=None)) == []

    def test_a_pusher_without_a_name_goes_by_the_user_name(self) -> None:
        payload = told(replace(UPDATE, pusher=Pusher("ben")))
        assert (payload["user_id"], payload["user_name"], payload["user_email"]) == (0, "ben", "")

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        payload = told(replace(UPDATE, repository=BARE))
        links = {"web_url", "git_ssh_url", "git_http_url", "homepage", "url", "ssh_url", "http_url", "namespace"}
        assert {payload["project"][key] for key in links} == {""}
        assert payload["commits"][0]["url"] == ""

    def test_a_template_gives_the_commit_url(self) -> None:
        site = replace(SITE, commit_url="https://cgit.example.org/site/commit/?id={id}")
        payload = told(replace(UPDATE, repository=site))
        assert payload["commits"][0]["url"] == f"https://cgit.example.org/site/commit/?id={B}"

    @pytest.mark.parametrize(
        ("message", "title"),
        [("", ""), ("x" * 200, "x" * 200), ("one\r\ntwo", "one"), ("one\rtwo", "one"), ("\nlate", "")],
    )
    def test_the_title_is_the_whole_first_line(self, message: str, title: str) -> None:
        (commit,) = told(replace(UPDATE, commits=(replace(TWO, message=message),)))["commits"]
        assert (commit["message"], commit["title"]) == (message, title)


def test_headers() -> None:
    assert gitlab.headers("Tag Push Hook", "an-id", Hook(12, "an-event", "https://git.example.org")) == {
        "User-Agent": "GitLab/17.4.0",
        "Idempotency-Key": "an-id",
        "X-Gitlab-Event": "Tag Push Hook",
        "X-Gitlab-Webhook-UUID": "an-id",
        "X-Gitlab-Instance": "https://git.example.org",
        "X-Gitlab-Event-UUID": "an-event",
    }


def test_an_unknown_site_is_not_named() -> None:
    assert "X-Gitlab-Instance" not in gitlab.headers("Push Hook", "an-id", Hook(12, "an-event"))


def test_the_test_button_sends_one_made_up_commit() -> None:
    message = gitlab.test()
    assert message.kind == "Push Hook"
    assert list(message.payload) == FIELDS
    assert message.payload["total_commits_count"] == 1
    assert message.payload["checkout_sha"] == message.payload["after"]
