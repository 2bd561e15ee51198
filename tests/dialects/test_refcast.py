"""refcast's own dialect, field by field, and its published schema against everything that it renders."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

import refcast.dialects
from events import (
    ADA,
    BARE,
    DELETED,
    FORCED,
    LIGHT_TAG,
    NEW_BRANCH,
    NOTICES,
    ONE,
    OTHER,
    SAMPLES,
    SITE,
    TAG,
    TAG_DELETED,
    TREE_TAG,
    TWO,
    UPDATE,
    A,
    B,
    C,
    D,
    E,
    events,
)
from refcast import dialects
from refcast.dialects import refcast as dialect
from refcast.model import ZERO_ID, Commit, Event, FileChanges, Hook, Pusher, RefUpdate, Repository, Tag

HOOK = Hook(3, "0f6d2c3e-1111-4222-8333-444455556666")
SCHEMA: dict[str, Any] = json.loads(
    (Path(refcast.dialects.__file__).parent / "refcast.schema.json").read_text(encoding="utf-8")
)
GOLDEN = Path(__file__).parents[1] / "golden" / "refcast"
LATIN = b"caf\xe9.txt"

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def payload(event: Event) -> dict[str, Any]:
    """As a receiver has it: through JSON."""
    (message,) = dialect.render(event, HOOK)
    told: dict[str, Any] = json.loads(dialects.encode(message.payload))
    return told


def path_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def at(document: Any, pointer: str) -> Any:
    """The value at a JSON Pointer."""
    for part in pointer.split("/")[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


class TestRender:
    def test_a_push(self) -> None:
        (message,) = dialect.render(UPDATE, HOOK)
        assert message.kind == "push"
        author = {"name": "Ada Lovelace", "email": "Ada@Example.org", "time": "2024-05-06T08:00:00+08:00"}
        committer = {"name": "Ben Ødegård", "email": "ben@example.org", "time": "2024-05-06T02:03:04-03:30"}
        two = {
            "id": C,
            "tree": E,
            "parents": [B],
            "author": author,
            "committer": committer,
            "message": "Rename <it> & mend it 🚀\n\nBecause.\n",
            "url": f"https://git.example.org/team/site/commit/{C}",
            "distinct": True,
            "changes": {"added": ["new.txt"], "modified": ["README.md"], "removed": ["old.txt"], "cut": False},
        }
        assert message.payload == {
            "version": 1,
            "kind": "push",
            "id": HOOK.uuid,
            "time": "2024-05-06T07:08:09.123456+00:00",
            "recovered": False,
            "incomplete": "",
            "repository": {
                "id": 15,
                "name": "site",
                "namespace": "team",
                "full_name": "team/site",
                "description": "The site",
                "default_branch": "main",
                "homepage": "https://git.example.org/team/site",
                "http_url": "https://git.example.org/team/site.git",
                "ssh_url": "git@git.example.org:team/site.git",
            },
            "pusher": {"id": 7, "username": "ada", "name": "Ada Lovelace", "email": "ada@example.org"},
            "push_options": [],
            "update": {
                "ref": "refs/heads/main",
                "kind": "branch",
                "short": "main",
                "old": A,
                "new": C,
                "created": False,
                "deleted": False,
                "forced": False,
                "compare_url": f"https://git.example.org/team/site/compare/{A}...{C}",
            },
            "tag": None,
            "head": two,
            "commits": [
                {
                    "id": B,
                    "tree": E,
                    "parents": [A],
                    "author": author,
                    "committer": committer,
                    "message": "Add a guide\n",
                    "url": f"https://git.example.org/team/site/commit/{B}",
                    "distinct": True,
                    "changes": {
                        "added": ["docs/guide.md", "a file with spaces.txt"],
                        "modified": [],
                        "removed": [],
                        "cut": False,
                    },
                },
                two,
            ],
            "commits_total": 2,
            "commits_cut": False,
            "raw": {},
        }

    def test_an_annotated_tag(self) -> None:
        (message,) = dialect.render(TAG, HOOK)
        assert message.kind == message.payload["kind"] == "tag_push"
        assert payload(TAG)["update"]["short"] == "v1.0"
        assert payload(TAG)["tag"] == {
            "id": D,
            "name": "v1.0",
            "target": C,
            "tagger": {"name": "Ben Ødegård", "email": "ben@example.org", "time": "2024-05-06T02:03:04-03:30"},
            "message": "Version 1.0\n",
        }
        assert payload(TAG)["head"]["id"] == C

    def test_a_tag_without_a_tagger_or_a_commit(self) -> None:
        assert TREE_TAG.tag is not None
        told = payload(replace(TREE_TAG, tag=replace(TREE_TAG.tag, tagger=None)))
        assert told["tag"]["tagger"] is None
        assert told["head"] is None

    def test_a_light_tag_has_no_tag_object(self) -> None:
        assert payload(LIGHT_TAG)["tag"] is None
        assert payload(LIGHT_TAG)["head"]["id"] == C

    @pytest.mark.parametrize(
        ("event", "kind", "short", "created", "deleted", "forced"),
        [
            (UPDATE, "branch", "main", False, False, False),
            (NEW_BRANCH, "branch", "feature/x", True, False, False),
            (FORCED, "branch", "main", False, False, True),
            (DELETED, "branch", "main", False, True, False),
            (TAG, "tag", "v1.0", True, False, False),
            (TAG_DELETED, "tag", "v1.0", False, True, False),
            (OTHER, "other", "refs/notes/commits", True, False, False),
        ],
    )
    def test_what_became_of_the_ref(
        self, event: Event, kind: str, short: str, created: bool, deleted: bool, forced: bool
    ) -> None:
        update = payload(event)["update"]
        assert (update["kind"], update["short"]) == (kind, short)
        assert (update["created"], update["deleted"], update["forced"]) == (created, deleted, forced)
        assert (update["old"] == ZERO_ID, update["new"] == ZERO_ID) == (created, deleted)

    def test_how_the_event_came_about(self) -> None:
        told = payload(replace(UPDATE, recovered=True, incomplete="gone", options=("ci.skip", "a=b")))
        assert (told["recovered"], told["incomplete"]) == (True, "gone")
        assert told["push_options"] == ["ci.skip", "a=b"]

    def test_a_list_that_was_cut_says_so(self) -> None:
        cut = replace(ONE, changes=replace(ONE.changes, cut=True), distinct=False)
        told = payload(replace(UPDATE, commits=(cut,), total=7))
        assert (told["commits_total"], told["commits_cut"]) == (7, True)
        assert told["commits"][0]["changes"]["cut"] is True
        assert told["commits"][0]["distinct"] is False

    def test_unknown_links_are_empty_text_and_never_null(self) -> None:
        told = payload(replace(UPDATE, repository=BARE))
        assert {told["repository"][name] for name in ("namespace", "homepage", "http_url", "ssh_url")} == {""}
        assert told["update"]["compare_url"] == told["commits"][0]["url"] == ""

    def test_a_pusher_without_a_full_name_has_the_user_name(self) -> None:
        assert payload(replace(UPDATE, pusher=Pusher("ada")))["pusher"]["name"] == "ada"

    def test_the_place_on_the_servers_disk_is_not_told(self) -> None:
        assert SITE.path not in json.dumps(payload(UPDATE))

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert dialect.render(replace(UPDATE, update=None)) == []


class TestEverythingIsTold:
    """A field that the model gains must be told too, or be named here with the reason why not."""

    def test_of_the_event(self) -> None:
        told = {"options": "push_options", "total": "commits_total"}
        # Which endpoints' filters it passes is nobody's business but refcast's.
        assert {told.get(one.name, one.name) for one in fields(Event)} - {"touched"} <= payload(UPDATE).keys()

    def test_of_the_ref(self) -> None:
        known = {one.name for one in fields(RefUpdate)} | {"created", "deleted", "kind", "short"}
        assert known <= payload(UPDATE)["update"].keys()

    @pytest.mark.parametrize("place", ["/head", "/commits/0"])
    def test_of_a_commit(self, place: str) -> None:
        assert {one.name for one in fields(Commit)} <= at(payload(UPDATE), place).keys()
        assert {one.name for one in fields(FileChanges)} == at(payload(UPDATE), place)["changes"].keys()

    def test_of_a_tag(self) -> None:
        assert {one.name for one in fields(Tag)} == payload(TAG)["tag"].keys()

    def test_of_the_repository_but_its_path_and_templates(self) -> None:
        kept = {"path", "commit_url", "compare_url"}
        assert {one.name for one in fields(Repository)} - kept <= payload(UPDATE)["repository"].keys()

    def test_of_the_pusher(self) -> None:
        assert {one.name for one in fields(Pusher)} == payload(replace(UPDATE, pusher=ADA))["pusher"].keys()


class TestRaw:
    def test_holds_the_bytes_of_what_is_not_utf_8(self) -> None:
        changes = FileChanges(added=("a.txt", path_of(LATIN)), removed=(path_of(b"\xff"),))
        update = RefUpdate(A, C, path_of(b"refs/heads/\xe9"))
        told = payload(replace(UPDATE, update=update, commits=(replace(TWO, changes=changes),), head=None))
        assert told["update"]["ref"] == "refs/heads/\ufffd"
        assert told["commits"][0]["changes"]["added"] == ["a.txt", "caf\ufffd.txt"]
        assert {place: base64.b64decode(text) for place, text in told["raw"].items()} == {
            "/update/ref": b"refs/heads/\xe9",
            "/update/short": b"\xe9",
            "/commits/0/changes/added/1": LATIN,
            "/commits/0/changes/removed/0": b"\xff",
        }

    def test_tells_names_apart_that_look_the_same(self) -> None:
        changes = FileChanges(added=(path_of(b"\xe8"), path_of(b"\xe9")))
        told = payload(replace(UPDATE, commits=(replace(TWO, changes=changes),), head=None))
        assert told["commits"][0]["changes"]["added"] == ["\ufffd", "\ufffd"]
        assert len(set(told["raw"].values())) == 2

    def test_is_empty_where_all_is_utf_8(self) -> None:
        changes = FileChanges(added=("é🚀/~1.txt", "\ufffd"))
        assert payload(replace(UPDATE, commits=(replace(TWO, changes=changes),)))["raw"] == {}

    @unhurried
    @given(events.filter(lambda event: event.update is not None))
    def test_leaves_no_byte_of_a_ref_or_path_untold(self, event: Event) -> None:
        told = payload(event)
        assert event.update is not None
        names = {"/update/ref": event.update.ref}
        for number, commit in enumerate(event.commits):
            for kind in ("added", "modified", "removed"):
                for index, path in enumerate(getattr(commit.changes, kind)):
                    names[f"/commits/{number}/changes/{kind}/{index}"] = path
        for place, name in names.items():
            try:
                held = name.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # no bytes make such a name
                continue
            shown = at(told, place).encode()
            assert base64.b64decode(told["raw"][place]) == held if place in told["raw"] else shown == held
        for place, encoded in told["raw"].items():
            assert base64.b64decode(encoded).decode("utf-8", "replace") == at(told, place)


def closed(schema: Any) -> Any:
    """The schema without room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner


class TestSchema:
    OPEN = Draft202012Validator(SCHEMA)
    STRICT = Draft202012Validator(closed(SCHEMA))

    def test_is_a_schema(self) -> None:
        Draft202012Validator.check_schema(SCHEMA)
        assert SCHEMA["$id"] == f"urn:refcast:event:{dialect.VERSION}"

    def test_every_member_is_required(self) -> None:
        for name, part in SCHEMA["$defs"].items():
            assert list(part.get("properties", {})) == part.get("required", []), name

    def test_members_come_in_its_order(self) -> None:
        assert list(payload(UPDATE)) == SCHEMA["$defs"]["moved"]["required"]
        for name in ("repository", "pusher", "update"):
            assert list(payload(UPDATE)[name]) == SCHEMA["$defs"][name]["required"]
        assert list(payload(UPDATE)["head"]) == SCHEMA["$defs"]["commit"]["required"]
        assert list(payload(TAG)["tag"]) == SCHEMA["$defs"]["tag"]["required"]

    @pytest.mark.parametrize("name", SAMPLES)
    def test_samples_hold_to_it(self, name: str) -> None:
        self.STRICT.validate(payload(SAMPLES[name]))

    @pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
    def test_golden_files_hold_to_it(self, path: Path) -> None:
        self.STRICT.validate(json.loads(path.read_text()))

    def test_there_are_golden_files(self) -> None:
        assert len(list(GOLDEN.glob("*.json"))) > 20

    @pytest.mark.parametrize("name", NOTICES)
    def test_notices_hold_to_it(self, name: str) -> None:
        told = json.loads(dialects.encode(dialect.notice(NOTICES[name], HOOK).payload))
        self.STRICT.validate(told)
        assert list(told) == SCHEMA["$defs"]["health"]["required"]
        assert told["id"] == HOOK.uuid

    def test_the_test_holds_to_it(self) -> None:
        self.STRICT.validate(dialect.test().payload)
        self.STRICT.validate(dialect.test(HOOK).payload)

    @unhurried
    @given(events.filter(lambda event: event.update is not None))
    def test_any_event_holds_to_it(self, event: Event) -> None:
        self.STRICT.validate(payload(event))

    def test_leaves_room_for_members_to_come(self) -> None:
        self.OPEN.validate({**payload(UPDATE), "weather": "fair"})

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 2},
            {"kind": "issue"},
            {"id": "x"},
            {"time": "2024-05-06 07:08:09"},
            {"commits": None},
            {"update": None},
            {"head": {}},
            {"commits_total": -1},
            {"raw": {"update/ref": "6Q=="}},
            {"raw": {"/update/ref": "6Q"}},
        ],
    )
    def test_refuses_what_is_not_said_so(self, change: dict[str, object]) -> None:
        told = payload(UPDATE)
        assert self.OPEN.is_valid(told)
        assert not self.OPEN.is_valid({**told, **change})

    @pytest.mark.parametrize("member", SCHEMA["$defs"]["moved"]["required"])
    def test_refuses_what_lacks_a_member(self, member: str) -> None:
        told = payload(UPDATE)
        del told[member]
        assert not self.OPEN.is_valid(told)


def test_headers_name_event_and_delivery() -> None:
    assert dialect.headers("tag_push", "an-id") == {
        "User-Agent": "refcast",
        "Refcast-Event": "tag_push",
        "Refcast-Delivery": "an-id",
    }


def test_the_test_tells_of_nothing() -> None:
    message = dialect.test(HOOK)
    assert message.kind == "test"
    assert message.payload == {"version": 1, "kind": "test", "id": HOOK.uuid}


def test_times_keep_their_fraction_and_offset() -> None:
    assert payload(replace(UPDATE, time=datetime(2024, 1, 1, tzinfo=UTC)))["time"] == "2024-01-01T00:00:00.000000+00:00"
