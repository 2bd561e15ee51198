"""Several unix users push to shared repositories by a path: the page followed from top to bottom, and a hostile user.

The tests make accounts, so they run in one process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pages
from hard import environment
from people import ROOT, People
from receiver import Receiver
from refcast.store import Store
from refcast.store.intake import Aside
from servers import ZERO, end_workers, public_directory

pytestmark = pytest.mark.xdist_group("gitolite")  # which also makes accounts


@pytest.fixture
def host(program: Path, receiver: Receiver) -> Iterator[Host]:
    with public_directory() as root, People(root, "ann", "ben", "eve", alone=("eve",)) as people:
        made = Host(root, people, program, receiver)
        try:
            yield made
        finally:
            end_workers(made.state)


class Host:
    """A machine: what is /etc/gitconfig, /srv/git and /var/lib/refcast on the page lies below `root`."""

    def __init__(self, root: Path, people: People, program: Path, receiver: Receiver) -> None:
        self.root, self.people, self.program, self.receiver = root, people, program, receiver
        self.git_config = root / "etc" / "gitconfig"
        self.git_config.parent.mkdir()
        self.srv = root / "srv"
        self.srv.mkdir()
        os.chown(self.srv, -1, people.group_id)
        self.srv.chmod(0o2775)
        self.site = self.srv / "site.git"
        self.state = root / "lib" / "refcast"
        self.state.parent.mkdir()
        self.secret = root / "ci.secret"
        self.secret.write_text("a secret word\n")
        self.secret.chmod(0o600)
        self.more = {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(self.git_config)}

    # ---- the page ----

    def follow(self, section: str, page: str = "shared-host.md") -> list[str]:
        """Run the commands of a section, with this machine's names in the place of its examples. What each printed."""
        commands = pages.commands(page, section).replace("https://ci.example.org/hook", f"{self.receiver.url}ci")
        for there, here in (
            ("/root/ci.secret", self.secret),
            ("/srv/git", self.srv),
            ("/var/lib/refcast", self.state),
            ("/home/ann", self.people.root / "home" / "ann"),
        ):
            commands = commands.replace(there, str(here))
        return [self._follow(shlex.split(line)) for line in commands.splitlines()]

    def _follow(self, words: list[str]) -> str:
        people = self.people
        if words[0] == "useradd":
            words[-1] = people.plan(words[-1])
        names = {**people.names, "committers": people.group}
        if words[:2] == ["sudo", "-u"]:
            role, *command = words[2:]
            return self.run(role, *command).stdout
        if words[0] == "refcast":
            return self.root_runs(*words).stdout
        if words[0] != "./install.sh":
            return self.root_runs(*[names.get(word, word) for word in words]).stdout
        where = words.index("--user") + 1
        words[where] = names[words[where]]
        where_to: tuple[str | Path, ...] = ("--prefix", self.program, "--state", self.state)
        return self.root_runs(ROOT / "install.sh", *where_to, *words[1:], umask=0o077).stdout

    def run(self, role: str, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command as somebody; `refcast` is the installed one, with this machine's state directory."""
        return self.people.run(role, *self._command(words), check=check, more=self.more)

    def root_runs(self, *words: str | Path, check: bool = True, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in self._command(words)]
        done = subprocess.run(
            command,
            env=environment(self.root) | self.more,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=umask,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done

    def _command(self, words: tuple[str | Path, ...]) -> list[str | Path]:
        if words[0] != "refcast":
            return list(words)
        named: list[str | Path] = [] if "--state" in words else ["--state", self.state]
        return [self.program / "venv" / "bin" / "refcast", *named, *words[1:]]

    # ---- people ----

    def ready(self) -> None:
        """Repositories and refcast, as the page says."""
        self.follow("Repositories")
        self.follow("Install")

    def clone(self, role: str) -> Path:
        """Somebody's clone, with a commit."""
        work = self.people.root / "home" / role / "site"
        if not work.exists():
            self.run(role, "git", "init", "-q", "-b", "main", work)
        self.run(role, "git", "-C", work, "commit", "-q", "--allow-empty", "-m", f"by {role}")
        return work

    def push(self, role: str, *words: str, to: Path | str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(role, "git", "-C", self.clone(role), "push", "-q", str(to or self.site), *words)

    def deliver(self) -> list[dict[str, object]]:
        """Have the worker do what there is; the payloads that came since."""
        before = len(self.receiver.book)
        self.run("refcast", "refcast", "worker", "--drain", check=False)
        return [one.json() for one in self.receiver.book[before:]]

    def asides(self) -> list[Aside]:
        with Store.open(self.state) as store:
            return store.intake.asides()

    def forge(self, role: str, repository: Path, *moves: str, uid: int | None = None, name: str = "1-1") -> int:
        """Write a record by hand, as somebody, into the directory of a user. How that ended."""
        box = self.state / "spool" / str(self.people.uid(role) if uid is None else uid)
        fields = ["refcast 1 push", f"id={uuid.uuid4()}", f"repository={repository}", "GL_USER=root"]
        text = "".join(f"{field}\\0" for field in [*fields, "updates=" + "".join(f"{one}\\n" for one in moves), "end"])
        script = f"umask 007; mkdir -p '{box}'; printf '{text}' >'{box}/{name}.push'"
        return self.run(role, "sh", "-c", script, check=False).returncode

    def tip(self, ref: str = "refs/heads/main") -> str:
        return self.root_runs("git", "-C", self.site, "rev-parse", ref).stdout.strip()


class TestThePage:
    def test_from_top_to_bottom(self, host: Host) -> None:
        host.follow("Repositories")
        before = host.git_config.read_bytes()

        *_, installed = host.follow("Install")[:-1]
        assert f"all repositories below {host.srv} are covered" in installed
        assert "!" not in installed
        assert "a secret word" not in installed

        host.clone("ann")
        host.follow("Push")  # Ann's push, and a front end
        (one,) = host.deliver()
        assert one["user_name"] == host.people.names["ann"]
        assert one["ref"] == "refs/heads/main"
        host.push("ben", "main:refs/heads/bens", "-o", "ci.skip")
        (two,) = host.deliver()
        assert two["user_name"] == host.people.names["ben"]

        # one that Ben makes, afterwards
        fresh = host.srv / "team" / "new.git"
        host.run("ben", "git", "init", "-q", "--bare", "--shared=group", fresh)
        host.push("ben", "main", to=fresh)
        (three,) = host.deliver()
        assert three["repository"]["name"] == "new"  # type: ignore[index]
        (said,) = host.follow("New repositories")
        assert "!" not in said
        own = host.srv / "own.git"
        host.run("ben", "git", "init", "-q", "--bare", own)
        host.run("ben", "git", "-C", own, "config", "core.hooksPath", "/nonexistent/hooks")
        (said,) = host.follow("New repositories")
        (line,) = [line for line in said.splitlines() if line.startswith("!")]
        assert f"{own} takes its hooks from /nonexistent/hooks" in line

        host.follow("A host with several accounts", "uninstalling.md")
        assert host.git_config.read_bytes() == before
        assert [path.name for path in host.git_config.parent.iterdir()] == ["gitconfig"]
        assert host.push("ann", "main:refs/heads/after").stderr == ""
        assert host.deliver() == []
        assert host.run("refcast", "refcast", "status", check=False).returncode == 0

    def test_the_spool_s_group(self, host: Host) -> None:
        """The worker's only group has another member: others' pushes are refused until there is a better one."""
        host.follow("Repositories")
        host.people.plan("refcast")
        worker = host.people.names["refcast"]
        host.root_runs("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", host.state, worker)
        host.root_runs("usermod", "-aG", worker, host.people.names["eve"])
        host.root_runs("usermod", "-aG", host.people.group, worker)
        words = ("--user", worker, "--system", "--all", host.srv)
        install = (ROOT / "install.sh", "--prefix", host.program, "--state", host.state, *words)
        said = host.root_runs(*install).stdout
        (line,) = [line for line in said.splitlines() if line.startswith("! pushes by others")]
        assert f"usermod -aG refcast-spool {worker}" in line
        assert "NOT announced" in host.push("ann", "main").stderr

        (group,) = (host.people.plan("spool"),)
        try:
            host.root_runs("groupadd", "--system", group)
            host.root_runs("usermod", "--append", "--groups", group, worker)
            assert "!" not in host.root_runs(*install).stdout
            assert "NOT announced" not in host.push("ann", "main").stderr
            assert (host.state / "spool" / str(host.people.uid("ann"))).stat().st_mode & 0o7777 == 0o2770
            assert host.run("eve", "ls", host.state / "spool" / str(host.people.uid("ann")), check=False).returncode
        finally:
            host.root_runs("groupdel", group)
            del host.people.names["spool"]


SUDO = """#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$(getent passwd "${2#?}" | cut -d: -f1)
shift 2
exec runuser -u "$user" -- "$@"
"""
"""What sudo does with the lines that the doctor prints, for root, who runs them here."""


class TestDoctor:
    """That of the worker's user, who is not root. What root must do is printed with `sudo`."""

    def problems(self, host: Host) -> list[dict[str, Any]]:
        said = host.run("refcast", "refcast", "doctor", "--offline", "--json", check=False)
        assert said.stdout, said.stderr
        found: list[dict[str, Any]] = json.loads(said.stdout)["problems"]
        return found

    def mend(self, host: Host, says: str, *, by_root: bool, rounds: int = 1, entails: bool = False) -> None:
        """There is one problem, which says this, but for what it `entails`. Its line mends it; with more `rounds`, what
        that brings up as well."""
        sudo = host.root / "sudo"
        sudo.write_text(SUDO)
        sudo.chmod(0o755)
        first, *found = self.problems(host)
        assert says in first["what"]
        assert entails or not found
        found = [first]
        for _ in range(rounds):
            for one in found:
                assert one["is_command"], one
                assert one["mend"].startswith("sudo ") == by_root, one
                if by_root:
                    host.root_runs("sh", "-c", f"PATH={host.root}:$PATH\n{one['mend']}")
                else:
                    host.run("refcast", "sh", "-c", one["mend"])
            found = self.problems(host)
        assert found == []

    def test_the_machine(self, host: Host) -> None:
        host.ready()
        assert self.problems(host) == []
        config = host.git_config
        text = config.read_bytes()
        config.chmod(0o600)
        self.mend(host, f"{config} cannot be read by everybody", by_root=True, entails=True)
        config.write_text("[safe]\n\tdirectory = *\n")
        self.mend(host, "has no lines of refcast's", by_root=True)
        config.write_bytes(text)

        other = host.root / "other"
        other.mkdir()
        host.root_runs("refcast", "install", "--system", "--all", other)
        other.rmdir()
        self.mend(host, f"{other}, below which", by_root=True)
        assert config.read_bytes() == text

        host.root_runs("git", "config", "--file", host.site / "config", "receive.advertisePushOptions", "false")
        os.chown(host.site / "config", host.people.uid("ann"), host.people.group_id)
        self.mend(host, f"{host.site} takes no push options", by_root=True)
        assert (host.site / "config").stat().st_uid == host.people.uid("ann")

        own = host.srv / "own.git"
        host.run("ben", "git", "init", "-q", "--bare", own)
        host.run("ben", "git", "-C", own, "config", "core.hooksPath", "/nonexistent/hooks")
        (one,) = self.problems(host)
        assert "whoever owns it must unset that" in one["mend"]

    def test_people(self, host: Host) -> None:
        host.ready()
        host.push("ann", "main")
        host.deliver()
        spool, worker = host.state / "spool", host.people.names["refcast"]
        os.chown(spool / str(host.people.uid("ann")), -1, 0)
        self.mend(host, "has another group than", by_root=True)

        host.people.add("web")
        uid = host.people.uid("web")
        host.run("refcast", "refcast", "install", "--front-end", host.people.names["web"])
        assert self.problems(host) == []
        host.root_runs("userdel", host.people.names.pop("web"))
        self.mend(host, f"the front end {uid} has no account", by_root=False)

        host.forge("eve", host.site, f"{host.tip()} {ZERO} refs/heads/main")
        host.deliver()
        self.mend(host, f"user {host.people.uid('eve')} may not write", by_root=False)

        # A worker that stays, of before its user had the group that the spool gets.
        host.receiver.answers([500])
        host.push("ann", "main")
        host.run("refcast", "refcast", "worker", "--background")
        host.receiver.wait_for(2)
        group = host.people.plan("spool")
        host.root_runs("groupadd", "--system", group)
        try:
            host.root_runs("usermod", "-aG", group, worker)
            host.root_runs("chgrp", "-R", group, spool)
            self.mend(host, "before it was in the group of the spool", by_root=False)
            # Somebody joins that group, and there is no other; then it is closed.
            for name in (group, worker):
                host.root_runs("usermod", "-aG", name, host.people.names["eve"])
            self.mend(host, f"{host.people.names['eve']} can read and forge", by_root=True, rounds=2)
        finally:
            host.root_runs("groupdel", group)
            del host.people.names["spool"]
            host.root_runs("sh", "-c", "! getent group refcast-spool >/dev/null || groupdel refcast-spool")


class TestHostile:
    """Eve has an account and may push nothing; Ben may push, and is curious."""

    @pytest.fixture
    def ready(self, host: Host) -> Host:
        host.ready()
        host.push("ann", "main")
        host.deliver()
        return host

    def test_nobody_reads_the_secrets_or_another_s_record(self, ready: Host) -> None:
        host = ready
        host.push("ann", "main")
        (record,) = (host.state / "spool" / str(host.people.uid("ann"))).glob("*.push")
        whole = record.read_bytes()
        for role in ("ben", "eve"):
            for script in (
                f"cat '{host.state}'/refcast.db",
                f"ls '{host.state}'",
                f"ls '{host.state}/spool'",
                f"cat '{record}'",
                f"ls '{record.parent}'",
                f"rm -f '{record}'",
                f"mv '{record.parent}' '{record.parent}.gone'",
                f"echo forged >>'{record}'",
                f"touch '{record.parent}/1-1.push'",
            ):
                assert host.run(role, "sh", "-c", script, check=False).returncode != 0, script
            assert host.forge(role, host.site, uid=host.people.uid("ann")) != 0
        assert record.read_bytes() == whole
        (one,) = host.deliver()
        assert one["user_name"] == host.people.names["ann"]

    def test_a_record_of_who_may_not_write_the_repository(self, ready: Host) -> None:
        host = ready
        tip = host.tip()
        assert host.forge("eve", host.site, f"{tip} {ZERO} refs/heads/main") == 0
        assert host.deliver() == []
        (aside,) = host.asides()
        assert f"user {host.people.uid('eve')} may not write {host.site}" in aside.reason
        host.push("ann", "main")  # and nobody else's waits for it
        assert len(host.deliver()) == 1
        (aside,) = host.asides()
        assert Path(aside.path).exists()

    def test_a_repository_of_her_own(self, ready: Host) -> None:
        host = ready
        mine = host.people.root / "home" / "eve" / "site.git"
        host.run("eve", "git", "init", "-q", "--bare", mine)
        host.push("eve", "main", to=mine)
        tip = host.run("eve", "git", "-C", mine, "rev-parse", "main").stdout.strip()
        assert host.forge("eve", mine, f"{ZERO} {tip} refs/heads/main") == 0
        assert host.deliver() == []
        (aside,) = host.asides()
        assert f"refcast is not installed in {mine}" in aside.reason

    def test_ids_that_fit_nothing(self, ready: Host) -> None:
        """Ben may write the repository, but what he tells of did not happen."""
        host = ready
        host.push("ann", "main")
        host.deliver()
        tip, before = host.tip(), host.tip("refs/heads/main~1")
        assert host.forge("ben", host.site, f"{tip} {before} refs/heads/main", name="1-1") == 0
        assert host.forge("ben", host.site, f"{ZERO} {tip} refs/heads/invented", name="1-2") == 0
        assert host.deliver() == []
        assert sorted(re.findall(r"refs/heads/\w+ was not moved", " ".join(one.reason for one in host.asides()))) == [
            "refs/heads/invented was not moved",
            "refs/heads/main was not moved",
        ]
        host.push("ann", "main")
        (one,) = host.deliver()
        assert one["before"] == tip

    def test_somebody_else_s_name(self, ready: Host) -> None:
        host = ready
        assert host.run("ben", "sh", "-c", "git -C ~/site init -q -b main 2>/dev/null; :").returncode == 0
        work = host.clone("ben")
        words = ("env", "GL_USER=ann", "REMOTE_USER=ann", "USER=ann", "LOGNAME=ann")
        host.run("ben", *words, "git", "-C", work, "push", "-q", host.site, "main:refs/heads/bens")
        (one,) = host.deliver()
        assert one["user_name"] == host.people.names["ben"]
        host.run("refcast", "refcast", "install", "--front-end", host.people.names["ben"])
        host.clone("ben")
        host.run("ben", *words, "git", "-C", work, "push", "-q", host.site, "main:refs/heads/bens")
        (one,) = host.deliver()
        assert one["user_name"] == "ann"
        host.run("refcast", "refcast", "uninstall", "--front-end", host.people.names["ben"])
        host.clone("ben")
        host.run("ben", *words, "git", "-C", work, "push", "-q", host.site, "main:refs/heads/bens")
        (one,) = host.deliver()
        assert one["user_name"] == host.people.names["ben"]

    @pytest.mark.parametrize(
        "how", ["mkdir -m 777 {0}", "mkdir -m 777 {0}; touch {0}/x", "ln -s /tmp {0}", "touch {0}"]
    )
    def test_who_takes_another_s_place_is_named_and_put_out(self, ready: Host, how: str) -> None:
        host = ready
        host.people.add("carol")
        host.root_runs("usermod", "-aG", host.people.group, host.people.names["carol"])
        place = host.state / "spool" / str(host.people.uid("carol"))
        host.run("eve", "sh", "-c", how.format(f"'{place}'"))
        assert "NOT announced" not in host.push("carol", "main:refs/heads/carols").stderr
        done = host.run("refcast", "refcast", "worker", "--drain", check=False)
        line = f"{place} is not a directory that a hook of user {host.people.uid('carol')} made: it belongs to user "
        assert f"{line}{host.people.uid('eve')}" in done.stderr
        assert host.receiver.book[-1].json()["user_name"] == host.people.names["carol"]
        assert "NOT announced" not in host.push("carol", "main:refs/heads/carols").stderr
        assert place.stat().st_uid == host.people.uid("carol")
        assert host.deliver()[-1]["user_name"] == host.people.names["carol"]
