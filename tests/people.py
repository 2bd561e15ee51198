"""Unix users for a while, and programs run as one of them. Needs root; uses no account that was there before.

Owns the accounts and their ending: when a test is over no process, account, group or file of theirs is left. Knows
nothing of git, nor of what refcast does.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hard import environment
from servers_gitolite import ACCOUNT, processes_of

ROOT = Path(__file__).parents[1]


def need_root() -> None:
    if os.geteuid():
        pytest.skip("this needs root, to make unix users")


class People:
    """Within a `with`: accounts by the names that a page has for them, all but `alone` in one more group."""

    def __init__(self, root: Path, *roles: str, alone: tuple[str, ...] = ()) -> None:
        self.root = root
        """A directory that everybody can enter."""
        self._roles, self._alone = roles, alone
        self.names: dict[str, str] = {}
        self.group = ""

    def __enter__(self) -> People:
        _remove_leftovers()
        self.group = _name()
        _do("groupadd", self.group)
        for role in self._roles:
            self.add(role)
            if role not in self._alone:
                _do("usermod", "-aG", self.group, self.names[role])
        return self

    def plan(self, role: str) -> str:
        """The name that an account has which a test is about to make; it is removed like the others."""
        self.names[role] = _name()
        return self.names[role]

    @property
    def group_id(self) -> int:
        return grp.getgrnam(self.group).gr_gid

    def add(self, role: str) -> str:
        """An account with a home and a group of its own."""
        name = _name()
        home = self.root / "home" / role
        home.mkdir(parents=True, mode=0o755)
        words = ("--no-create-home", "--home-dir", str(home), "--user-group", "--shell", "/bin/sh")
        _do("useradd", *words, name)
        self.names[role] = name
        os.chown(home, self.uid(role), self.uid(role))
        return name

    def __exit__(self, *_: object) -> None:
        for name in self.names.values():
            with contextlib.suppress(KeyError):
                self._remove(name)
        _do("groupdel", self.group)

    def _remove(self, name: str) -> None:
        for pid in processes_of(pwd.getpwnam(name).pw_uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _do("userdel", name)

    def uid(self, role: str) -> int:
        return pwd.getpwnam(self.names[role]).pw_uid

    def run(
        self,
        role: str,
        *words: str | Path,
        check: bool = True,
        cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
        umask: int = 0o022,
    ) -> subprocess.CompletedProcess[str]:
        """A program as somebody, with all their groups."""
        entry = pwd.getpwnam(self.names[role])
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or entry.pw_dir,
            env=environment(Path(entry.pw_dir)) | dict(more or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=os.getgrouplist(entry.pw_name, entry.pw_gid),
            umask=umask,
        )
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done


@contextlib.contextmanager
def installed_program() -> Iterator[Path]:
    """Where install.sh has put the program."""
    with tempfile.TemporaryDirectory(prefix="refcast-program-") as name:
        Path(name).chmod(0o755)
        words = (ROOT / "install.sh", "--prefix", name, "--state", f"{name}/state")
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Path(name)


def _name() -> str:
    return f"refcast-{os.getpid()}-{secrets.token_hex(2)}"


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def _remove_leftovers() -> None:
    """The accounts that a killed test has left behind."""
    for each in pwd.getpwall():
        if (found := ACCOUNT.match(each.pw_name)) and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["userdel", each.pw_name], capture_output=True, check=False)
