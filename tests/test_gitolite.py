"""gitolite behind a real sshd: its page followed from top to bottom, what runs beside refcast, and every trace removed.

The tests share one program directory and one gitolite at a time, so they run in one process.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pages
from receiver import Receiver
from servers_gitolite import Gitolite, gitolite, need_gitolite

ROOT = Path(__file__).parents[1]
BEGINNING = "repo gitolite-admin\n    RW+ = admin\nrepo testing\n    RW+ = @all\n"

pytestmark = pytest.mark.xdist_group("gitolite")


@pytest.fixture
def fresh(program: Path) -> Iterator[Gitolite]:
    need_gitolite()
    with gitolite(program) as made:
        yield made


@pytest.fixture(scope="module")
def shared(program: Path) -> Iterator[Gitolite]:
    """One gitolite for tests that each leave it as they found it."""
    need_gitolite()
    with gitolite(program) as made:
        install_sh(made)
        made.configure(BEGINNING, "ann")
        made.refcast("install", "--gitolite")  # makes the state directory
        made.refcast("uninstall", "--gitolite")
        yield made


@pytest.fixture
def server(shared: Gitolite) -> Iterator[Gitolite]:
    """It, and what a test has put into the home directory is taken away again."""
    before, rc = tree(shared.home), shared.rc.read_text()
    yield shared
    shared.refcast("uninstall", "--gitolite")
    shared.write(shared.rc, rc, 0o600)
    for name in sorted(set(tree(shared.home)) - set(before), reverse=True):
        path = shared.home / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for one in json.loads(shared.refcast("endpoint", "list", "--json").stdout):
        shared.refcast("endpoint", "remove", one["name"], "--discard")
    assert tree(shared.home) == before


def install_sh(server: Gitolite, *words: str) -> str:
    """What install.sh prints, which must succeed; without words it installs the program alone."""
    options = ("--prefix", str(server.program), "--state", str(server.state), "--user", server.user)
    command = (str(ROOT / "install.sh"), *options, *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blocks(section: str, language: str) -> list[str]:
    return [one.text for one in pages.blocks("gitolite.md", section) if one.language == language]


def follow(
    server: Gitolite, receiver: Receiver, section: str, page: str = "gitolite.md", check: bool = True
) -> list[str]:
    """Run the commands of a section of the page, with this server's names in the place of its examples. What each
    printed."""
    secret = server.root / "ci.secret"
    secret.write_text("a secret\n")
    said = []
    commands = pages.commands(page, section).replace("https://ci.example.org/hook", f"{receiver.url}ci")
    commands = commands.replace("ci.example.org", "127.0.0.1").replace("/root/ci.secret", str(secret))
    for line in commands.splitlines():
        words = shlex.split(line)
        if words[0] == "./install.sh":
            where = words.index("--user")
            said.append(install_sh(server, *words[1:where], *words[where + 2 :]))
        elif words[:4] == ["sudo", "-u", "git", "refcast"]:
            said.append(server.refcast(*words[4:], check=check).stdout)
        else:
            assert line == "git pull"
    return said


def dangling(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_symlink() and not path.exists()]


def tree(home: Path) -> dict[str, object]:
    """Name -> mode and content, or a link's target, of all but what pushes change and gitolite logs."""
    found: dict[str, object] = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        if {"objects", "refs", "logs", "work"} & set(name.parts):
            continue
        info = path.lstat()
        if path.is_symlink():
            found[str(name)] = str(path.readlink())
        else:
            content = path.read_bytes() if path.is_file() else None
            found[str(name)] = (stat.filemode(info.st_mode), info.st_uid, content)
    return found


def of(receiver: Receiver, path: str, count: int) -> list[dict[str, object]]:
    """The payloads that came to a path, once there are so many requests in all."""
    return [one.json() for one in receiver.wait_for(count) if one.path == path]


class TestThePage:
    def test_from_top_to_bottom(self, fresh: Gitolite, receiver: Receiver) -> None:
        server = fresh
        was = tree(server.home)

        # Install
        first, again, status, edited = follow(server, receiver, "Install")
        assert "added $RC{LOCAL_CODE}" in first
        assert "2 repositories are covered" in first
        assert "is installed already" in again
        assert "!" not in status
        assert "team/**" in edited

        # Endpoints in gitolite.conf, three users, a wild repository
        (server.state / "refcast.toml").write_text('[network]\nallow = ["127.0.0.0/8"]\n')
        (endpoints,) = blocks("Endpoints in gitolite.conf", "conf")
        endpoints = endpoints.replace("https://deploy.example.org/hook", f"{receiver.url}deploy")
        wild = "repo team/[a-z]+/..*\n    C = @all\n    RW+ = CREATOR\n"
        server.configure(BEGINNING + endpoints + wild, "ann", "bob", "carol")
        pushed = server.push("ann", "team/site", "-o", "ci.skip", "main")
        assert "refcast" not in pushed.stderr
        for path in ("/ci", "/deploy"):
            (one,) = of(receiver, path, 2)
            assert one["ref"] == "refs/heads/main"
            assert one["user_name"] == "ann"
        (deploy,) = [one for one in receiver.book if one.path == "/deploy"]
        assert deploy.header("X-Gitlab-Token") == "a-long-random-word"
        assert deploy.json()["project"]["path_with_namespace"] == "team/site"

        server.push("bob", "team/bob/thing")
        *_, thing = of(receiver, "/ci", 3)
        assert (thing["user_name"], thing["repository"]["name"]) == ("bob", "thing")  # type: ignore[index]
        denied = server.push("carol", "team/bob/thing", check=False)
        assert denied.returncode
        assert "DENIED" in denied.stderr
        server.push("carol", "team/site", "main:refs/heads/carols")
        receiver.wait_for(5)
        assert [one["user_name"] for one in of(receiver, "/deploy", 5)] == ["ann", "carol"]

        # Repo-specific hooks
        server.write(
            server.rc, server.rc.read_text().replace("# 'repo-specific-hooks'", "'repo-specific-hooks'"), 0o600
        )
        ran = server.home / "mailed"
        server.write(server.home / "local/hooks/repo-specific/mail", f"#!/bin/sh\ncat >>{ran}\n")
        (specific,) = blocks("Repo-specific hooks", "conf")
        alone = specific.replace("refcast-post-receive ", "")
        server.configure(BEGINNING + endpoints + wild + alone)
        status = server.refcast("status", check=False).stdout
        assert (
            "team/app: `option hook.post-receive` in gitolite.conf replaces refcast's hook" not in status
        )  # not known
        said = server.refcast("install", "--gitolite").stdout
        assert "! team/app: `option hook.post-receive` in gitolite.conf replaces refcast's hook" in said
        assert "put refcast-post-receive first" in said
        assert "! team/app: " in server.refcast("status", check=False).stdout
        server.push("carol", "team/app")
        assert "refs/heads/main" in ran.read_text()
        ran.unlink()
        server.configure(BEGINNING + endpoints + wild + specific)
        assert server.refcast("status").returncode == 0
        server.push("carol", "team/app")
        names = [one["repository"]["name"] for one in of(receiver, "/ci", 6)]  # type: ignore[index]
        assert names[-1] == "app"
        assert ran.read_text().count("refs/heads/main") == 1

        # Wild repositories come and go.
        (server.repositories / "team/bob/thing.git").rename(server.root / "thing.git")
        assert server.refcast("status").returncode == 0

        # Upgrade
        (upgraded,) = follow(server, receiver, "Upgrade")
        assert "is installed already" in upgraded

        # Uninstall
        refused = server.refcast("uninstall", "--gitolite", check=False)
        assert refused.returncode == 2
        assert re.search(r"conf/gitolite\.conf:\d+ is a line for refcast", refused.stderr)
        nothing = re.sub(r"(config refcast\.\S+ =).*", r"\1", endpoints)
        server.configure(BEGINNING + nothing + wild)
        server.push("ann", "team/site")
        receiver.wait_for(7)
        shown = json.loads(server.refcast("endpoint", "list", "--json").stdout)
        (own,) = [one for one in shown if one["name"] == "team/site:deploy"]
        assert (own["state"], own["reason"]) == ("disabled", "no longer in the repository's configuration")
        server.configure(BEGINNING + wild)
        # What the administrator has put into the directory since stays, and so does the line that names it.
        (said,) = follow(server, receiver, "gitolite 3", "uninstalling.md")
        assert said.endswith("uninstalled\n")
        assert 'LOCAL_CODE} = "$ENV{HOME}/local"' in server.rc.read_text()
        assert (server.home / "local/hooks/repo-specific/mail").exists()
        assert [path for path in dangling(server.home) if "repo-specific" not in str(path.readlink())] == []
        left = tree(server.home)
        for name, what in was.items():
            if "gitolite-admin" not in name and not name.startswith((".gitolite", ".ssh", "projects.list")):
                assert left[name] == what, name
        server.push("ann", "testing")


def nothing(server: Gitolite) -> None:
    pass


def local_code(server: Gitolite) -> None:
    """A directory that the rc names, with hooks of its own: a file each, and a link."""
    rc = server.rc.read_text().replace('# LOCAL_CODE                =>  "$ENV', 'LOCAL_CODE =>  "$ENV')
    server.write(server.rc, rc, 0o600)
    common = server.home / "local" / "hooks" / "common"
    seen = server.home / "seen"
    server.write(common / "pre-receive", f"#!/bin/sh\ncat >>{seen}; ! [ -e {server.home}/refuse ]\n")
    server.write(server.home / "local" / "notify", f"#!/bin/sh\ncat >>{seen}\n")
    (common / "post-receive").symlink_to("../../notify")
    server.write(common / "pre-auto-gc", "#!/bin/sh\n")
    server.gitolite("setup", "--hooks-only")


def by_hand(server: Gitolite) -> None:
    """A hook that somebody has put into one repository: gitolite would replace it."""
    server.write(server.repositories / "testing.git/hooks/post-receive", f"#!/bin/sh\ncat >>{server.home}/seen\n")


def without_an_end(server: Gitolite) -> None:
    """An rc whose last line has no end, and a configuration of git."""
    server.write(server.rc, server.rc.read_text().rstrip("\n"), 0o600)
    server.write(server.home / ".gitconfig", "[user]\n\tname = git\n[receive]\n\tdenyDeletes = true\n", 0o644)


def a_local_directory(server: Gitolite) -> None:
    """~/local is there, and has nothing to do with gitolite."""
    server.write(server.home / "local" / "hooks" / "common" / "post-receive", "#!/bin/sh\nexit 1\n")


class TestRoundTrip:
    @pytest.mark.parametrize("before", [nothing, local_code, by_hand, without_an_end, a_local_directory])
    def test_uninstalling_leaves_no_trace(
        self, server: Gitolite, receiver: Receiver, before: Callable[[Gitolite], None]
    ) -> None:
        before(server)
        was = tree(server.home)
        seen = server.home / "seen"
        server.refcast("install", "--gitolite")
        server.refcast("endpoint", "add", "ci", receiver.url)
        installed = tree(server.home)
        assert installed != was
        assert "is installed already" in server.refcast("install", "--gitolite").stdout
        assert tree(server.home) == installed
        assert server.refcast("status").returncode == 0

        server.push("ann", "testing", "-o", "an option", "main")
        (one,) = receiver.wait_for(1)
        assert (one.json()["pusher"]["username"], one.json()["push_options"]) == ("ann", ["an option"])
        if before in (local_code, by_hand):
            assert seen.read_text().count(" refs/heads/main\n") == (2 if before is local_code else 1)
            seen.unlink()
        if before is local_code:
            (server.home / "refuse").touch()
            assert server.push("ann", "testing", check=False).returncode
            (server.home / "refuse").unlink()
            seen.unlink()

        assert server.refcast("uninstall", "--gitolite").stdout.endswith(": uninstalled\n")
        assert tree(server.home) == was
        assert server.refcast("uninstall", "--gitolite").stdout.endswith(": was not installed\n")
        assert tree(server.home) == was
        assert dangling(server.home) == []
        assert "refcast" not in server.push("ann", "testing").stderr


class TestRefused:
    """Each by one line that says what to do; nothing is changed."""

    def refused(self, server: Gitolite, *words: str | Path, code: int = 2) -> str:
        was = tree(server.home)
        done = server.refcast(*words, check=False)
        assert done.returncode == code
        assert done.stderr.count("\n") == 1
        assert tree(server.home) == was
        return done.stderr

    def test_an_rc_that_is_kept(self, shared: Gitolite) -> None:
        said = self.refused(shared, "install", "--gitolite", "--keep-rc")
        for line in blocks("What is installed", "perl")[0].splitlines():
            assert line in said

    def test_a_repository_of_gitolite_by_its_path(self, shared: Gitolite) -> None:
        said = self.refused(shared, "install", shared.repositories / "testing.git")
        assert "refcast install --gitolite" in said

    def test_options_that_do_not_go_together(self, shared: Gitolite) -> None:
        self.refused(shared, "install", "--gitolite", shared.repositories / "testing.git")
        self.refused(shared, "install", "--keep-rc")
        self.refused(shared, "uninstall", "--gitolite", "--all", shared.repositories)

    def test_a_hook_that_gitolite_would_put_back(self, fresh: Gitolite) -> None:
        server = fresh
        rc = server.rc.read_text().replace('# LOCAL_CODE                =>  "$rc{GL', 'LOCAL_CODE => "$rc{GL')
        server.write(server.rc, rc, 0o600)
        hook = server.admin / "local/hooks/common/post-receive"
        hook.parent.mkdir(parents=True)
        hook.write_text(f"#!/bin/sh\ncat >>{server.home}/seen\n")
        hook.chmod(0o755)
        server.configure(BEGINNING)
        said = self.refused(server, "install", "--gitolite")
        assert "rename it there to post-receive.before-refcast" in said
        server.run("git", "mv", hook, f"{hook}.before-refcast", cwd=server.admin)
        server.configure(BEGINNING, "ann")
        server.refcast("install", "--gitolite")
        server.push("ann", "testing")
        server.configure(BEGINNING, "bob")
        assert server.refcast("status").returncode == 0
        assert (server.home / "seen").read_text().count("refs/heads/main\n") == 1

    def test_a_hook_by_hand_where_there_is_one_for_all(self, server: Gitolite) -> None:
        local_code(server)
        (server.repositories / "testing.git/hooks/post-receive").unlink()
        by_hand(server)
        said = self.refused(server, "install", "--gitolite", code=4)
        assert "was put there by hand" in said

    def test_who_hosts_none(self, shared: Gitolite) -> None:
        words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env", "--")
        command = (
            *words,
            str(shared.program / "venv/bin/refcast"),
            "--state",
            "/nonexistent/x",
            "uninstall",
            "--gitolite",
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "hosts no gitolite" in done.stderr


def test_no_account_is_left(program: Path) -> None:
    need_gitolite()
    with gitolite(program) as made:
        user, root = made.user, made.root
    assert not root.exists()
    assert subprocess.run(["getent", "passwd", user], capture_output=True, check=False).returncode == 2
