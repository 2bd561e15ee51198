"""A server that people push to by ssh, with one account: its page followed from top to bottom, then the one about
deploying by Debian's `webhook`, then the one about uninstalling. The tests tell one story, each from where the last one
has left it.

They make accounts, so they run in one process.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
from administrator import Administrator
from people import People
from receiver import Receiver
from servers import end, end_workers, need, port_of, public_directory, wait_for_end
from servers_sshd import Sshd, need_sshd

UNIT = Path("/lib/systemd/system/webhook.service")
"""Debian's own."""

pytestmark = pytest.mark.xdist_group("gitolite")  # which also makes accounts


class Host(Administrator):
    """The git server, the deploy host, and Ann and Ben elsewhere, who have keys."""

    def __init__(self, root: Path, people: People, program: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(root, people, program, {"https://ci.example.org/hook": f"{receiver.url}ci"})
        (root / "root/ci.secret").write_text("a secret word\n")
        self.sshd = Sshd(root / "sshd")
        self.site = root / "srv/git/site.git"
        self.www = root / "srv/www/site"
        self.work = root / "work"
        self._webhook: subprocess.Popen[bytes] | None = None
        self.webhook_port = 0

    def serve(self) -> None:
        """What `systemctl reload ssh` does, for a server that has just been set up."""
        for name in ("ann", "ben"):
            self.add_key(self.sshd.key(name), f"{name}@")
        self.call("git.example.org", "127.0.0.1")
        system = f"SetEnv GIT_CONFIG_NOSYSTEM=0 GIT_CONFIG_SYSTEM={self.git_config}\n"
        more = (self.root / "etc/ssh/sshd_config.d/refcast.conf").read_text()
        git = self.people.names["git"]
        self.sshd.start(git, self.root / "home/git/.ssh/authorized_keys", more + system)

    def add_key(self, public: Path, comment: str) -> None:
        """Put somebody's key in the place of the page's example."""
        keys = self.root / "home/git/.ssh/authorized_keys"
        key = " ".join(public.read_text().split()[:2])
        keys.write_text(re.sub(rf"ssh-ed25519 \S+Example\S+(?= {comment})", key, keys.read_text()))

    def as_somebody(self, who: str) -> dict[str, str]:
        return {"GIT_SSH_COMMAND": self.sshd.command(who)}

    def commit(self, text: str, message: str = "A change") -> str:
        """A commit on `main` of a clone that somebody has; its id."""
        if not self.work.exists():
            self.run(f"git init -q -b main {self.work}")
        (self.work / "index.html").write_text(text)
        self.run(f"git add -A; git commit -q --allow-empty -m '{message}'", cwd=self.work)
        return self.run("git rev-parse HEAD", cwd=self.work).strip()

    def push(self, who: str, *refs: str, to: Path | None = None, check: bool = True) -> str:
        url = f"{self.people.names['git']}@127.0.0.1:{to or self.site}"
        words = shlex.join(["git", "push", "-q", url, *refs])
        return self.run(words, cwd=self.work, more=self.as_somebody(who), check=check)

    def deliveries(self, endpoint: str) -> list[dict[str, object]]:
        """Newest first."""
        listed: list[dict[str, object]] = json.loads(
            self.refcast("delivery", "list", "--endpoint", endpoint, "--json")
        )["deliveries"]
        return listed

    # ---- the deploy host ----

    def start_webhook(self) -> None:
        """As systemd would, by Debian's unit and the page's drop-in."""
        text = (self.root / "etc/systemd/system/webhook.service.d/deploy.conf").read_text()
        facts = dict(re.findall(r"^(\w+)=(.+)$", text, re.MULTILINE))
        environment = dict(re.findall(r"^(\w+)=(.+)$", Path(facts["EnvironmentFile"]).read_text(), re.MULTILINE))
        account = pwd.getpwnam(facts["User"])
        # sshd has a port and keys of its own here.
        key = self.root / "var/lib/deploy/.ssh/id_ed25519"
        environment |= {"PATH": "/usr/bin:/bin", "HOME": account.pw_dir, "GIT_SSH_COMMAND": self.sshd.command(key)}
        port = self.webhook_port or free_port()
        assert "-port 9000" in facts["ExecStart"]
        with (self.root / "webhook.log").open("ab") as log:
            self._webhook = subprocess.Popen(
                shlex.split(facts["ExecStart"].replace("-port 9000", f"-ip 127.0.0.1 -port {port}")),
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
            )
        self.webhook_port = port_of(self._webhook)
        self.call("www.example.org:9000", f"127.0.0.1:{self.webhook_port}")

    def stop_webhook(self) -> None:
        if self._webhook:
            end(self._webhook.pid)
            self._webhook.wait()
            self._webhook = None

    def served(self) -> str:
        """What the web server shows."""
        return (self.www / "current/index.html").read_text()

    def deployed(self) -> str:
        return (self.www / "current").readlink().name

    def script(self, **more: str) -> str:
        """The deploy script by itself, as `deploy`."""
        key = self.root / "var/lib/deploy/.ssh/id_ed25519"
        more["GIT_SSH_COMMAND"] = self.sshd.command(key)
        return self.run(str(self.root / "usr/local/bin/deploy-site"), as_user="deploy", more=more)

    def post(self, body: bytes, signature: str | None) -> int:
        """A request from anywhere; the status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.webhook_port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if signature is not None:
            headers["X-Hub-Signature-256"] = signature
        with contextlib.closing(connection):
            connection.request("POST", "/hooks/site", body, headers)
            return connection.getresponse().status

    def close(self) -> None:
        self.stop_webhook()
        self.sshd.end()
        end_workers(self.state)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def tree(root: Path) -> dict[str, object]:
    """Name -> mode, owner and content of all but what pushes change."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not {"objects", "refs", "site"} & set(name.parts):
            info = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[str(name)] = (stat.filemode(info.st_mode), info.st_uid, info.st_gid, content)
    return found


@pytest.fixture(scope="module")
def inbox() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def host(program: Path, inbox: Receiver) -> Iterator[Host]:
    need_sshd()
    need(shutil.which("webhook") is not None, "webhook (apt install webhook)")
    with public_directory() as root, People(root) as people:
        made = Host(root, people, program, inbox)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def before(host: Host) -> dict[str, object]:
    """The server, before anything of refcast is there: /etc and /srv."""
    host.follow("ssh.md", "Server")
    host.follow("ssh.md", "Names")
    host.serve()
    hook = host.site / "hooks/post-receive"
    hook.write_text("#!/bin/sh\necho the hook that was there\n")
    hook.chmod(0o755)
    host.git_config.write_text("[user]\n\tname = System")
    return tree(host.root / "etc") | tree(host.root / "srv")


@pytest.fixture(scope="module")
def installed(host: Host, before: dict[str, object]) -> Host:
    host.follow("ssh.md", "Install", only="install.sh")
    return host


@pytest.fixture(scope="module")
def deploying(installed: Host) -> Host:
    """The page about deploying, to where pushes deploy."""
    host = installed
    if not host.work.exists():
        host.commit("zero\n")
        host.push("ann", "main")
    host.follow("deploying.md", "Deploy host", only="useradd")
    host.follow("deploying.md", "Deploy host", only="ssh-keygen")
    line = next(one for one in pages.blocks("deploying.md", "Deploy host") if one.language == "authorized_keys")
    with (host.root / "home/git/.ssh/authorized_keys").open("a") as keys:
        keys.write(host.here(line.text))
    host.add_key(host.root / "var/lib/deploy/.ssh/id_ed25519.pub", "deploy@")
    key = host.root / "var/lib/deploy/.ssh/id_ed25519"
    host.follow("deploying.md", "Deploy host", only="git clone", more={"GIT_SSH_COMMAND": host.sshd.command(key)})
    host.follow("deploying.md", "Script")
    host.follow("deploying.md", "webhook")
    assert "systemctl restart webhook" in host.asked.read_text()
    host.start_webhook()
    host.shim("scp", '#!/bin/sh\nexec cp -p "${2#*:}" "$3"\n', at=host.root / "bin/scp")
    said = host.follow("deploying.md", "Endpoint")
    assert "200" in said
    assert "ready" in said
    return host


class TestThePage:
    def test_installed_and_healthy(self, installed: Host) -> None:
        assert "systemctl reload ssh" in installed.asked.read_text()
        said = installed.follow("ssh.md", "Install", only="doctor")
        assert "error" not in said

    def test_each_key_has_its_name(self, installed: Host) -> None:
        host = installed
        host.commit("one\n")
        host.follow("ssh.md", "Push", only="git push", cwd=host.work, more=host.as_somebody("ann"))
        (one,) = host.receiver.wait_for(1)
        assert (one.json()["user_name"], one.json()["ref"]) == ("ann", "refs/heads/main")
        assert one.header("X-Codeup-Token") == "a secret word"
        assert "main" in host.follow("ssh.md", "Push", only="delivery list")
        assert "the hook that was there" in host.push("ben", "main:refs/heads/bens")
        assert host.receiver.wait_for(2)[1].json()["user_name"] == "ben"

    def test_nobody_takes_another_s_name_or_gets_a_shell(self, installed: Host) -> None:
        host = installed
        more = host.as_somebody("ben")
        more["GIT_SSH_COMMAND"] += " -o SetEnv=REMOTE_USER=ann"
        url = f"{host.people.names['git']}@127.0.0.1:{host.site}"
        host.run(f"git push -q {url} main:refs/heads/more", cwd=host.work, more=more)
        assert host.receiver.wait_for(3)[2].json()["user_name"] == "ben"
        ssh = f"{host.sshd.command('ben')} {host.people.names['git']}@127.0.0.1"
        for command in ("", f"cat {host.state}/refcast.db", f"REMOTE_USER=ann git-receive-pack '{host.site}'"):
            done = subprocess.run(
                [*shlex.split(ssh), *([command] if command else [])], capture_output=True, check=False, input=b""
            )
            assert done.returncode == 128, (command, done)

    def test_by_a_path(self, installed: Host) -> None:
        host = installed
        git = host.people.names["git"]
        host.run(f"git init -q -b main ~/site && git -C ~/site pull -q {host.site} main", as_user="git")
        host.run("git -C ~/site commit -q --allow-empty -m 'By a path'", as_user="git")
        host.follow("ssh.md", "By a path")
        assert host.receiver.wait_for(4)[3].json()["user_name"] == git
        host.run(f"git pull -q {git}@127.0.0.1:{host.site} main", cwd=host.work, more=host.as_somebody("ann"))

    def test_new_repositories(self, installed: Host) -> None:
        host = installed
        host.follow("ssh.md", "New repositories", only="new.git")
        host.push("ann", "main", to=host.root / "srv/git/new.git")
        assert host.receiver.wait_for(5)[4].json()["repository"]["name"] == "new"
        host.follow("ssh.md", "New repositories", only="--system")
        newer = host.root / "srv/git/newer.git"
        host.run(f"git init -q --bare {newer}", as_user="git")
        host.push("ben", "main", to=newer)
        one = host.receiver.wait_for(6)[5].json()
        assert (one["repository"]["name"], one["user_name"]) == ("newer", "ben")


class TestDeploying:
    def test_the_unit_is_sound(self, deploying: Host) -> None:
        host = deploying
        units = host.root / "etc/systemd/system"
        shutil.copy(UNIT, units)
        words = ["systemd-analyze", "verify", "--man=no", str(units / "webhook.service")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        (units / "webhook.service").unlink()
        assert (done.returncode, [line for line in done.stderr.splitlines() if "webhook" in line]) == (0, [])

    def test_a_push_deploys_what_was_pushed(self, deploying: Host) -> None:
        host = deploying
        for text in ("first\n", "second\n"):
            pushed = host.commit(text)
            said = host.follow("deploying.md", "Push", only="git push", cwd=host.work, more=host.as_somebody("ann"))
            assert re.search(rf"remote: refcast: site: 200 in \d+ ms: deployed {pushed}", said)
            assert (host.served(), host.deployed()) == (text, pushed)
        newest = str(host.deliveries("site")[0]["id"])
        host.call("4f78d2e6", newest)
        said = host.follow("deploying.md", "Push", only="delivery")
        assert said.count("deployed ") == 1
        deploy = pwd.getpwnam(host.people.names["deploy"]).pw_uid
        assert {path.lstat().st_uid for path in host.www.rglob("*")} == {deploy}
        assert {path.name for path in host.www.iterdir()} == {
            *("repository.git", "releases", "current", "deployed", "lock", "part.tar")
        }

    def test_another_branch_does_not(self, deploying: Host) -> None:
        host = deploying
        was, count = host.deployed(), len(host.deliveries("site"))
        host.run("git checkout -q -b topic", cwd=host.work)
        pushed = host.commit("topic\n")
        assert "site" not in host.push("ann", "topic", "topic:refs/tags/main").replace("site.git", "")
        host.run("git checkout -q main", cwd=host.work)
        wait_until(lambda: pushed in host.refcast("delivery", "list", "--skipped", "--json"))
        assert len(host.deliveries("site")) == count
        said = host.script(KIND="push", DELIVERY="x", REF="refs/heads/topic", NEW=pushed)
        assert said == "refs/heads/topic is not main\n"
        assert (host.served(), host.deployed()) == ("second\n", was)

    def test_nobody_else_can(self, deploying: Host) -> None:
        host = deploying
        was, first = host.deployed(), host.run("git rev-parse HEAD~1", cwd=host.work).strip()
        update = {"ref": "refs/heads/main", "new": first}
        body = json.dumps({"version": 1, "kind": "push", "id": "made up", "update": update}).encode()
        secret = (host.root / "root/site.secret").read_text().strip().partition("=")[2]
        assert len(secret) == 64
        for key in ("", "another secret", secret[:-1]):
            signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
            assert host.post(body, f"sha256={signature}") == 500
        right = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        assert host.post(body.replace(b"main", b"mine"), f"sha256={right}") == 500
        assert host.post(body, None) == 403
        assert host.deployed() == was
        for path in (host.root / "etc/webhook.secret", host.root / "root/site.secret"):
            assert path.stat().st_mode & 0o777 == 0o600
        assert secret not in (host.root / "webhook.log").read_text() + (host.root / "etc/webhook.conf").read_text()

    def test_its_key_reads_this_repository_and_no_other(self, deploying: Host) -> None:
        host = deploying
        key = host.root / "var/lib/deploy/.ssh/id_ed25519"
        url = f"{host.people.names['git']}@127.0.0.1:{host.root}/srv/git/new.git"
        more = {"GIT_SSH_COMMAND": host.sshd.command(key)}
        assert "refs/heads/topic" in host.run(f"git ls-remote {url}", more=more)  # of site.git
        host.run(f"git push -q {url} main:refs/heads/mine", cwd=host.work, more=more, check=False)
        assert not (host.site / "refs/heads/mine").exists()
        assert not (host.root / "srv/git/new.git/refs/heads/mine").exists()

    def test_a_script_that_fails_is_tried_again(self, deploying: Host) -> None:
        host = deploying
        host.www.chmod(0o500)
        pushed = host.commit("third\n")
        said = host.push("ann", "main")
        assert re.search(r"remote: refcast: site: 500 in \d+ ms: \S+", said)
        assert "it is tried again" in said
        assert host.served() == "second\n"
        host.www.chmod(0o755)
        host.run(host.here("sudo -u git refcast endpoint enable site"))
        wait_until(lambda: host.deployed() == pushed)
        wait_until(lambda: host.deliveries("site")[0]["state"] == "delivered")
        shown = json.loads(host.refcast("delivery", "show", str(host.deliveries("site")[0]["id"]), "--json"))
        assert [one["status"] for one in shown["attempts"]] == [500, 200]

    def test_a_deploy_host_that_is_down(self, deploying: Host) -> None:
        host = deploying
        host.stop_webhook()
        ids = [host.commit(f"{number}\n") for number in ("fourth", "fifth")]
        said = host.push("ann", f"{ids[0]}:refs/heads/main") + host.push("ben", f"{ids[1]}:refs/heads/main")
        assert "site: connect" in said
        assert host.served() == "third\n"
        host.start_webhook()
        host.run(host.here("sudo -u git refcast endpoint enable site"))
        wait_until(lambda: host.deployed() == ids[1])
        lines = (host.www / "deployed").read_text().splitlines()
        assert [line.split()[1] for line in lines[-2:]] == ids

    def test_each_delivery_once_and_one_at_a_time(self, deploying: Host) -> None:
        """A retry that comes although the first try has got through."""
        host = deploying
        newest = host.deliveries("site")[0]
        was = (host.www / "deployed").read_text()
        host.refcast("delivery", "redeliver", str(newest["id"]))
        wait_until(lambda: "already" in host.refcast("delivery", "show", str(newest["id"])))
        assert (host.www / "deployed").read_text() == was
        script = shlex.quote(str(host.root / "usr/local/bin/deploy-site"))
        commits = host.run("git rev-list -4 main", cwd=host.work).split()
        runs = "".join(f"DELIVERY=d{n} NEW={new} {script} & " for n, new in enumerate(commits))
        key = host.root / "var/lib/deploy/.ssh/id_ed25519"
        more = {"GIT_SSH_COMMAND": host.sshd.command(key), "KIND": "push", "REF": "refs/heads/main"}
        said = host.run(f"{runs} wait", as_user="deploy", more=more)
        assert sorted(said.splitlines()) == sorted(f"deployed {new}" for new in commits)
        last = (host.www / "deployed").read_text().splitlines()[-1].split()[1]
        assert host.deployed() == last
        for new, answer in (("0" * 40, "main was deleted"), ("1" * 40, f"{'1' * 40} is gone"), ("--all", "no commit")):
            assert host.script(KIND="push", DELIVERY="e", REF="refs/heads/main", NEW=new).startswith(answer)
        assert host.deployed() == last

    def test_going_back(self, deploying: Host) -> None:
        host = deploying
        assert "delivered" in host.follow("deploying.md", "Going back", only="delivery list").splitlines()[1]
        host.call("4f78d2e6", str(host.deliveries("site")[-1]["id"])[:12])
        host.follow("deploying.md", "Going back", only="redeliver")
        wait_until(lambda: host.served() == "first\n")
        pushed = host.commit("sixth\n")
        host.push("ann", "main")
        wait_until(lambda: host.deployed() == pushed)
        assert len(list((host.www / "releases").iterdir())) == 5

    def test_taking_it_away(self, deploying: Host) -> None:
        host = deploying
        host.stop_webhook()
        host.follow("deploying.md", "Taking it away")
        assert not host.www.exists()
        assert [one["name"] for one in json.loads(host.refcast("endpoint", "list", "--json"))] == ["127.0.0.1"]
        shutil.rmtree(host.root / "etc/systemd")
        (host.www.parent).rmdir()


class TestUninstalling:
    def test_nothing_is_left(self, installed: Host, before: dict[str, object]) -> None:
        """While a delivery waits, for which a worker stays that a push has started."""
        host = installed
        host.receiver.answer = lambda _: 500
        host.commit("last\n")
        host.push("ann", "main")
        (host.root / "opt/refcast").mkdir(parents=True)
        (host.root / "usr/local/bin/refcast").touch()
        host.call("/opt/refcast", host.root / "opt/refcast")
        pid = int((host.state / "worker.pid").read_text().split()[0])
        descriptor = os.pidfd_open(pid)
        host.follow("uninstalling.md", "ssh with one account, and local paths")
        host.follow("uninstalling.md", "Service, program and state")
        try:
            assert wait_for_end(descriptor), "a worker is left"
        finally:
            os.close(descriptor)
        for name in ("new.git", "newer.git"):
            shutil.rmtree(host.root / "srv/git" / name)
        assert tree(host.root / "etc") | tree(host.root / "srv") == before
        assert not host.state.exists()
        assert "refcast" not in host.push("ann", "main:refs/heads/after")


def wait_until(is_true: object, seconds: float = 30.0) -> None:
    assert callable(is_true)
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)
