"""What befalls a store: a full disk, the network, another file in its place, damage while it is in use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Receiver
from refcast import spool
from refcast.errors import StateError
from refcast.settings import Retention
from refcast.store import FILE, Store, database
from servers import Server, need
from spooled import DAY, ENDPOINT, NOON, Clock, World


class TestNetwork:
    @pytest.mark.parametrize("system", ["nfs4", "cifs", "fuse.sshfs"])
    def test_a_file_system_of_the_network_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
    ) -> None:
        device = tmp_path.stat().st_dev
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
            f"36 35 {os.major(device)}:{os.minor(device)} / /srv\\040x rw,noatime shared:1 - {system} host:/x rw\n"
        )
        monkeypatch.setattr(database, "MOUNTS", mounts)
        with pytest.raises(StateError, match=rf"is on {system}, a network file system.*local disk"):
            Store.open(tmp_path)
        assert not (tmp_path / FILE).exists()

    def test_a_local_one_and_one_that_cannot_be_told_are_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Store.open(tmp_path).close()
        monkeypatch.setattr(database, "MOUNTS", tmp_path / "nowhere")
        Store.open(tmp_path).close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    need(os.geteuid() == 0, "root, to mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", path], check=False)
    need(mounted.returncode == 0, "the right to mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


class TestFullDisk:
    def test_of_a_store_in_use_and_room_again(self, small_disk: Path) -> None:
        with Store.open(small_disk) as store:
            store.endpoints.add(ENDPOINT, NOON)
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            with pytest.raises(StateError, match=r"make room on its disk|whether that is full"):
                for number in range(100):
                    store.repositories.add(f"/srv/{number}{'x' * 4000}", {}, NOON)
            before = store.repositories.paths()
            assert [endpoint.name for endpoint in store.endpoints.all()] == ["ci"], "what is there can be read"
            filler.unlink()
            store.repositories.add("/srv/more", {}, NOON)
            assert set(store.repositories.paths()) == {*before, "/srv/more"}

    def test_while_its_log_is_moved_into_it(self, small_disk: Path) -> None:
        with Store.open(small_disk) as store:
            for number in range(20):
                store.repositories.add(f"/srv/{number}{'x' * 4000}", {}, NOON)
            with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            with pytest.raises(StateError, match=r"make room on its disk|whether that is full"):
                store._database.checkpoint()

    def test_when_it_is_opened(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(StateError, match=r"make room on its disk|whether that is full"):
            Store.open(small_disk)
        filler.unlink()
        Store.open(small_disk).close()


def test_a_disk_that_is_full_under_the_whole_state_directory(tmp_path: Path, small_disk: Path) -> None:
    """Pushes succeed and say that they are not announced; what has moved is, once there is room again."""
    server = Server(tmp_path / "server")
    server.state = small_disk / "state"
    with server, Receiver() as receiver:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        tips = [server.commit("one")]
        server.push("HEAD:main")
        receiver.wait_for(1)
        server.wait_until(lambda: server.deliveries() == ["delivered"])
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        server.commit("two")
        assert "NOT announced" in server.push("HEAD:main").stderr
        tips.append(server.commit("three"))
        assert "NOT announced" in server.push("HEAD:main").stderr
        assert server.refcast("status", check=False).returncode in (1, 3)
        filler.unlink()
        server.refcast("sweep")
        receiver.wait_for(2)
        tips.append(server.commit("four"))
        server.push("HEAD:main")
        receiver.wait_for(3)
        assert [one.json()["after"] for one in receiver.book] == tips
        server.wait_until(lambda: server.deliveries() == ["delivered"] * 3)


class TestReplaced:
    def test_is_noticed_and_nothing_is_written_into_either(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            store.repositories.add("/srv/old", {}, NOON)
            backup(tmp_path / FILE, tmp_path / "copy")
            store.repositories.add("/srv/lost", {}, NOON)
            (tmp_path / FILE).rename(tmp_path / "aside")
            assert not store.is_replaced(), "there is nothing yet to go on with"
            with pytest.raises(StateError, match="is gone: put it, or a copy from a backup"):
                store.repositories.paths()
            for rest in ("-wal", "-shm"):
                (tmp_path / (FILE + rest)).unlink()
            (tmp_path / "copy").rename(tmp_path / FILE)
            assert store.is_replaced()
            with pytest.raises(StateError, match="was replaced while it was in use"):
                store.repositories.add("/srv/new", {}, NOON)
            store.reopen()
            assert not store.is_replaced()
            assert list(store.repositories.paths()) == ["/srv/old"]
            store.repositories.add("/srv/new", {}, NOON)
        with Store.open(tmp_path) as store:
            assert list(store.repositories.paths()) == ["/srv/new", "/srv/old"]

    def test_what_was_about_to_expire_in_the_old_one_does_not_in_the_new(self, tmp_path: Path) -> None:
        later = NOON + 100 * DAY
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
        with World(tmp_path / "new", clock=Clock(later)) as world:
            world.endpoint()
            world.put("main:->A")
            world.run()
            backup(world.state / FILE, tmp_path / "copy")
        with World(tmp_path / "old") as world:
            world.endpoint()
            world.put("main:->A")
            world.run()
            limits = Retention()
            for _ in range(2):  # up to where it has found what has waited for too long
                assert world.store.retention.step(later, limits)
            assert world.store.reports.counts() == {"waiting": 1}
            (tmp_path / "copy").replace(world.state / FILE)
            for rest in ("-wal", "-shm"):
                (world.state / (FILE + rest)).unlink(missing_ok=True)
            world.store.reopen()
            while world.store.retention.step(later, limits):
                pass
            assert world.store.reports.counts() == {"waiting": 1}

    def test_by_one_of_an_older_version(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            connection = sqlite3.connect(tmp_path / "copy")
            connection.executescript((Path(__file__).parents[1] / "golden" / "store-1.sql").read_text())
            connection.close()
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / "copy").rename(tmp_path / FILE)
            store.reopen()
            assert [endpoint.name for endpoint in store.endpoints.all()] == ["ci", "slow", "off"]


def backup(path: Path, copy: Path) -> None:
    """As `.backup` of sqlite3 makes it, beside a worker that runs."""
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()


def damage(store: Path, worker: subprocess.Popen[bytes]) -> None:
    """The worker meets it at once: something is written meanwhile, so that it uses no page that it has read before."""
    other = sqlite3.connect(store, timeout=0, isolation_level=None)
    while True:
        worker.send_signal(signal.SIGSTOP)
        try:
            other.execute("UPDATE repositories SET path = path")
            break
        except sqlite3.OperationalError:  # it was stopped while it was writing
            worker.send_signal(signal.SIGCONT)
    for path in (store, store.with_name(f"{FILE}-wal")):
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
    worker.send_signal(signal.SIGCONT)
    other.close()


class Service:
    """`refcast worker`, as a service manager runs it; what it logs goes to a file."""

    def __init__(self, server: Server) -> None:
        self.path = server.root / "service.log"
        command = [sys.executable, "-m", "refcast", "--state", str(server.state), "worker"]
        with self.path.open("ab") as log:
            self.process = subprocess.Popen(command, env=server.environment, stderr=log, cwd=server.root)
        server.wait_until(lambda: "runs for" in self.log())

    def log(self) -> str:
        return self.path.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.mark.parametrize("stopped", [False, True], ids=["while it runs", "by the book"])
def test_a_store_that_is_damaged_and_replaced_by_a_backup(tmp_path: Path, stopped: bool) -> None:
    """Pushes go on, the spool grows, and all is announced when the copy is there."""
    with Server(tmp_path / "server") as server, Receiver() as receiver:
        server.refcast("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        service = Service(server)
        try:
            tips = [server.commit("one")]
            server.push("HEAD:main")
            receiver.wait_for(1)
            server.wait_until(lambda: server.deliveries() == ["delivered"])
            store = server.state / FILE
            backup(store, server.root / "copy")

            damage(store, service.process)
            for message in ("two", "three"):
                tips.append(server.commit(message))
                assert "remote: error" not in server.push("HEAD:main").stderr
            server.wait_until(lambda: "from a backup" in service.log() or service.process.poll() is not None)
            assert service.process.poll() is None, "it keeps running"
            assert "Traceback" not in service.log()
            assert len(spool.files(server.state / "spool")) == 2
            assert server.refcast("status", check=False).returncode == 3

            if stopped:
                assert service.stop() == 0
            aside = server.state / "broken"
            aside.mkdir()
            for path in server.state.glob(f"{FILE}*"):
                shutil.move(path, aside)
            (server.root / "copy").rename(store)
            if stopped:
                service = Service(server)
            receiver.wait_for(3)
            assert [one.json()["after"] for one in receiver.book] == tips
            server.wait_until(lambda: server.deliveries() == ["delivered"] * 3)
            assert spool.files(server.state / "spool") == []
        finally:
            service.stop()
