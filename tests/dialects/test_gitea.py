"""The dialect of Gitea and Forgejo, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
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
    UPDATE,
    A,
    B,
    C,
    D,
)
from refcast.dialects import gitea
from refcast.model import ZERO_ID, Event, Ident, Pusher, RefUpdate

HOME = "https://git.example.org/team/site"
SECOND = {
    "id": C,
    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
    "url": f"{HOME}/commit/{C}",
    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org", "username": "ada"},
    "committer": {"name": "Ben Ødegård", "email": "ben@example.org", "username": ""},
    "verification": None,
    "timestamp": "2024-05-06T08:00:00+08:00",
    "added": ["new.txt"],
    "removed": ["old.txt"],
    "modified": ["README.md"],
}
FIELDS = [
    "ref",
    "before",
    "after",
    "compare_url",
    "commits",
    "total_commits",
    "head_commit",
    "repository",
    "pusher",
    "sender",
]


def kinds(event: Event) -> list[str]:
    return [message.kind for message in gitea.render(event)]


def told(event: Event, kind: str = "push") -> dict[str, Any]:
    (payload,) = [message.payload for message in gitea.render(event) if message.kind == kind]
    return payload


class TestEvents:
    def test_an_update_is_a_push(self) -> None:
        assert kinds(UPDATE) == kinds(FORCED) == ["push"]

    @pytest.mark.parametrize("event", [NEW_BRANCH, TAG, LIGHT_TAG, TREE_TAG, TAG_MOVED])
    def test_a_new_branch_and_any_tag_is_a_create_and_then_a_push(self, event: Event) -> None:
        assert kinds(event) == ["create", "push"]

    def test_a_deleted_branch_is_a_delete_alone(self) -> None:
        assert kinds(DELETED) == ["delete"]

    def test_a_deleted_tag_is_a_push_to_the_zero_id_and_then_a_delete(self) -> None:
        assert kinds(TAG_DELETED) == ["push", "delete"]
        payload = told(TAG_DELETED)
        assert (payload["before"], payload["after"]) == (D, ZERO_ID)
        assert (payload["commits"], payload["total_commits"], payload["head_commit"]) == ([], 0, None)
        assert payload["compare_url"] == ""

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert kinds(OTHER) == kinds(OTHER_DELETED) == ["push"]
        assert told(OTHER)["ref"] == "refs/notes/commits"
        assert told(OTHER_DELETED)["after"] == ZERO_ID

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert gitea.render(replace(UPDATE, update=None)) == []


class TestPush:
    def test_of_an_update(self) -> None:
        payload = told(UPDATE)
        assert list(payload) == FIELDS
        assert {key: payload[key] for key in FIELDS[:4]} == {
            "ref": "refs/heads/main",
            "before": A,
            "after": C,
            "compare_url": f"{HOME}/compare/{A}...{C}",
        }
        assert [commit["id"] for commit in payload["commits"]] == [C, B]
        assert payload["commits"][0] == payload["head_commit"] == SECOND
        assert payload["total_commits"] == 2
        assert payload["pusher"] == payload["sender"]

    @pytest.mark.parametrize("name", [name for name in SAMPLES if name != "deleted"])
    def test_has_the_same_fields_whatever_moved(self, name: str) -> None:
        assert list(told(SAMPLES[name])) == FIELDS

    @pytest.mark.parametrize("event", [TAG, LIGHT_TAG])
    def test_of_a_tag_lists_nothing_but_has_its_commit_as_head(self, event: Event) -> None:
        payload = told(event)
        assert payload["ref"] == "refs/tags/v1.0"
        assert (payload["commits"], payload["total_commits"]) == ([], 0)
        assert payload["head_commit"] == SECOND

    def test_of_a_tag_of_a_tree_has_no_head(self) -> None:
        assert told(TREE_TAG)["head_commit"] is None

    def test_the_total_is_exact_beside_a_bounded_list(self) -> None:
        assert told(replace(UPDATE, total=100_000))["total_commits"] == 100_000

    def test_no_offset_is_z_as_go_prints_it(self) -> None:
        noon = Ident("Ada", "a@b", datetime(2024, 5, 6, 12, 0, tzinfo=UTC))
        (commit,) = told(replace(UPDATE, commits=(replace(ONE, author=noon),)))["commits"]
        assert commit["timestamp"] == "2024-05-06T12:00:00Z"


class TestCompare:
    @pytest.mark.parametrize(
        ("event", "url"),
        [
            (UPDATE, f"{HOME}/compare/{A}...{C}"),
            (NEW_BRANCH, f"{HOME}/compare/{A}...{C}"),
            (replace(NEW_BRANCH, commits=(), total=0), f"{HOME}/compare/main...{C}"),
            (replace(NEW_BRANCH, total=100_000), f"{HOME}/compare/main...{C}"),
            (replace(NEW_BRANCH, commits=(), total=0, update=RefUpdate(ZERO_ID, C, "refs/heads/main")), ""),
            (replace(NEW_BRANCH, repository=replace(SITE, compare_url="https://h/{old}-{new}")), f"https://h/{A}-{C}"),
            (replace(NEW_BRANCH, repository=BARE), ""),
            (TAG, ""),
            (TAG_MOVED, ""),
        ],
    )
    def test_url(self, event: Event, url: str) -> None:
        assert told(event)["compare_url"] == url


class TestCreateAndDelete:
    @pytest.mark.parametrize(
        ("event", "ref", "kind", "sha"),
        [(NEW_BRANCH, "feature/x", "branch", C), (TAG, "v1.0", "tag", D), (LIGHT_TAG, "v1.0", "tag", C)],
    )
    def test_a_create(self, event: Event, ref: str, kind: str, sha: str) -> None:
        payload = told(event, "create")
        assert list(payload) == ["sha", "ref", "ref_type", "repository", "sender"]
        assert (payload["ref"], payload["ref_type"], payload["sha"]) == (ref, kind, sha)

    @pytest.mark.parametrize(("event", "ref", "kind"), [(DELETED, "main", "branch"), (TAG_DELETED, "v1.0", "tag")])
    def test_a_delete(self, event: Event, ref: str, kind: str) -> None:
        payload = told(event, "delete")
        assert list(payload) == ["ref", "ref_type", "pusher_type", "repository", "sender"]
        assert (payload["ref"], payload["ref_type"], payload["pusher_type"]) == (ref, kind, "user")


class TestRepository:
    def test_tells_what_is_known(self) -> None:
        repository = told(UPDATE)["repository"]
        known = {
            "id": 15,
            "name": "site",
            "full_name": "team/site",
            "description": "The site",
            "html_url": HOME,
            "ssh_url": "git@git.example.org:team/site.git",
            "clone_url": f"{HOME}.git",
            "default_branch": "main",
            "updated_at": "2024-05-06T07:08:09Z",
            "object_format_name": "sha1",
        }
        assert {key: repository[key] for key in known} == known
        assert (repository["owner"]["login"], repository["owner"]["id"]) == ("team", 0)

    def test_knows_sha_256_by_the_ids(self) -> None:
        event = replace(UPDATE, update=RefUpdate("1" * 64, "2" * 64, "refs/heads/main"))
        assert told(event)["repository"]["object_format_name"] == "sha256"

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        payload = told(replace(UPDATE, repository=BARE))
        links = {key: value for key, value in payload["repository"].items() if key.endswith("url")}
        assert set(links.values()) == {""}
        assert payload["compare_url"] == payload["head_commit"]["url"] == payload["repository"]["owner"]["login"] == ""

    def test_the_owner_is_the_same_whoever_pushes(self) -> None:
        pushers = [Pusher(name, "A Name", "a@b", 9) for name in ("team", "ada")]
        owners = [told(replace(UPDATE, pusher=pusher))["repository"]["owner"] for pusher in pushers]
        assert owners[0] == owners[1]


def test_the_sender() -> None:
    sender = told(UPDATE)["sender"]
    known = {"id": 7, "login": "ada", "full_name": "Ada Lovelace", "email": "ada@example.org", "username": "ada"}
    assert {key: sender[key] for key in known} == known


def test_event_and_delivery_go_under_four_names() -> None:
    headers = gitea.headers("create", "an-id")
    for family in ("Forgejo", "Gitea", "Gogs", "GitHub"):
        assert headers[f"X-{family}-Delivery"] == "an-id"
        assert headers[f"X-{family}-Event"] == headers[f"X-{family}-Event-Type"] == "create"
    assert len(headers) == 4 * 3 + 3


def test_the_test_button_sends_one_made_up_commit() -> None:
    message = gitea.test()
    assert message.kind == "push"
    assert list(message.payload) == FIELDS
    assert message.payload["total_commits"] == 1
