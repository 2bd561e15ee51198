"""gitolite behind a real sshd: its page followed from top to bottom, what runs beside refcast, and every trace removed.

The tests share one program directory and one gitolite at a time, so they run in one process.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pages
from receiver import Receiver
from servers import DEAD
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
        assert problems(server) == []  # though team/site is new, and not watched yet
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
        (told,) = problems(server)
        assert "has repo-specific-hooks now" in told["what"]
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
        (server.repositories / "testing.git/hooks/pre-receive").unlink()
        mend(server, "is not gitolite's link")  # and team/app has its hooks still

        # Wild repositories come and go.
        (server.repositories / "team/bob/thing.git").rename(server.root / "thing.git")
        assert server.refcast("status").returncode == 0
        assert problems(server) == []

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


def problems(server: Gitolite) -> list[dict[str, Any]]:
    said = server.refcast("doctor", "--offline", "--json", "--all", server.repositories, check=False).stdout
    found: list[dict[str, Any]] = json.loads(said)["problems"]
    return [one for one in found if one["check"] != "endpoints"]


def mend(server: Gitolite, says: str) -> None:
    """There is one problem, which says this; its line, in a shell of the hosting user, mends it."""
    (one,) = problems(server)
    assert says in one["what"]
    assert one["is_command"], one
    server.as_user("sh", "-c", one["mend"])
    assert problems(server) == []


@pytest.fixture(scope="class")
def healthy(shared: Gitolite) -> Iterator[Gitolite]:
    """It, with refcast installed for several tests, each of which mends what it breaks."""
    before, rc = tree(shared.home), shared.rc.read_text()
    shared.refcast("install", "--gitolite")
    yield shared
    assert problems(shared) == []
    shared.refcast("uninstall", "--gitolite")
    shared.write(shared.rc, rc, 0o600)
    assert tree(shared.home) == before


class TestDoctor:
    """What it knows of a gitolite."""

    def test_a_common_hook(self, healthy: Gitolite) -> None:
        hook = healthy.home / "local/hooks/common/post-receive"
        hook.write_text(hook.read_text() + "# mine\n")
        mend(healthy, "post-receive is of another version")

    def test_a_hook_by_hand_is_kept(self, healthy: Gitolite) -> None:
        hooks = healthy.repositories / "testing.git/hooks"
        (hooks / "post-receive").unlink()
        healthy.write(hooks / "post-receive", f"#!/bin/sh\ncat >>{healthy.home}/seen\n")
        mend(healthy, "is not gitolite's link")
        healthy.push("ann", "testing")
        assert "refs/heads/main" in (healthy.home / "seen").read_text()
        (healthy.home / "seen").unlink()
        # A second one cannot be kept as well.
        (hooks / "post-receive").unlink()
        healthy.write(hooks / "post-receive", "#!/bin/sh\n")
        (one,) = problems(healthy)
        assert one["mend"].startswith("move it away, or into ")
        (hooks / "post-receive").rename(healthy.root / "away")
        mend(healthy, "is not gitolite's link")
        (hooks / "post-receive.before-refcast").unlink()

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_line_of_the_rc(self, healthy: Gitolite, which: int) -> None:
        (lines,) = blocks("What is installed", "perl")
        rc = healthy.rc.read_text()
        healthy.rc.write_text(rc.replace(lines.splitlines(keepends=True)[which], ""))
        mend(healthy, f"lacks `{lines.splitlines()[which]}`")
        assert sorted(healthy.rc.read_text().splitlines()) == sorted(rc.splitlines())

    def test_another_directory_of_local_code(self, healthy: Gitolite) -> None:
        rc = healthy.rc.read_text()
        healthy.rc.write_text(rc.replace('= "$ENV{HOME}/local";', '= "$ENV{HOME}/elsewhere";'))
        mend(healthy, "names ")
        healthy.rc.write_text(rc)
        healthy.refcast("install", "--gitolite")
        shutil.rmtree(healthy.home / "elsewhere")

    def test_a_record_of_a_repository_that_its_user_removed(self, healthy: Gitolite) -> None:
        box = next(healthy.state.glob("spool/*"))
        fields = ["refcast 1 push", f"id={uuid.uuid4()}", f"repository={healthy.repositories}/team/gone.git"]
        fields += [f"updates={'0' * 40} {'1' * 40} refs/heads/x\n", "end"]
        healthy.write(box / DEAD, "".join(f"{field}\0" for field in fields), 0o660)
        shutil.chown(box / DEAD, healthy.user, healthy.user)
        healthy.refcast("worker", "--drain", check=False)
        mend(healthy, "gitolite's users have removed it")

    def test_push_options(self, healthy: Gitolite) -> None:
        (healthy.home / ".gitconfig").write_text(
            "# refcast made this file, and removes it again where nothing else is in it\n"
        )
        mend(healthy, "take no push options")
        config = healthy.repositories / "testing.git/config"
        was = config.read_text()
        healthy.as_user("git", "config", "--file", config, "receive.advertisePushOptions", "false")
        (one,) = problems(healthy)
        assert (one["severity"], "out of gitolite.conf" in one["mend"]) == ("warning", True)
        config.write_text(was)


def test_no_account_is_left(program: Path) -> None:
    need_gitolite()
    with gitolite(program) as made:
        user, root = made.user, made.root
    assert not root.exists()
    assert subprocess.run(["getent", "passwd", user], capture_output=True, check=False).returncode == 2
