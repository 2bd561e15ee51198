"""`refcast delivery` and the verbs of `refcast endpoint` that move deliveries: what is chosen, said and refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commandline import Run, refusal
from spooled import ATTEMPT, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def state(world: World) -> Path:
    return world.state


@pytest.fixture
def ids(world: World) -> list[str]:
    """Deliveries of four branches, the first two delivered, for one endpoint; their ids."""
    world.endpoint()
    world.put(*(f"b{each}:->A" for each in range(4)), facts=["GL_USER=ann"])
    world.run()
    for _ in range(2):
        work = world.store.lanes.claim(world.clock())
        assert work is not None
        world.store.lanes.delivered(work, ATTEMPT, world.clock())
    return [row.id for row in reversed(world.store.reports.deliveries())]


def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    result = run("delivery", "list", "--json", *words)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)["deliveries"]
    return rows


def states(world: World) -> list[str]:
    return [row.state for row in reversed(world.store.reports.deliveries())]


class TestList:
    @pytest.mark.parametrize(
        ("words", "count"),
        [
            ((), 4),
            (("--endpoint", "ci"), 4),
            (("--state", "delivered"), 2),
            (("--state", "delivered", "--state", "waiting"), 4),
            (("--state", "expired"), 0),
            (("--repository", "site"), 4),
            (("--repository", "s*"), 4),
            (("--ref", "b1"), 1),
            (("--ref", "refs/heads/b1", "--state", "waiting"), 0),
            (("--pusher", "ann"), 4),
            (("--pusher", "bob"), 0),
            (("--since", "2023-11-14T22:13:20Z"), 4),
            (("--since", "2023-11-14T23:13:21+01:00"), 0),
            (("--since", "20000d", "--until", "1m"), 4),
            (("--since", "1m"), 0),
            (("--until", "2023-11-14T22:13:20Z"), 0),
            (("--error", "status"), 2),
            (("--error", "timeout"), 0),
        ],
    )
    def test_narrows(self, run: Run, ids: list[str], words: tuple[str, ...], count: int) -> None:
        assert len(listed(run, *words)) == count

    def test_a_time_without_a_zone_is_local(self, run: Run, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "UTC-5")  # five hours east
        time.tzset()
        try:
            assert len(listed(run, "--since", "2023-11-15 03:13:20")) == 4
            assert len(listed(run, "--since", "2023-11-15T03:13:21")) == 0
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(
        "words",
        [
            ("--since", "yesterday"),
            ("--until", "2h ago"),
            ("--since", "9" * 30),
            ("--until", "0001-01-01"),
            ("--endpoint", "nobody"),
            ("--repository", "nothing"),
            ("--before", "x"),
            ("--before", ""),
        ],
    )
    def test_refuses_what_it_cannot_look_for(self, run: Run, ids: list[str], words: tuple[str, ...]) -> None:
        if words == ("--before", ""):
            assert len(listed(run, *words)) == 4
        else:
            refusal(run("delivery", "list", *words), 2)

    def test_pages(self, run: Run, ids: list[str]) -> None:
        result = run("delivery", "list", "--limit", "3")
        assert result.stdout.splitlines()[-1] == f"there are older ones: the same again with --before {ids[1][:8]}"
        page = json.loads(run("delivery", "list", "--limit", "3", "--json").stdout)
        assert page["next"] == ids[1]
        last = json.loads(run("delivery", "list", "--limit", "3", "--json", "--before", page["next"]).stdout)
        assert [row["id"] for row in page["deliveries"] + last["deliveries"]] == ids[::-1]
        assert last["next"] is None
        assert "older" not in run("delivery", "list", "--limit", "4").stdout

    def test_the_last_column_is_a_status_or_a_class(self, run: Run, ids: list[str], world: World) -> None:
        world.sql("UPDATE attempts SET status = NULL, error_class = 'tls', error = 'certificate\x1b[31m' WHERE id = 2")
        ends = [line.split()[-1] for line in run("delivery", "list").stdout.splitlines()]
        assert ends == ["LAST", "0", "0", "tls", "500"]

    def test_a_long_ref_leaves_room_for_the_rest(self, run: Run, world: World) -> None:
        world.endpoint()
        world.put(f"{'long-' * 30}:->A")
        world.run()
        assert max(map(len, run("delivery", "list").stdout.splitlines())) < 140


class TestShow:
    def test_everything_about_it_made_safe(self, run: Run, ids: list[str], world: World) -> None:
        evil = "evil\x1b[31m\u202e"
        world.sql("UPDATE deliveries SET state = 'refused', reason = ? WHERE position = 1", evil)
        world.sql(
            "UPDATE attempts SET error = ?, status = NULL, response_body = ?, decision = ?", evil, evil.encode(), evil
        )
        world.sql("UPDATE events SET incomplete = ?, recovered = 1", evil)
        world.sql("INSERT INTO records VALUES ('late', 1, ?, 5.0, 6.0)", evil.encode())
        world.sql("INSERT INTO covered VALUES ('late', x'41', 'a', 'b', 1)")
        shown = run("delivery", "show", ids[0]).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert f"{ids[0]}  refused (evil\\x1b[31m\\u202e)  for ci" in shown
        assert "recovered: no hook had told of this move" in shown
        assert "incomplete: evil" in shown
        assert "told of later by a push of evil\\x1b[31m\\u202e, 1970-01-01 00:00:05Z, record late\n" in shown
        assert "> (the content above)" in shown
        assert "status: evil" in shown

    def test_its_body_is_what_is_sent(self, run: Run, ids: list[str], world: World) -> None:
        details = world.store.reports.delivery(ids[0])
        assert run("delivery", "show", ids[0], "--body").stdout_bytes == details.payload
        world.sql("UPDATE deliveries SET content_type = 'form'")
        assert run("delivery", "show", ids[0], "--body").stdout_bytes.startswith(b"payload=%7B")
        facts = json.loads(run("delivery", "show", ids[0], "--json").stdout)
        assert facts["body"].startswith("payload=%7B")

    def test_what_went_along_in_a_batch(self, run: Run, world: World) -> None:
        world.endpoint(dialect="codescoring")
        world.put("main:->A", "dev:->A")
        world.run()
        work = world.store.lanes.claim(world.clock() + 5, {"codescoring"})
        assert work is not None
        world.store.lanes.delivered(work, ATTEMPT, world.clock())
        other, one = (row.id for row in world.store.reports.deliveries())
        assert f"> (in one batch with {other[:8]})" in run("delivery", "show", one).stdout
        facts = json.loads(run("delivery", "show", one, "--json").stdout)
        assert facts["attempts"][0]["together_with"] == [other]


class TestRedeliver:
    def test_what_is_chosen_and_first_how_many(self, run: Run, ids: list[str], world: World) -> None:
        dry = run("delivery", "redeliver", "--endpoint", "ci", "--dry-run").stdout
        assert dry.splitlines() == [
            "ENDPOINT  STATE      DELIVERIES",
            "ci        delivered  2",
            "ci        waiting    2",
            "deliveries that would be sent again: 2",
            "deliveries that wait already: 2",
        ]
        assert states(world) == ["delivered"] * 2 + ["waiting"] * 2
        facts = json.loads(run("delivery", "redeliver", "--from", ids[1], "--json").stdout)
        assert (facts["redelivered"], facts["waiting"], facts["held"], facts["dry_run"]) == (1, 2, 0, False)
        assert states(world) == ["delivered"] + ["waiting"] * 3

    @pytest.mark.parametrize("verb", ["redeliver", "cancel"])
    def test_everything_there_is_is_not_chosen_by_saying_nothing(
        self, run: Run, ids: list[str], world: World, verb: str
    ) -> None:
        for words in ((), ("--dry-run",), ("--json",)):
            assert "--endpoint" in refusal(run("delivery", verb, *words), 2)
        assert "not both" in refusal(run("delivery", verb, ids[0], "--endpoint", "ci"), 2)
        refusal(run("delivery", verb, ids[0], "nonsense"), 2)
        refusal(run("delivery", verb, "--from", "nonsense"), 2)
        assert states(world) == ["delivered"] * 2 + ["waiting"] * 2

    def test_says_what_is_held_and_why(self, run: Run, ids: list[str], world: World) -> None:
        world.sql("UPDATE deliveries SET state = 'held' WHERE position = 4")
        run("endpoint", "disable", "ci")
        said = run("delivery", "redeliver", "--endpoint", "ci").stdout
        assert "deliveries that are sent again: 2\n" in said
        assert "deliveries that stay held by --max-events: 1; `refcast endpoint release` sends them\n" in said
        assert "ci is disabled: those for it are held until `refcast endpoint enable ci`\n" in said
        assert states(world) == ["held"] * 4


class TestCancel:
    def test_with_a_reason(self, run: Run, ids: list[str], world: World) -> None:
        assert "would be canceled: 2" in run("delivery", "cancel", "--endpoint", "ci", "--dry-run").stdout
        said = run("delivery", "cancel", "--endpoint", "ci", "--reason", "moved\x1b away").stdout
        assert said.splitlines() == [
            "deliveries that are canceled: 2",
            "deliveries that stay as they are, delivered or canceled before: 2",
        ]
        assert states(world) == ["delivered"] * 2 + ["canceled"] * 2
        assert "canceled (moved\\x1b away)" in run("delivery", "show", ids[3]).stdout

    def test_as_json(self, run: Run, ids: list[str]) -> None:
        facts = json.loads(run("delivery", "cancel", *ids, "--json").stdout)
        shares = facts.pop("shares")
        assert facts == {"dry_run": False, "canceled": 2, "left": 2, "reason": "canceled by hand"}
        assert [(one["endpoint"], one["state"], one["count"]) for one in shares] == [
            ("ci", "delivered", 2),
            ("ci", "waiting", 2),
        ]


class TestEndpoint:
    def test_enable_sends_what_was_held(self, run: Run, ids: list[str], world: World) -> None:
        run("endpoint", "disable", "ci")
        assert states(world) == ["delivered"] * 2 + ["held"] * 2
        assert run("endpoint", "enable", "ci").stdout == "ci is enabled; deliveries on their way: 2\n"
        assert states(world) == ["delivered"] * 2 + ["waiting"] * 2

    def test_or_lets_it_go(self, run: Run, ids: list[str], world: World) -> None:
        run("endpoint", "disable", "ci")
        world.sql("UPDATE deliveries SET state = 'held' WHERE position = 4")
        said = run("endpoint", "enable", "ci", "--let-go").stdout
        assert said.splitlines() == [
            "ci is enabled; deliveries on their way: 0, let go: 1",
            "1 more are held by --max-events until `refcast endpoint release ci`",
        ]
        assert states(world) == ["delivered"] * 2 + ["canceled", "held"]
        assert "let go when its endpoint was enabled" in run("delivery", "show", ids[2]).stdout

    def test_of_one_that_is_enabled_nothing_is_held_and_nothing_let_go(
        self, run: Run, ids: list[str], world: World
    ) -> None:
        said = run("endpoint", "enable", "ci", "--let-go").stdout
        assert said == "ci is enabled; deliveries on their way: 2, let go: 0\n"
        assert states(world) == ["delivered"] * 2 + ["waiting"] * 2

    @pytest.mark.parametrize(("word", "then"), [("--send", "waiting"), ("--let-go", "canceled")])
    def test_release(self, run: Run, ids: list[str], world: World, word: str, then: str) -> None:
        world.sql("UPDATE deliveries SET state = 'held' WHERE position > 2")
        assert json.loads(run("endpoint", "list", "--json").stdout)[0]["waiting"] == 2
        assert run("endpoint", "release", "ci", word).exit_code == 0
        assert states(world) == ["delivered"] * 2 + [then] * 2

    def test_release_of_a_disabled_one(self, run: Run, ids: list[str], world: World) -> None:
        world.sql("UPDATE deliveries SET state = 'held' WHERE position > 2")
        run("endpoint", "disable", "ci")
        said = run("endpoint", "release", "ci").stdout
        assert said.startswith("deliveries to ci that are released: 2; it is disabled, so they wait until ")

    @pytest.mark.parametrize("left", ["waiting", "aside", "held"])
    def test_remove_refuses_while_some_wait(self, run: Run, ids: list[str], world: World, left: str) -> None:
        world.sql("UPDATE deliveries SET state = ? WHERE position > 2", left)
        assert "2 deliveries wait for ci" in refusal(run("endpoint", "remove", "ci"), 2)
        assert run("endpoint", "remove", "ci", "--discard").stdout == "ci is removed; deliveries discarded: 2\n"
        assert world.sql("SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM contents)") == [(0, 0)]
