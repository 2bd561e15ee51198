"""The Gogs dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from events import (
    ADA,
    BARE,
    DELETED,
    FORCED,
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
from refcast.dialects import gogs
from refcast.model import ZERO_ID, Event, Ident, Pusher

SEED_PUSH = ["ref", "before", "after", "compare_url", "commits", "repository", "pusher", "sender"]
SEED_COMMIT = ["id", "message", "url", "author", "committer", "timestamp"]
SEED_REPOSITORY = [
    "id",
    "owner",
    "name",
    "full_name",
    "description",
    "private",
    "fork",
    "html_url",
    "ssh_url",
    "clone_url",
    "website",
    "stars_count",
    "forks_count",
    "watchers_count",
    "open_issues_count",
    "default_branch",
    "created_at",
    "updated_at",
]
SEED_USER = ["id", "login", "full_name", "email", "avatar_url", "username"]

SENDER = {
    "id": 7,
    "login": "ada",
    "full_name": "Ada Lovelace",
    "email": "ada@example.org",
    "avatar_url": "",
    "username": "ada",
}
REPOSITORY = {
    "id": 15,
    "owner": {
        "id": 0,
        "login": "team",
        "full_name": "team",
        "email": "",
        "avatar_url": "",
        "username": "team",
    },
    "name": "site",
    "full_name": "team/site",
    "description": "The site",
    "private": True,
    "fork": False,
    "parent": None,
    "empty": False,
    "mirror": False,
    "size": 0,
    "html_url": "https://git.example.org/team/site",
    "ssh_url": "git@git.example.org:team/site.git",
    "clone_url": "https://git.example.org/team/site.git",
    "website": "",
    "stars_count": 0,
    "forks_count": 0,
    "watchers_count": 0,
    "open_issues_count": 0,
    "default_branch": "main",
    "created_at": "1970-01-01T00:00:00Z",
    "updated_at": "2024-05-06T07:08:09Z",
}
COMMITTER = {"name": "Ben Ødegård", "email": "ben@example.org", "username": ""}
AUTHOR = {"name": "Ada Lovelace", "email": "Ada@Example.org", "username": "ada"}


def kinds(event: Event) -> list[str]:
    return [message.kind for message in gogs.render(event)]


def push_of(event: Event) -> dict[str, object]:
    (payload,) = [message.payload for message in gogs.render(event) if message.kind == "push"]
    return payload


class TestRender:
    def test_a_push_lists_the_newest_commit_first(self) -> None:
        (message,) = gogs.render(UPDATE)
        assert message.kind == "push"
        assert message.payload == {
            "ref": "refs/heads/main",
            "before": A,
            "after": C,
            "compare_url": f"https://git.example.org/team/site/compare/{A}...{C}",
            "commits": [
                {
                    "id": C,
                    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
                    "url": f"https://git.example.org/team/site/commit/{C}",
                    "author": AUTHOR,
                    "committer": COMMITTER,
                    "added": ["new.txt"],
                    "removed": ["old.txt"],
                    "modified": ["README.md"],
                    "timestamp": "2024-05-06T02:03:04-03:30",
                },
                {
                    "id": B,
                    "message": "Add a guide\n",
                    "url": f"https://git.example.org/team/site/commit/{B}",
                    "author": AUTHOR,
                    "committer": COMMITTER,
                    "added": ["docs/guide.md", "a file with spaces.txt"],
                    "removed": [],
                    "modified": [],
                    "timestamp": "2024-05-06T02:03:04-03:30",
                },
            ],
            "repository": REPOSITORY,
            "pusher": SENDER,
            "sender": SENDER,
        }

    def test_the_fields_of_the_documentation_come_in_its_order(self) -> None:
        payload = push_of(UPDATE)
        assert list(payload) == SEED_PUSH
        commits, repository, sender = payload["commits"], payload["repository"], payload["sender"]
        assert isinstance(commits, list)
        assert isinstance(repository, dict)
        assert isinstance(sender, dict)
        assert [key for key in commits[0] if key in SEED_COMMIT] == SEED_COMMIT
        assert [key for key in repository if key in SEED_REPOSITORY] == SEED_REPOSITORY
        assert list(repository["owner"]) == list(sender) == SEED_USER

    def test_a_new_branch_is_a_create_and_then_a_push(self) -> None:
        create, push = gogs.render(NEW_BRANCH)
        assert create.kind == "create"
        assert create.payload == {
            "ref": "feature/x",
            "ref_type": "branch",
            "sha": C,
            "default_branch": "main",
            "repository": REPOSITORY,
            "sender": SENDER,
        }
        assert push.kind == "push"
        assert push.payload["ref"] == "refs/heads/feature/x"
        assert push.payload["before"] == ZERO_ID
        assert push.payload["compare_url"] == ""

    @pytest.mark.parametrize(("event", "ref", "kind"), [(DELETED, "main", "branch"), (TAG_DELETED, "v1.0", "tag")])
    def test_a_deletion_is_a_delete_alone(self, event: Event, ref: str, kind: str) -> None:
        (message,) = gogs.render(event)
        assert message.kind == "delete"
        assert message.payload == {
            "ref": ref,
            "ref_type": kind,
            "pusher_type": "user",
            "repository": REPOSITORY,
            "sender": SENDER,
        }

    @pytest.mark.parametrize("event", [TAG, TAG_MOVED, TREE_TAG])
    def test_a_tag_is_a_create_alone(self, event: Event) -> None:
        (message,) = gogs.render(event)
        assert message.kind == "create"
        assert (message.payload["ref"], message.payload["ref_type"]) == ("v1.0", "tag")
        assert message.payload["sha"] == D

    def test_a_forced_push_is_a_push(self) -> None:
        assert kinds(FORCED) == ["push"]

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert kinds(OTHER) == kinds(OTHER_DELETED) == ["push"]
        assert push_of(OTHER)["ref"] == "refs/notes/commits"
        assert push_of(OTHER_DELETED)["after"] == ZERO_ID
        assert push_of(OTHER_DELETED)["commits"] == []
        assert push_of(OTHER_DELETED)["compare_url"] == ""

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert gogs.render(replace(UPDATE, update=None)) == []

    def test_lists_are_whole(self) -> None:
        many = tuple(replace(ONE, id=f"{n:040}") for n in range(1, 101))
        commits = push_of(replace(UPDATE, commits=many, total=100))["commits"]
        assert isinstance(commits, list)
        assert [commit["id"] for commit in commits] == [commit.id for commit in reversed(many)]

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        payload = push_of(replace(UPDATE, repository=BARE))
        commits, repository = payload["commits"], payload["repository"]
        assert isinstance(commits, list)
        assert isinstance(repository, dict)
        assert payload["compare_url"] == commits[0]["url"] == ""
        assert {repository[key] for key in ("html_url", "ssh_url", "clone_url", "default_branch")} == {""}
        assert repository["owner"]["login"] == ""

    def test_templates_give_the_urls(self) -> None:
        site = replace(SITE, commit_url="https://h/c?{id}", compare_url="https://h/d?{old}-{new}")
        payload = push_of(replace(UPDATE, repository=site))
        commits = payload["commits"]
        assert isinstance(commits, list)
        assert payload["compare_url"] == f"https://h/d?{A}-{C}"
        assert commits[0]["url"] == f"https://h/c?{C}"

    def test_no_offset_is_z_as_go_prints_it(self) -> None:
        noon = Ident("Ada", "a@b", datetime(2024, 5, 6, 12, 0, tzinfo=UTC))
        commits = push_of(replace(UPDATE, commits=(replace(ONE, committer=noon),)))["commits"]
        assert isinstance(commits, list)
        assert commits[0]["timestamp"] == "2024-05-06T12:00:00Z"

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_event_is_told(self, name: str) -> None:
        assert gogs.render(SAMPLES[name])


@pytest.mark.parametrize(
    ("name", "email", "pusher", "username"),
    [
        ("Somebody", "ADA@example.org", ADA, "ada"),
        ("Ada Lovelace", "ben@example.org", ADA, ""),
        ("Ada Lovelace", "ada@example.org", Pusher("ada", "Ada Lovelace"), "ada"),
        ("ada", "ada@example.org", Pusher("ada"), "ada"),
        ("", "", Pusher("ada"), ""),
        ("", "", ADA, ""),
    ],
)
def test_a_person_has_a_user_name_only_as_the_pusher(name: str, email: str, pusher: Pusher, username: str) -> None:
    person = gogs.person_object(Ident(name, email, ONE.author.time), pusher)
    assert person == {"name": name, "email": email, "username": username}


def test_the_owner_is_the_same_whoever_pushes() -> None:
    owners = []
    for name in ("team", "ada"):
        repository = push_of(replace(UPDATE, pusher=Pusher(name, "A Name", "a@b", 9)))["repository"]
        assert isinstance(repository, dict)
        owners.append(repository["owner"])
    assert owners[0] == owners[1]


def test_event_and_delivery_go_under_both_names() -> None:
    assert gogs.headers("create", "an-id") == {
        "User-Agent": "GogsServer",
        "X-Gogs-Delivery": "an-id",
        "X-Gogs-Event": "create",
        "X-GitHub-Delivery": "an-id",
        "X-GitHub-Event": "create",
    }


def test_the_test_button_sends_one_made_up_commit() -> None:
    message = gogs.test()
    assert message.kind == "push"
    assert list(message.payload) == SEED_PUSH
    commits = message.payload["commits"]
    assert isinstance(commits, list)
    assert [(commit["id"], commit["message"], commit["timestamp"]) for commit in commits] == [
        (ZERO_ID, "This is a fake commit", "0001-01-01T00:00:00Z")
    ]
