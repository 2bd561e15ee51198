"""`refcast upgrade`, `backup` and `restore` as commands: what they do to what is there, and say of what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Receiver
from refcast import presence
from refcast.errors import StateError
from refcast.service import alone
from servers import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as made:
        yield made


def age(server: Server) -> None:
    """Have the hooks be of another version."""
    for path in server.hooks():
        path.write_text(path.read_text().replace("# Installed by", "# Once installed by"))


class TestUpgrade:
    def test_hooks_are_renewed_wherever_they_are(self, server: Server) -> None:
        server.refcast("install", str(server.bare))  # by the program that the command is
        assert server.refcast("upgrade").stdout == "hooks: 0 renewed, 1 as they are\n"
        age(server)
        assert server.refcast("upgrade").stdout == f"{server.bare}: upgraded\nhooks: 1 renewed, 0 as they are\n"
        assert all("Once" not in path.read_text() for path in server.hooks())

    def test_the_kind_of_intent_stays(self, server: Server) -> None:
        server.refcast("install", "--intent", "pre-receive", str(server.bare))
        age(server)
        server.refcast("upgrade")
        assert sorted(path.name for path in server.hooks()) == ["post-receive", "pre-receive"]

    def test_what_is_gone_is_named_and_the_rest_is_done(self, server: Server) -> None:
        other = server.root / "other.git"
        server.run("git", "init", "-q", "--bare", str(other))
        server.refcast("install", str(server.bare), str(other))
        age(server)
        other.rename(server.root / "moved.git")
        done = server.refcast("upgrade", check=False)
        assert (done.returncode, done.stderr.count("\n")) == (4, 1)
        assert f"no repository {other}" in done.stderr
        assert "hooks: 1 renewed, 0 as they are\n" in done.stdout
        facts = json.loads(server.refcast("upgrade", "--json", check=False).stdout)
        assert [one["error"] is None for one in facts["renewed"]] == [False, True]

    def test_a_hooks_directory_that_has_become_shared_is_not_written_to(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "config", "core.hooksPath", str(server.root / "everybodys"))
        done = server.refcast("upgrade", check=False)
        assert (done.returncode, "pass --shared" in done.stderr) == (4, True)
        assert not (server.root / "everybodys").exists()

    def test_a_worker_that_a_push_has_started_is_another_afterwards(self, server: Server) -> None:
        with Receiver() as receiver:
            receiver.answers([500])
            server.refcast("endpoint", "add", "ci", receiver.url)
            server.commit("one")
            server.push("main")
            receiver.wait_for(1)
            server.wait_until(lambda: presence.running(server.state) is not None)
            old = presence.running(server.state)
            assert "the worker was restarted\n" in server.refcast("upgrade").stdout
            server.wait_until(lambda: presence.running(server.state) not in (None, old))

    def test_one_that_a_push_starts_meanwhile_makes_room(self, server: Server) -> None:
        """For a push comes between the end of the worker that was there and what none may run beside."""
        calls = []

        def act() -> int | None:
            calls.append(1)
            if len(calls) == 1:
                server.commit("one")
                server.push("main")
                server.wait_until(lambda: presence.running(server.state) is not None)
                raise StateError("a worker runs")
            return presence.running(server.state)

        ended = set[int]()
        assert alone(server.state, act, ended) is None
        assert len(calls) == 2
        assert len(ended) == 1, "another is to be started for its push"

    def test_what_has_another_cause_is_told(self, server: Server) -> None:
        def act() -> None:
            raise StateError("the disk is full")

        with pytest.raises(StateError, match="the disk is full"):
            alone(server.state, act, set())


class TestBackup:
    def test_there_and_back(self, server: Server) -> None:
        copy = server.root / "copy.db"
        server.refcast("endpoint", "add", "ci", "http://127.0.0.1:1/")
        assert server.refcast("backup", str(copy)).stdout == f"{copy}: {copy.stat().st_size} bytes\n"
        server.refcast("endpoint", "remove", "ci")
        said = server.refcast("restore", str(copy)).stdout
        assert said == f"restored from {copy}; what was there is in {server.state}/refcast.db.before-restore\n"
        assert "ci" in server.refcast("endpoint", "list").stdout

    def test_a_worker_that_a_push_has_started_makes_room(self, server: Server) -> None:
        server.refcast("endpoint", "add", "ci", "http://127.0.0.1:1/")
        server.refcast("backup", str(server.root / "copy.db"))
        server.commit("one")
        server.push("main")
        server.wait_until(lambda: presence.running(server.state) is not None)
        server.refcast("restore", str(server.root / "copy.db"))
        assert server.deliveries() == []

    def test_what_has_moved_since_is_announced_as_recovered(self, server: Server) -> None:
        """Although the backup says that the repository was swept a moment ago."""
        with Receiver() as receiver:
            server.refcast("endpoint", "add", "ci", receiver.url)
            server.commit("one")
            server.push("main")
            receiver.wait_for(1)
            server.refcast("sweep")
            server.refcast("backup", str(server.root / "copy.db"))
            moved = server.commit("two")
            server.push("main")
            receiver.wait_for(2)
            server.refcast("restore", str(server.root / "copy.db"))  # which starts the worker again that it has ended
            (told,) = [one.json() for one in receiver.wait_for(3)[2:]]
            assert (told["update"]["new"], told["recovered"]) == (moved, True)

    def test_where_there_is_nothing_to_copy(self, server: Server) -> None:
        (server.root / "empty").mkdir()
        refused = server.refcast("--state", str(server.root / "empty"), "backup", "x.db", check=False)
        assert refused.returncode == 3
        assert "there is no store" in refused.stderr
