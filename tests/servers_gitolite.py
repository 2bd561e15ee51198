"""A gitolite for tests: a unix user of its own, the real sshd on loopback, an administrator and users with keys.

Owns the account and its ending: when a test is over no process, account or file is left. Needs root, gitolite and an
sshd; uses no account that was there before. Knows nothing of what refcast sends.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hard import environment
from servers import end_workers, need, public_directory
from servers_sshd import Sshd, need_sshd

ACCOUNT = re.compile(r"refcast-([0-9]+)-[0-9a-f]{4}\Z")
"""The accounts that these tests make, with the process that made one."""


class Gitolite:
    """Within a `with` of `gitolite()`: gitolite set up as `user`, with `admin` the only one who has a key."""

    def __init__(self, root: Path, user: str, program: Path) -> None:
        self.root, self.user = root, user
        self.program = program
        """Where install.sh has put refcast."""
        self.home = root / "home"
        self.state = root / "state"
        self.rc = self.home / ".gitolite.rc"
        self.repositories = self.home / "repositories"
        self.admin = root / "gitolite-admin"
        """The administrator's clone."""
        self.sshd = Sshd(root / "sshd")
        self._environment = environment(root / "people")

    # ---- on the server ----

    def as_user(
        self, *words: str | Path, check: bool = True, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A program as the hosting user, with nothing in its environment that sshd would not give it."""
        account = pwd.getpwnam(self.user)
        clean = {"HOME": str(self.home), "PATH": os.environ["PATH"], "USER": self.user, "LOGNAME": self.user}
        return _run(
            words,
            check=check,
            cwd=Path("/"),
            env=clean | dict(more or {}),
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            umask=0o077,
        )

    def gitolite(self, *words: str) -> str:
        return self.as_user("gitolite", *words).stdout

    def refcast(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`refcast --state …`, as the hosting user."""
        return self.as_user(self.program / "venv" / "bin" / "refcast", "--state", self.state, *words, check=check)

    def write(self, path: Path, text: str, mode: int = 0o755) -> Path:
        """A file of the hosting user."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for each in (path, *path.parents):
            if each == self.home:
                break
            shutil.chown(each, self.user, self.user)
        return path

    # ---- of people elsewhere ----

    def run(self, *words: str | Path, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return _run(words, check=check, cwd=cwd or self.root, env=self._environment)

    def git(self, who: str, *words: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """git, where ssh logs in with somebody's key."""
        more = {"GIT_SSH_COMMAND": self.sshd.command(who)}
        return _run(("git", *words), check=check, cwd=cwd, env=self._environment | more)

    def url(self, repository: str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.sshd.port}/{repository}"

    def configure(self, text: str, *names: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Push this gitolite.conf, and the keys of these people, as the administrator does."""
        (self.admin / "conf" / "gitolite.conf").write_text(text)
        for name in names:
            shutil.copy(self.sshd.key(name), self.admin / "keydir")
        self.run("git", "add", "-A", cwd=self.admin)
        self.run("git", "commit", "-q", "-m", "change", cwd=self.admin)
        return self.git("admin", "push", "-q", "origin", "HEAD:master", cwd=self.admin, check=check)

    def commit(self, message: str) -> Path:
        """A clone with one commit more on `main`; made at first sight."""
        work = self.root / "work"
        if not work.exists():
            self.run("git", "init", "-q", "-b", "main", work)
        self.run("git", "commit", "-q", "--allow-empty", "-m", message, cwd=work)
        return work

    def push(self, who: str, repository: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A new commit, pushed by somebody."""
        work = self.commit(f"{who} changes {repository}")
        return self.git(who, "push", "-q", self.url(repository), *(words or ("main",)), cwd=work, check=check)

    # ---- its beginning ----

    def start(self) -> None:
        self.state.mkdir(0o711)
        for directory in (self.home, self.state):
            shutil.chown(directory, self.user, self.user)
        admin = self.write(self.home / "admin.pub", self.sshd.key("admin").read_text(), 0o644)
        self.gitolite("setup", "-pk", str(admin))
        self.sshd.start(self.user, self.home / ".ssh" / "authorized_keys")
        self.git("admin", "clone", "-q", self.url("gitolite-admin"), self.admin, cwd=self.root)

    def end(self) -> None:
        end_workers(self.state)
        self.sshd.end()
        for pid in processes_of(pwd.getpwnam(self.user).pw_uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def need_gitolite() -> None:
    """Skip without root; as root, and so in CI, all must be there."""
    if os.geteuid():
        pytest.skip("this needs root, to make a unix user")
    need(shutil.which("gitolite") is not None, "gitolite (apt install gitolite3)")
    need_sshd()


@contextlib.contextmanager
def gitolite(program: Path) -> Iterator[Gitolite]:
    """A gitolite behind sshd, with `admin` and nobody else."""
    with public_directory() as root, _account(root / "home") as user:
        made = Gitolite(root, user, program)
        try:
            made.start()
            yield made
        finally:
            made.end()


@contextlib.contextmanager
def _account(home: Path) -> Iterator[str]:
    """A unix user for a while. Those that a killed test has left behind are removed first."""
    for name in (each.pw_name for each in pwd.getpwall()):
        if (found := ACCOUNT.match(name)) and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["userdel", name], capture_output=True, check=False)
    name = f"refcast-{os.getpid()}-{secrets.token_hex(2)}"
    home.mkdir(mode=0o755)
    # A password that nobody knows: sshd takes no key for an account that is locked.
    command = ("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", "--password", "*", name)
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


def processes_of(uid: int) -> Iterator[int]:
    """The processes of a user."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    yield int(entry.name)


def _run(words: tuple[str | Path, ...], *, check: bool, **more: object) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        **more,
    )
    if check and done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done
