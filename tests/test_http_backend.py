"""Pushes by HTTP: git http-backend behind a real web server with basic authentication, its page followed.

The tests make accounts, so they run in one process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
from hard import environment
from people import ROOT, People
from receiver import Receiver
from servers import end_workers, need, public_directory

LIGHTTPD = "/usr/sbin/lighttpd"
PASSWORD = "correct-horse"

pytestmark = pytest.mark.xdist_group("gitolite")  # which also makes accounts


@pytest.fixture
def host(program: Path, receiver: Receiver) -> Iterator[WebHost]:
    need(Path(LIGHTTPD).exists(), "lighttpd (apt install lighttpd)")
    with public_directory() as root, People(root, "www-data") as people:
        made = WebHost(root, people, program, receiver)
        try:
            yield made
        finally:
            made.close()


class WebHost:
    """A web server with an account of its own; what is in /etc and /srv on the page lies below `root`."""

    def __init__(self, root: Path, people: People, program: Path, receiver: Receiver) -> None:
        self.root, self.people, self.program, self.receiver = root, people, program, receiver
        self.srv = root / "srv"
        self.state = root / "lib" / "refcast"
        self.state.parent.mkdir()
        self.git_config = root / "etc" / "gitconfig"
        self.git_config.parent.mkdir()
        self.users = root / "git.users"
        self.secret = root / "ci.secret"
        self.secret.write_text("a secret word\n")
        self.port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._more = {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(self.git_config)}

    def _here(self, text: str) -> str:
        for there, here in (
            ("https://ci.example.org/hook", f"{self.receiver.url}ci"),
            ("https://ann@git.example.org", self.url("ann")),
            ("/root/ci.secret", str(self.secret)),
            ("/srv/git", str(self.srv)),
            ("/var/lib/refcast", str(self.state)),
            ("/etc/lighttpd/git.users", str(self.users)),
        ):
            text = text.replace(there, here)
        return re.sub(r"\bwww-data\b", self.people.names["www-data"], text)

    def url(self, user: str, password: str = PASSWORD) -> str:
        return f"http://{user}:{password}@127.0.0.1:{self.port}"

    def follow(self, section: str, page: str = "http-backend.md") -> str:
        """Do what a section says, with this machine's names in the place of its examples. What it printed."""
        said = ""
        for block in pages.blocks(page, section):
            if block.language == "lighttpd":
                # A CGI program gets nothing of the server's environment, so neither the place of /etc/gitconfig here.
                more = "".join(f', "{key}" => "{value}"' for key, value in self._more.items())
                self._config = re.sub(r'("GIT_HTTP_EXPORT_ALL" => "1")', rf"\1{more}", self._here(block.text))
            else:
                said += "".join(self.run(line) for line in self._here(block.text).splitlines())
        return said

    def run(self, line: str) -> str:
        words = shlex.split(line, comments=True)
        if words[0] == "apt-get":
            return ""
        if words[0] == "systemctl":
            self.start()
            return ""
        if words[0] == "git":
            return self.push(*words[2:])
        if words[0] == "printf":  # it asks for a password
            words = ["sh", "-c", line.replace("passwd -6", f"passwd -6 {PASSWORD}")]
        elif words[0] == "./install.sh":
            where = ("--prefix", str(self.program), "--state", str(self.state))
            words = [str(ROOT / "install.sh"), *where, *words[1:]]
        elif words[0] == "refcast":
            words[:1] = [str(self.program / "venv" / "bin" / "refcast"), "--state", str(self.state)]
        elif words[:2] == ["sudo", "-u"]:
            return self.as_user(words[2], *words[3:])
        done = subprocess.run(
            words,
            env=environment(self.root) | self._more,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return done.stdout

    def as_user(self, name: str, *words: str, check: bool = True) -> str:
        (role,) = [role for role, one in self.people.names.items() if one == name]
        command = list(words)
        if command[0] == "refcast":
            command[:1] = [str(self.program / "venv" / "bin" / "refcast"), "--state", str(self.state)]
        return self.people.run(role, *command, check=check, more=self._more).stdout

    def refcast(self, *words: str) -> str:
        return self.as_user(self.people.names["www-data"], "refcast", *words)

    def start(self) -> None:
        """lighttpd as its account, with nothing of the system's own configuration."""
        name = self.people.names["www-data"]
        shutil.chown(self.users, name)
        log = self.root / "lighttpd.log"
        for _ in range(20):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
            config = self.root / "lighttpd.conf"
            first = f'server.document-root = "{self.root}"\nserver.bind = "127.0.0.1"\nserver.port = {self.port}\n'
            config.write_text(first + self._config)
            with log.open("ab") as file:
                self._server = subprocess.Popen(
                    [LIGHTTPD, "-D", "-f", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    user=name,
                    group=name,
                    extra_groups=[],
                    cwd="/",
                    env={"PATH": os.environ["PATH"]},
                )
            if self._listens():
                return
        raise AssertionError(log.read_text())

    def _listens(self) -> bool:
        assert self._server
        deadline = time.monotonic() + 30
        while self._server.poll() is None:
            assert time.monotonic() < deadline, "lighttpd does not listen"
            try:
                socket.create_connection(("127.0.0.1", self.port), 30).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return True
        return False

    def push(self, *words: str, check: bool = True) -> str:
        """`git push` of a new commit, from anywhere; what it said."""
        work = self.root / "work"
        mine = environment(self.root) | {"GIT_TERMINAL_PROMPT": "0"}
        commands = [["git", "commit", "-q", "--allow-empty", "-m", "A change"], ["git", "push", *words]]
        if not work.exists():
            subprocess.run(["git", "init", "-q", "-b", "main", work], env=mine, check=True)
        for command in commands:
            done = subprocess.run(command, env=mine, cwd=work, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr + (self.root / "lighttpd.log").read_text()
        return done.stderr

    def close(self) -> None:
        if self._server:
            self._server.terminate()
            self._server.wait()
        end_workers(self.state)


class TestThePage:
    def test_from_top_to_bottom(self, host: WebHost) -> None:
        host.follow("Web server")
        host.follow("Install")
        host.follow("Push")
        (one,) = host.receiver.wait_for(1)
        # The page's own look may have come before the worker.
        listed = host.as_user(host.people.names["www-data"], "refcast", "delivery", "list")
        assert one.json()["user_name"] == "ann"
        assert one.json()["repository"]["name"] == "site"
        assert "main" in listed

        assert "fatal" in host.push("-q", f"{host.url('ann', 'wrong')}/git/site.git", "main", check=False)
        assert "fatal" in host.push("-q", f"http://127.0.0.1:{host.port}/git/site.git", "main", check=False)
        header = ("-c", "http.extraHeader=Remote-User: root")
        work = host.root / "work"
        words = ["git", *header, "push", "-q", f"{host.url('ann')}/git/site.git", "main"]
        done = subprocess.run(words, env=environment(host.root), cwd=work, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert host.receiver.wait_for(2)[1].json()["user_name"] == "ann"

        host.follow("New repositories")
        host.push("-q", f"{host.url('ann')}/git/new.git", "-o", "ci.skip", "main")
        assert host.receiver.wait_for(3)[2].json()["repository"]["name"] == "new"
        host.as_user(host.people.names["www-data"], "git", "init", "-q", "--bare", str(host.srv / "newer.git"))
        host.push("-q", f"{host.url('ann')}/git/newer.git", "main")
        assert host.receiver.wait_for(4)[3].json()["repository"]["name"] == "newer"

        host.follow("git http-backend", "uninstalling.md")
        assert not host.git_config.exists()
        for name in ("site", "new", "newer"):
            hooks = {path.name for path in (host.srv / f"{name}.git" / "hooks").iterdir()}
            assert not {one for one in hooks if not one.endswith(".sample")}
            host.push("-q", f"{host.url('ann')}/git/{name}.git", "main:refs/heads/after")
        assert len(json.loads(host.refcast("delivery", "list", "--json"))["deliveries"]) == 4


class TestAWorkerOfItsOwn:
    def test_the_web_server_is_a_front_end(self, host: WebHost) -> None:
        """Its word is believed once it is registered, and not before; the secrets are not within its reach."""
        host.follow("Web server")
        worker = host.people.add("refcast")
        words = ("--prefix", str(host.program), "--state", str(host.state), "--user", worker, "--system")
        more = ("--all", str(host.srv), "--url", f"{host.receiver.url}ci")
        host.run(shlex.join([str(ROOT / "install.sh"), *words, *more]))
        site = f"{host.url('ann')}/git/site.git"
        assert "no worker runs" in host.push("-q", site, "main")
        host.as_user(worker, "refcast", "worker", "--drain")
        host.run(shlex.join([str(ROOT / "install.sh"), *words, *more, "--front-end", host.people.names["www-data"]]))
        host.push("-q", site, "main")
        host.as_user(worker, "refcast", "worker", "--drain")
        names = [one.json()["user_name"] for one in host.receiver.wait_for(2)]
        assert names == [host.people.names["www-data"], "ann"]
        with pytest.raises(AssertionError):
            host.as_user(host.people.names["www-data"], "cat", str(host.state / "refcast.db"))
