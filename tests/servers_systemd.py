"""A machine that systemd runs, for tests: the real one as process 1 of its own namespaces, with its own units.

Owns its start and its end. It shares the network with the tests. It has the files of this machine, but what it writes
stays in memory and ends with it; it sees no process outside, and has none of this machine's units. Knows nothing of
refcast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from servers import need, wait_for_end

SYSTEMD = Path("/lib/systemd/systemd")
CHECKOUT = Path(__file__).parents[1]
TARGETS = "sysinit basic shutdown network-online nss-lookup remote-fs multi-user timers sockets paths"
BOOT = f"""
set -e
scratch=$1 checkout=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
mkdir -p ".$checkout" run/outside
mount --bind "$checkout" ".$checkout"
pivot_root . run/outside
umount -R sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for name in {TARGETS}; do
	printf '[Unit]\\nDefaultDependencies=no\\n' >etc/systemd/system/$name.target
done
touch run/booted
exec chroot . env -i PATH="$PATH" container=tests SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_LOG_TARGET=console \\
	{SYSTEMD} --system --unit=multi-user.target --default-standard-output=inherit --default-standard-error=inherit
"""
"""`container` has systemd leave alone what belongs to the machine: its clock, its devices, its kernel's settings."""


class Machine:
    def __init__(self, pid: int, log: Path, scratch: Path) -> None:
        self._scratch = scratch
        self.pid = pid
        """Of its process 1, seen from outside."""
        self.log = log
        """What systemd says, and what its services print."""

    def run(
        self,
        *words: str | Path,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A program on that machine, as root, and what it printed."""
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--all", f"--wdns={cwd or '/'}", "--", *map(str, words)],
            env={"PATH": os.environ["PATH"], **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}: {done.stderr}{done.stdout}\n{self.log.read_text()}")
        return done

    def at(self, path: str | Path) -> Path:
        """A file of that machine, as this process gets to it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def written(self) -> dict[str, bytes | None]:
        """What differs from this machine's files: each file's content, and None for what is none, or is gone."""
        upper = self.at("/run/outside") / self._scratch.relative_to("/") / "upper"
        found: dict[str, bytes | None] = {}
        for path in [*upper.rglob("*"), *self.at("/etc/systemd/system").rglob("*")]:
            base = upper if path.is_relative_to(upper) else self.at("/")
            name, info = "/" / path.relative_to(base), path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            # What was opened to be written, or has got something and lost it again, was copied here as it is.
            with contextlib.suppress(OSError):
                there = name.lstat()
                same = (there.st_mode, there.st_uid, there.st_gid) == (info.st_mode, info.st_uid, info.st_gid)
                if base == upper and same and (content is None or content == name.read_bytes()):
                    continue
            found[str(name)] = content
        return found

    def show(self, unit: str, key: str) -> str:
        """A property of a unit, as systemd has it."""
        return self.run("systemctl", "show", "--property", key, "--value", unit).stdout.strip()


@contextlib.contextmanager
def machine(root: Path) -> Iterator[Machine]:
    """Boot one. Where that cannot be the test is skipped, but not in CI."""
    need(os.geteuid() == 0, "root")
    need(SYSTEMD.exists(), "systemd")
    group = _make_group()
    log, scratch = root / "systemd.log", root / "scratch"
    scratch.mkdir()
    words = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup"]
    # Into the group first, so that the namespace has it for its root.
    start = f"echo $$ >'{group}/cgroup.procs' && exec \"$@\""
    with log.open("w") as file:
        outer = subprocess.Popen(
            ["sh", "-c", start, "sh", *words, "sh", "-c", BOOT, "sh", scratch, CHECKOUT],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    descriptor = os.pidfd_open(outer.pid)
    try:
        yield _booted(outer, log, scratch)
    finally:
        # Its child goes with it, and with that, its process 1, all that runs there.
        outer.kill()
        outer.wait()
        os.close(descriptor)
        _remove_group(group)


def _booted(outer: subprocess.Popen[bytes], log: Path, scratch: Path) -> Machine:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline and outer.poll() is None:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children:
            found = Machine(int(children[0]), log, scratch)
            state = found.run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in ("running", "degraded") and found.run("test", "-e", "/run/booted", check=False).returncode == 0:
                return found
        time.sleep(0.05)
    need(outer.poll() is None, f"leave of the kernel to run systemd: {log.read_text()[-300:]}")
    raise AssertionError(f"systemd did not start: {log.read_text()}")


def _make_group() -> Path:
    """A control group below this process's own."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    roots = [words[4] for words in mounts if words[words.index("-") + 1] == "cgroup2"]
    need(bool(roots), "control groups of version 2")
    (own,) = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    group = Path(roots[0]) / own.lstrip("/") / f"refcast-tests-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as error:
        need(False, f"leave to make a control group ({error})")
    return group


def _remove_group(group: Path) -> None:
    """Once the last process in it is gone, which is soon."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()
            return
        time.sleep(0.05)
    raise AssertionError(f"processes are left in {group}: {(group / 'cgroup.procs').read_text()}")


def kill(pid: int) -> None:
    """Kill a process of the machine, named by its id outside, and wait for its end."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert wait_for_end(descriptor)
    finally:
        os.close(descriptor)
