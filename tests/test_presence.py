"""That a worker runs: one at a time, seen by hooks before it has read the rest of refcast."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast import install, presence
from refcast.errors import StateError
from refcast.presence import AlreadyRunning, Lock, running
from refcast.store import FILE, Store
from servers import Server, end, need


class TestLock:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with Lock(tmp_path):
            assert running(tmp_path) == os.getpid()
            with pytest.raises(AlreadyRunning), Lock(tmp_path):
                pass
            assert running(tmp_path) == os.getpid()
        assert running(tmp_path) is None
        with Lock(tmp_path):
            pass

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="no state directory"), Lock(tmp_path / "x"):
            pass

    @pytest.mark.parametrize("text", ["", "x", "1 2 3", "x 1", "OWN 1", "99999999 1", "\xff", "-1 -1"])
    def test_a_pid_file_that_says_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / presence.PID_FILE).write_text(text.replace("OWN", str(os.getpid())), "latin-1")
        assert running(tmp_path) is None

    def test_hooks_of_other_users_may_read_it(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            with Lock(tmp_path):
                assert (tmp_path / presence.PID_FILE).stat().st_mode & 0o777 == 0o644
                assert (tmp_path / "worker.lock").stat().st_mode & 0o777 == 0o600
        finally:
            os.umask(before)


def started(state: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """What hooks start."""
    command = [sys.executable, *before, "-m", "refcast", "--state", str(state), "worker", "--on-demand"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class Worked:
    """A worker as hooks start it, which is ended."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.state = server.state
        install.create_state(self.state)

    def start(self, state: str = "") -> None:
        command = [sys.executable, "-m", "refcast", "--state", state or str(self.state), "worker", "--on-demand"]
        self.process = subprocess.Popen(command, env=self.server.environment, cwd=self.server.root)

    def wait_for(self, line: str, times: int = 1) -> None:
        log = self.state / "worker.log"
        self.server.wait_until(lambda: log.exists() and log.read_text().count(line) >= times)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worked]:
    with Server(tmp_path, install=False) as server:
        made = Worked(server)
        yield made
        end(made.process.pid)
        made.process.wait()


class TestStart:
    def test_one_that_finds_another_leaves_before_it_has_read_the_rest(self, tmp_path: Path) -> None:
        with Lock(tmp_path):
            one = started(tmp_path, "-X", "importtime")
        assert one.returncode == 0
        assert "refcast.presence" in one.stderr
        for much in ("sqlalchemy", "requests", "pygit2", "click"):
            assert much not in one.stderr
        assert not (tmp_path / "worker.log").exists()

    def test_one_is_seen_before_it_has_read_the_rest(self, tmp_path: Path) -> None:
        """Those that come meanwhile need not be started."""
        rest = tmp_path / "refcast_cli_that_looks.py"
        rest.write_text(
            "import os, runpy, sys\n"
            "from types import ModuleType\n"
            "from pathlib import Path\n"
            "cli = sys.modules['refcast.cli'] = ModuleType('refcast.cli')\n"
            "def main(obj):\n"
            "    from refcast import presence\n"
            "    os.write(1, str(presence.running(Path(sys.argv[2])) == os.getpid()).encode())\n"
            "    obj.close()\n"
            "cli.main = main\n"
            "sys.argv[1:] = ['--state', sys.argv[1], 'worker', '--on-demand']\n"
            "runpy.run_module('refcast', run_name='__main__')\n"
        )
        one = subprocess.run(
            [sys.executable, str(rest), str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
        )
        assert (one.stdout, one.stderr) == ("True", "")
        assert running(tmp_path) is None

    def test_one_that_still_reads_the_rest_can_be_ended(self, tmp_path: Path) -> None:
        """The hook that starts it ignores what would end it, and it inherits that."""
        (tmp_path / "refcast_cli_that_waits.py").write_text(
            "import runpy, sys, time\n"
            "from types import ModuleType\n"
            "cli = sys.modules['refcast.cli'] = ModuleType('refcast.cli')\n"
            "cli.main = lambda obj: time.sleep(60)\n"
            "sys.argv[1:] = ['--state', sys.argv[1], 'worker', '--on-demand']\n"
            "runpy.run_module('refcast', run_name='__main__')\n"
        )
        command = f"trap '' TERM INT; exec {sys.executable} {tmp_path}/refcast_cli_that_waits.py {tmp_path}"
        with Server(tmp_path / "server", install=False) as server, subprocess.Popen(["sh", "-c", command]) as process:
            server.wait_until(lambda: running(tmp_path) == process.pid)
            process.terminate()
            assert process.wait(30) == -signal.SIGTERM
        assert running(tmp_path) is None

    def test_it_holds_the_lock_for_as_long_as_it_runs(self, worker: Worked) -> None:
        worker.start()
        worker.wait_for("runs for")
        assert running(worker.state) == worker.process.pid
        with pytest.raises(AlreadyRunning):
            Lock(worker.state)

    def test_it_brings_an_older_store_up_to_date(self, worker: Worked) -> None:
        connection = sqlite3.connect(worker.state / FILE)
        connection.executescript((Path(__file__).parent / "golden" / "store-1.sql").read_text())
        connection.close()
        worker.start()
        worker.wait_for("runs for")
        with Store.open(worker.state) as store:
            assert [endpoint.name for endpoint in store.endpoints.all()] == ["ci", "slow", "off"]

    def test_one_that_could_not_go_on_begins_anew_if_pushes_have_come(self, worker: Worked) -> None:
        """They saw a worker, and started none."""
        (worker.state / FILE).write_bytes(b"no database" * 100)
        record = worker.state / "spool" / str(os.geteuid()) / "99999999-1.push"
        record.write_bytes(b"refcast 1 intent\0")
        os.utime(record, (time.time() + 600, time.time() + 600))
        worker.start()
        worker.wait_for("the worker ends", times=2)
        (worker.state / FILE).unlink()
        worker.wait_for("runs for")
        assert running(worker.state) == worker.process.pid

    def test_a_relative_state_directory_is_found(self, worker: Worked) -> None:
        worker.start(state="state")
        worker.wait_for("runs for")

    def test_what_cannot_be_used_is_told_by_the_command(self, tmp_path: Path) -> None:
        one = started(tmp_path / "x")
        assert one.returncode == 3
        assert "refcast: no state directory" in one.stderr

    def test_one_that_cannot_go_on_lets_go(self, tmp_path: Path) -> None:
        Store.open(tmp_path).close()
        (tmp_path / "refcast.db").write_bytes(b"no database" * 100)
        one = started(tmp_path)
        assert one.returncode == 3
        assert running(tmp_path) is None
        assert not (tmp_path / presence.PID_FILE).exists()
        assert "the worker ends" in (tmp_path / "worker.log").read_text()

    def test_another_users_directory_is_left_as_it_is(self, tmp_path: Path) -> None:
        need(os.geteuid() == 0, "root, to give it away")
        os.chown(tmp_path, 65534, -1)
        assert started(tmp_path).returncode == 3
        assert list(tmp_path.iterdir()) == []
