"""That a worker runs: one at a time, seen by hooks before it has read the rest of refcast."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from refcast import install, presence
from refcast.errors import StateError
from refcast.presence import AlreadyRunning, Lock, running
from refcast.store import Store
from servers import Server, need


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

    def test_it_holds_the_lock_for_as_long_as_it_runs(self, tmp_path: Path) -> None:
        with Server(tmp_path, install=False) as server:
            install.create_state(server.state)
            Store.open(server.state).close()
            command = [sys.executable, "-m", "refcast", "--state", str(server.state), "worker", "--on-demand"]
            with subprocess.Popen(command, env=server.environment) as process:
                try:
                    log = server.state / "worker.log"
                    server.wait_until(lambda: log.exists() and "runs for" in log.read_text())
                    assert running(server.state) == process.pid
                    with pytest.raises(AlreadyRunning):
                        Lock(server.state)
                finally:
                    process.terminate()

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
