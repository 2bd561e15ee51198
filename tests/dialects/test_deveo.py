"""The Deveo dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from events import (
    BARE,
    DELETED,
    FORCED,
    NEW_BRANCH,
    OTHER,
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
from refcast.dialects import deveo
from refcast.model import ZERO_ID, Event, Pusher

SEED = [
    "after",
    "ref",
    "before",
    "compare",
    "forced",
    "created",
    "deleted",
    "project",
    "repository",
    "pusher",
    "commit_count",
    "commits",
]
SEED_REPOSITORY = ["uuid", "name", "type", "url", "https_url", "ssh_url", "owner"]
SEED_COMMIT = ["distinct", "removed", "message", "added", "timestamp", "modified", "url", "author", "id"]
HOME = "https://git.example.org/team/site"


def payload(event: Event) -> dict[str, object]:
    (message,) = deveo.render(event)
    return message.payload


def commits(event: Event) -> list[dict[str, object]]:
    listed = payload(event)["commits"]
    assert isinstance(listed, list)
    return listed


class TestRender:
    def test_a_push_lists_the_newest_commit_first(self) -> None:
        (message,) = deveo.render(UPDATE)
        assert message.kind == "push"
        assert message.payload == {
            "after": C,
            "ref": "refs/heads/main",
            "before": A,
            "compare": f"{HOME}/compare/{A}...{C}",
            "forced": False,
            "created": False,
            "deleted": False,
            "project": {"uuid": deveo.uuid("project", "team"), "name": "team", "url": ""},
            "repository": {
                "uuid": deveo.uuid("repository", "team/site"),
                "name": "site",
                "type": "git",
                "url": HOME,
                "https_url": f"{HOME}.git",
                "ssh_url": "git@git.example.org:team/site.git",
                "owner": {"uuid": deveo.uuid("user", "team"), "name": "team", "email": ""},
            },
            "pusher": {"uuid": deveo.uuid("user", "ada"), "name": "ada", "display_name": "Ada Lovelace"},
            "commit_count": 2,
            "commits": [
                {
                    "distinct": True,
                    "removed": ["old.txt"],
                    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
                    "added": ["new.txt"],
                    "timestamp": "2024-05-06T05:33:04Z",
                    "modified": ["README.md"],
                    "url": f"{HOME}/commits/{C}",
                    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org"},
                    "id": C,
                },
                {
                    "distinct": True,
                    "removed": [],
                    "message": "Add a guide\n",
                    "added": ["docs/guide.md", "a file with spaces.txt"],
                    "timestamp": "2024-05-06T05:33:04Z",
                    "modified": [],
                    "url": f"{HOME}/commits/{B}",
                    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org"},
                    "id": B,
                },
            ],
        }

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_event_has_the_fields_of_the_help_page_in_its_order(self, name: str) -> None:
        told = payload(SAMPLES[name])
        repository = told["repository"]
        assert isinstance(repository, dict)
        assert list(told) == SEED
        assert list(repository) == SEED_REPOSITORY
        for commit in commits(SAMPLES[name]):
            assert list(commit) == SEED_COMMIT

    @pytest.mark.parametrize(
        ("event", "flags"),
        [
            (UPDATE, (False, False, False)),
            (FORCED, (True, False, False)),
            (NEW_BRANCH, (False, True, False)),
            (DELETED, (False, False, True)),
            (TAG, (False, True, False)),
            (TAG_DELETED, (False, False, True)),
        ],
    )
    def test_flags_say_what_happened(self, event: Event, flags: tuple[bool, bool, bool]) -> None:
        told = payload(event)
        assert (told["forced"], told["created"], told["deleted"]) == flags

    @pytest.mark.parametrize("event", [TAG, TAG_MOVED])
    def test_a_tag_is_a_push_of_the_commit_that_it_names(self, event: Event) -> None:
        told = payload(event)
        assert (told["ref"], told["after"]) == ("refs/tags/v1.0", D)
        assert [commit["id"] for commit in commits(event)] == [C]
        assert told["commit_count"] == 1

    def test_a_tag_of_a_tree_lists_nothing(self) -> None:
        assert (commits(TREE_TAG), payload(TREE_TAG)["commit_count"]) == ([], 0)

    @pytest.mark.parametrize("event", [DELETED, TAG_DELETED])
    def test_a_deletion_lists_nothing(self, event: Event) -> None:
        told = payload(replace(event, commits=UPDATE.commits, total=9, head=UPDATE.head))
        assert (told["after"], told["compare"]) == (ZERO_ID, "")
        assert (told["commits"], told["commit_count"]) == ([], 0)

    def test_the_count_is_exact_beside_a_bounded_list(self) -> None:
        assert payload(replace(UPDATE, total=100_000))["commit_count"] == 100_000

    def test_a_commit_that_another_ref_had_is_not_distinct(self) -> None:
        (one, two) = UPDATE.commits
        told = commits(replace(UPDATE, commits=(replace(one, distinct=False), two)))
        assert [commit["distinct"] for commit in told] == [True, False]

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert payload(OTHER)["ref"] == "refs/notes/commits"

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert deveo.render(replace(UPDATE, update=None)) == []

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        told = payload(replace(UPDATE, repository=BARE))
        repository = told["repository"]
        assert isinstance(repository, dict)
        assert {repository[key] for key in ("url", "https_url", "ssh_url")} == {""}
        assert told["compare"] == commits(replace(UPDATE, repository=BARE))[0]["url"] == ""
        assert told["project"] == {"uuid": deveo.uuid("project", ""), "name": "", "url": ""}

    def test_templates_give_the_urls(self) -> None:
        site = replace(SITE, commit_url="https://h/c?{id}", compare_url="https://h/d?{old}-{new}")
        event = replace(UPDATE, repository=site)
        assert payload(event)["compare"] == f"https://h/d?{A}-{C}"
        assert commits(event)[0]["url"] == f"https://h/c?{C}"


class TestUuid:
    def test_is_the_same_on_every_machine_and_for_ever(self) -> None:
        assert deveo.uuid("user", "ada") == UUID_OF_ADA

    def test_tells_kinds_and_names_apart(self) -> None:
        made = [deveo.uuid(kind, name) for kind in ("user", "project", "repository") for name in ("", "a", "b")]
        assert len(set(made)) == 9
        assert {UUID(one).version for one in made} == {5}

    def test_takes_any_name(self) -> None:
        UUID(deveo.uuid("user", "caf\udce9 \ud800"))

    def test_of_a_pusher_who_owns_the_repository_is_the_owners(self) -> None:
        told = payload(replace(UPDATE, pusher=Pusher("team")))
        repository, pusher = told["repository"], told["pusher"]
        assert isinstance(repository, dict)
        assert isinstance(pusher, dict)
        assert repository["owner"]["uuid"] == pusher["uuid"]


UUID_OF_ADA = "429f7a64-7228-5682-ba84-1fe976e9a866"


def test_the_headers_are_those_of_the_help_page() -> None:
    assert deveo.headers("push", "an-id") == {
        "User-Agent": "refcast",
        "X-Deveo-Event": "push",
        "X-Deveo-Delivery": "an-id",
    }
    assert deveo.CONTENT_TYPES[0] == "form"


def test_the_test_is_an_ordinary_push() -> None:
    message = deveo.test()
    assert message.kind == "push"
    assert list(message.payload) == SEED
    assert message.payload["commit_count"] == 1
