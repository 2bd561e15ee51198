"""`refcast explain` and what really fired: for any endpoints and any moves they agree, reason by reason.

The question goes through the command line, the push through a record and ingest. Which filter means what is tested
where the filters are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hard
from refcast.cli import main
from refcast.model import Endpoint
from spooled import ENDPOINT, World

COMMITS = {
    "first": ("", "first", ["docs/a.md", "src/web/a.c"]),
    "docs": ("first", "only words", ["docs/b.md"]),
    "skipped": ("docs", "nothing [skip ci] to build", ["src/web/b.c"]),
    "web": ("first", "web", ["src/web/c.c"]),
    "merge": ("docs web", "Merge web", []),
    "empty": ("web", "empty", []),
    "other": ("", "another root", ["README"]),
}
"""Name -> parents, message, files that it adds."""

REFS = ["refs/heads/main", "refs/heads/release/1", "refs/heads/wip", "refs/tags/v1", "refs/notes/commits"]
PUSHERS = ["ann", "ben", "robot"]
OPTIONS = ["ci.skip", "refcast.skip", "deploy"]
DIALECTS = ["codeup", "deveo", "github", "gitlab", "refcast", "slack"]


def patterns(*some: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.one_of(st.just(()), st.lists(st.sampled_from(some), min_size=1, max_size=3).map(tuple))


endpoints = st.lists(
    st.builds(
        lambda **changes: replace(ENDPOINT, **changes),
        dialect=st.sampled_from(DIALECTS),
        events=st.frozensets(st.sampled_from(["push", "tag_push"])),
        repositories=patterns("site", "!site", "*", "team/*"),
        branches=patterns("main", "release/*", "!wip", "**"),
        tags=patterns("v*", "!v1", "v2"),
        paths=patterns("docs/**", "*.c", "!docs/", "/src/web/", "/README"),
        pushers=patterns("ann", "!robot", "b*"),
        skips=st.frozensets(st.sampled_from(["option", "mark"])),
        other_refs=st.booleans(),
        max_events=st.sampled_from([None, 1]),
        state=st.sampled_from(["active", "disabled"]),
    ),
    min_size=1,
    max_size=5,
)

pushes = st.lists(
    st.tuples(
        st.sampled_from(REFS),
        st.sampled_from(["-", *COMMITS]),
        st.sampled_from(PUSHERS),
        st.lists(st.sampled_from(OPTIONS), max_size=2, unique=True),
    ),
    min_size=1,
    max_size=5,
)


@dataclass
class Told:
    """What a move did, by the store's own file: endpoints that it fired, and why it did not fire the others."""

    fired: set[str]
    passed_over: dict[str, list[str]] | None
    """None where nothing is noted of the move."""


class Trial(World):
    """A repository with the commits from above, beside those of World. Refs move by their names."""

    def __enter__(self) -> Trial:
        super().__enter__()
        stream, marks = b"", {name: number for number, name in enumerate(COMMITS, 1)}
        for name, (parents, message, files) in COMMITS.items():
            number = marks[name]
            stream += f"reset refs/heads/x\ncommit refs/heads/x\nmark :{number}\n".encode()
            stream += f"committer Ada <ada@example.org> {hard.START + number} +0000\n".encode()
            stream += f"data {len(message)}\n{message}\n".encode()
            for index, parent in enumerate(parents.split()):
                stream += f"{'merge' if index else 'from'} :{marks[parent]}\n".encode()
            for file in files:
                stream += hard.put(file, name)
            if len(parents.split()) > 1:
                stream += hard.put("src/web/c.c", "web")
        (self.root / "marks").touch()
        hard.git(self.bare, "fast-import", "--quiet", "--force", f"--export-marks={self.root}/marks", stdin=stream)
        hard.git(self.bare, "update-ref", "-d", "refs/heads/x")
        lines = (line.split() for line in (self.root / "marks").read_text().splitlines())
        by_mark = {int(mark[1:]): object_id for mark, object_id in lines}
        self.ids |= {name: by_mark[number] for name, number in marks.items()}
        self.at: dict[str, str] = {}
        """Which commit each ref names."""
        return self

    def explain(self, ref: str, new: str, pusher: str, options: list[str]) -> dict[str, dict[str, Any]]:
        """The answer of the command line for each endpoint."""
        words = ["--state", str(self.state), "explain", str(self.bare), ref, *self._ends(ref, new)]
        words += ["--pusher", pusher, "--json"]
        for option in options:
            words += ["--option", option]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return {one["endpoint"]: one for one in json.loads(result.stdout)["endpoints"]}

    def push(self, ref: str, new: str, pusher: str, options: list[str]) -> Told:
        """The push itself, ingested."""
        before = self._last()
        facts = [f"GL_USER={pusher}", *(f"option={option}" for option in options)]
        self.put(f"{ref}:{self.at.get(ref, '-')}>{new}", facts=facts)
        assert self.run() == 1
        self.at[ref] = new
        fired = self.sql(
            "SELECT n.name FROM deliveries d JOIN endpoints n ON n.id = d.endpoint_id"
            " JOIN contents c ON c.id = d.content_id WHERE c.event_id > ?",
            before,
        )
        noted = self.sql("SELECT passed_over FROM events WHERE id > ?", before)
        assert len(noted) <= 1
        return Told({name for (name,) in fired}, json.loads(noted[0][0]) if noted else None)

    def _last(self) -> int:
        ((last,),) = self.sql("SELECT coalesce(max(id), 0) FROM events")
        return int(last)

    def _ends(self, ref: str, new: str) -> tuple[str, str]:
        return self.ids[self.at.get(ref, "-")], self.ids[new]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Trial(tmp_path) as trial:
        yield trial


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(endpoints, pushes)
def test_it_agrees_with_what_really_fires(some: list[Endpoint], moves: list[tuple[str, str, str, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as name, Trial(Path(name)) as trial:
        for number, one in enumerate(some):
            trial.store.endpoints.add(replace(one, name=f"e{number}"), trial.clock())
        for ref, new, pusher, options in moves:
            if trial.at.get(ref, "-") == new:
                continue
            answer = trial.explain(ref, new, pusher, options)
            told = trial.push(ref, new, pusher, options)
            assert {name for name, one in answer.items() if one["fires"]} == told.fired
            reasons = {name: one["reasons"] for name, one in answer.items() if one["reasons"]}
            if told.passed_over is None:
                assert ref.startswith("refs/notes/")
                assert not told.fired
                assert set(reasons) == set(answer)
            else:
                assert reasons == told.passed_over
            listed = trial.store.passed.over(limit=1)
            if told.passed_over:
                assert listed[0].reasons == told.passed_over


def test_what_nobody_wants_leaves_an_event_and_nothing_else(trial: Trial) -> None:
    trial.endpoint("docs", paths=("docs/**",))
    trial.endpoint("main", branches=("main",))
    trial.endpoint("all")
    trial.push("refs/heads/main", "first", "ann", [])
    told = trial.push("refs/heads/main", "web", "ann", [])
    assert told.fired == {"main", "all"}
    told = trial.push("refs/heads/wip", "other", "ann", [])
    assert told.fired == {"all"}
    trial.store.endpoints.remove(trial.store.endpoints.get("all").id, discard=True)
    contents = trial.sql("SELECT count(*) FROM contents")
    told = trial.push("refs/heads/release/1", "empty", "ann", [])
    assert told == Told(
        set(),
        {
            "docs": ["its paths are docs/**, and no commit of this push changes one"],
            "main": ["its branches are main, this is release/1"],
        },
    )
    assert trial.sql("SELECT count(*) FROM contents") == contents


class TestSkipped:
    @pytest.fixture
    def pushed(self, trial: Trial) -> Trial:
        """Two endpoints, and three pushes a minute apart: both, one, and neither want them."""
        trial.endpoint("docs", paths=("docs/**",))
        trial.endpoint("people", pushers=("!robot",))
        trial.push("refs/heads/main", "first", "ann", [])
        trial.clock.now += 60
        trial.push("refs/heads/main", "web", "ben", [])
        trial.clock.now += 60
        trial.push("refs/heads/wip", "other", "robot", [])
        return trial

    def listed(self, trial: Trial, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.invoke(trial, *words, "--json").stdout)
        return found

    def invoke(self, trial: Trial, *words: str, code: int = 0) -> Any:
        line = ["--state", str(trial.state), "delivery", "list", "--skipped", *words]
        result = CliRunner().invoke(main, line, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    def test_which_endpoints_a_push_did_not_reach_and_why(self, pushed: Trial) -> None:
        newest, older = self.listed(pushed)["skipped"]
        assert newest["reasons"] == {
            "docs": ["its paths are docs/**, and no commit of this push changes one"],
            "people": ["its pushers are !robot, this is robot"],
        }
        assert (newest["ref"], newest["new"], newest["pusher"]) == ("refs/heads/wip", pushed.ids["other"], "robot")
        assert list(older["reasons"]) == ["docs"]
        text = self.invoke(pushed).stdout
        assert len(text.splitlines()) == 4
        assert "people    its pushers are !robot, this is robot\n" in text

    def test_the_options_choose(self, pushed: Trial) -> None:
        def ids(*words: str) -> list[str]:
            return [one["id"] for one in self.listed(pushed, *words)["skipped"]]

        newest, older = ids()
        assert ids("--endpoint", "people") == [newest]
        assert ids("--ref", "main") == [older]
        assert ids("--pusher", "ben") == [older]
        assert ids("--repository", str(pushed.bare)) == [newest, older]
        assert ids("--since", "2023-11-14T22:15:00Z") == [newest]
        assert ids("--until", "2023-11-14T22:15:00Z") == [older]
        (one,) = self.listed(pushed, "--endpoint", "people")["skipped"]
        assert list(one["reasons"]) == ["people"]

    def test_it_is_paged(self, pushed: Trial) -> None:
        first = self.listed(pushed, "--limit", "1")
        second = self.listed(pushed, "--limit", "1", "--before", first["next"])
        assert second["next"] is None
        assert [first["skipped"], second["skipped"]] == [[one] for one in self.listed(pushed)["skipped"]]
        assert f"--before {first['next']}" in self.invoke(pushed, "--limit", "1").stdout

    def test_an_endpoint_that_is_gone_is_found_and_one_that_never_was_is_refused(self, pushed: Trial) -> None:
        pushed.store.endpoints.remove(pushed.store.endpoints.get("people").id, discard=True)
        assert len(self.listed(pushed, "--endpoint", "people")["skipped"]) == 1
        assert "no endpoint 'nobody'" in self.invoke(pushed, "--endpoint", "nobody", code=2).stderr

    @pytest.mark.parametrize("words", [("--state", "held"), ("--error", "tls"), ("--before", "4f78d2e6")])
    def test_what_tells_of_deliveries_is_refused(self, pushed: Trial, words: tuple[str, str]) -> None:
        assert len(self.invoke(pushed, *words, code=2).stderr.splitlines()) == 1
