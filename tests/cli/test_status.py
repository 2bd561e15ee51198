"""`refcast status`: what it shows, what needs a person, and what it still tells when something is broken."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import refcast
from commandline import Run, make_bare
from refcast import presence, spool
from refcast.store import FILE, Store, schema
from refcast.store.retention import Figures

HOUR = 3600.0


@pytest.fixture
def store(installed: Path, state: Path, run: Run) -> Iterator[Store]:
    run("endpoint", "add", "ci", "http://127.0.0.1:9/hook", "--dialect", "codeup")
    with Store.open(state) as opened:
        yield opened


def facts(run: Run, code: int = 1) -> dict[str, Any]:
    result = run("status", "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def put(store: Store, state: str, count: int = 1, *, at: float | None = None) -> None:
    at = time.time() if at is None else at
    with store._database.write() as connection:
        event = sa.insert(schema.events).values(
            record_id=f"r{state}{at}{count}",
            repository_id=1,
            kind="push",
            ref="refs/heads/main",
            old="0" * 40,
            new="1" * 40,
            pusher="ann",
            received_at=at,
            recovered=False,
            incomplete="",
        )
        number = connection.execute(event.returning(schema.events.c.id)).scalar_one()
        content = sa.insert(schema.contents).values(event_id=number, dialect="codeup", kind="push", payload=b"x" * 100)
        made = connection.execute(content.returning(schema.contents.c.id)).scalar_one()
        shared = {"content_id": made, "endpoint_id": 1, "lane_id": 1, "content_type": "json", "signing": "none"}
        ends = None if state in ("waiting", "aside", "held") else at
        rows = [
            {**shared, "id": f"{state}-{at}-{n}", "headers": {}, "state": state, "created_at": at, "finished_at": ends}
            for n in range(count)
        ]
        connection.execute(sa.insert(schema.deliveries), rows)


class TestFacts:
    def test_have_a_shape_that_stays(self, run: Run, store: Store, state: Path) -> None:
        found = facts(run, 0)
        assert set(found) == {
            *("state", "version", "worker", "spool", "sizes", "store", "needs_a_person", "repositories", "deliveries"),
            *("backlog", "oldest_waiting", "asides", "sweep"),
        }
        assert set(found["spool"]) == {
            *("records", "under_way", "unfinished", "bytes", "set_aside", "unreadable", "error"),
        }
        assert set(found["sizes"]) == {"database", "wal", "free", "waiting", "finished", "measured"}
        assert found["version"] == refcast.__version__
        assert found["sizes"]["database"] > 0
        assert found["sizes"]["free"] > 0
        (ci,) = found["backlog"]
        assert (ci["name"], ci["state"], ci["waiting"]) == ("ci", "active", 0)

    def test_the_worker_that_runs(self, run: Run, store: Store, state: Path) -> None:
        before = time.time()
        with presence.Lock(state):
            found = facts(run, 0)["worker"]
            assert found["pid"] == os.getpid()
            assert found["version"] == refcast.__version__
            assert abs(presence.since(state) or 0 - before) > 0
            assert f"pid {os.getpid()}, version {refcast.__version__}" in run("status").stdout
            (state / "worker.lock").write_text("0.0.1")
            (need,) = facts(run)["needs_a_person"]
            assert "is of version 0.0.1" in need
            assert f"`kill {os.getpid()}`" in need

    def test_the_oldest_that_waits(self, run: Run, store: Store, installed: Path) -> None:
        put(store, "held", at=1000.0)
        put(store, "waiting", at=500.0)
        oldest = facts(run)["oldest_waiting"]
        assert oldest["endpoint"] == "ci"
        assert oldest["repository"] == str(installed)
        assert oldest["since"] == "1970-01-01T00:16:40+00:00", "the first in the order of its lane"

    def test_sizes_as_retention_has_measured_them(self, run: Run, store: Store, state: Path) -> None:
        put(store, "waiting", 3)
        put(store, "delivered")

        class Limits:
            days, size, waiting_days, waiting_size = 30.0, 10**9, 90.0, 10**9

        while store.retention.step(time.time(), Limits()):
            pass
        sizes = facts(run)["sizes"]
        assert (sizes["waiting"], sizes["finished"]) == (100, 100)
        assert sizes["measured"] is not None
        assert "100 bytes wait, 100 bytes are finished" in run("status").stdout

    def test_the_spool(self, run: Run, store: Store, state: Path, installed: Path) -> None:
        box = state / "spool" / str(os.geteuid())
        intent = f"refcast 1 intent\0repository={installed}\0".encode()
        (box / "99999999-1.push").write_bytes(intent)
        (box / f"{os.getpid()}-{spool.start_time(os.getpid())}.push").write_bytes(intent)
        (box / "99999999-2.push").write_bytes(b"x\0end\0")
        found = facts(run)["spool"]
        assert (found["records"], found["under_way"], found["unfinished"]) == (1, 1, 1)
        assert found["bytes"] == 2 * len(intent) + 6


class TestNeeds:
    def test_each_names_what_mends_it(self, run: Run, store: Store, state: Path) -> None:
        put(store, "refused", 2)
        put(store, "expired", 3)
        put(store, "held")
        now = time.time()
        with store._database.write() as connection:
            lane = sa.update(schema.lanes).values(failing_since=now - 2 * HOUR, last_error="HTTP 500\x1b[31m")
            connection.execute(lane)
        store.retention._note(Figures(now, hold_until=now + HOUR))
        needs = facts(run)["needs_a_person"]
        assert [line for line in needs if "HTTP 500" in line and "`refcast endpoint enable ci`" in line]
        assert [
            line for line in needs if line.startswith("1 deliveries to ci") and "`refcast endpoint release ci`" in line
        ]
        for number, name in ((2, "refused"), (3, "expired")):
            (line,) = (line for line in needs if f"{number} deliveries to ci are {name}" in line)
            assert f"`refcast delivery redeliver --endpoint ci --state {name}`" in line
        assert [line for line in needs if "the clock has leapt" in line]
        assert "\x1b" not in run("status").stdout

    @pytest.mark.parametrize("name", ["refused", "expired"])
    def test_what_reached_nobody_is_acknowledged_by_giving_it_up(self, run: Run, store: Store, name: str) -> None:
        put(store, name, 2)
        assert facts(run)["needs_a_person"]
        assert run("delivery", "cancel", "--endpoint", "ci", "--state", name, "--json").exit_code == 0
        assert facts(run, 0)["deliveries"] == {"canceled": 2}

    def test_what_waits_for_a_disabled_endpoint(self, run: Run, store: Store) -> None:
        put(store, "waiting", 4)
        run("endpoint", "disable", "ci", "--reason", "holiday")
        (need,) = (line for line in facts(run)["needs_a_person"] if "disabled" in line)
        assert need == "endpoint ci is disabled: holiday; 4 deliveries are held; `refcast endpoint enable ci`"

    def test_settings_that_cannot_be_read(self, run: Run, store: Store, state: Path) -> None:
        (state / "refcast.toml").write_text("[retention]\ndays = 0\n")
        assert "retention.days" in facts(run)["needs_a_person"][0]

    def test_a_disk_that_is_nearly_full(self, run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.modules["refcast.doctor.directory"], "FREE_BYTES", 10**18)
        assert "make room" in facts(run)["needs_a_person"][0]

    def test_hooks_elsewhere_are_looked_for_with_git(self, run: Run, store: Store, installed: Path) -> None:
        with (installed / "config").open("a") as config:
            config.write("[core]\n\thooksPath = elsewhere\n")
        assert "elsewhere/update is not refcast's" in facts(run)["needs_a_person"][0]


class TestTrouble:
    """Exit code 3, one line on standard error, and on standard output what can be told all the same."""

    def trouble(self, run: Run) -> tuple[str, dict[str, Any]]:
        result = run("status")
        assert result.exit_code == 3
        (line,) = result.stderr.splitlines()
        assert line.startswith("refcast: ")
        assert "records" in result.stdout
        found = facts(run, 3)
        assert found["store"]
        assert found["spool"]["records"] == 0
        return line, found

    def test_no_store(self, run: Run, installed: Path, state: Path) -> None:
        (state / FILE).unlink()
        line, _ = self.trouble(run)
        assert "there is no store" in line
        assert not (state / FILE).exists(), "an empty one would hide that it is gone"

    def test_a_damaged_one(self, run: Run, store: Store, state: Path) -> None:
        store.close()
        (state / FILE).write_bytes(b"\xff" * 20_000)
        line, _ = self.trouble(run)
        assert "put a copy from a backup" in line

    def test_one_of_a_later_version(self, run: Run, store: Store, state: Path) -> None:
        with store._database.write() as connection:
            connection.execute(sa.update(schema.meta).where(schema.meta.c.key == "version").values(value="99"))
        line, _ = self.trouble(run)
        assert "upgrade refcast" in line

    def test_one_that_another_program_holds_for_itself(
        self, run: Run, store: Store, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.close()
        monkeypatch.setattr("refcast.store.database._BUSY_MS", 10)
        other = sqlite3.connect(state / FILE, isolation_level=None)
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        line, _ = self.trouble(run)
        other.close()
        assert "another program holds it" in line

    def test_one_that_is_being_written_is_no_trouble(self, run: Run, store: Store, state: Path) -> None:
        other = sqlite3.connect(state / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        facts(run, 0)
        other.close()

    def test_no_spool(self, run: Run, store: Store, state: Path) -> None:
        shutil.rmtree(state / "spool")
        found = facts(run)
        assert "cannot read the spool" in found["spool"]["error"]
        assert "`refcast upgrade`" in found["needs_a_person"][0]


def test_five_hundred_repositories_take_no_process_each(
    run: Run, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hooks are where they belong git need not be asked of each."""
    for name in ("a", "b"):
        run("install", str(make_bare(tmp_path / f"{name}.git")))
    asked: list[Path] = []
    monkeypatch.setattr("refcast.install.place", asked.append)
    assert run("status").exit_code == 0
    assert asked == []
