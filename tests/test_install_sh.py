"""install.sh, run for real: one command, then a push with ordinary git arrives. And what it refuses.

The tests that install share one program directory, so they run in one process, one after another.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Receiver
from refcast import presence

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "install.sh"
IS_ROOT = os.geteuid() == 0
WAIT_SECONDS = 60.0
NOBODY = "nobody" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
"""A user who hosts no gitolite: another than oneself can be chosen by root alone."""


def environment(**more: str) -> dict[str, str]:
    """That of whoever runs the tests, without what would lead git or refcast elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "REFCAST_", "XDG_"))}
    who = {f"GIT_{role}_{key}": "ann" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    return kept | who | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"} | more


def run(*words: str | Path, script: Path = SCRIPT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh with a umask that forgets everybody else."""
    return subprocess.run(
        [script, *words], capture_output=True, text=True, check=False, umask=0o077, env=environment(**more)
    )


def git(*words: str | Path, user: str | None = None) -> None:
    account = pwd.getpwnam(user) if user else None
    subprocess.run(
        ["git", "-c", "safe.directory=*", *words],
        check=True,
        capture_output=True,
        env=environment(HOME="/"),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
    )


def bare(path: Path) -> Path:
    git("init", "-q", "--bare", "-b", "main", path)
    return path


def commit_and_push(bare_repository: Path, user: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as name:
        if user:
            shutil.chown(name, user)
        git("init", "-q", name, user=user)
        git("-C", name, "commit", "-q", "--allow-empty", "-m", "A change", user=user)
        git("-C", name, "push", "-q", bare_repository, "HEAD:refs/heads/main", user=user)


def wait_for_worker(state: Path, *, other_than: int | None) -> int | None:
    """The pid of the worker, once it is another; None if `other_than` is not None and no worker runs any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (pid := presence.running(state)) == other_than:
        assert time.monotonic() < deadline, "the worker did not change"
        time.sleep(0.02)
    return pid


class Place:
    """A program directory, and state directories and repositories beside it; names with spaces, readable by all."""

    def __init__(self, root: Path) -> None:
        self.root, self.prefix = root, root / "the program"
        self._states: list[Path] = []

    def state(self, name: str) -> Path:
        self._states.append(self.root / name)
        return self._states[-1]

    def install(self, state: Path, *words: str | Path, script: Path = SCRIPT, **more: str) -> str:
        """Install, which must succeed; what it prints."""
        done = run("--prefix", self.prefix, "--state", state, *words, script=script, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refcast(self, state: Path, *words: str) -> subprocess.CompletedProcess[str]:
        program = self.prefix / "venv" / "bin" / "refcast"
        return subprocess.run([program, "--state", state, *words], capture_output=True, text=True, check=False)

    def close(self) -> None:
        for state in self._states:
            if pid := presence.running(state):
                os.kill(pid, signal.SIGTERM)
                wait_for_worker(state, other_than=pid)
        shutil.rmtree(self.root)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    place = Place(Path(tempfile.mkdtemp(prefix="refcast install ")))
    place.root.chmod(0o755)
    yield place
    place.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.mark.xdist_group("install.sh")
class TestInstalling:
    def test_one_command_then_a_push_arrives(self, place: Place, receiver: Receiver) -> None:
        repository, state = bare(place.root / "my site.git"), place.state("state of one")
        said = place.install(state, "--url", receiver.url, "--secret-env", "S", repository, S="a secret")
        assert f"{repository}: installed\n" in said
        commit_and_push(repository)
        (one,) = receiver.wait_for(1)
        assert one.header("X-Codeup-Token") == "a secret"
        assert one.json()["ref"] == "refs/heads/main"
        assert [commit["message"] for commit in one.json()["commits"]] == ["A change\n"]

    def test_running_it_again_is_fine(self, place: Place, receiver: Receiver) -> None:
        tree, state = place.root / "tree", place.state("again")
        bare(tree / "a.git")
        place.install(state, "--all", tree, "--url", receiver.url)
        bare(tree / "b.git")
        said = place.install(state, "--all", tree, "--url", receiver.url)
        assert "a.git: is installed already\n" in said
        assert "b.git: installed\n" in said
        assert "the endpoint 127.0.0.1 is there already, and left as it is\n" in said
        assert len(json.loads(place.refcast(state, "endpoint", "list", "--json").stdout)) == 1
        commit_and_push(tree / "b.git")
        assert len(receiver.wait_for(1)) == 1

    def test_a_name_decides_which_endpoint_is_meant(self, place: Place, tmp_path: Path) -> None:
        repository, state = bare(tmp_path / "site.git"), place.state("names")
        place.install(state, "--url", "http://host.example/one", repository)
        other = run("--prefix", place.prefix, "--state", state, "--url", "http://host.example/two", repository)
        assert other.returncode == 2
        assert other.stderr.count("\n") == 1
        assert "has another URL, http://host.example/one" in other.stderr
        place.install(state, "--url", "http://host.example/two", "--name", "second", repository)
        secret = tmp_path / "secret"
        secret.write_text("s3cret\n")
        words = ("--name", "host.example", "--dialect", "gogs", "--secret-file", secret, repository)
        place.install(state, "--url", "http://host.example/three", *words)
        endpoints = json.loads(place.refcast(state, "endpoint", "list", "--json").stdout)
        assert [(one["name"], one["url"], one["dialect"], one["secret"]) for one in endpoints] == [
            ("host.example", "http://host.example/three", "gogs", "set"),
            ("second", "http://host.example/two", "codeup", "none"),
        ]

    def test_the_program_is_for_others_to_read_and_not_to_write(self, place: Place) -> None:
        place.install(place.state("unused"))
        for path in [place.prefix, *place.prefix.rglob("*")]:
            if not path.is_symlink():
                info = path.lstat()
                assert info.st_uid == os.geteuid(), path
                assert not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
                assert info.st_mode & stat.S_IROTH, path

    @pytest.mark.skipif(not IS_ROOT, reason="only root installs for others")
    def test_root_installs_for_the_owner_of_the_repositories(self, place: Place, receiver: Receiver) -> None:
        repository, state = bare(place.root / "theirs.git"), place.state("theirs")
        subprocess.run(["chown", "-R", "nobody", repository], check=True)
        secret = place.root / "root's secret"
        secret.write_text("s3cret\n")
        secret.chmod(0o600)
        place.install(state, "--url", receiver.url, "--secret-file", secret, repository)
        refused = place.refcast(state, "status")
        assert refused.returncode == 3
        commit_and_push(repository, user="nobody")
        (one,) = receiver.wait_for(1)
        assert one.header("X-Codeup-Token") == "s3cret"
        assert one.json()["user_name"] == "nobody"
        nobody = pwd.getpwnam("nobody").pw_uid
        assert {path.lstat().st_uid for path in [state, *state.rglob("*")]} == {nobody}
        pid = presence.running(state)
        assert pid is not None
        assert Path(f"/proc/{pid}").stat().st_uid == nobody

    @pytest.mark.skipif(not IS_ROOT, reason="only root installs for others")
    def test_a_directory_that_others_could_change_is_no_place_for_roots_program(self, place: Place) -> None:
        for name, change in (("theirs", ["chown", "nobody"]), ("open", ["chmod", "777"]), ("closed", ["chmod", "700"])):
            prefix = place.root / f"{name} prefix"
            prefix.mkdir()
            subprocess.run([*change, prefix], check=True)
            done = run("--prefix", prefix, "--user", "nobody", "--state", place.root / "never")
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert "choose another --prefix" in done.stderr

    def test_upgrading_restarts_the_worker_that_a_push_had_started(self, place: Place, receiver: Receiver) -> None:
        repository, state = bare(place.root / "old.git"), place.state("upgraded")
        place.install(state, "--url", receiver.url, repository)
        receiver.answer = lambda _: 500  # so that something waits, and the worker does not leave
        commit_and_push(repository)
        receiver.wait_for(1)
        old = presence.running(state)
        assert old is not None
        receiver.answer = lambda _: 200
        script = newer_checkout(place.root / "newer") / "install.sh"
        assert "installing into" in place.install(state, repository, script=script)
        assert wait_for_worker(state, other_than=None) != old
        commit_and_push_again(repository)
        receiver.wait_for(3)

    def test_the_demonstration(self, tmp_path: Path) -> None:
        done = run("--demo", script=newer_checkout(tmp_path / "checkout") / "install.sh")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Every push arrived." in done.stdout
        again = run("--demo", script=tmp_path / "checkout" / "install.sh")
        assert (again.returncode, "installing" in again.stdout) == (0, False)


def newer_checkout(path: Path) -> Path:
    """A copy of what is installed, with a difference."""
    path.mkdir()
    for name in ("src", "hooks"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("install.sh", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, path)
    with (path / "src" / "refcast" / "__init__.py").open("a") as file:
        file.write("# newer\n")
    return path


def commit_and_push_again(repository: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        git("clone", "-q", repository, name)
        git("-C", name, "commit", "-q", "--allow-empty", "-m", "Another change")
        git("-C", name, "push", "-q", repository, "HEAD:refs/heads/main")


class TestRefusing:
    """One clear line and the documented exit status, and nothing has been made."""

    URL = ("--url", "http://host.example/")

    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path) -> None:
        bare(tmp_path / "good.git")
        git("init", "-q", tmp_path / "work")
        (tmp_path / "empty").mkdir()

    @pytest.mark.parametrize(
        ("status", "words", "said"),
        [
            (2, [*URL], "--url needs repositories"),
            (2, ["--url", "ftp://host/", "good.git"], "the URL must begin with http:// or https://"),
            (2, ["--url", "http://host:99999/", "good.git"], "the URL's port is not a number"),
            (2, [*URL, "--dialect", "klingon", "good.git"], "unknown dialect 'klingon'"),
            (2, ["--dialect", "gogs", "good.git"], "belong to an endpoint: give its --url"),
            (2, [*URL, "--secret-file", "lost", "good.git"], "cannot read the secret from"),
            (2, [*URL, "--secret-env", "NO_SUCH_VARIABLE", "good.git"], "no environment variable NO_SUCH_VARIABLE"),
            (2, [*URL, "--secret-file", "a", "--secret-env", "B", "good.git"], "give the secret in one way"),
            (2, ["--nonsense"], "there is no option --nonsense"),
            (2, ["good.git", "--prefix"], "--prefix needs a value"),
            (2, ["--all", "lost"], "lost is not a directory"),
            (2, ["--user", "no-such-user", "good.git"], "user"),
            (2, ["--gitolite", "good.git"], "--gitolite goes alone"),
            (2, ["--gitolite", "--intent", "update"], "--gitolite goes alone"),
            (2, ["--gitolite", "--user", NOBODY], f"user {NOBODY} hosts no gitolite"),
            (2, ["--keep-rc", "good.git"], "--keep-rc goes with --gitolite"),
            (2, ["--intent", "post-update", "good.git"], "there is no hook post-update"),
            (4, [*URL, "lost.git"], "no repository lost.git"),
            (4, [*URL, "work"], "work is not a bare repository"),
            (4, [*URL, "work/.git"], "is not a bare repository"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_bad_input(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, words: list[str], said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = run("--state", "state", *words) if "--prefix" in words else run("--prefix", "new", *words)
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert done.stderr.startswith("install.sh: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "new").exists()

    @pytest.mark.skipif(not IS_ROOT, reason="only root installs for others")
    def test_repositories_of_several_owners(self, tmp_path: Path) -> None:
        subprocess.run(["chown", "-R", "nobody", bare(tmp_path / "theirs.git")], check=True)
        done = run("--prefix", tmp_path / "new", *self.URL, "--all", tmp_path)
        assert done.returncode == 2
        assert "belong to several users (0 65534): choose one with --user" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_no_repository_below_a_directory(self, tmp_path: Path) -> None:
        done = run("--prefix", tmp_path / "new", "--all", tmp_path / "empty")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)

    def test_a_python_that_is_too_old(self, tmp_path: Path) -> None:
        """Where no other is to be had: a PATH with what the script calls, and a Python that is not enough."""
        tools = tmp_path / "bin"
        tools.mkdir()
        for name in ("sh", "id", "dirname", "stat", "sort", "getent", "cut", "tr", "git", "find", "grep", "runuser"):
            if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
                (tools / name).symlink_to(found)
        (tools / "python3").write_text("#!/bin/sh\necho Python 3.9.2; exit 1\n")
        (tools / "python3").chmod(0o755)
        text = SCRIPT.read_text().replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n", "")
        script = tmp_path / "install.sh"
        script.write_text(text.replace("'' /usr/local/bin/ /usr/bin/", "''"))
        script.chmod(0o755)
        done = run("--prefix", tmp_path / "new", tmp_path / "good.git", script=script, PATH=str(tools))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "Python 3.11 or later" in done.stderr
