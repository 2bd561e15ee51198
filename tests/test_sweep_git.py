"""Moves that git made and no hook told of, with real git and the real command line; and what git never made."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from refcast import presence, spool
from refcast.model import Endpoint
from refcast.store import FILE, Store
from servers import ZERO, Server, end, workers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With one push of main that is announced, and no worker but those that a test runs."""
    with Server(tmp_path, worker=False) as made:
        made.commit("one")
        made.push("main")
        ingest(made)
        yield made


def ingest(server: Server) -> None:
    (server.state / "worker.pid").unlink(missing_ok=True)
    end_workers_of(server)
    done = server.refcast("worker", "--drain", check=False)
    left = [path for path in spool.files(server.state / "spool") if spool.is_complete(path)]
    assert left == [], done.stderr


def end_workers_of(server: Server) -> None:
    """A sweep by hand starts one, to deliver what it found."""
    for pid in workers(server.state):
        end(pid)


def sweep(server: Server, *words: str) -> dict[str, Any]:
    (found,) = json.loads(server.refcast("sweep", "--json", *words).stdout)
    assert isinstance(found, dict)
    return found


def told(server: Server) -> list[tuple[str, str, bool]]:
    """Ref, pusher and whether it was recovered, of each event."""
    connection = sqlite3.connect(server.state / FILE)
    try:
        rows = connection.execute("SELECT ref, pusher, recovered FROM events ORDER BY id").fetchall()
    finally:
        connection.close()
    return [(os.fsdecode(ref), os.fsdecode(pusher), bool(recovered)) for ref, pusher, recovered in rows]


def ledger(server: Server) -> dict[str, str]:
    with Store.open(server.state) as store:
        return store.repositories.tips(1)


def refs(server: Server) -> dict[str, str]:
    lines = server.run("git", "-C", server.bare, "for-each-ref", "--format=%(refname) %(objectname)").stdout.split("\n")
    return dict(line.split(" ") for line in lines if line)


MAIN = "refs/heads/main"


class TestFound:
    def test_update_ref(self, server: Server) -> None:
        server.commit("two")
        server.git("push", "-q", "origin", "HEAD:refs/heads/x")
        ingest(server)
        server.run("git", "-C", server.bare, "update-ref", MAIN, "refs/heads/x")
        assert sweep(server)["refs"] == [MAIN]
        assert told(server)[-1] == (MAIN, "unknown", True)
        assert ledger(server) == refs(server)
        assert sweep(server)["recovered"] == 0

    def test_a_mirror_s_fetch(self, server: Server) -> None:
        for name in ("two", "three"):
            server.commit(name)
            server.git("branch", name)
        server.git("tag", "-m", "a tag", "v1")
        server.run("git", "-C", server.bare, "fetch", "-q", server.work, "+refs/*:refs/*", "--prune")
        found = sweep(server)
        assert found["refs"] == [MAIN, "refs/heads/three", "refs/heads/two", "refs/tags/v1"]
        assert ledger(server) == refs(server)

    def test_pushes_while_the_hooks_were_away(self, server: Server) -> None:
        hooks = server.bare / "hooks"
        hooks.rename(server.root / "away")
        server.commit("two")
        server.push("main", "main:other")
        (server.root / "away").rename(hooks)
        server.commit("three")
        server.push("main")
        ingest(server)
        assert told(server)[1:] == [(MAIN, "unknown", True), (MAIN, account(), False)]
        assert sweep(server)["refs"] == ["refs/heads/other"]

    def test_pushes_until_the_hooks_were_installed_again(self, server: Server) -> None:
        for name in ("update", "post-receive"):
            (server.bare / "hooks" / name).unlink()
        server.commit("two")
        server.push("main")
        server.install()
        assert sweep(server)["refs"] == [MAIN]

    def test_a_push_whose_receive_pack_was_killed(self, server: Server) -> None:
        """By the hook that git runs when the refs have moved, before post-receive."""
        server.hook("reference-transaction", 'if [ "$1" = committed ]; then kill -9 $PPID; fi; exit 0')
        server.commit("two")
        assert server.push("main", check=False).returncode != 0
        (server.bare / "hooks" / "reference-transaction").unlink()
        assert server.git("rev-parse", "HEAD") == refs(server)[MAIN]
        assert server.push("main").stderr == ""  # it says "up to date", and runs no hook
        ingest(server)
        assert told(server)[1:] == [(MAIN, account(), True)]


def account() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, check=True, text=True).stdout.strip()


class TestNotInvented:
    def test_a_refused_push(self, server: Server) -> None:
        server.hook("update", '[ "$1" != refs/heads/bad ]', at=server.bare / "hooks" / "update.before-refcast")
        server.commit("two")
        server.push("main:good", "main:bad", check=False)
        ingest(server)
        assert sweep(server)["recovered"] == 0
        assert [ref for ref, _, _ in told(server)] == [MAIN, "refs/heads/good"]

    def test_an_atomic_push_that_fails(self, server: Server) -> None:
        server.hook("update", '[ "$1" != refs/heads/z ]', at=server.bare / "hooks" / "update.before-refcast")
        server.commit("two")
        done = server.push("--atomic", "main", "main:a", "main:z", check=False)
        assert done.returncode != 0
        ingest(server)
        assert sweep(server) | {"swept_at": ""} == {
            "repository": str(server.bare),
            "swept_at": "",
            "recovered": 0,
            "left": 0,
            "refs": [],
            "error": "",
        }
        assert len(told(server)) == 1

    def test_a_push_through_a_symbolic_ref(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "symbolic-ref", "refs/heads/alias", MAIN)
        server.commit("two")
        server.push("main:alias")
        ingest(server)
        server.commit("three")
        server.push("main:alias", "main")  # by both names at once
        ingest(server)
        assert told(server) == [(MAIN, account(), False)] * 3
        assert ledger(server) == {MAIN: server.git("rev-parse", "HEAD")}
        assert sweep(server)["recovered"] == 0

    def test_a_killed_push_through_a_symbolic_ref(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "symbolic-ref", "refs/heads/alias", MAIN)
        server.hook("reference-transaction", 'if [ "$1" = committed ]; then kill -9 $PPID; fi; exit 0')
        server.commit("two")
        server.push("main:alias", check=False)
        (server.bare / "hooks" / "reference-transaction").unlink()
        ingest(server)
        assert told(server)[1:] == [(MAIN, account(), True)]

    @pytest.mark.parametrize("configured", [True, False], ids=["configured", "by convention"])
    def test_refs_that_only_a_proc_receive_hook_knows(self, server: Server, configured: bool) -> None:
        where = ["-C", str(server.bare)] if configured else []
        words = ["config", "receive.procReceiveRefs", "refs/for"]
        config = server.root / "system"
        more = {} if configured else {"GIT_CONFIG_SYSTEM": str(config), "GIT_CONFIG_NOSYSTEM": "0"}
        server.run("git", *where, *(words if configured else ["config", "-f", str(config), *words[1:]]))
        server.hook("proc-receive", PROC_RECEIVE)
        with Store.open(server.state) as store:
            store.endpoints.add(endpoint(), 1.0)
        for name in ("two", "three"):
            server.commit(name)
            server.push("HEAD:refs/for/main", more=more)
            ingest(server)
            assert sweep(server)["recovered"] == 0
            assert ledger(server) == refs(server)
        assert told(server)[1:] == [("refs/for/main", account(), False)] * 2

    def test_a_push_into_a_namespace(self, server: Server) -> None:
        server.commit("two")
        server.run("git", "push", "-q", server.bare, "main", cwd=server.work, more={"GIT_NAMESPACE": "x"})
        ingest(server)
        assert sweep(server)["recovered"] == 0
        assert ledger(server) == refs(server)
        server.run("git", "-C", server.bare, "update-ref", "refs/namespaces/x/refs/heads/main", MAIN)
        assert sweep(server)["refs"] == ["refs/namespaces/x/refs/heads/main"]
        assert told(server)[1:] == [(MAIN, account(), False), (MAIN, "unknown", True)]


def endpoint() -> Endpoint:
    return Endpoint(0, "all", "http://127.0.0.1:9/", "refcast", "json", other_refs=True)


PROC_RECEIVE = """exec python3 -c '
import sys
read, write = sys.stdin.buffer, sys.stdout.buffer
def lines():
    while (size := int(read.read(4), 16)):
        yield read.read(size - 4).rstrip(b"\\n")
def say(text):
    write.write(b"%04x" % (len(text) + 4) + text)
list(lines())
say(b"version=1\\0\\n"); write.write(b"0000"); write.flush()
for command in list(lines()):
    say(b"ok " + command.split(b" ")[2])
write.write(b"0000"); write.flush()
'"""


class TestCommand:
    def test_says_what_it_found(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "update-ref", "refs/heads/a", MAIN)
        done = server.refcast("sweep", str(server.bare))
        assert done.stdout == f"{server.bare}: 1 announced as recovered\n  refs/heads/a\n"
        assert server.refcast("sweep").stdout == f"{server.bare}: nothing had moved unheard of\n"

    def test_a_repository_that_is_not_watched(self, server: Server) -> None:
        done = server.refcast("sweep", str(server.work), check=False)
        assert done.returncode == 4
        assert done.stderr == f"refcast: {server.work} is not watched: `refcast install` it\n"

    def test_nor_is_one_whose_hooks_were_taken_out(self, server: Server) -> None:
        """What has moved since then is not looked for: that nothing had would be a lie."""
        server.refcast("uninstall", str(server.bare))
        server.run("git", "-C", server.bare, "update-ref", "refs/heads/a", MAIN)
        done = server.refcast("sweep", str(server.bare), check=False)
        assert done.returncode == 4
        assert done.stderr == f"refcast: {server.bare} is not watched: `refcast install` it\n"

    def test_one_that_cannot_be_swept(self, server: Server) -> None:
        server.bare.rename(server.root / "away")
        done = server.refcast("sweep", check=False)
        assert done.returncode == 4
        assert "not swept: " in done.stdout
        assert "there is no such repository" in done.stdout

    def test_a_worker_that_runs_is_asked(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "update-ref", "refs/heads/a", MAIN)
        with running_worker(server):
            assert sweep(server)["refs"] == ["refs/heads/a"]
            assert sweep(server)["recovered"] == 0


@contextmanager
def running_worker(server: Server) -> Iterator[None]:
    """`refcast worker`, a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refcast", "--state", str(server.state), "worker"],
        env=server.environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        server.wait_until(lambda: presence.running(server.state) == process.pid)
        yield
    finally:
        process.terminate()
        process.wait()


class TestRestoring:
    def test_an_older_store_has_everything_since_announced_as_recovered(self, server: Server) -> None:
        server.refcast("endpoint", "add", "ci", "http://127.0.0.1:9/")
        backup = server.root / "backup.db"
        shutil.copy(server.state / FILE, backup)
        server.commit("two")
        server.push("main", "main:other")
        ingest(server)
        server.commit("three")
        server.push("main")
        server.push(":other")
        ingest(server)
        before = len(told(server))
        for path in server.state.glob(f"{FILE}*"):
            path.unlink()
        shutil.copy(backup, server.state / FILE)
        assert len(told(server)) < before
        assert sweep(server)["refs"] == [MAIN]
        assert told(server)[1:] == [(MAIN, "unknown", True)]
        assert ledger(server) == refs(server)
        assert ZERO not in ledger(server).values()
