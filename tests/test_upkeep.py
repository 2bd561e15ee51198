"""Retention as the worker does it: with the settings at hand, beside deliveries, and with an eye on the spool."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Receiver
from refcast.store import FILE
from servers import Server

OLD = 1_500_000_000.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server", worker=False) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def age(server: Server) -> None:
    """Have all that is stored be years old, and the last round be long ago."""
    connection = sqlite3.connect(server.state / FILE)
    with connection:
        connection.execute(
            "UPDATE deliveries SET created_at = ?, finished_at = ? WHERE finished_at NOT NULL", (OLD, OLD)
        )
        connection.execute("UPDATE deliveries SET created_at = ? WHERE finished_at IS NULL", (OLD,))
        connection.execute("UPDATE events SET received_at = ?", (OLD,))
        connection.execute("UPDATE records SET received_at = ?, ingested_at = ?", (OLD, OLD))
        connection.execute("DELETE FROM meta WHERE key = 'retention'")
    connection.close()


def counts(server: Server) -> list[int]:
    connection = sqlite3.connect(server.state / FILE)
    tables = ("deliveries", "attempts", "contents", "events", "records")
    found = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    connection.close()
    return found


class TestWorker:
    def test_what_is_old_is_pruned_and_what_came_is_delivered(self, server: Server, receiver: Receiver) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        server.commit("one")
        server.push("HEAD:main")
        server.refcast("worker", "--drain")
        age(server)
        server.commit("two")
        server.push("HEAD:main")  # starts a worker
        assert len(receiver.wait_for(2)) == 2
        server.wait_until(lambda: counts(server) == [1, 1, 1, 1, 1])

    def test_what_waits_too_long_expires_and_status_says_so(self, server: Server, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        server.commit("one")
        server.push("HEAD:main")
        server.refcast("worker", "--drain", check=False)
        age(server)
        drained = server.refcast("worker", "--drain", check=False)
        assert "1 deliveries expired: it waited longer than 90 days (retention.waiting_days)" in drained.stderr
        assert server.deliveries() == ["expired"]
        status = server.refcast("status", check=False)
        assert status.returncode == 1
        assert "1 deliveries to ci are expired" in status.stdout
        receiver.answer = lambda _: 200
        server.refcast("delivery", "redeliver", "--endpoint", "ci", "--state", "expired")  # starts a worker
        server.wait_until(lambda: server.deliveries() == ["delivered"])

    def test_the_settings_at_hand_count(self, server: Server, receiver: Receiver) -> None:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        server.commit("one")
        server.push("HEAD:main")
        server.refcast("worker", "--drain")
        server.settings("[retention]\ndays = 36500\n")
        age(server)
        server.refcast("worker", "--drain")
        assert counts(server) == [1, 1, 1, 1, 1]
