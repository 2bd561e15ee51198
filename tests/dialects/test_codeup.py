"""The Codeup dialect, field by field, on hand-made events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from events import (
    BARE,
    DELETED,
    LIGHT_TAG,
    NEW_BRANCH,
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
from refcast.dialects import codeup
from refcast.model import ZERO_ID, Event, Pusher

SEED_PUSH = [
    "object_kind",
    "before",
    "after",
    "ref",
    "user_id",
    "user_name",
    "user_email",
    "project_id",
    "repository",
    "commits",
    "total_commits_count",
]
SEED_TAG_PUSH = [
    "object_kind",
    "ref",
    "before",
    "after",
    "user_id",
    "user_name",
    "project_id",
    "repository",
    "commits",
    "total_commits_count",
]
SEED_REPOSITORY = ["name", "url", "description", "homepage", "git_http_url", "git_ssh_url", "visibility_level"]
KEYS = {*SEED_PUSH, "checkout_sha", "user_extern_uid", "aliyun_pk"}


def payload(event: Event) -> dict[str, object]:
    (message,) = codeup.render(event)
    return message.payload


class TestRender:
    def test_a_push(self) -> None:
        (message,) = codeup.render(UPDATE)
        assert message.kind == "Push Hook"
        assert message.payload == {
            "object_kind": "push",
            "before": A,
            "after": C,
            "ref": "refs/heads/main",
            "checkout_sha": C,
            "user_id": 7,
            "user_name": "Ada Lovelace",
            "user_email": "ada@example.org",
            "user_extern_uid": "ada",
            "aliyun_pk": "",
            "project_id": 15,
            "repository": {
                "name": "site",
                "url": "git@git.example.org:team/site.git",
                "description": "The site",
                "homepage": "https://git.example.org/team/site",
                "git_http_url": "https://git.example.org/team/site.git",
                "git_ssh_url": "git@git.example.org:team/site.git",
                "visibility_level": 0,
            },
            "commits": [
                {
                    "id": B,
                    "message": "Add a guide\n",
                    "timestamp": "2024-05-06T02:03:04-03:30",
                    "url": f"https://git.example.org/team/site/commits/{B}",
                    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org"},
                },
                {
                    "id": C,
                    "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
                    "timestamp": "2024-05-06T02:03:04-03:30",
                    "url": f"https://git.example.org/team/site/commits/{C}",
                    "author": {"name": "Ada Lovelace", "email": "Ada@Example.org"},
                },
            ],
            "total_commits_count": 2,
        }

    def test_a_tag(self) -> None:
        (message,) = codeup.render(TAG)
        assert message.kind == "Tag Push Hook"
        assert message.payload["object_kind"] == "tag_push"
        assert message.payload["ref"] == "refs/tags/v1.0"
        assert (message.payload["before"], message.payload["after"]) == (ZERO_ID, D)
        assert message.payload["checkout_sha"] == C
        assert message.payload["commits"] == []
        assert message.payload["total_commits_count"] == 0

    @pytest.mark.parametrize(("event", "seed"), [(UPDATE, SEED_PUSH), (TAG, SEED_TAG_PUSH)])
    def test_the_fields_of_the_help_page_come_in_its_order(self, event: Event, seed: list[str]) -> None:
        assert [key for key in payload(event) if key in seed] == seed
        repository = payload(event)["repository"]
        assert isinstance(repository, dict)
        assert list(repository) == SEED_REPOSITORY

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_event_has_the_same_fields(self, name: str) -> None:
        assert payload(SAMPLES[name]).keys() == KEYS

    def test_a_new_branch_is_a_push_from_the_zero_id(self) -> None:
        assert payload(NEW_BRANCH)["before"] == ZERO_ID
        assert payload(NEW_BRANCH)["ref"] == "refs/heads/feature/x"

    @pytest.mark.parametrize(("event", "kind"), [(DELETED, "push"), (TAG_DELETED, "tag_push")])
    def test_a_deletion_goes_to_the_zero_id_with_nothing_to_check_out(self, event: Event, kind: str) -> None:
        told = payload(replace(event, total=9))
        assert told["object_kind"] == kind
        assert told["after"] == ZERO_ID
        assert told["checkout_sha"] is None
        assert told["commits"] == []
        assert told["total_commits_count"] == 0

    def test_a_light_tag_checks_out_what_it_names(self) -> None:
        assert payload(LIGHT_TAG)["checkout_sha"] == C

    def test_a_tag_of_a_tree_checks_out_nothing(self) -> None:
        assert payload(TREE_TAG)["checkout_sha"] is None

    def test_a_branch_whose_commit_is_gone_still_names_it(self) -> None:
        assert payload(replace(UPDATE, head=None, commits=(), incomplete="gone"))["checkout_sha"] == C

    def test_the_total_is_exact_beside_a_bounded_list(self) -> None:
        assert payload(replace(UPDATE, total=100_000))["total_commits_count"] == 100_000

    def test_any_other_ref_is_a_push_with_its_full_name(self) -> None:
        assert codeup.render(OTHER)[0].kind == "Push Hook"
        assert payload(OTHER)["ref"] == "refs/notes/commits"
        assert payload(OTHER_DELETED)["after"] == ZERO_ID

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert codeup.render(replace(UPDATE, update=None)) == []

    def test_a_pusher_without_a_name_goes_by_the_user_name(self) -> None:
        told = payload(replace(UPDATE, pusher=Pusher("ben")))
        assert (told["user_id"], told["user_name"], told["user_email"]) == (0, "ben", "")

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        told = payload(replace(UPDATE, repository=BARE))
        repository = told["repository"]
        assert isinstance(repository, dict)
        assert {repository[key] for key in ("url", "homepage", "git_http_url", "git_ssh_url")} == {""}
        commits = told["commits"]
        assert isinstance(commits, list)
        assert commits[0]["url"] == ""

    def test_a_template_gives_the_commit_url(self) -> None:
        site = replace(SITE, commit_url="https://cgit.example.org/site/commit/?id={id}")
        commits = payload(replace(UPDATE, repository=site))["commits"]
        assert isinstance(commits, list)
        assert commits[0]["url"] == f"https://cgit.example.org/site/commit/?id={B}"


class TestUrls:
    SCP = "git@git.example.org:team/site.git"
    SSH = "ssh://git@git.example.org/team/site.git"

    @pytest.mark.parametrize("given", [SCP, SSH])
    def test_a_push_prints_the_scp_like_form_and_a_tag_push_the_other(self, given: str) -> None:
        site = replace(SITE, ssh_url=given)
        pushed = payload(replace(UPDATE, repository=site))["repository"]
        tagged = payload(replace(TAG, repository=site))["repository"]
        assert isinstance(pushed, dict)
        assert isinstance(tagged, dict)
        assert (pushed["url"], tagged["url"]) == (self.SCP, self.SSH)
        assert pushed["git_ssh_url"] == tagged["git_ssh_url"] == self.SCP

    @pytest.mark.parametrize(
        "url", ["", "ssh://git@h:2222/x.git", "ssh://[::1]:22/x", "ssh://git@/x", "ssh://h", "h:x", "/srv/x.git"]
    )
    def test_what_the_scp_like_form_cannot_say_stays(self, url: str) -> None:
        assert codeup.scp_form(url) == url

    def test_an_ipv6_address_is_no_port(self) -> None:
        assert codeup.scp_form("ssh://git@[::1]/x.git") == "git@[::1]:x.git"
        assert codeup.ssh_form("git@[::1]:x.git") == "ssh://git@[::1]/x.git"

    def test_the_path_on_disk_stays_absolute(self) -> None:
        url = "ssh://git@h/srv/git/team/site.git"
        assert codeup.scp_form(url, disk=SITE.path) == "git@h:/srv/git/team/site.git"
        assert codeup.ssh_form("git@h:/srv/git/team/site.git") == url

    @pytest.mark.parametrize("url", ["", "/srv/x.git", "./a:b", "https://h/x", "ssh://h/x", "file:///x"])
    def test_what_is_not_scp_like_stays(self, url: str) -> None:
        assert codeup.ssh_form(url) == url


def test_the_event_goes_under_both_names() -> None:
    assert codeup.headers("Tag Push Hook", "an-id") == {
        "User-Agent": "refcast",
        "Codeup-Event": "Tag Push Hook",
        "X-Codeup-Event": "Tag Push Hook",
        "X-Codeup-Delivery": "an-id",
    }


def test_the_test_button_sends_two_ids() -> None:
    message = codeup.test()
    assert message.kind == "Push Hook"
    assert list(message.payload) == ["before", "after"]
