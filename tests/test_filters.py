"""The rule of patterns, and every reason for which an endpoint is not for an event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import PathSpec

import events
from refcast import filters
from refcast.errors import BadInput
from refcast.model import Endpoint, RefUpdate

ENDPOINT = Endpoint(1, "ci", "http://x/", "refcast", "json")


def reasons(event: object, **wants: object) -> list[str]:
    return filters.refusals(replace(ENDPOINT, **wants), event)  # type: ignore[arg-type]


class TestNames:
    @pytest.mark.parametrize(
        ("patterns", "passing", "failing"),
        [
            ((), ["main", "a/b"], []),
            (("main",), ["main"], ["maint", "feature/main", "Main"]),
            (("release/*",), ["release/1"], ["release", "x/release/1", "release/1/2"]),
            (("release/**",), ["release/1", "release/1/2"], ["release"]),
            (("**/fix",), ["fix", "a/fix", "a/b/fix"], ["a/fixed"]),
            (("v?.[0-9]",), ["v1.2"], ["v1.x", "v12.3"]),
            (("*", "!wip"), ["main"], ["wip"]),
            (("!wip/**",), ["main", "a/b"], ["wip/x", "wip/x/y"]),
            (("!wip/**", "wip/keep"), ["main", "wip/keep"], ["wip/x"]),
            (("#1", "/main"), ["#1", "main"], ["1"]),
            (("name with spaces", "caf\udce9"), ["name with spaces", "caf\udce9"], ["name", "caf\udce8"]),
        ],
    )
    def test_a_list_of_patterns(self, patterns: tuple[str, ...], passing: list[str], failing: list[str]) -> None:
        assert [name for name in passing if not filters.matches(patterns, name)] == []
        assert [name for name in failing if filters.matches(patterns, name)] == []

    @pytest.mark.parametrize("pattern", ["", "!", "/", "!/", "a\\"])
    def test_what_is_no_pattern_is_refused(self, pattern: str) -> None:
        with pytest.raises(BadInput, match="no pattern for branches"):
            filters.check([pattern], "branches")

    @pytest.mark.parametrize("pattern", ["main", "!wip/**", "a b", "[z", "#1", "caf\udce9"])
    def test_what_is_one_is_taken(self, pattern: str) -> None:
        filters.check([pattern], "branches")

    @pytest.mark.parametrize("pattern", ["#docs", " ", "!", ""])
    def test_what_says_nothing_of_paths_is_refused(self, pattern: str) -> None:
        with pytest.raises(BadInput, match="no pattern for paths"):
            filters.check([pattern], "paths", anchored=False)


class TestPaths:
    @pytest.mark.parametrize(
        ("patterns", "passing", "failing"),
        [
            (("docs/**",), ["docs/a", "docs/a/b"], ["docs", "a/docs/b", "docs2/a"]),
            (("docs/",), ["docs/a", "x/docs/a"], ["docs"]),
            (("*.md",), ["a.md", "x/y/b.md"], ["a.mdx"]),
            (("/*.md",), ["a.md"], ["x/a.md"]),
            (("docs/**", "!docs/internal/**"), ["docs/a"], ["docs/internal/a"]),
            (("!docs/**",), ["src/a", "a"], ["docs/a"]),
        ],
    )
    def test_a_list_of_patterns(self, patterns: tuple[str, ...], passing: list[str], failing: list[str]) -> None:
        paths = filters.Paths(patterns)
        assert [path for path in passing if not paths.match(path)] == []
        assert [path for path in failing if paths.match(path)] == []

    def test_directories_without_interest_need_not_be_read(self) -> None:
        paths = filters.Paths(("apps/web/**", "libs/*/src"))
        interesting = ["apps/", "apps/web/", "apps/web/x/y/", "libs/", "libs/a/", "libs/b/c/"]
        assert all(paths.may_match_in(directory) for directory in interesting)
        assert not any(paths.may_match_in(directory) for directory in ["docs/", "apps/api/", "apps/webs/", "a/libs/"])
        assert filters.Paths(("*.md",)).may_match_in("anything/at/all/")
        assert filters.Paths(("!docs/**",)).may_match_in("anything/")

    segments = st.lists(st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "[ab]"]), min_size=1, max_size=4)
    patterns = st.lists(
        st.builds(
            lambda sign, lead, parts, tail: sign + lead + "/".join(parts) + tail,
            st.sampled_from(["", "!"]),
            st.sampled_from(["", "/"]),
            segments,
            st.sampled_from(["", "/"]),
        ),
        min_size=1,
        max_size=3,
    )
    names = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=5)

    @given(patterns, names)
    def test_no_directory_with_a_match_is_passed_over(self, patterns: list[str], names: list[str]) -> None:
        paths = filters.Paths(tuple(patterns))
        path = "/".join(names)
        if paths.match(path):
            assert all(paths.may_match_in("/".join(names[:depth]) + "/") for depth in range(1, len(names)))

    @given(patterns, names)
    def test_the_library_itself_is_the_rule(self, patterns: list[str], names: list[str]) -> None:
        lines = (["**"] if patterns[0].startswith("!") else []) + patterns
        path = "/".join(names)
        assert filters.Paths(tuple(patterns)).match(path) == PathSpec.from_lines("gitignore", lines).match_file(path)


class TestReasons:
    def test_none_for_an_endpoint_that_wants_all(self) -> None:
        for event in (events.UPDATE, events.NEW_BRANCH, events.DELETED, events.TAG, events.FORCED):
            assert reasons(event) == []

    def test_the_kind_of_event(self) -> None:
        assert reasons(events.UPDATE, events=frozenset({"push"})) == []
        assert reasons(events.TAG, events=frozenset({"push"})) == ["its events are push, this is a tag_push"]

    def test_the_repository(self) -> None:
        assert reasons(events.UPDATE, repositories=("team/*",)) == []
        assert reasons(events.UPDATE, repositories=("site", "other/**")) == [
            "its repositories are site, other/**, this is team/site"
        ]

    def test_the_pusher(self) -> None:
        assert reasons(events.UPDATE, pushers=("!robot",)) == []
        assert reasons(events.UPDATE, pushers=("ben",)) == ["its pushers are ben, this is ada"]

    def test_branches_and_tags(self) -> None:
        assert reasons(events.UPDATE, branches=("main",)) == []
        assert reasons(events.UPDATE, branches=("release/*",)) == ["its branches are release/*, this is main"]
        assert reasons(events.TAG, branches=("main",)) == ["its branches are main, this is the tag v1.0"]
        assert reasons(events.UPDATE, tags=("v*",)) == ["its tags are v*, this is the branch main"]
        assert reasons(events.TAG, tags=("v*",)) == []
        assert reasons(events.TAG, branches=("main",), tags=("w*",)) == ["its tags are w*, this is v1.0"]

    def test_refs_of_other_kinds(self) -> None:
        assert events.UPDATE.update is not None
        note = replace(events.UPDATE, update=RefUpdate(events.A, events.B, "refs/notes/commits"))
        assert reasons(note) == ["refs/notes/commits is neither a branch nor a tag: see --other-refs"]
        assert reasons(note, other_refs=True) == []
        assert reasons(note, other_refs=True, branches=("main",)) == []

    def test_paths(self) -> None:
        docs = ("docs/**",)
        assert reasons(events.UPDATE, paths=docs) == ["its paths are docs/**, and no commit of this push changes one"]
        assert reasons(replace(events.UPDATE, touched=frozenset({docs})), paths=docs) == []

    def test_what_asks_to_be_skipped(self) -> None:
        both = frozenset({"option", "mark"})
        asked = replace(events.UPDATE, options=("ci.skip", "other"))
        assert reasons(asked) == []
        assert reasons(asked, skips=both) == ["the push option ci.skip asks to skip it"]
        assert events.UPDATE.head is not None
        marked = replace(events.UPDATE, head=replace(events.UPDATE.head, message="Fix\n\n[Skip CI] later"))
        assert reasons(marked) == []
        assert reasons(marked, skips=both) == ["the newest commit's message says [skip ci]"]
        assert reasons(events.UPDATE, skips=both) == []

    def test_every_reason_is_told(self) -> None:
        assert len(reasons(events.UPDATE, events=frozenset({"tag_push"}), pushers=("ben",), branches=("x",))) == 3
