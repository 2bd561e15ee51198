"""The GitHub dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from events import (
    ADA,
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
    E,
)
from refcast.dialects import github, limited
from refcast.model import ZERO_ID, Event, Hook, Ident, Pusher

HOME = "https://git.example.org/team/site"
AUTHOR = {"name": "Ada Lovelace", "email": "Ada@Example.org", "username": "ada"}
COMMITTER = {"name": "Ben Ødegård", "email": "ben@example.org"}
SECOND = {
    "id": C,
    "tree_id": E,
    "distinct": True,
    "message": "Rename <it> & mend it 🚀\n\nBecause.",
    "timestamp": "2024-05-06T02:03:04-03:30",
    "url": f"{HOME}/commit/{C}",
    "author": AUTHOR,
    "committer": COMMITTER,
    "added": ["new.txt"],
    "removed": ["old.txt"],
    "modified": ["README.md"],
}


def kinds(event: Event) -> list[str]:
    return [message.kind for message in github.render(event)]


def told(event: Event, kind: str = "push") -> dict[str, Any]:
    (payload,) = [message.payload for message in github.render(event) if message.kind == kind]
    return payload


class TestEvents:
    def test_an_update_is_a_push(self) -> None:
        assert kinds(UPDATE) == kinds(FORCED) == ["push"]

    @pytest.mark.parametrize("event", [NEW_BRANCH, TAG, LIGHT_TAG, TREE_TAG])
    def test_a_new_ref_is_a_create_and_a_push(self, event: Event) -> None:
        assert kinds(event) == ["create", "push"]

    @pytest.mark.parametrize("event", [DELETED, TAG_DELETED])
    def test_a_deletion_is_a_delete_and_a_push(self, event: Event) -> None:
        assert kinds(event) == ["delete", "push"]

    def test_a_tag_that_moves_is_a_forced_push(self) -> None:
        assert kinds(TAG_MOVED) == ["push"]
        assert told(TAG_MOVED)["forced"] is True

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert kinds(OTHER) == kinds(OTHER_DELETED) == ["push"]
        assert told(OTHER)["ref"] == "refs/notes/commits"
        assert told(OTHER_DELETED)["deleted"] is True

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert github.render(replace(UPDATE, update=None)) == []


class TestPush:
    def test_of_an_update(self) -> None:
        payload = told(UPDATE)
        assert {key: payload[key] for key in payload if key not in {"repository", "sender", "commits"}} == {
            "ref": "refs/heads/main",
            "before": A,
            "after": C,
            "pusher": {"name": "ada", "email": "ada@example.org"},
            "created": False,
            "deleted": False,
            "forced": False,
            "base_ref": None,
            "compare": f"{HOME}/compare/{'a' * 12}...{'c' * 12}",
            "head_commit": SECOND,
        }
        assert [commit["id"] for commit in payload["commits"]] == [B, C]
        assert payload["commits"][1] == SECOND

    @pytest.mark.parametrize("name", SAMPLES)
    def test_has_the_same_fields_whatever_moved(self, name: str) -> None:
        assert told(SAMPLES[name]).keys() == told(UPDATE).keys()

    @pytest.mark.parametrize(
        ("event", "created", "deleted", "forced"),
        [
            (UPDATE, False, False, False),
            (NEW_BRANCH, True, False, False),
            (DELETED, False, True, False),
            (FORCED, False, False, True),
            (TAG, True, False, False),
            (TAG_DELETED, False, True, False),
        ],
    )
    def test_says_what_happened(self, event: Event, created: bool, deleted: bool, forced: bool) -> None:
        payload = told(event)
        assert (payload["created"], payload["deleted"], payload["forced"]) == (created, deleted, forced)

    def test_of_a_tag_lists_nothing_but_has_its_commit_as_head(self) -> None:
        payload = told(TAG)
        assert (payload["before"], payload["after"]) == (ZERO_ID, D)
        assert payload["commits"] == []
        assert payload["head_commit"]["id"] == C

    @pytest.mark.parametrize("event", [TREE_TAG, DELETED, replace(DELETED, head=ONE, commits=(ONE,))])
    def test_without_a_commit_has_no_head(self, event: Event) -> None:
        assert told(event)["head_commit"] is None
        assert told(event)["commits"] == []

    def test_lists_the_newest_2048(self) -> None:
        many = tuple(replace(ONE, id=f"{n:040}") for n in range(1, 3001))
        commits = told(limited(replace(UPDATE, commits=many, total=3000), github.COMMITS or 0, 9))["commits"]
        assert [commit["id"] for commit in commits] == [commit.id for commit in many[-2048:]]

    def test_marks_commits_that_were_known(self) -> None:
        known = replace(UPDATE, commits=(replace(ONE, distinct=False), TWO))
        assert [commit["distinct"] for commit in told(known)["commits"]] == [False, True]

    def test_no_offset_is_z(self) -> None:
        noon = Ident("Ada", "a@b", datetime(2024, 5, 6, 12, 0, tzinfo=UTC))
        (commit,) = told(replace(UPDATE, commits=(replace(ONE, committer=noon),)))["commits"]
        assert commit["timestamp"] == "2024-05-06T12:00:00Z"

    def test_an_unknown_address_is_null(self) -> None:
        nobody = Ident("Nobody", "", ONE.author.time)
        payload = told(replace(UPDATE, pusher=Pusher("ben"), commits=(replace(ONE, author=nobody),)))
        assert payload["pusher"] == {"name": "ben", "email": None}
        assert payload["commits"][0]["author"] == {"name": "Nobody", "email": None}

    def test_tells_the_repository_in_epoch_seconds(self) -> None:
        repository = told(UPDATE)["repository"]
        assert (repository["created_at"], repository["pushed_at"]) == (0, 1714979289)
        assert repository["updated_at"] == "2024-05-06T07:08:09Z"
        assert repository["url"] == HOME
        assert list(repository["owner"])[:3] == ["name", "email", "login"]
        assert (repository["master_branch"], repository["stargazers"]) == ("main", 0)


class TestCompare:
    @pytest.mark.parametrize(
        ("event", "page"),
        [
            (UPDATE, f"compare/{'a' * 12}...{'c' * 12}"),
            (DELETED, f"compare/{'c' * 12}...{'0' * 12}"),
            (NEW_BRANCH, f"compare/{'b' * 12}^...{'c' * 12}"),
            (replace(NEW_BRANCH, commits=(TWO,), total=1), f"commit/{'c' * 12}"),
            (replace(NEW_BRANCH, commits=(), total=0), "compare/feature/x"),
            (replace(NEW_BRANCH, total=100_000), "compare/feature/x"),
            (TAG, "compare/v1.0"),
            (TAG_MOVED, f"compare/{'b' * 12}...{'d' * 12}"),
            (TAG_DELETED, f"compare/{'d' * 12}...{'0' * 12}"),
        ],
    )
    def test_is_below_the_home_page(self, event: Event, page: str) -> None:
        assert told(event)["compare"] == f"{HOME}/{page}"

    def test_a_template_has_its_way(self) -> None:
        site = replace(SITE, compare_url="https://h/d?{old}-{new}")
        assert told(replace(UPDATE, repository=site))["compare"] == f"https://h/d?{A}-{C}"
        assert told(replace(NEW_BRANCH, repository=site))["compare"] == ""


class TestCreateAndDelete:
    def test_a_create(self) -> None:
        payload = told(NEW_BRANCH, "create")
        assert {key: payload[key] for key in payload if key not in {"repository", "sender"}} == {
            "ref": "feature/x",
            "ref_type": "branch",
            "master_branch": "main",
            "description": "The site",
            "pusher_type": "user",
        }

    @pytest.mark.parametrize(("event", "ref", "kind"), [(DELETED, "main", "branch"), (TAG_DELETED, "v1.0", "tag")])
    def test_a_delete(self, event: Event, ref: str, kind: str) -> None:
        payload = told(event, "delete")
        assert list(payload) == ["ref", "ref_type", "pusher_type", "repository", "sender"]
        assert (payload["ref"], payload["ref_type"], payload["pusher_type"]) == (ref, kind, "user")

    def test_tell_the_repository_in_iso_times(self) -> None:
        repository = told(TAG, "create")["repository"]
        assert repository["created_at"] == "1970-01-01T00:00:00Z"
        assert repository["pushed_at"] == repository["updated_at"] == "2024-05-06T07:08:09Z"
        assert repository["url"] == "https://git.example.org/api/v3/repos/team/site"
        assert not {"stargazers", "master_branch"} & repository.keys()
        assert "name" not in repository["owner"]

    def test_no_description_is_null(self) -> None:
        payload = told(replace(TAG, repository=replace(SITE, description="")), "create")
        assert payload["description"] is payload["repository"]["description"] is None


class TestAddresses:
    def test_are_at_the_host_of_the_home_page(self) -> None:
        payload = told(UPDATE)
        assert payload["repository"]["keys_url"] == "https://git.example.org/api/v3/repos/team/site/keys{/key_id}"
        assert payload["repository"]["html_url"] == HOME
        assert payload["sender"]["html_url"] == "https://git.example.org/ada"
        assert payload["sender"]["url"] == "https://git.example.org/api/v3/users/ada"
        assert payload["sender"]["repos_url"] == "https://git.example.org/api/v3/users/ada/repos"

    def test_hold_any_name(self) -> None:
        site = replace(SITE, full_name="a team/süß {x}")
        payload = told(replace(UPDATE, repository=site, pusher=replace(ADA, username="a/b c")))
        assert payload["repository"]["forks_url"].endswith("/repos/a%20team/s%C3%BC%C3%9F%20%7Bx%7D/forks")
        assert payload["sender"]["html_url"] == "https://git.example.org/a%2Fb%20c"

    @pytest.mark.parametrize("event", [UPDATE, NEW_BRANCH, DELETED, TAG])
    def test_are_empty_text_where_none_is_known(self, event: Event) -> None:
        for message in github.render(replace(event, repository=BARE)):
            addresses = list(found(message.payload))
            assert len(addresses) > 60
            assert {value for _, value in addresses} <= {""}


def found(value: object) -> list[tuple[str, object]]:
    """Every address in the payload that GitHub never tells as null."""
    if isinstance(value, list):
        return [pair for one in value for pair in found(one)]
    if not isinstance(value, dict):
        return []
    here = [(k, v) for k, v in value.items() if k in {"url", "compare"} or (k.endswith("_url") and k != "mirror_url")]
    return here + [pair for one in value.values() for pair in found(one)]


def test_the_owner_is_the_same_whoever_pushes() -> None:
    owners = [
        told(replace(UPDATE, pusher=Pusher(name, "N", "a@b", 9)))["repository"]["owner"] for name in ("team", "x")
    ]
    assert owners[0] == owners[1]
    assert (owners[0]["login"], owners[0]["id"]) == ("team", 0)


def test_headers() -> None:
    assert github.headers("create", "an-id", Hook(id=12)) == {
        "User-Agent": "GitHub-Hookshot/refcast",
        "X-GitHub-Delivery": "an-id",
        "X-GitHub-Event": "create",
        "X-GitHub-Hook-ID": "12",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }


def test_the_test_is_a_ping() -> None:
    message = github.test(Hook(id=12))
    assert message.kind == "ping"
    assert list(message.payload) == ["zen", "hook_id", "hook"]
    hook = message.payload["hook"]
    assert isinstance(hook, dict)
    assert message.payload["hook_id"] == hook["id"] == 12
    assert hook["ping_url"] == "https://refcast.invalid/hooks/12/pings"
