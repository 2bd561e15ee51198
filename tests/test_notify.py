"""What a service manager hears, over both kinds of sockets; and that nothing which it does or lacks is an error."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.notify import ServiceManager
from refcast.store import Store
from refcast.transport import Transport
from refcast.worker import Worker
from servers import Server

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and what NOTIFY_SOCKET says of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = str(tmp_path / "notify") if request.param == "path" else f"@refcast-tests-{os.getpid()}-{id(request)}"
        listening.bind(address.replace("@", "\0") if address.startswith("@") else address)
        listening.settimeout(30.0)
        yield listening, address


def heard(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().split("\n")


def hears_no_more(listening: socket.socket) -> bool:
    listening.setblocking(False)
    try:
        listening.recv(4096)
    except BlockingIOError:
        return True
    return False


class TestServiceManager:
    def test_is_told_each_thing_once(self, manager: tuple[socket.socket, str]) -> None:
        listening, address = manager
        told = ServiceManager({"NOTIFY_SOCKET": address}, PID)
        told.ready()
        told.alive("idle")
        told.alive("idle")
        told.alive("busy")
        told.stopping("soon")
        assert [heard(listening) for _ in range(4)] == [
            ["READY=1"],
            ["STATUS=idle"],
            ["STATUS=busy"],
            ["STOPPING=1", "STATUS=soon"],
        ]
        assert hears_no_more(listening)

    def test_a_watchdog_is_told_each_time(self, manager: tuple[socket.socket, str]) -> None:
        listening, address = manager
        told = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(PID)}, PID)
        told.alive("idle")
        told.alive("idle")
        assert [heard(listening) for _ in range(2)] == [["WATCHDOG=1", "STATUS=idle"], ["WATCHDOG=1"]]

    def test_the_watchdog_of_another_process_is_not(self, manager: tuple[socket.socket, str]) -> None:
        listening, address = manager
        told = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, PID)
        told.alive("idle")
        assert heard(listening) == ["STATUS=idle"]

    def test_nobody_there_is_no_error(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        ServiceManager({}, PID).ready()
        assert not caplog.records
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID).ready()
        ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"}, PID).ready()
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_worker_tells_that_it_is_ready_works_and_stops(tmp_path: Path, manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    with Server(tmp_path, worker=False) as server:
        (server.state / "worker.pid").unlink()
        with Store.open(server.state) as store:
            transport, told = Transport(), ServiceManager({"NOTIFY_SOCKET": address}, PID)
            one = Worker(server.state, store, transport, time.time, random.random, manager=told)
            thread = threading.Thread(target=one.run)
            thread.start()
            try:
                assert heard(listening) == ["READY=1"]
                # Whoever is told so finds the lock taken, and hooks hear of each other.
                assert (server.state / "worker.pid").exists()
                assert heard(listening) == ["STATUS=nothing waits"]
            finally:
                one.stop()
                thread.join()
                one.close()
                transport.close()
            assert heard(listening)[0] == "STOPPING=1"


def test_the_command_hears_of_its_manager(tmp_path: Path, manager: tuple[socket.socket, str]) -> None:
    """As the unit calls it, with a push-started worker in the way."""
    listening, address = manager
    with Server(tmp_path) as server:
        server.refcast("endpoint", "add", "ci", "http://127.0.0.1:1/")  # refuses, so that the worker stays
        server.commit("one")
        server.push("main")
        pid_file = server.state / "worker.pid"
        server.wait_until(lambda: pid_file.exists() and "waiting" in server.deliveries())
        before = pid_file.read_text()
        words = [sys.executable, "-I", "-m", "refcast", "--state", str(server.state), "worker", "--replace"]
        environment = server.environment | {"NOTIFY_SOCKET": address}
        running = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert heard(listening) == ["READY=1"]
            assert pid_file.read_text() != before
            assert heard(listening) == ["STATUS=deliveries or records wait"]
            # A second one of that kind is no worker that a push has started: it stays.
            second = server.refcast("worker", "--replace", check=False)
            assert (second.returncode, second.stderr.count("\n")) == (3, 1)
            assert "runs for" in second.stderr
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait() == 0
        assert heard(listening)[0] == "STOPPING=1"
