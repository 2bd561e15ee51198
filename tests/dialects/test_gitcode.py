"""The GitCode dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from events import (
    BARE,
    DELETED,
    LIGHT_TAG,
    NEW_BRANCH,
    ONE,
    OTHER,
    OTHER_DELETED,
    SAMPLES,
    SITE,
    TAG,
    TAG_DELETED,
    TREE_TAG,
    UPDATE,
    A,
    B,
    C,
    D,
)
from refcast.dialects import gitcode
from refcast.model import ZERO_ID, Event, Hook, Ident, Pusher

HOOK = Hook(64665, "65a70057-7c95-49c9-b8b4-31ef0b040722")
HOME = "https://git.example.org/team/site"
SSH = "git@git.example.org:team/site.git"
PROJECT = {
    "id": 15,
    "name": "site",
    "description": "The site",
    "web_url": HOME,
    "avatar_url": "",
    "git_ssh_url": SSH,
    "git_http_url": f"{HOME}.git",
    "namespace": "team",
    "visibility_level": 0,
    "path_with_namespace": "team/site",
    "default_branch": "main",
    "homepage": HOME,
    "url": SSH,
    "ssh_url": SSH,
    "http_url": f"{HOME}.git",
}
REPOSITORY = {
    "name": "site",
    "url": SSH,
    "description": "The site",
    "homepage": HOME,
    "git_http_url": f"{HOME}.git",
    "git_ssh_url": SSH,
    "visibility_level": 0,
}
ADA = {"name": "Ada Lovelace", "email": "Ada@Example.org"}


def payload(event: Event, hook: Hook = HOOK) -> dict[str, object]:
    (message,) = gitcode.render(event, hook)
    return message.payload


def commits(event: Event) -> list[dict[str, object]]:
    listed = payload(event)["commits"]
    assert isinstance(listed, list)
    return listed


class TestRender:
    def test_a_push(self) -> None:
        (message,) = gitcode.render(replace(UPDATE, commits=(ONE,), total=9, options=("ci.skip",)), HOOK)
        assert message.kind == "Push Hook"
        expected = {
            "object_kind": "push",
            "event_name": "push",
            "before": A,
            "after": C,
            "ref": "refs/heads/main",
            "checkout_sha": C,
            "message": "",
            "user_id": 7,
            "user_name": "Ada Lovelace",
            "user_username": "ada",
            "user_email": "ada@example.org",
            "user_avatar": "",
            "project_id": 15,
            "project": PROJECT,
            "commits": [
                {
                    "id": B,
                    "message": "Add a guide\n",
                    "timestamp": "2024-05-06T05:33:04Z",
                    "url": f"{HOME}/commits/detail/{B}",
                    "author": ADA,
                    "added": ["docs/guide.md", "a file with spaces.txt"],
                    "removed": [],
                    "modified": [],
                    "cooperate_authors": [ADA],
                }
            ],
            "total_commits_count": 9,
            "push_options": ["ci.skip"],
            "repository": REPOSITORY,
            "git_branch": "main",
            "git_commit_no": C,
            "manual_build": False,
            "uuid": HOOK.uuid,
            "hook_id": 64665,
            "hook_type": "project",
        }
        assert message.payload == expected
        assert list(message.payload) == list(expected)

    def test_a_tag(self) -> None:
        (message,) = gitcode.render(TAG, HOOK)
        assert message.kind == "Tag Push Hook"
        expected = {
            "object_kind": "tag_push",
            "event_name": "tag_push",
            "before": ZERO_ID,
            "after": D,
            "ref": "refs/tags/v1.0",
            "base_ref": "",
            "checkout_sha": C,
            "message": "Version 1.0\n",
            "user_id": 7,
            "user_name": "Ada Lovelace",
            "user_username": "ada",
            "user_email": "ada@example.org",
            "user_avatar": "",
            "project_id": 15,
            "project": PROJECT,
            "commits": [
                {
                    "id": C,
                    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
                    "timestamp": "2024-05-06T05:33:04Z",
                    "url": f"{HOME}/commits/detail/{C}",
                    "author": ADA,
                }
            ],
            "total_commits_count": 1,
            "push_options": [],
            "repository": REPOSITORY,
            "manual_build": False,
            "uuid": HOOK.uuid,
            "hook_id": 64665,
            "hook_type": "project",
        }
        assert message.payload == expected
        assert list(message.payload) == list(expected)

    def test_commits_come_oldest_first(self) -> None:
        assert [commit["id"] for commit in commits(UPDATE)] == [B, C]

    def test_a_new_branch_is_told_by_the_zero_id_alone(self) -> None:
        assert payload(NEW_BRANCH)["before"] == ZERO_ID
        assert payload(NEW_BRANCH)["git_branch"] == "feature/x"

    @pytest.mark.parametrize("event", [DELETED, TAG_DELETED, OTHER_DELETED])
    def test_a_deletion_lists_nothing(self, event: Event) -> None:
        told = payload(replace(event, commits=(ONE,), total=9, head=ONE, tag=TAG.tag))
        assert told["after"] == ZERO_ID
        assert told["checkout_sha"] is None
        assert (told["commits"], told["total_commits_count"], told["message"]) == ([], 0, "")

    def test_a_light_tag_has_no_message(self) -> None:
        assert payload(LIGHT_TAG)["message"] == ""
        assert payload(LIGHT_TAG)["checkout_sha"] == C

    def test_a_tag_of_a_tree_has_no_commit(self) -> None:
        told = payload(TREE_TAG)
        assert (told["checkout_sha"], told["commits"], told["total_commits_count"]) == (None, [], 0)

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        (message,) = gitcode.render(OTHER)
        assert message.kind == "Push Hook"
        assert (message.payload["ref"], message.payload["git_branch"]) == ("refs/notes/commits", "refs/notes/commits")

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert gitcode.render(replace(UPDATE, update=None)) == []

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_event_is_one_message(self, name: str) -> None:
        assert len(gitcode.render(SAMPLES[name])) == 1

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        told = payload(replace(UPDATE, repository=BARE, pusher=Pusher("ben")))
        project = told["project"]
        assert isinstance(project, dict)
        assert {project[key] for key in ("web_url", "homepage", "url", "ssh_url", "http_url", "namespace")} == {""}
        assert told["user_name"] == "ben"
        assert commits(replace(UPDATE, repository=BARE))[0]["url"] == ""

    def test_a_template_gives_the_commit_url(self) -> None:
        site = replace(SITE, commit_url="https://h/c?{id}")
        assert commits(replace(UPDATE, repository=site))[0]["url"] == f"https://h/c?{B}"

    @pytest.mark.parametrize(
        ("time", "told"),
        [
            (datetime(2025, 10, 1, 17, 50, 5, tzinfo=timezone(timedelta(hours=8))), "2025-10-01T09:50:05Z"),
            (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "0001-01-01T00:00:00Z"),
            (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=1))), "9999-12-31T23:59:59Z"),
        ],
    )
    def test_times_are_in_utc(self, time: datetime, told: str) -> None:
        ada = Ident("Ada", "a@b", time)
        assert commits(replace(UPDATE, commits=(replace(ONE, committer=ada),)))[0]["timestamp"] == told


@pytest.mark.parametrize(
    ("message", "others"),
    [
        ("Co-authored-by: Ben <ben@example.org>", ["Ben"]),
        (
            "Subject\n\nCo-Authored-By:  Ben B.  <ben@example.org> \nco-authored-by: Eve <eve@example.org>\n",
            ["Ben B.", "Eve"],
        ),
        ("Co-authored-by: Ada <ada@example.org>\n", []),
        ("Co-authored-by: Ben <ben@example.org>\nCo-authored-by: Ben again <BEN@example.org>\n", ["Ben"]),
        ("Not Co-authored-by: Ben <ben@example.org>\nCo-authored-by: nobody\nCo-authored-by: <a\n@b>\n", []),
    ],
)
def test_authors_are_the_author_and_the_trailers(message: str, others: list[str]) -> None:
    found = gitcode.authors(replace(ONE, message=message))
    assert found[0] == ADA
    assert [one["name"] for one in found[1:] if isinstance(one, dict)] == others


def test_the_headers_are_those_of_the_help_page() -> None:
    assert gitcode.headers("Tag Push Hook", "an-id") == {
        "User-Agent": "git-gitcode-hook",
        "X-GitCode-Event": "Tag Push Hook",
        "X-GitCode-Delivery": "an-id",
    }


def test_the_test_is_an_ordinary_push() -> None:
    message = gitcode.test(HOOK)
    assert message.kind == "Push Hook"
    assert message.payload.keys() == payload(UPDATE).keys()
    assert (message.payload["uuid"], message.payload["hook_id"]) == (HOOK.uuid, 64665)
