"""The worker as a service, under a real systemd: installed, upgraded while pushes arrive, backed up, restored and
removed by the commands of the pages, on a machine of its own.

The stories share one machine. Each begins and ends with the service running, but for the last one, which removes it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pages
from receiver import Receiver
from servers_systemd import Machine, machine
from test_install_sh import newer_checkout

ROOT = Path(__file__).parents[1]
STATE = "/var/lib/refcast"
REPOSITORY = "/srv/git/team/site.git"
UNIT = "/etc/systemd/system/refcast.service"
EXPOSURE = 20
"""Tenths of what `systemd-analyze security` calls the exposure. 10.0 is a service without protection."""

pytestmark = pytest.mark.xdist_group("systemd")


class Site:
    """A git server of one account, and somebody who pushes to it."""

    def __init__(self, there: Machine, receiver: Receiver) -> None:
        self.machine, self.receiver = there, receiver
        self.pushed: list[str] = []
        """The ids, in their order, of what became of refs/heads/main."""

    def follow(self, page: str, heading: str, *, script: str = "./install.sh", **changes: str) -> str:
        """Run the first block of commands below a heading as it stands there; what it prints."""
        text = next(one.text for one in pages.blocks(page, heading) if one.language == "sh")
        text = text.replace("sudo -u git ", "runuser -u git -- ").replace("./install.sh", script)
        text = text.replace("https://ci.example.org/hook", f"http://localhost:{self.receiver.port}/")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        lines = [line for line in text.splitlines() if not line.startswith(("journalctl", "git pull"))]
        return self.machine.run("sh", "-ec", "\n".join(lines), cwd=ROOT).stdout

    def as_git(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("runuser", "-u", "git", "--", *words, check=check, environment={"HOME": "/home/git"})

    def refcast(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.as_git("refcast", *words, check=check)

    def push(self) -> str:
        """One more commit on main, pushed; its id."""
        commit = "git -C ~/work commit -q --allow-empty -m change && git -C ~/work push -q origin HEAD:main"
        self.as_git("sh", "-ec", commit)
        self.pushed.append(self.as_git("git", "-C", "/home/git/work", "rev-parse", "HEAD").stdout.strip())
        return self.pushed[-1]

    def arrived(self) -> list[str]:
        """What the receiver was told has become of main, in the order in which it was told."""
        return [one.json()["after"] for one in self.receiver.wait_for(len(self.pushed))]

    def worker(self) -> int:
        return int(self.machine.show("refcast", "MainPID"))

    def worker_now(self) -> int:
        """The worker that hooks know of, as the machine numbers it; 0 if there is none."""
        file = self.machine.at(f"{STATE}/worker.pid")
        return int(file.read_text().split()[0]) if file.exists() else 0

    def is_settled(self) -> bool:
        facts = json.loads(self.refcast("status", "--json", check=False).stdout)
        return not facts["spool"]["records"] and set(facts["deliveries"]) == {"delivered"}

    def status(self, key: str) -> str:
        return self.machine.run("cat", f"/proc/{self.worker()}/status").stdout.partition(f"{key}:")[2].split()[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with machine(tmp_path_factory.mktemp("systemd")) as there, Receiver() as receiver:
        for name, uid in (("git", "64001"), ("bob", "64002")):
            # Numbers of their own: other tests kill what runs under those of the accounts that they have made.
            there.run("useradd", "--create-home", "--user-group", "--uid", uid, name)
        there.run("git", "config", "--system", "user.name", "ann")
        there.run("git", "config", "--system", "user.email", "ann@example.org")
        there.run("install", "-d", "-o", "git", "/srv/git/team")
        made = Site(there, receiver)
        made.as_git("git", "init", "-q", "--bare", "-b", "main", REPOSITORY)
        # A hook of the repository's own, which is to come back in the end.
        hook = there.at(f"{REPOSITORY}/hooks/post-receive")
        hook.write_text("#!/bin/sh\ncat >/dev/null\n")
        hook.chmod(0o755)
        made.as_git("git", "clone", "-q", REPOSITORY, "/home/git/work")
        yield made


@pytest.fixture(scope="module")
def before(site: Site) -> dict[str, bytes | None]:
    """All files, before anything is installed."""
    return site.machine.written()


@pytest.fixture(scope="module")
def installed(site: Site, before: dict[str, bytes | None]) -> Site:
    site.follow("service.md", "With systemd")
    return site


class TestService:
    def test_it_runs_as_the_owner_and_delivers(self, installed: Site) -> None:
        assert installed.machine.show("refcast", "ActiveState") == "active"
        assert installed.machine.run("ps", "-o", "user=", "-p", str(installed.worker())).stdout.strip() == "git"
        installed.push()
        assert installed.arrived() == installed.pushed
        # It hears of pushes: the library that this takes makes a callback of C when it is loaded, under the sandbox.
        assert "anon_inode:inotify" in installed.machine.run("ls", "-l", f"/proc/{installed.worker()}/fd").stdout

    def test_systemd_is_told_what_goes_on(self, installed: Site) -> None:
        installed.receiver.hold()
        installed.push()
        installed.arrived()
        wait_for(lambda: installed.machine.show("refcast", "StatusText") == "deliveries or records wait")
        installed.receiver.release()
        wait_for(lambda: installed.machine.show("refcast", "StatusText") == "nothing waits")

    def test_the_sandbox_holds(self, installed: Site) -> None:
        assert [installed.status(key) for key in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd")] == [
            "1",
            "2",
            "0" * 16,
            "0" * 16,
        ]
        inside = (
            "nsenter",
            f"--target={installed.worker()}",
            "--mount",
            "--wd=/",
            "runuser",
            "-u",
            "git",
            "--",
            "sh",
            "-c",
        )
        for path in (REPOSITORY, "/home/git", "/var/tmp", STATE):
            assert installed.machine.run(*inside, f"touch {path}/new", check=False).returncode == (
                0 if path in ("/var/tmp", STATE) else 1
            )
        assert not installed.machine.at("/var/tmp/new").exists()
        installed.machine.at(f"{STATE}/new").unlink()
        # What it needs: the processes of others, who pushed; the names of users and machines; certificates.
        for path in ("/proc/1/stat", "/etc/passwd", "/etc/ssl/certs", f"{REPOSITORY}/HEAD", "/home/git/work/.git/HEAD"):
            installed.machine.run(*inside, f"ls -L {path}")

    def test_the_unit_is_sound_and_its_exposure_bounded(self, installed: Site) -> None:
        verified = installed.machine.run("systemd-analyze", "verify", UNIT)
        assert verified.stderr + verified.stdout == ""
        words = ("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", UNIT)
        installed.machine.run(*words)  # fails above the threshold

    def test_one_that_was_killed_comes_back(self, installed: Site) -> None:
        old = installed.worker()
        installed.machine.run("kill", "-9", str(old))
        wait_for(lambda: installed.worker() not in (0, old))
        installed.push()
        assert installed.arrived() == installed.pushed

    def test_it_takes_the_place_of_a_worker_that_a_push_has_started(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        installed.receiver.answers([500])  # so that it stays, to try again
        installed.push()
        wait_for(lambda: len(installed.receiver.book) == len(installed.pushed))
        on_demand = installed.machine.at(f"{STATE}/worker.pid").read_text()
        installed.machine.run("systemctl", "start", "refcast")
        assert installed.machine.at(f"{STATE}/worker.pid").read_text() != on_demand
        installed.push()  # brings the next try to now
        installed.receiver.wait_for(len(installed.pushed) + 1)
        del installed.receiver.book[-2]  # the one that was answered with 500
        assert installed.arrived() == installed.pushed

    def test_installing_it_again_changes_nothing_but_the_process(self, installed: Site) -> None:
        text, old = installed.machine.at(UNIT).read_text(), installed.worker()
        installed.machine.run("refcast", "service", "install")
        assert installed.machine.at(UNIT).read_text() == text
        assert installed.worker() != old

    def test_a_second_state_directory_needs_a_name(self, installed: Site) -> None:
        installed.machine.run("install", "-d", "-m", "711", "/srv/second")
        refused = installed.machine.run("refcast", "--state", "/srv/second", "service", "install", check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "choose another --name" in refused.stderr
        installed.machine.run("refcast", "--state", "/srv/second", "install", REPOSITORY, check=False)
        second = ("refcast", "--state", "/srv/second", "service")
        installed.machine.run(*second, "install", "--name", "refcast-second")
        assert installed.machine.show("refcast-second", "ActiveState") == "active"
        assert "refcast-second" in installed.machine.run(*second, "remove").stdout
        installed.machine.run("rm", "-r", "/srv/second")
        installed.refcast("install", REPOSITORY)


def problems(run: Callable[..., subprocess.CompletedProcess[str]]) -> list[dict[str, Any]]:
    """What the doctor says of the service, and of the worker."""
    said = run("refcast", "doctor", "--offline", "--json", check=False)
    assert said.stdout, said.stderr
    return [one for one in json.loads(said.stdout)["problems"] if one["check"] in ("service", "worker")]


class TestDoctor:
    """That of the owner of the state directory, about root's unit. No systemctl answers this user here."""

    def mend(self, site: Site, says: str, line: str) -> None:
        (one,) = problems(site.as_git)
        assert says in one["what"]
        assert re.fullmatch(line, one["mend"]), one
        # There is no sudo here, and root runs it.
        site.machine.run("sh", "-c", one["mend"].replace("sudo ", ""))
        wait_for(lambda: problems(site.as_git) == [])
        assert site.machine.show("refcast", "ActiveState") == "active"

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("RestartSec=10", "RestartSec=11", f"{UNIT} is of another version"),
            ("ExecStart=/", "ExecStart=/gone/", f"{UNIT} is for a program that is gone, /gone/"),
        ],
    )
    def test_another_unit(self, installed: Site, old: str, new: str, says: str) -> None:
        file = installed.machine.at(UNIT)
        text = file.read_text()
        file.write_text(text.replace(old, new))
        self.mend(installed, says, f"sudo /\\S+refcast --state {STATE} service install --name refcast")
        assert file.read_text() == text

    def test_not_enabled(self, installed: Site) -> None:
        installed.machine.run("systemctl", "disable", "refcast")
        self.mend(installed, "is not enabled", "sudo systemctl enable refcast")
        assert installed.machine.run("systemctl", "is-enabled", "refcast").stdout == "enabled\n"

    def test_an_older_worker(self, installed: Site) -> None:
        installed.machine.at(f"{STATE}/worker.lock").write_text("0.0.1")
        said = installed.refcast("upgrade").stdout
        assert f"runs (pid {installed.worker()}): sudo systemctl restart refcast\n" in said
        self.mend(installed, "is of version 0.0.1", "sudo systemctl restart refcast")

    def test_stopped(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        self.mend(installed, "and no worker runs", "sudo systemctl restart refcast")

    def test_a_worker_that_a_push_has_started_has_its_place(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        installed.receiver.hold()  # so that it stays
        installed.push()
        wait_for(lambda: installed.worker_now() != 0)
        (one,) = problems(installed.as_git)
        assert "a worker that a push has started has its place" in one["what"]
        installed.receiver.release()
        self.mend(installed, "does not run", "sudo systemctl restart refcast")
        assert installed.arrived() == installed.pushed

    def test_another_worker_has_its_place(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        installed.as_git("sh", "-c", "refcast worker >/dev/null 2>&1 &")
        wait_for(lambda: installed.worker_now() != 0)
        line = "kill [0-9]+ && sudo systemctl --no-block restart refcast"
        self.mend(installed, "another worker runs in its place", line)


class TestUpgrading:
    @pytest.mark.parametrize("kind", ["a service", "on demand"])
    def test_while_pushes_arrive_nothing_is_lost_or_doubled(self, installed: Site, tmp_path: Path, kind: str) -> None:
        version = {"a service": "99.1", "on demand": "99.2"}[kind]
        newer = newer_checkout(tmp_path / "newer")
        stated = newer / "src" / "refcast" / "__init__.py"
        stated.write_text(re.sub(r'(__version__ = )"[^"]*"', rf'\1"{version}"', stated.read_text()))
        for hook in (newer / "hooks").iterdir():
            hook.write_text(hook.read_text().replace("# What it writes", f"# Of {version}. What it writes"))
        shutil.copytree(newer, installed.machine.at(f"/tmp/{version}"))
        if kind == "on demand":
            installed.machine.run("refcast", "service", "remove")
            installed.push()
        old, hooks, pushed = installed.worker_now(), own_hooks(installed), len(installed.pushed)
        kept = {name: text for name, text in all_hooks(installed).items() if name not in hooks}
        done = threading.Event()
        pusher = threading.Thread(target=lambda: keep_pushing(installed, done))
        pusher.start()
        try:
            said = installed.follow("upgrading.md", "Upgrading", script=f"/tmp/{version}/install.sh")
        finally:
            done.set()
            pusher.join()
        assert "hooks: 1 renewed" in said
        assert len(installed.pushed) > pushed + 3
        installed.push()
        installed.receiver.wait_for(len(installed.pushed))
        wait_for(installed.is_settled)
        assert installed.arrived() == installed.pushed
        assert installed.worker_now() not in (0, old)
        assert version in installed.refcast("--version").stdout
        assert own_hooks(installed).keys() == hooks.keys()
        assert {name: text for name, text in all_hooks(installed).items() if name not in hooks} == kept
        assert all(f"Of {version}." in text for text in own_hooks(installed).values())
        assert installed.refcast("status").returncode == 0
        if kind == "on demand":
            installed.machine.run("refcast", "service", "install")

    def test_hooks_of_the_version_before_work_with_the_new_worker(self, installed: Site) -> None:
        for path, text in own_hooks(installed).items():
            installed.machine.at(path).write_text(text.replace("# Installed by", "# Once installed by"))
        installed.push()
        assert installed.arrived() == installed.pushed
        assert "of another version" in installed.refcast("status", check=False).stdout
        assert "hooks: 1 renewed" in installed.refcast("upgrade").stdout

    def test_a_newer_store_is_refused_and_hooks_go_on_recording(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        known = set_version(installed, "99")
        refused = installed.refcast("status", check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
        assert "is of version 99, this refcast knows" in refused.stderr
        assert "upgrade refcast" in refused.stderr
        installed.push()
        set_version(installed, known)
        installed.machine.run("systemctl", "start", "refcast")
        assert installed.arrived() == installed.pushed


class TestBackup:
    def test_while_a_worker_runs_and_back(self, installed: Site) -> None:
        day = installed.machine.run("date", "+%F").stdout.strip()
        installed.follow("upgrading.md", "Backup")
        copy = installed.machine.at(f"/var/backups/refcast/refcast-{day}.db")
        assert copy.stat().st_mode & 0o777 == 0o600
        lost = installed.push()
        assert installed.arrived() == installed.pushed
        assert lost in installed.refcast("delivery", "list", "--json").stdout
        installed.follow("upgrading.md", "Restoring", **{"2026-03-01": day})
        # The ledger is of then: what has happened since is announced once more.
        book = installed.receiver.wait_for(len(installed.pushed) + 1)
        assert [one.json()["after"] for one in book[-2:]] == [lost, lost]
        del installed.receiver.book[-1]
        installed.push()
        assert installed.arrived() == installed.pushed
        assert installed.machine.at(f"{STATE}/refcast.db.before-restore").exists()

    def test_what_is_no_backup_is_refused(self, installed: Site) -> None:
        installed.machine.run("systemctl", "stop", "refcast")
        for name, text in (("empty", ""), ("other", "no database")):
            installed.machine.at(f"/var/backups/refcast/{name}").write_text(text)
            refused = installed.refcast("restore", f"/var/backups/refcast/{name}", check=False)
            assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused
        installed.machine.run("systemctl", "start", "refcast")
        refused = installed.refcast("restore", f"{STATE}/refcast.db.before-restore", check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (3, 1), refused


class TestOneOwnAccount:
    """Another manager on the same machine: that of an account, which systemd starts at its login."""

    RUNTIME = "/run/user-manager"

    @pytest.fixture
    def bob(self, installed: Site) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
        there = installed.machine
        there.run("install", "-d", "-o", "bob", "-m", "700", self.RUNTIME, f"{self.RUNTIME}/units")
        for name in ("basic", "default", "shutdown", "sockets", "timers", "paths"):
            there.at(f"{self.RUNTIME}/units/{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        environment = {
            "HOME": "/home/bob",
            "XDG_RUNTIME_DIR": self.RUNTIME,
            "SYSTEMD_UNIT_PATH": f"/home/bob/.config/systemd/user:{self.RUNTIME}/units",
        }
        lines = [f"Environment={key}={value}" for key, value in environment.items()]
        service = [
            "[Service]",
            "Type=notify",
            "User=bob",
            "Delegate=yes",
            "ExecStart=/lib/systemd/systemd --user",
            "KillSignal=SIGRTMIN+24",  # leave at once: it has not the units by which it would leave at SIGTERM
            *lines,
        ]
        there.at("/etc/systemd/system/manager.service").write_text("\n".join(service))
        there.run("systemctl", "start", "manager")

        def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
            return there.run("runuser", "-u", "bob", "--", *words, check=check, environment=environment)

        yield run
        there.run("systemctl", "stop", "manager")
        there.at("/etc/systemd/system/manager.service").unlink()

    def test_the_same_command(self, bob: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        bob("git", "init", "-q", "--bare", "/home/bob/site.git")
        bob("refcast", "install", "/home/bob/site.git")
        said = bob("refcast", "service", "install").stdout
        assert "/home/bob/.config/systemd/user/refcast.service: runs\n" in said
        assert "loginctl enable-linger" in said
        assert bob("systemctl", "--user", "is-active", "refcast").stdout == "active\n"
        assert ", version " in bob("refcast", "status").stdout
        bob("systemctl", "--user", "stop", "refcast")
        (one,) = problems(bob)
        assert one["mend"] == "systemctl --user restart refcast"
        bob("sh", "-c", one["mend"])
        assert problems(bob) == []
        assert bob("refcast", "service", "remove").stdout == "refcast.service: removed\n"
        assert bob("systemctl", "--user", "is-active", "refcast", check=False).stdout == "inactive\n"
        assert bob("find", "/home/bob/.config", "-type", "f").stdout == ""

    def test_another_users_state_directory_is_refused(
        self, bob: Callable[..., subprocess.CompletedProcess[str]]
    ) -> None:
        refused = bob("refcast", "--state", STATE, "service", "install", check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)


class TestUninstalling:
    def test_nothing_is_left(self, installed: Site, before: dict[str, bytes | None]) -> None:
        installed.machine.run("rm", "-r", "/var/backups/refcast")
        installed.follow("uninstalling.md", "ssh with one account, and local paths")
        installed.follow("uninstalling.md", "Service, program and state")
        after = installed.machine.written()
        assert installed.machine.show("refcast", "LoadState") == "not-found"
        changed = {
            name for name in before.keys() | after.keys() if before.get(name, b"none") != after.get(name, b"none")
        }
        ignored = (
            f"{REPOSITORY}/objects",
            f"{REPOSITORY}/refs",
            "/home/git/work/.git",
            "/home/bob",
            "/root/.cache",
            "/tmp",
        )
        assert {name for name in changed if not name.startswith(ignored)} == set()


def wait_for(is_true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)


def own_hooks(site: Site) -> dict[str, str]:
    """refcast's hooks, by their paths."""
    return {name: text for name, text in all_hooks(site).items() if "# refcast hook: " in text}


def all_hooks(site: Site) -> dict[str, str]:
    """All that is in the directory of hooks, by its path."""
    directory = site.machine.at(f"{REPOSITORY}/hooks")
    return {f"{REPOSITORY}/hooks/{path.name}": path.read_text() for path in directory.iterdir() if path.is_file()}


def keep_pushing(site: Site, done: threading.Event) -> None:
    while not done.is_set():
        site.push()


def set_version(site: Site, version: str) -> str:
    """Have the store be of another version; the one it was of."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute('SELECT value FROM meta WHERE key = ?',"
        " ('version',)).fetchone()[0]); c.execute('UPDATE meta SET value = ? WHERE key = ?', (sys.argv[2], 'version'));"
        " c.commit()"
    )
    return site.as_git("/opt/refcast/venv/bin/python", "-c", code, f"{STATE}/refcast.db", version).stdout.strip()
