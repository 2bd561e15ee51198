"""A monorepo and three endpoints, each for a directory and a branch of its own: real pushes, and by the receiver's own
book each endpoint is told exactly when it should be.

After each push what is due is delivered, and nothing is left: what has not arrived by then was not sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Receiver
from servers import Server, pose_as_worker

COMMITS = 5000


class Monorepo(Server):
    """The server, and the receiver on which each endpoint has a path of its own."""

    def __init__(self, root: Path, receiver: Receiver) -> None:
        super().__init__(root, worker=False)
        self.receiver = receiver

    def endpoint(self, name: str, *words: str) -> None:
        self.refcast("endpoint", "add", name, f"{self.receiver.url}{name}", "--dialect", "codeup", *words)

    def fires(self, *words: str) -> list[str]:
        """The endpoints that a push fires, in the order of their names."""
        before = len(self.receiver.book)
        pose_as_worker(self.state)  # or the hook would start one that delivers as well
        self.push(*words)
        self.refcast("worker", "--drain")
        assert set(self.deliveries()) <= {"delivered"}
        return sorted(one.path.strip("/") for one in self.receiver.book[before:])

    def switch(self, branch: str, start: str = "") -> None:
        self.git("checkout", "-q", *(["-b", branch, start] if start else [branch]))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Monorepo]:
    with Receiver() as receiver, (server := Monorepo(tmp_path, receiver)):
        server.endpoint("web", "--branch", "main", "--paths", "apps/web/**")
        server.endpoint("api", "--branch", "release/*", "--paths", "apps/api/**", "--paths", "!*.md")
        server.endpoint("docs", "--branch", "!wip/**", "--paths", "*.md", "--skip-by", "option", "--skip-by", "mark")
        server.commit("all", {"apps/web/a": "1\n", "apps/api/a": "1\n" * 20, "docs/a.md": "1\n", "other": "1\n"})
        yield server


def test_a_directory_and_a_branch_each(server: Monorepo) -> None:
    assert server.fires("main") == ["docs", "web"]
    server.commit("web", {"apps/web/a": "2\n"})
    assert server.fires("main") == ["web"]
    server.commit("api, but on main", {"apps/api/a": "2\n" * 20})
    assert server.fires("main") == []
    # Its commits are new to nobody: there is nothing to judge by.
    assert server.fires("main:release/1") == ["api", "docs"]
    server.switch("release/1", "main")
    server.commit("api", {"apps/api/a": "3\n" * 20})
    assert server.fires("release/1") == ["api"]
    server.commit("words of api", {"apps/api/README.md": "1\n"})
    assert server.fires("release/1") == ["docs"]
    server.commit("neither", {"other": "2\n"})
    assert server.fires("release/1") == []
    server.switch("wip/x", "release/1")
    server.commit("words", {"docs/a.md": "2\n"})
    assert server.fires("wip/x") == []
    server.git("tag", "v1")
    assert server.fires("v1") == []
    assert server.fires(":wip/x") == []
    # A deletion changes no path that could be judged.
    assert server.fires(":release/1") == ["api", "docs"]


def test_a_commit_in_the_middle_counts(server: Monorepo) -> None:
    server.fires("main")
    server.commit("web", {"apps/web/a": "2\n"})
    server.commit("and back", {"apps/web/a": "1\n"})
    server.commit("other", {"other": "2\n"})
    assert server.fires("main") == ["web"]


def test_a_merge(server: Monorepo) -> None:
    server.fires("main")
    server.switch("side", "main")
    server.commit("web", {"apps/web/b": "1\n"})
    server.switch("main")
    server.commit("other", {"other": "2\n"})
    assert server.fires("main") == []
    server.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    assert server.fires("main") == ["web"]
    # What was merged before has been told: of the merge alone nothing is new.
    server.switch("side")
    server.git("merge", "-q", "--no-ff", "-m", "Merge main", "main")
    server.commit("words", {"docs/b.md": "1\n"})
    server.switch("main")
    server.git("merge", "-q", "--no-ff", "-m", "Merge side again", "side")
    assert server.fires("main") == ["docs"]


def test_a_force_push(server: Monorepo) -> None:
    first = server.git("rev-parse", "HEAD")
    server.commit("web", {"apps/web/a": "2\n"})
    assert server.fires("main") == ["docs", "web"]
    server.git("reset", "-q", "--hard", first)
    # It lists no commit, and yet takes a change of the directory away.
    assert server.fires("--force", "main") == ["web"]
    server.commit("words", {"docs/a.md": "2\n"})
    server.fires("main")
    server.git("commit", "-q", "--amend", "-m", "the same words, said again")
    assert server.fires("--force", "main") == ["docs"]
    server.git("reset", "-q", "--hard", first)
    server.commit("other", {"other": "2\n"})
    assert server.fires("--force", "main") == ["docs"]


def test_a_rename_across_directories_is_of_both(server: Monorepo) -> None:
    server.fires("main")
    server.git("mv", "apps/web/a", "docs/a")
    server.git("commit", "-q", "-m", "out of web")
    assert server.fires("main") == ["web"]
    server.git("mv", "docs/a.md", "apps/web/index.md")
    server.git("commit", "-q", "-m", "into web")
    assert server.fires("main") == ["docs", "web"]
    server.git("mv", "other", "another")
    server.git("commit", "-q", "-m", "neither")
    assert server.fires("main") == []


@pytest.mark.parametrize("touched", [True, False])
def test_one_of_very_many_commits(server: Monorepo, touched: bool) -> None:
    server.fires("main")
    stream = [f"reset refs/heads/many\nfrom {server.git('rev-parse', 'HEAD')}\n"]
    for number in range(COMMITS):
        # An early one, which no event lists.
        path = "apps/web/deep/down/a" if touched and number == 17 else f"other-{number % 50}"
        stream.append(
            f"commit refs/heads/many\ncommitter Ada <ada@example.org> {1_700_000_000 + number} +0000\ndata 1\nx\n"
            f"M 100644 inline {path}\ndata {len(str(number))}\n{number}\n"
        )
    (server.root / "stream").write_text("".join(stream))
    server.run("sh", "-c", f"git -C '{server.work}' fast-import --quiet <'{server.root / 'stream'}'")
    assert server.fires("many:main") == (["web"] if touched else [])
    if touched:
        body = server.receiver.book[-1].json()
        assert body["total_commits_count"] == COMMITS
        assert "apps/web/deep/down/a" not in server.receiver.book[-1].body.decode()


def test_skipping(server: Monorepo) -> None:
    server.run("git", "config", "receive.advertisePushOptions", "true", cwd=server.bare)
    server.fires("main")

    def words(text: str, message: str) -> None:
        server.commit(message, {"docs/a.md": text, "apps/web/a": text})

    words("2\n", "words")
    assert server.fires("-o", "ci.skip", "main") == ["web"]
    words("3\n", "words")
    assert server.fires("-o", "deploy", "-o", "refcast.skip", "main") == ["web"]
    words("4\n", "words")
    assert server.fires("-o", "deploy", "main") == ["docs", "web"]
    words("5\n", "words [Skip CI]")
    assert server.fires("main") == ["web"]
    words("6\n", "not these [skip ci]")
    words("7\n", "but these")
    assert server.fires("main") == ["docs", "web"]
    listed = server.refcast("delivery", "list", "--skipped", "--endpoint", "docs").stdout
    assert "the push option ci.skip asks to skip it" in listed
    assert "the push option refcast.skip asks to skip it" in listed
    assert "the newest commit's message says [skip ci]" in listed
    assert len(listed.splitlines()) == 4
