"""What a pusher sees of endpoints that are to answer: by real pushes, by the hook alone in each shell, and piecewise.

No push is timed: what it prints tells whether it has waited to the end, to the bound, or not at all.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver import Answer, Receiver
from refcast import answers, presence, retry, spool
from refcast.answers import Answers
from refcast.deliver import Deliver
from refcast.ingest import Ingest
from refcast.model import Endpoint
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.outcomes import Attempt
from refcast.transport import Transport
from servers import SHELLS, ZERO, Server, need, public_directory, wait_for_end, workers
from spooled import ATTEMPT, World

ANN = 65534
LINE = f"{ZERO} {'1' * 40} refs/heads/a\n".encode()
TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[Server]:
    """Where no worker runs yet."""
    with Server(tmp_path) as made:
        made.commit("one")
        yield made


@pytest.fixture
def server(cold: Server) -> Server:
    warm_up(cold)
    return cold


def warm_up(server: Server) -> None:
    """Have a worker run, whose start may take longer than a pusher is to wait; it is done with what it was told."""
    server.push("main:refs/heads/warm")
    server.wait_until(lambda: presence.running(server.state) is not None and not spool.files(server.state / "spool"))


def endpoint(server: Server, url: str, name: str = "deploy", seconds: float = answers.LONGEST, **more: Any) -> None:
    """An endpoint that is to answer, as the command line would add it."""
    with Store.open(server.state) as store:
        store.endpoints.add(Endpoint(0, name, url, "codeup", "json", answer=seconds, **more), 0.0)
        answers.set_bound(server.state, store.endpoints.all())


def said(done: subprocess.CompletedProcess[Any]) -> list[str]:
    """What the pusher sees of refcast. The push has succeeded."""
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    assert done.returncode == 0, text
    lines = [line.removeprefix("remote: ").rstrip() for line in text.splitlines()]
    assert all(line.startswith("refcast: ") for line in lines), lines
    return [line.removeprefix("refcast: ") for line in lines]


class TestPushes:
    def test_a_fast_endpoint_is_waited_for(self, server: Server, receiver: Receiver) -> None:
        receiver.answer = lambda _: (200, TEXT, b"deployed to production\nand more\n")
        endpoint(server, receiver.url)
        (line,) = said(server.push("main"))
        assert line.startswith("deploy: 200 in ") and line.endswith(" ms: deployed to production")

    def test_as_the_command_line_sets_it_and_takes_it_back(self, cold: Server, receiver: Receiver) -> None:
        cold.refcast("endpoint", "add", "deploy", receiver.url, "--answer", "10")
        assert len(said(cold.push("main:one"))) == 1
        cold.refcast("endpoint", "edit", "deploy", "--answer", "0")
        assert said(cold.push("main:two")) == []
        receiver.wait_for(2)

    def test_a_slow_one_meets_the_bound(self, server: Server, receiver: Receiver) -> None:
        receiver.hold()
        endpoint(server, receiver.url, seconds=0.5)
        assert said(server.push("main")) == ["no answer within 0.5 s; the delivery goes on"]
        receiver.release()
        server.wait_until(lambda: server.deliveries() == ["delivered"])

    def test_without_such_an_endpoint_nobody_waits(self, server: Server, receiver: Receiver) -> None:
        receiver.hold()
        endpoint(server, receiver.url, seconds=0.0)
        assert said(server.push("main")) == []
        receiver.wait_for(1)
        assert not (server.state / "answers").exists()
        receiver.release()

    def test_one_that_does_not_answer_beside_one_that_does(self, server: Server, receiver: Receiver) -> None:
        with Receiver() as silent:
            silent.hold()
            endpoint(server, silent.url, "silent", 0.0)
            endpoint(server, receiver.url)
            (line,) = said(server.push("main"))
            assert line.startswith("deploy: 200 in ")
            silent.release()

    def test_no_worker_runs_and_none_can_be_started(self, cold: Server, receiver: Receiver) -> None:
        endpoint(cold, receiver.url)
        cold.set_in_hooks("python", "/nonexistent/python")
        (line,) = said(cold.push("main"))
        assert line.startswith("this push is recorded, but the worker cannot start")

    def test_a_push_that_fires_nothing_does_not_wait(self, server: Server, receiver: Receiver) -> None:
        endpoint(server, receiver.url, repositories=("another",))
        assert said(server.push("main")) == []

    def test_two_endpoints(self, server: Server, receiver: Receiver) -> None:
        with Receiver(lambda _: (503, TEXT, b"the database is down")) as docs:
            endpoint(server, receiver.url)
            endpoint(server, docs.url, "docs")
            lines = sorted(said(server.push("main")))
        assert [line.partition(" in ")[0] for line in lines] == ["deploy: 200", "docs: 503"]
        assert lines[1].endswith(" ms: the database is down; it is tried again")

    def test_one_of_two_meets_the_bound(self, server: Server, receiver: Receiver) -> None:
        with Receiver() as slow:
            slow.hold()
            endpoint(server, receiver.url, seconds=1.0)
            endpoint(server, slow.url, "docs", seconds=5.0)
            first, second = said(server.push("main"))
            slow.release()
        assert first.startswith("deploy: 200 in ")
        assert second == "no more answers within 5 s; the deliveries go on"

    def test_thirty_refs_at_once(self, server: Server, receiver: Receiver) -> None:
        endpoint(server, receiver.url)
        lines = said(server.push(*[f"main:topic-{number:02}" for number in range(30)]))
        assert len(lines) == answers.MOST_LINES + 1
        assert [line.partition(": 200 in ")[0] for line in lines[:2]] == ["deploy (topic-00)", "deploy (topic-01)"]
        assert lines[-1] == "and 10 more: see refcast delivery list"

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            (TEXT, b"\x1b[2J\x1b]0;owned\x07\rrefcast: all is well\x00\xff\xc2\x9b31m\xe2\x80\xae" + b"x" * 5000),
            ((), b"%s \\033[31m `id` $(id) \x1b[31m"),
        ],
    )
    def test_a_hostile_answer_is_one_short_tame_line(
        self, server: Server, receiver: Receiver, headers: Any, body: bytes
    ) -> None:
        receiver.answer = lambda _: (200, headers, body)
        endpoint(server, receiver.url)
        (line,) = said(server.push("main"))
        assert line.isprintable() and "\x1b" not in line
        assert len(line) < answers.MOST_TEXT + 40
        assert "\\x1b[" in line or "\\x1b]" in line

    def test_a_secret_that_is_echoed_is_masked(self, server: Server, receiver: Receiver) -> None:
        receiver.answer = lambda one: (200, TEXT, b"your token is " + (one.header("X-Codeup-Token") or "").encode())
        endpoint(server, receiver.url, secret="only-the-worker-knows")
        (line,) = said(server.push("main"))
        assert line.endswith("your token is ***")

    def test_a_ref_with_an_odd_name(self, server: Server, receiver: Receiver) -> None:
        endpoint(server, receiver.url)
        lines = said(server.push("main", "main:refs/heads/\udcff\udcc2\udc9b31m"))
        assert all(line.isprintable() for line in lines)
        assert next(line for line in lines if "main" not in line).startswith("deploy (\ufffd")

    def test_a_receiver_that_is_not_there(self, server: Server, receiver: Receiver) -> None:
        with Receiver() as gone:
            url = gone.url
        endpoint(server, url)
        (line,) = said(server.push("main:one"))
        assert line.startswith("deploy: connect: ") and line.endswith("; it is tried again")
        (line,) = said(server.push("main:two"))
        assert line.startswith("deploy: ")
        assert "waits" in line

    def test_the_worker_is_killed_in_between(self, server: Server, receiver: Receiver) -> None:
        receiver.hold()
        endpoint(server, receiver.url, seconds=2.0)
        done: list[list[str]] = []
        push = threading.Thread(target=lambda: done.append(said(server.push("main"))))
        push.start()
        receiver.wait_for(1)
        for pid in workers(server.state):
            descriptor = os.pidfd_open(pid)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            assert wait_for_end(descriptor)
            os.close(descriptor)
        receiver.release()
        push.join()
        assert done == [["no answer within 2 s; the delivery goes on"]]
        server.refcast("endpoint", "edit", "deploy", "--answer", "10")
        (line,) = said(server.push("main:two"))
        assert line.startswith("deploy: 200 in "), "the next worker answers again"
        (left,) = (path for path in (server.state / "answers").iterdir() if path.name != "bound")
        assert left.read_text().endswith("end\n"), "and nothing is left of the first"

    def test_the_old_hook_still_runs(self, tmp_path: Path, receiver: Receiver) -> None:
        with Server(tmp_path, install=False) as server:
            seen = tmp_path / "seen"
            server.hook("post-receive", f"cat >>{seen}")
            server.install()
            tip = server.commit("one")
            warm_up(server)
            seen.unlink()
            endpoint(server, receiver.url)
            (line,) = said(server.push("main"))
            assert line.startswith("deploy: 200 in ")
            assert seen.read_text() == f"{ZERO} {tip} refs/heads/main\n"

    def test_nobody_else_can_find_the_file(self, receiver: Receiver) -> None:
        with public_directory() as place, Server(place / "server") as server:
            server.commit("one")
            warm_up(server)
            endpoint(server, receiver.url)
            assert len(said(server.push("main"))) == 1
            directory = server.state / "answers"
            (name,) = (one.name for one in directory.iterdir() if one.name != "bound")
            assert (len(name), stat.S_IMODE(directory.stat().st_mode)) == (36, 0o711)
            assert stat.S_IMODE((directory / name).stat().st_mode) == 0o644
            if os.geteuid() == 0:
                listed = subprocess.run(["ls", directory], user=ANN, group=ANN, extra_groups=[], check=False)
                assert listed.returncode != 0

    @root_only
    def test_a_pusher_of_another_account_is_answered(self, receiver: Receiver) -> None:
        with public_directory() as place, Server(place / "server") as server:
            server.commit("one")
            warm_up(server)
            endpoint(server, receiver.url)
            server.run("chmod", "-R", "a+rwX", server.bare, server.work)
            trust = f"safe.directory={server.bare}"
            there = f"--receive-pack=git -c safe.directory='{server.bare}' receive-pack"
            done = subprocess.run(
                ["git", "-c", "safe.directory=*", "-c", trust, "push", "-q", there, server.bare, "main:two"],
                cwd=server.work,
                env=server.environment | {"HOME": "/nonexistent"},
                user=ANN,
                group=ANN,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            (line,) = said(done)
            assert line.startswith("deploy: 200 in ")


class TestHook:
    """The hook's part alone, in each shell: a worker seems to run, and what it would write is written here."""

    @pytest.fixture(params=list(SHELLS))
    def hooked(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
        need(Path(SHELLS[request.param].split()[0]).exists(), request.param)
        with Server(tmp_path, worker=False) as made:
            made.use_shell(request.param)
            self.programs = tmp_path / "programs"
            self.programs.mkdir()
            self.log = tmp_path / "log"
            for name in ("sync", "sleep"):
                self.program(name, f'exec /bin/{name} "$@"')
            yield made

    def program(self, name: str, body: str) -> None:
        """What a hook finds by that name; it notes that it was started."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\necho {name} >>'{self.log}'\n{body}\n")
        path.chmod(0o755)

    def started(self) -> list[str]:
        return self.log.read_text().split()

    def receive(self, server: Server, *texts: str, bound: str = "1000 10\n") -> list[str]:
        """What post-receive says while these texts stand, one after another, in the file of its record."""
        directory = server.state / "answers"
        directory.mkdir(exist_ok=True)
        (directory / "bound").write_text(bound)
        environment = server.environment | {"PATH": str(self.programs)}
        process = subprocess.Popen(
            ["hooks/post-receive"],
            cwd=server.bare,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # what is read ahead would be hidden from `communicate`
        )
        assert process.stdin and process.stderr
        process.stdin.write(LINE)
        process.stdin.close()
        process.stdin = None
        shown = b""
        for text in texts:
            server.wait_until(lambda: bool(server.entries()) and server.entries()[0].complete)
            new = directory / "new"
            new.write_text(text)
            new.rename(directory / server.record().id)
            if last := [line for line in text.splitlines() if line.startswith("say ")][-1:]:
                wanted = f"refcast: {last[0][4:].strip()}".encode()
                while wanted not in shown and (line := process.stderr.readline()):
                    shown += line
        rest = process.communicate()
        assert rest[0] == b""
        return said(subprocess.CompletedProcess([], process.returncode, stderr=shown + rest[1]))

    def test_nothing_is_started_where_nobody_answers(self, hooked: Server) -> None:
        done = subprocess.run(
            ["hooks/post-receive"],
            cwd=hooked.bare,
            input=LINE,
            env=hooked.environment | {"PATH": str(self.programs)},
            capture_output=True,
            check=False,
        )
        assert said(done) == []
        assert self.started() == ["sync"]
        assert self.receive(hooked, bound="") == []
        assert self.started() == ["sync", "sync"]

    def test_lines_are_shown_as_they_come_each_once(self, hooked: Server) -> None:
        first = "say deploy: 200 in 1 ms\n"
        second = f"wait 900 9\n{first}say a\\nb  %s ü `x` $(y)  \n"
        lines = self.receive(hooked, first, second, f"{second}end\n")
        assert lines == ["deploy: 200 in 1 ms", "a\\nb  %s ü `x` $(y)"]
        assert set(self.started()) == {"sync", "sleep"}

    def test_a_push_has_a_bound_of_its_own(self, hooked: Server) -> None:
        assert self.receive(hooked, "wait 10 0.1\n") == ["no answer within 0.1 s; the delivery goes on"]
        for entry in hooked.entries():
            entry.path.unlink()
        lines = self.receive(hooked, "wait 10 0.1\nsay x\n")
        assert lines == ["x", "no more answers within 0.1 s; the deliveries go on"]

    def test_nothing_comes(self, hooked: Server) -> None:
        assert self.receive(hooked, bound="20 0.2\n") == ["no answer within 0.2 s; the delivery goes on"]

    @pytest.mark.parametrize("bound", ["x\n", "-1 1\n", "1+1 2\n", "10000 100\n", "\n", "20", "$(x)"])
    def test_a_bound_that_is_none(self, hooked: Server, bound: str) -> None:
        assert self.receive(hooked, bound=bound) == []

    @pytest.mark.parametrize("text", ["", "\n\n", "what is this\n", "say \n", "wait\n", "end", "\0\xff"])
    def test_a_file_that_says_something_else(self, hooked: Server, text: str) -> None:
        lines = self.receive(hooked, text if text != "say \n" else "", bound="20 0.2\n")
        assert [line for line in lines if not line.endswith("within 0.2 s; the delivery goes on")] == []

    def test_a_sleep_that_knows_whole_seconds_alone(self, hooked: Server) -> None:
        self.program("sleep", 'case $1 in *.*) exit 1 ;; esac\nexec /bin/sleep "$1"')
        assert self.receive(hooked, bound="120 1.2\n") == ["no answer within 1.2 s; the delivery goes on"]

    def test_no_sleep_at_all(self, hooked: Server) -> None:
        (self.programs / "sleep").unlink()
        assert self.receive(hooked) == []

    def test_signals_do_not_make_it_hang(self, hooked: Server) -> None:
        self.program("sleep", 'kill -HUP "$PPID"; kill -INT "$PPID"; kill -TERM "$PPID"; exec /bin/sleep "$@"')
        assert self.receive(hooked, bound="30 0.3\n") == ["no answer within 0.3 s; the delivery goes on"]


class Told:
    """Ingest and deliver with the worker's own Answers, and a steady clock that is set."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 0.0
        self.pushes = 0
        self.answers = Answers(world.state, lambda: self.now)
        self.ingest = Ingest(world.store, world.state / "spool", world.clock, answers=self.answers)
        self.deliver = Deliver(world.store, Transport(), world.clock, lambda: 0.0, lambda: False, self.answers)

    def push(self, *moves: str, alive: bool = True) -> str:
        """A push whose receive-pack still runs: the text of its file, once it is ingested."""
        self.pushes += 1
        record_id = f"00000000-0000-4000-8000-{self.pushes:012}"
        name = self.world.intend(*moves, alive=True).name if alive else ""
        # The name is that of this process each time, and the ingester knows a file again by its time.
        self.world.put(*moves, id=record_id, name=name, at=self.world.clock() + self.pushes)
        self.ingest.run(Settings())
        self.record_id = record_id
        return self.text()

    def text(self, record_id: str = "") -> str:
        try:
            return (self.world.state / "answers" / (record_id or self.record_id)).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return ""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with World(tmp_path) as world:
        yield Told(world)


class TestWorker:
    def test_what_is_told_of_a_push(self, told: Told, receiver: Receiver) -> None:
        told.world.endpoint(url=receiver.url, answer=2.5)
        assert told.push("main:->A") == "wait 250 2.5\n"
        assert told.deliver.one()
        text = told.text()
        assert text.startswith("wait 250 2.5\nsay ci: 200 in ") and text.endswith(" ms\nend\n")

    def test_nothing_of_one_whose_hook_is_gone(self, told: Told, receiver: Receiver) -> None:
        told.world.endpoint(url=receiver.url, answer=2.5)
        assert told.push("main:->A", alive=False) == ""
        assert told.deliver.one()
        assert told.text() == ""

    def test_the_bound_of_a_push_is_that_of_what_it_fires(self, told: Told) -> None:
        told.world.endpoint(answer=2.0)
        told.world.endpoint("docs", answer=9.0, branches=("docs",))
        assert told.push("main:->A") == "wait 200 2\n"

    def test_one_that_is_disabled_and_one_that_takes_one_event_of_a_push(self, told: Told, receiver: Receiver) -> None:
        off = told.world.endpoint("off", answer=2.0)
        told.world.store.endpoints.disable(off.id, "by hand")
        told.world.endpoint(url=receiver.url, answer=2.0, max_events=1)
        lines = told.push("main:->A", "topic:->A").splitlines()
        assert lines[0] == "wait 200 2"
        assert [line for line in lines if "off" in line] == [
            f"say off ({ref}): it is disabled, and this is held until it is enabled" for ref in ("main", "topic")
        ]
        (held,) = (line for line in lines if "say ci" in line)
        assert held.endswith("this push has more events than it takes, so this one is held")
        assert told.deliver.one()
        assert told.text().endswith(" ms\nend\n")

    def test_what_waits_behind_a_failure_is_not_waited_for(self, told: Told, receiver: Receiver) -> None:
        told.world.endpoint(url=receiver.url, answer=2.0)
        receiver.answer = lambda _: 500
        told.push("main:->A", "topic:->A")
        assert told.deliver.one()
        first, second, third, end = told.text().splitlines()
        assert (first, end) == ("wait 200 2", "end")
        assert second.endswith("; it is tried again")
        assert "waits behind one that failed: 500 in " in third

    def test_a_lane_that_sleeps_is_told_of_at_once(self, told: Told, receiver: Receiver) -> None:
        told.world.endpoint(url=receiver.url, answer=2.0)
        receiver.answer = lambda _: 500
        told.push("main:->A")
        assert told.deliver.one()
        # This one brings the next try forward, so its pusher may yet hear of it; not so that of the third.
        assert told.push("main:A>B").splitlines() == ["wait 200 2"]
        assert told.deliver.one()
        assert "waits behind one that failed" in told.text()
        _, line, end = told.push("main:B>C").splitlines()
        assert line == "say ci: it has been failing (HTTP 500), and this waits until it is tried again"
        assert end == "end"

    def test_a_recovered_move_is_not_this_pushers(self, told: Told) -> None:
        told.world.endpoint(answer=2.0)
        told.push("main:->A")
        told.world.set_refs("main:A>B")
        told.push("main:B>C")
        assert told.world.told() == ["main:->A", "main:A>B?", "main:B>C"]
        assert len(told.answers._awaited) == 2

    def test_files_go_when_nobody_waits_any_more(self, told: Told, receiver: Receiver) -> None:
        ci = told.world.endpoint(url=receiver.url, answer=2.0)
        told.push("main:->A")
        told.now = answers.KEPT_SECONDS
        told.answers.refresh([ci])
        assert told.text()
        told.now += 0.1
        told.answers.refresh([ci])
        assert told.text() == ""
        assert told.deliver.one()
        assert told.text() == ""
        assert [path.name for path in (told.world.state / "answers").iterdir()] == ["bound"]

    def test_a_worker_forgets_what_an_earlier_one_left(self, told: Told) -> None:
        told.world.endpoint(answer=2.0)
        told.answers.refresh(told.world.store.endpoints.all())
        told.push("main:->A")
        Answers(told.world.state, lambda: 0.0).begin()
        assert [path.name for path in (told.world.state / "answers").iterdir()] == ["bound"]

    def test_the_bound_follows_the_endpoints(self, told: Told) -> None:
        path = told.world.state / "answers" / "bound"
        ci = Endpoint(1, "ci", "http://x/", "codeup", "json")
        for endpoints, expected in (
            ([ci], ""),
            ([ci, replace(ci, answer=2.5), replace(ci, answer=1.0)], "250 2.5\n"),
            ([replace(ci, answer=1e9)], "1000 10\n"),
            ([replace(ci, answer=3.0, state="disabled")], ""),
        ):
            answers.set_bound(told.world.state, endpoints)
            assert (path.read_text() if path.exists() else "") == expected

    def test_a_directory_that_cannot_be_written_is_said_once(
        self, told: Told, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        ci = told.world.endpoint(url=receiver.url, answer=2.0)
        (told.world.state / "answers").write_text("in the way")
        told.answers.refresh([ci])
        told.answers.refresh([ci])
        told.push("main:->A")
        assert told.deliver.one()
        complaints = [record.message for record in caplog.records if "pushers are not answered" in record.message]
        assert len(complaints) == len(set(complaints)) == 2
        assert told.world.sql("SELECT state FROM deliveries") == [("delivered",)]


class TestSaid:
    def attempt(self, answer: Answer, **more: Any) -> Attempt:
        status, headers, body = answer
        given: dict[str, Any] = {"duration": 0.1324, "status": status, "response_headers": list(headers)}
        return replace(ATTEMPT, **given | {"response_body": body, "error_class": "", "error": ""} | more)

    @pytest.mark.parametrize(
        ("headers", "body", "shown"),
        [
            ((), b"", ""),
            (TEXT, b"", ""),
            (TEXT, b"\n  \n first \nsecond", "first"),
            (TEXT, "grüße".encode(), "grüße"),
            (TEXT, b'{"text": "as it says"}', '{"text": "as it says"}'),
            ((), b"ok", "ok"),
            ((), b' {"ok": true}', ""),
            ((), b"<html>", ""),
            ((("content-type", "application/json"),), b"ok", ""),
            ((("content-type", "TEXT/HTML"),), b"ok", ""),
            ((*TEXT, ("Content-Encoding", "gzip")), b"\x1f\x8b", ""),
            (TEXT, b"tab\there\x1b[0m\x85", "tab\\there\\x1b[0m\ufffd"),
            (TEXT, b"x" * 201, "x" * 199 + "…"),
            (TEXT, b"x" * 200, "x" * 200),
        ],
    )
    def test_answers(self, headers: Any, body: bytes, shown: str) -> None:
        assert answers.said(self.attempt((200, headers, body))) == "200 in 132 ms" + (f": {shown}" if shown else "")

    def test_no_answer(self) -> None:
        none = self.attempt((0, (), b""), status=None, error_class="timeout", error="no answer within 30 s")
        assert answers.said(none) == "timeout: no answer within 30 s"

    def test_every_decision_has_its_words(self) -> None:
        decisions = set(retry.Decision.__args__)
        assert decisions == {*answers._FOLLOWS, retry.Halve}
