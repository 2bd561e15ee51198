"""From `git push` to the payload's arrival, with nothing between but what an administrator has installed.

Each test reads as a story: install, push, look at what the receiver's own book says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from receiver import Received, Receiver
from refcast.store import Store
from servers import ZERO, Server

SECRET = "a secret of the tests"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def codeup(tmp_path: Path, receiver: Receiver) -> Iterator[Server]:
    with Server(tmp_path) as server:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup", "--secret-env", "S", S=SECRET)
        yield server


@pytest.fixture
def gogs(tmp_path: Path, receiver: Receiver) -> Iterator[Server]:
    with Server(tmp_path) as server:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "gogs", "--secret-env", "S", S=SECRET)
        yield server


def kinds(book: list[Received]) -> list[str | None]:
    return [one.header("X-Gogs-Event") or one.header("Codeup-Event") for one in book]


def ids(payload: Any) -> list[str]:
    return [commit["id"] for commit in payload["commits"]]


def settled(server: Server, moves: int) -> bool:
    """Whether so many moves of refs are announced, and nothing waits."""
    with Store.open(server.state) as store:
        rows = store.reports.deliveries(limit=1000)
    told = {(row.ref, row.old, row.new) for row in rows}
    return len(told) == moves and not server.entries() and {row.state for row in rows} == {"delivered"}


class TestCodeup:
    def test_a_first_push_then_an_update(self, codeup: Server, receiver: Receiver) -> None:
        first = codeup.commit("one")
        codeup.push("main")
        second, third = codeup.commit("two"), codeup.commit("three")
        codeup.push("main")
        made, moved = (one.json() for one in receiver.wait_for(2))
        assert (made["before"], made["after"], made["ref"]) == (ZERO, first, "refs/heads/main")
        assert ids(made) == [first]
        assert (moved["before"], moved["after"], moved["checkout_sha"]) == (first, third, third)
        assert ids(moved) == [second, third]
        assert moved["total_commits_count"] == 2
        assert moved["project_id"] == made["project_id"] > 0
        assert moved["user_id"] == made["user_id"] > 0
        assert [one.header("X-Codeup-Token") for one in receiver.book] == [SECRET, SECRET]
        assert kinds(receiver.book) == ["Push Hook", "Push Hook"]

    def test_a_fast_forward_to_commits_that_another_branch_had(self, codeup: Server, receiver: Receiver) -> None:
        codeup.commit("one")
        codeup.push("main", "main:topic")
        second = codeup.commit("two")
        codeup.push("main:topic")
        codeup.push("main")
        assert ids(receiver.wait_for(4)[3].json()) == [second]

    def test_a_force_push(self, codeup: Server, receiver: Receiver) -> None:
        base, old = codeup.commit("base"), codeup.commit("old")
        codeup.push("main")
        codeup.git("reset", "-q", "--hard", base)
        new = codeup.commit("new")
        codeup.push("+main")
        payload = receiver.wait_for(2)[1].json()
        assert (payload["before"], payload["after"], ids(payload)) == (old, new, [new])

    def test_a_deleted_branch(self, codeup: Server, receiver: Receiver) -> None:
        tip = codeup.commit("one")
        codeup.push("main", "main:topic")
        codeup.push(":topic")
        payload = receiver.wait_for(3)[2].json()
        assert (payload["before"], payload["after"], payload["ref"]) == (tip, ZERO, "refs/heads/topic")
        assert (payload["checkout_sha"], payload["commits"], payload["total_commits_count"]) == (None, [], 0)

    def test_tags_light_and_annotated_and_deleted(self, codeup: Server, receiver: Receiver) -> None:
        tip = codeup.commit("one")
        codeup.push("main")
        codeup.git("tag", "light")
        codeup.git("tag", "-m", "note", "heavy")
        tag = codeup.git("rev-parse", "heavy")
        codeup.push("light")
        codeup.push("heavy")
        codeup.push(":heavy")
        light, heavy, gone = (one.json() for one in receiver.wait_for(4)[1:])
        assert kinds(receiver.book)[1:] == ["Tag Push Hook"] * 3
        assert (light["object_kind"], light["after"], light["checkout_sha"]) == ("tag_push", tip, tip)
        assert (heavy["after"], heavy["checkout_sha"], heavy["commits"]) == (tag, tip, [])
        assert (gone["before"], gone["after"], gone["ref"]) == (tag, ZERO, "refs/tags/heavy")

    def test_several_refs_in_one_push_arrive_in_its_order(self, codeup: Server, receiver: Receiver) -> None:
        codeup.commit("one")
        names = [f"topic-{number}" for number in range(12)]
        codeup.push(*[f"main:{name}" for name in names])
        assert [one.json()["ref"] for one in receiver.wait_for(12)] == [f"refs/heads/{name}" for name in names]

    def test_push_options_are_accepted(self, codeup: Server, receiver: Receiver) -> None:
        codeup.commit("one")
        codeup.push("-o", "ci.skip", "-o", "with space", "main")
        assert receiver.wait_for(1)[0].json()["ref"] == "refs/heads/main"

    def test_ugly_names_arrive_as_valid_json(self, codeup: Server, receiver: Receiver) -> None:
        codeup.commit("Grüße \"quoted\" 'single'\n\n<script>@everyone\x1b[31m")
        codeup.push("main:refs/heads/ümlaut/qu'o\"te$(x)`y`;z")
        payload = receiver.wait_for(1)[0].json()
        assert payload["ref"] == "refs/heads/ümlaut/qu'o\"te$(x)`y`;z"
        assert payload["commits"][0]["message"].startswith("Grüße \"quoted\" 'single'")


class TestGogs:
    def test_a_new_branch_is_a_create_then_a_push(self, gogs: Server, receiver: Receiver) -> None:
        tip = gogs.commit("one", {"a file": "1\n", "dir/b": "2\n"})
        gogs.push("main")
        create, push = receiver.wait_for(2)
        assert kinds([create, push]) == ["create", "push"]
        assert (create.json()["ref"], create.json()["ref_type"], create.json()["sha"]) == ("main", "branch", tip)
        assert push.json()["commits"][0]["added"] == ["a file", "dir/b"]
        assert create.header("X-Gogs-Delivery") != push.header("X-Gogs-Delivery")

    def test_the_signature_is_that_of_the_bytes_received(self, gogs: Server, receiver: Receiver) -> None:
        gogs.commit("one")
        gogs.push("main")
        for one in receiver.wait_for(2):
            expected = hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()
            assert one.header("X-Gogs-Signature") == expected

    def test_a_form_is_signed_over_the_json_inside(self, gogs: Server, receiver: Receiver) -> None:
        gogs.refcast("endpoint", "edit", "ci", "--content-type", "form")
        gogs.commit("one")
        gogs.push("main")
        one = receiver.wait_for(2)[1]
        assert one.header("Content-Type") == "application/x-www-form-urlencoded"
        payload = parse_qs(one.body.decode())["payload"][0]
        assert json.loads(payload)["ref"] == "refs/heads/main"
        expected = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
        assert one.header("X-Gogs-Signature") == expected

    def test_a_deletion_is_a_delete_alone(self, gogs: Server, receiver: Receiver) -> None:
        gogs.commit("one")
        gogs.push("main", "main:topic")
        gogs.push(":topic")
        gogs.git("tag", "v1")
        gogs.push("v1")
        gogs.push(":v1")
        assert kinds(receiver.wait_for(7))[4:] == ["delete", "create", "delete"]

    def test_a_merge_is_told_against_its_first_parent(self, gogs: Server, receiver: Receiver) -> None:
        gogs.commit("base", {"base": "1"})
        gogs.push("main")
        gogs.git("checkout", "-q", "-b", "topic")
        gogs.commit("on topic", {"theirs": "1"})
        gogs.git("checkout", "-q", "main")
        gogs.commit("on main", {"ours": "1"})
        gogs.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
        gogs.push("main")
        commits = receiver.wait_for(3)[2].json()["commits"]
        assert commits[0]["message"] == "merge\n"
        assert commits[0]["added"] == ["theirs"]
        assert {commit["message"] for commit in commits} == {"merge\n", "on main\n", "on topic\n"}


class TestTheServer:
    def test_the_push_returns_while_the_endpoint_keeps_the_worker_waiting(
        self, codeup: Server, receiver: Receiver
    ) -> None:
        receiver.hold()
        codeup.commit("one")
        codeup.push("main")  # returns, although the worker that it has started waits for an answer
        receiver.wait_for(1)
        assert codeup.deliveries() == ["waiting"]
        codeup.commit("two")
        codeup.push("main")
        receiver.release()
        assert len(receiver.wait_for(2)) == 2
        codeup.wait_until(lambda: codeup.deliveries() == ["delivered", "delivered"])

    def test_what_was_there_before_keeps_running(self, tmp_path: Path, receiver: Receiver) -> None:
        with Server(tmp_path, install=False) as server:
            seen = tmp_path / "seen"
            server.hook("update", 'case $1 in *forbidden*) echo "not this one" >&2; exit 7;; esac')
            server.hook("post-receive", f"cat >>{seen}")
            server.refcast("install", str(server.bare))
            server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
            tip = server.commit("one")
            refused = server.push("main", "main:forbidden", check=False)
            assert "not this one" in refused.stderr
            assert [one.json()["ref"] for one in receiver.wait_for(1)] == ["refs/heads/main"]
            assert seen.read_text() == f"{ZERO} {tip} refs/heads/main\n"
            server.push("main:later")
            assert [one.json()["ref"] for one in receiver.wait_for(2)] == ["refs/heads/main", "refs/heads/later"]

    @pytest.mark.parametrize("dialect", ["codeup", "gogs", "refcast"])
    def test_render_agrees_with_what_was_delivered(self, tmp_path: Path, receiver: Receiver, dialect: str) -> None:
        with Server(tmp_path) as server:
            server.settings('[urls]\nhomepage = "https://git.example/{path}"\nssh = "git@git.example:{path}.git"\n')
            server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", dialect)
            server.commit("one", {"a": "1"})
            server.push("main")
            server.commit("two", {"a": "2", "b": "1"})
            server.git("tag", "-m", "note", "v1")
            server.push("main", "v1")
            server.push(":v1")
            server.wait_until(lambda: settled(server, 4))
            listed = json.loads(server.refcast("delivery", "list", "--json").stdout)["deliveries"]
            rendered = {}
            for one in listed:
                shown = server.refcast(
                    "render", str(server.bare), one["ref"], one["old"], one["new"], "--endpoint", "ci", "--json"
                )
                for message in json.loads(shown.stdout):
                    rendered[message["body"]] = message["headers"]
            assert receiver.book
            for received in receiver.book:
                for name, value in rendered[received.body.decode()].items():
                    assert received.header(name) == value

    def test_a_redelivery_has_the_old_id_and_body(self, gogs: Server, receiver: Receiver) -> None:
        gogs.commit("one")
        gogs.push("main")
        create = receiver.wait_for(2)[0]
        gogs.wait_until(lambda: gogs.deliveries() == ["delivered", "delivered"])
        gogs.refcast("delivery", "redeliver", create.header("X-Gogs-Delivery") or "")
        again = receiver.wait_for(3)[2]
        assert again.body == create.body
        assert again.header("X-Gogs-Delivery") == create.header("X-Gogs-Delivery")

    def test_a_failing_endpoint_keeps_its_events_and_harms_no_other(self, codeup: Server, receiver: Receiver) -> None:
        with Receiver(lambda _: 500) as broken:
            codeup.refcast("endpoint", "add", "broken", broken.url, "--dialect", "gogs")
            codeup.commit("one")
            codeup.push("main")
            codeup.push("main:topic")
            receiver.wait_for(2)
            broken.wait_for(1)
            codeup.wait_until(lambda: sorted(codeup.deliveries()) == ["delivered"] * 2 + ["waiting"] * 4)
            assert {one.body for one in broken.book} == {broken.book[0].body}, "the head goes first"
            broken.answer = lambda _: 200
            codeup.refcast("endpoint", "disable", "broken")
            assert "held" in codeup.deliveries()
            codeup.refcast("endpoint", "enable", "broken")
            codeup.wait_until(lambda: set(codeup.deliveries()) == {"delivered"})
            book = [one for one in broken.book if one.header("X-Gogs-Event") in ("create", "push")]
            assert kinds(book)[-4:] == ["create", "push", "create", "push"]
