"""Which path filters a push passes, over a repository of several projects."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import hard
from refcast.filters import Paths
from refcast.history import History, Limits
from refcast.model import ZERO_ID, Push, Pusher, RefUpdate, Repository

WEB, API, DOCS = ("apps/web/**",), ("apps/api/**",), ("docs/**", "!docs/drafts/**")
MANY = 5000


class Story:
    """A bare repository in which commits are made by what they write and remove, each with a name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: dict[str, str] = {}
        self._stream = b""
        hard.init_bare(path)

    def commit(self, name: str, *changes: bytes, parents: str = "") -> None:
        head = f"commit refs/heads/{name}\ncommitter A <a@x> {hard.START + len(self.ids)} +0000\n"
        lines = [f"data {len(name)}\n{name}\n"]
        for number, parent in enumerate(parents.split()):
            lines.append(f"{'merge' if number else 'from'} refs/heads/{parent}\n")
        self._stream += (head + "".join(lines)).encode() + b"".join(changes)
        self.ids[name] = ""

    def finish(self) -> Story:
        hard.git(self.path, "fast-import", "--quiet", stdin=self._stream)
        listed = hard.git(self.path, "for-each-ref", "--format=%(refname:strip=2) %(objectname)", "refs/heads")
        self.ids.update(dict(line.split() for line in listed.decode().splitlines()))
        return self


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    put, drop = hard.put, hard.drop
    story = Story(tmp_path_factory.mktemp("paths") / "mono.git")
    story.commit("base", put("apps/web/a", "1"), put("apps/api/a", "1"), put("docs/a", "1"), put("top", "1"))
    story.commit("web", put("apps/web/a", "2"), parents="base")
    story.commit("api", put("apps/api/a", "2"), parents="web")
    story.commit("draft", put("docs/drafts/x", "1"), parents="api")
    story.commit("moved", drop("apps/web/a"), put("docs/a.old", "2"), parents="draft")
    story.commit("side", put("docs/b", "1"), parents="base")
    story.commit("merge", put("docs/b", "1"), parents="web side")
    story.commit("empty", parents="merge")
    previous = "base"
    for number in range(1, MANY + 1):
        change = put("apps/api/needle", "x") if number == 1234 else put("top", str(number))
        story.commit(f"m{number}", change, parents=previous)
        previous = f"m{number}"
    return story.finish()


def passed(
    story: Story, old: str, new: str, ref: str = "refs/heads/main", ledger: dict[str, str] | None = None
) -> set[str]:
    ids = {"": ZERO_ID, **story.ids}
    update = RefUpdate(ids[old], ids[new], ref)
    known = {"refs/heads/main": ids[old]} if old else {}
    push = Push("id", str(story.path), "ada", datetime.now(UTC), (update,))
    named = {WEB: "web", API: "api", DOCS: "docs"}
    with History.open(str(story.path)) as history:
        (event,) = history.events(
            push,
            known if ledger is None else {name: ids[at] for name, at in ledger.items()},
            Repository(str(story.path), "mono"),
            Pusher("ada"),
            Limits(commits=3, files=2),
            paths=[Paths(patterns) for patterns in named],
        )
    return {named[patterns] for patterns in event.touched}


@pytest.mark.parametrize(
    ("old", "new", "fires"),
    [
        ("base", "web", {"web"}),
        ("base", "api", {"web", "api"}),
        ("web", "api", {"api"}),
        ("api", "draft", set()),
        ("draft", "moved", {"web", "docs"}),
        ("base", "merge", {"web", "docs"}),
        ("web", "merge", {"docs"}),
        ("merge", "empty", set()),
        ("base", f"m{MANY}", {"api"}),
        ("base", "m1233", set()),
        ("m1234", f"m{MANY}", set()),
        ("api", "web", {"api"}),
        ("api", "side", {"web", "api", "docs"}),
        ("", "web", {"web", "api", "docs"}),
        ("web", "", {"web", "api", "docs"}),
    ],
)
def test_a_push_passes_the_filters_that_a_commit_of_it_meets(story: Story, old: str, new: str, fires: set[str]) -> None:
    assert passed(story, old, new) == fires


def test_a_creation_is_judged_by_its_new_commits(story: Story) -> None:
    assert passed(story, "", "api", "refs/heads/new", {"refs/heads/main": "web"}) == {"api"}


def test_a_creation_without_new_commits_passes(story: Story) -> None:
    assert passed(story, "", "web", "refs/heads/new", {"refs/heads/main": "api"}) == {"web", "api", "docs"}


def test_a_tag_passes(story: Story) -> None:
    assert passed(story, "", "web", "refs/tags/v1", {"refs/heads/main": "base"}) == {"web", "api", "docs"}


def test_what_cannot_be_judged_passes(story: Story, tmp_path: Path) -> None:
    """Objects that are gone."""
    path = tmp_path / "own.git"
    own = Story(path)
    own.commit("base", hard.put("top", "1"))
    own.commit("next", hard.put("top", "2"), parents="base")
    own.finish()
    for pack in (path / "objects" / "pack").glob("*.pack"):
        packed = pack.read_bytes()
        for each in (path / "objects" / "pack").iterdir():
            each.unlink()
        hard.git(path, "unpack-objects", "-q", stdin=packed)
    tree = hard.git(path, "rev-parse", "next^{tree}").decode().strip()
    (path / "objects" / tree[:2] / tree[2:]).unlink()
    assert passed(own, "base", "next") == {"web", "api", "docs"}
