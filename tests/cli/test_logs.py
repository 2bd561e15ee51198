"""The worker's log: what no text can forge, what machines read, and what the journal takes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import Receiver
from refcast.cli import logs
from servers import Server

HOSTILE = "one\nINFO forged\r\x1b[31m\udcff\u202e\u2028<3>two"


def record(
    message: str, *values: object, level: int = logging.INFO, error: Exception | None = None, **extra: object
) -> Any:
    made = logging.LogRecord(
        "refcast.x", level, "x.py", 1, message, values, (type(error), error, None) if error else None
    )
    made.__dict__.update(extra)
    return made


class TestText:
    def test_is_one_line_whatever_is_in_it(self) -> None:
        text = logs.Text("%(levelname)s ").format(record("%s", HOSTILE))
        assert len(text.splitlines()) == 1
        assert text == "INFO one\\nINFO forged\\r\\x1b[31m\ufffd\\u202e\\u2028<3>two"

    def test_a_bug_is_told_in_lines_that_are_set_off(self) -> None:
        text = logs.Text("%(levelname)s ").format(record("a bug", level=logging.ERROR, error=ValueError(HOSTILE)))
        first, *rest = text.split("\n")
        assert first == "ERROR a bug"
        assert rest
        assert all(line.startswith("    ") for line in rest)
        assert "\x1b" not in text


class TestJson:
    def test_has_the_fields_that_are_known(self) -> None:
        line = logs.Json().format(
            record("to %s", "ci", endpoint="ci", delivery="d1", error_class="tls", password="hunter2")
        )
        facts = json.loads(line)
        assert (facts["level"], facts["message"], facts["endpoint"], facts["error_class"]) == (
            "info",
            "to ci",
            "ci",
            "tls",
        )
        assert facts["time"].endswith("+00:00")
        assert "hunter2" not in line
        assert "repository" not in facts

    def test_is_one_line_of_ascii_whatever_is_in_it(self) -> None:
        line = logs.Json().format(record("%s", HOSTILE, error=ValueError(HOSTILE), endpoint=HOSTILE))
        assert line.isascii()
        assert line.isprintable()
        facts = json.loads(line)
        assert facts["message"] == HOSTILE
        assert "ValueError" in facts["traceback"]


class TestJournal:
    @pytest.mark.parametrize(
        ("level", "mark"),
        [(logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>"), (logging.DEBUG, "<7>")],
    )
    def test_every_line_has_its_priority(self, level: int, mark: str) -> None:
        text = logs.Journal(logs.Text("")).format(record("x", level=level, error=ValueError("y")))
        assert all(line.startswith(mark) for line in text.split("\n"))
        assert text.split("\n")[0] == f"{mark}x"

    def test_is_what_the_environment_says_of_that_very_file(self, tmp_path: Path) -> None:
        with (tmp_path / "a").open("w") as one, (tmp_path / "b").open("w") as other:
            info = os.fstat(one.fileno())
            environment = {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}
            assert logs.is_journal(environment, one)
            assert not logs.is_journal(environment, other)
            assert not logs.is_journal({}, one)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server", worker=False) as running:
        yield running


class TestWorker:
    def drain(self, server: Server, *words: str, **more: str) -> list[str]:
        return server.refcast("worker", "--drain", *words, check=False, **more).stderr.splitlines()

    def pushed(self, server: Server, url: str) -> None:
        server.refcast("endpoint", "add", "ci", url, "--dialect", "codeup")
        server.commit("one")
        server.push("HEAD:main")

    def test_logs_for_people(self, server: Server) -> None:
        with Receiver() as receiver:
            self.pushed(server, receiver.url)
            lines = self.drain(server)
        assert lines
        assert all(line.startswith("INFO ") for line in lines)

    def test_logs_for_machines(self, server: Server) -> None:
        with Receiver() as receiver:
            receiver.answer = lambda _: 500
            self.pushed(server, receiver.url)
            facts = [json.loads(line) for line in self.drain(server, "--log-format", "json")]
        (failed,) = (one for one in facts if one["level"] == "warning")
        assert "HTTP 500" in failed["message"]
        assert (failed["endpoint"], failed["status"], failed["error_class"]) == ("ci", 500, "status")
        assert failed["delivery"] in failed["message"]
        assert failed["next_try"] in failed["message"]

    def test_logs_for_the_journal(self, server: Server, tmp_path: Path) -> None:
        """As systemd starts it: standard error is what JOURNAL_STREAM names."""
        with Receiver() as receiver:
            self.pushed(server, receiver.url)
            command = f'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec {sys.executable} -m refcast "$@"'
            done = server.run("sh", "-c", command, "sh", "--state", server.state, "worker", "--drain")
        assert done.stderr
        assert all(line.startswith("<6>") for line in done.stderr.splitlines())
        assert "INFO" not in done.stderr
