"""Installing and uninstalling: what was there before runs on, and comes back to the byte; what is refused says why."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refcast import install, spool
from refcast.errors import BadInput, RefcastError, RepositoryError, StateError
from refcast.install.hooks import Trouble
from refcast.store import Store
from servers import ZERO, Server, pose_as_worker, public_directory

OPTION = "receive.advertisePushOptions"
NOBODY = 65534


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With nothing installed yet."""
    with Server(tmp_path, install=False, worker=False) as made:
        yield made


def tree(root: Path) -> dict[str, object]:
    """Name -> type, mode, content or target, and a file's time, of all below a directory but git's own objects."""
    found: dict[str, object] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        name = str(path.relative_to(root))
        info = path.lstat()
        if name.startswith(("objects", "refs", "logs")):
            continue
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            time_ns = 0 if name == "config" else info.st_mtime_ns
            found[name] = (stat.S_IMODE(info.st_mode), info.st_uid, time_ns, path.read_bytes())
        else:
            found[name] = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode))
    return found


def option(server: Server) -> str:
    return server.run("git", "-C", server.bare, "config", "--type=bool", "--get", OPTION, check=False).stdout.strip()


def ledger(server: Server) -> dict[str, str]:
    with Store.open(server.state) as store:
        number = store.repositories.find(str(server.bare))
        return {} if number is None else store.repositories.tips(number)


def install_all(server: Server, *places: Path, shared: bool = False) -> list[str]:
    install.create_state(server.state)
    with Store.open(server.state) as store:
        given = [install.place(path) for path in places]
        return [done for _, done in install.install(given, server.state, store, shared=shared, now=time.time())]


def uninstall(server: Server) -> bool:
    done = install.uninstall(install.place(server.bare))
    with Store.open(server.state) as store:
        store.repositories.watch(str(server.bare), watched=False)
    return done


def refused(error: type[RefcastError], match: str, call: Callable[[], object]) -> str:
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing(server: Server) -> None:
    pass


def samples(server: Server) -> None:
    for name in ("update", "post-receive", "pre-commit"):
        server.hook(f"{name}.sample", "exit 1")


def custom(server: Server) -> None:
    for name in ("update", "post-receive", "post-update", "pre-receive"):
        os.utime(server.hook(name, f"echo {name}"), ns=(1, 1_600_000_000_123_456_789))


def one_only(server: Server) -> None:
    server.hook("update", "exit 0", mode=0o4750)


def not_executable(server: Server) -> None:
    for name in ("update", "post-receive"):
        server.hook(name, "exit 1", mode=0o640)


def links(server: Server) -> None:
    server.hook("", "exit 0", at=server.root / "dispatch")
    server.hook("", "exit 0", at=server.bare / "hooks" / "local")
    (server.bare / "hooks" / "update").symlink_to("local")
    (server.bare / "hooks" / "post-receive").symlink_to(server.root / "dispatch")
    (server.bare / "hooks" / "pre-receive").symlink_to("../../dispatch")


def links_upwards(server: Server) -> None:
    server.hook("", "exit 0", at=server.root / "dispatch")
    (server.bare / "hooks" / "update").symlink_to("../../dispatch")
    (server.bare / "hooks" / "post-receive").symlink_to("/nonexistent")


def no_directory(server: Server) -> None:
    for path in (server.bare / "hooks").iterdir():
        path.unlink()
    (server.bare / "hooks").rmdir()


def empty_directory(server: Server) -> None:
    no_directory(server)
    (server.bare / "hooks").mkdir(mode=0o750)


def linked_within(server: Server) -> None:
    (server.bare / "hooks").rename(server.bare / "my-hooks")
    (server.bare / "hooks").symlink_to("my-hooks")
    server.hook("update", "exit 0")


def binary(server: Server) -> None:
    path = server.hook("update", "")
    path.write_bytes(b"\x7fELF\0\xff\xfe" + bytes(range(256)))


CONFIGS = {
    "as git made it": None,
    "true": "[receive]\n\tadvertisePushOptions = true\n",
    "false": "[Receive]\n  AdvertisePushOptions=no ; for now\n\n",
    "twice": "[receive]\n\tadvertisePushOptions = true\n[gc]\n\tauto = 0\n[receive]\n\tadvertisePushOptions = false\n",
    "others in the section": "[receive]\n\tdenyDeletes = true\n\tfsckObjects\n# the end\n",
    "an empty section": "[receive]\n",
    "latin-1": "[user]\n\tname = \udce9\n",
}


class TestRoundTrip:
    @pytest.mark.parametrize(
        "before",
        [
            *(nothing, samples, custom, one_only, not_executable, links, links_upwards),
            *(no_directory, empty_directory, linked_within, binary),
        ],
    )
    def test_uninstalling_brings_back_what_was_there(self, server: Server, before: Callable[[Server], None]) -> None:
        before(server)
        was = tree(server.bare)
        assert server.install() == "installed"
        assert option(server) == "true"
        installed = tree(server.bare)
        assert installed != was
        assert server.install() == "is installed already"
        assert tree(server.bare) == installed
        assert uninstall(server)
        assert tree(server.bare) == was
        assert not uninstall(server)
        assert tree(server.bare) == was

    @pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
    @pytest.mark.parametrize("mode", [0o644, 0o440, 0o660])
    def test_the_configuration_comes_back_to_the_byte(self, server: Server, config: str | None, mode: int) -> None:
        path = server.bare / "config"
        with path.open("a", errors="surrogateescape") as file:
            file.write(config or "")
        path.chmod(mode)
        was = tree(server.bare)
        server.install()
        assert option(server) == "true"
        once = path.read_bytes()
        server.install()
        assert path.read_bytes() == once
        uninstall(server)
        assert tree(server.bare) == was

    def test_what_others_changed_meanwhile_stays(self, server: Server) -> None:
        server.install()
        server.run("git", "-C", server.bare, "config", "receive.denyDeletes", "true")
        server.run("git", "-C", server.bare, "config", "gc.auto", "0")
        server.hook("post-update", "exit 0")
        uninstall(server)
        get = ("git", "-C", server.bare, "config", "--get")
        assert server.run(*get, "receive.denyDeletes").stdout == "true\n"
        assert server.run(*get, "gc.auto").stdout == "0\n"
        assert option(server) == ""
        assert (server.bare / "hooks" / "post-update").exists()
        assert b"refcast" not in (server.bare / "config").read_bytes()

    def test_the_option_that_somebody_turned_off_meanwhile_stays_off(self, server: Server) -> None:
        server.install()
        server.run("git", "-C", server.bare, "config", OPTION, "false")
        uninstall(server)
        assert option(server) == "false"
        assert b"refcast" not in (server.bare / "config").read_bytes()

    def test_a_configuration_that_is_a_link_stays_one(self, server: Server) -> None:
        (server.bare / "config").rename(server.root / "config")
        (server.bare / "config").symlink_to("../config")
        was = (server.root / "config").read_bytes()
        server.install()
        assert option(server) == "true"
        assert (server.bare / "config").is_symlink()
        uninstall(server)
        assert (server.root / "config").read_bytes() == was

    def test_a_repository_taken_in_by_its_link_is_the_same_one(self, server: Server) -> None:
        link = server.root / "link"
        link.symlink_to(server.bare)
        assert server.install() == "installed"
        assert server.install(link) == "is installed already"
        with Store.open(server.state) as store:
            assert list(store.repositories.paths()) == [str(server.bare)]


class TestHooks:
    def test_a_second_installation_does_not_chain_twice(self, server: Server) -> None:
        seen = server.root / "seen"
        server.hook("post-receive", f"cat >>'{seen}'")
        server.install()
        server.install()
        tip = server.commit("one")
        server.push("main")
        assert seen.read_text() == f"{ZERO} {tip} refs/heads/main\n"

    def test_an_older_version_is_replaced_and_what_it_kept_stays_kept(self, server: Server) -> None:
        server.hook("update", "exit 7")
        was = tree(server.bare)
        server.install()
        hook = server.bare / "hooks" / "update"
        new = hook.read_text()
        hook.write_text(new.replace("version 1", "version 0").replace("exit 0", "exit 1"))
        assert install.problems(install.place(server.bare), server.state) == [
            Trouble(f"{hook} is of another version, or was changed", refcast=("install", str(server.bare)))
        ]
        assert server.install() == "upgraded"
        assert hook.read_text() == new
        assert install.problems(install.place(server.bare), server.state) == []
        uninstall(server)
        assert tree(server.bare) == was

    def test_problems_are_named(self, server: Server) -> None:
        server.install()
        update, post_receive = (server.bare / "hooks" / name for name in install.HOOKS)
        update.chmod(0o644)
        post_receive.unlink()
        first, second = install.problems(install.place(server.bare), server.state)
        assert first.what.startswith(f"{update} is not executable")
        assert second.what.startswith(f"{post_receive} is not refcast's")
        assert server.install() == "upgraded"
        assert install.problems(install.place(server.bare), server.state) == []

    def test_nothing_is_written_through_a_link(self, server: Server) -> None:
        target = server.hook("", "exit 0", at=server.root / "target")
        before = target.read_bytes()
        (server.bare / "hooks" / "update").symlink_to(target)
        (server.bare / "hooks" / "update.refcast-new").symlink_to(target)
        server.install()
        assert target.read_bytes() == before
        assert (server.bare / "hooks" / "update").is_file()
        assert not (server.bare / "hooks" / "update").is_symlink()

    def test_what_replaced_ours_is_not_taken_for_ours(self, server: Server) -> None:
        """Two hooks want the same place: somebody must decide, and neither is lost."""
        server.hook("update", "echo first")
        server.install()
        server.hook("update", "echo second")
        was = tree(server.bare)
        said = refused(RepositoryError, "remove the one that you do not need", server.install)
        assert str(server.bare / "hooks" / "update.before-refcast") in said
        uninstall(server)
        assert tree(server.bare)["hooks/update"] == was["hooks/update"]
        assert "echo first" in (server.bare / "hooks" / "update.before-refcast").read_text()

    def test_what_was_kept_comes_back_even_if_ours_is_gone(self, server: Server) -> None:
        server.hook("update", "exit 0")
        was = tree(server.bare)
        server.install()
        (server.bare / "hooks" / "update").unlink()
        uninstall(server)
        assert tree(server.bare) == was

    @pytest.mark.parametrize("place", ['/srv/it\'s "quoted" $(x) `y`\\', "/srv/new\nline", "/srv/caf\udce9"])
    def test_any_path_of_a_state_directory_is_quoted(self, server: Server, place: str) -> None:
        where = server.root / "state" / place[1:]
        for name in install.HOOKS:
            text = install.render(name, where)
            assert b"'@" not in text
            words = text[text.index(b"state=") :].split(b"\nowner" if name == "update" else b"\n\towner")[0]
            shown = subprocess.run(["sh", "-c", words + b'\nprintf %s "$state"'], capture_output=True, check=True)
            assert shown.stdout == os.fsencode(where)

    def test_a_push_into_a_state_directory_of_an_ugly_name(self, server: Server) -> None:
        server.state = server.root / 'it\'s $(a) "state"\n\udce9'
        server.install()
        tip = server.commit("one")
        assert server.push("main").stderr == ""
        assert server.record().updates[0].new == tip


class TestInterrupted:
    """Killed at any point, installing again mends it, and the old hook is never lost."""

    def killed(self, server: Server, monkeypatch: pytest.MonkeyPatch, at: int) -> bool:
        """Install, and die before the file system is changed for the `at`-th time. Whether it came that far."""
        calls = 0

        class Killed(BaseException):
            pass

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def call(*words: object, **more: object) -> object:
                nonlocal calls
                calls += 1
                if calls == at:
                    raise Killed
                return real(*words, **more)

            return call

        with monkeypatch.context() as patched:
            for owner, name in (
                *((Path, each) for each in ("mkdir", "replace", "rename", "symlink_to", "write_bytes", "unlink")),
                *((Path, each) for each in ("chmod", "rmdir", "touch")),
                (os, "link"),
            ):
                patched.setattr(owner, name, dying(getattr(owner, name)))
            try:
                server.install()
            except Killed:
                return True
        return False

    @pytest.mark.parametrize("before", [custom, links, links_upwards, not_executable, no_directory])
    def test_at_each_change_of_the_file_system(
        self, server: Server, before: Callable[[Server], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before(server)
        was = tree(server.bare)
        running = [self.what_runs(server, name) for name in install.HOOKS]
        install.create_state(server.state)
        at = 1
        while self.killed(server, monkeypatch, at):
            assert [self.what_runs(server, name) for name in install.HOOKS] == running
            server.install()
            assert install.problems(install.place(server.bare), server.state) == []
            uninstall(server)
            left = tree(server.bare)
            if before is no_directory:  # whether we made it is noted only after it is made
                left = {name: what for name, what in left.items() if name != "hooks"}
            assert left == was, f"killed at {at}"
            if before is no_directory:
                with contextlib.suppress(FileNotFoundError):
                    (server.bare / "hooks").rmdir()
            at += 1
        assert at > 5

    def what_runs(self, server: Server, name: str) -> object:
        """The old hook, wherever it is found: in its place, or where ours looks for it."""
        hooks = server.bare / "hooks"
        for path in (hooks / name, hooks / f"{name}.before-refcast", hooks / "before-refcast" / name):
            if path.is_symlink():
                return os.path.realpath(path)
            if path.exists() and install.MARK not in path.read_text():
                return path.read_bytes()
        return None


class TestMany:
    def test_bare_repositories_are_found_and_nothing_else(self, server: Server) -> None:
        root = server.root / "srv"
        bares = [root / name for name in ("a.git", "team/b.git", "team/deep/er/c", "z \udce9.git")]
        for path in bares:
            server.run("git", "init", "-q", "--bare", path)
        server.run("git", "init", "-q", root / "work tree")
        server.run("git", "init", "-q", "--bare", root / "a.git" / "modules" / "inner.git")
        (root / "link.git").symlink_to(server.bare)
        (root / "empty").mkdir()
        (root / "HEAD").write_text("")
        assert list(install.find(root)) == bares
        assert install_all(server, *install.find(root)) == ["installed"] * 4
        with Store.open(server.state) as store:
            assert sorted(store.repositories.paths()) == sorted(map(str, bares))

    @pytest.mark.parametrize("name", ["missing", "site.git/HEAD"])
    def test_a_root_that_is_no_directory(self, server: Server, name: str) -> None:
        refused(BadInput, "is not a directory", lambda: list(install.find(server.root / name)))


class TestRefused:
    def make(self, server: Server, kind: str) -> Path:
        path = server.root / kind
        match kind:
            case "a file":
                path.write_text("")
            case "a directory":
                path.mkdir()
            case "a loop":
                path.symlink_to(path)
            case "a work tree":
                server.run("git", "init", "-q", path)
            case "its .git":
                server.run("git", "init", "-q", path)
                return path / ".git"
            case "a part of one":
                return server.bare / "refs"
            case "sha-256":
                server.run("git", "init", "-q", "--bare", "--object-format=sha256", path)
            case "another format":
                server.run("git", "init", "-q", "--bare", path)
                server.run("git", "-C", path, "config", "core.repositoryFormatVersion", "99")
        return path

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("missing", "no repository .*: No such file or directory"),
            ("a loop", "no repository "),
            ("a file", "is not a directory"),
            ("a directory", "not a git repository"),
            ("a work tree", "is not a bare repository"),
            ("its .git", "is not a bare repository"),
            ("a part of one", "is not a bare repository"),
            ("sha-256", "is a sha256 repository"),
            ("another format", "99"),
        ],
    )
    def test_what_is_no_bare_repository(self, server: Server, kind: str, reason: str) -> None:
        path = self.make(server, kind)
        refused(RepositoryError, reason, lambda: install.place(path))

    def share(self, server: Server, how: str, *bares: Path) -> Path:
        hooks = server.root / "shared hooks"
        hooks.mkdir()
        for bare in bares:
            match how:
                case "local":
                    server.run("git", "-C", bare, "config", "core.hooksPath", hooks)
                case "relative":
                    server.run("git", "-C", bare, "config", "core.hooksPath", "../shared hooks")
                case "global":
                    (server.root / ".gitconfig").write_text(f'[core]\n\thooksPath = "{hooks}"\n')
                case "link":
                    no_directory(Server(server.root, bare=bare.name))
                    (bare / "hooks").symlink_to("../shared hooks")
        return hooks

    @pytest.mark.parametrize("how", ["local", "relative", "global", "link"])
    def test_hooks_that_other_repositories_run_too(self, server: Server, how: str) -> None:
        other = server.root / "other.git"
        third = server.root / "third.git"
        for path in (other, third):
            server.run("git", "init", "-q", "--bare", path)
        hooks = self.share(server, how, server.bare, other)
        was = [tree(path) for path in (server.bare, other, hooks)]
        said = refused(BadInput, "--shared", lambda: self.install(server, third, server.bare, other))
        assert str(hooks) in said
        assert str(server.bare) in said
        assert str(other) in said
        assert [tree(path) for path in (server.bare, other, hooks)] == was
        assert self.install(server, server.bare, other, shared=True) == ["installed", "is installed already"]
        assert (hooks / "update").exists()
        # What is known from before is named as well.
        assert str(other) in refused(BadInput, "--shared", lambda: self.install(server, server.bare))
        server.commit("one")
        assert server.push("main", more={"GIT_CONFIG_GLOBAL": str(server.root / ".gitconfig")}).stderr == ""
        assert len(server.record().updates) == 1

    def install(self, server: Server, *places: Path, shared: bool = False) -> list[str]:
        with server.at_home():
            done = install_all(server, *places, shared=shared)
        pose_as_worker(server.state)
        return done

    @pytest.mark.parametrize("how", ["inside", "link"])
    def test_a_directory_of_hooks_inside_the_repository_is_its_own(self, server: Server, how: str) -> None:
        (server.bare / "my").mkdir()
        if how == "link":
            no_directory(server)
            (server.bare / "hooks").symlink_to("my")
        else:
            server.run("git", "-C", server.bare, "config", "core.hooksPath", "my")
        assert server.install() == "installed"
        assert (server.bare / "my" / "update").exists()
        server.commit("one")
        server.push("main")
        assert len(server.record().updates) == 1

    def test_hooks_that_are_turned_off(self, server: Server) -> None:
        server.run("git", "-C", server.bare, "config", "core.hooksPath", "/dev/null")
        refused(BadInput, "/dev/null", server.install)
        refused(RepositoryError, "cannot install into /dev/null", lambda: server.install(shared=True))
        assert not uninstall(server)

    def test_a_directory_in_the_place_of_a_hook(self, server: Server) -> None:
        (server.bare / "hooks" / "update").mkdir()
        refused(RepositoryError, "is a directory: move it away", server.install)

    def test_a_configuration_that_another_program_is_changing(self, server: Server) -> None:
        lock = server.bare / "config.lock"
        lock.touch()
        refused(RepositoryError, f"{lock} is there", server.install)
        assert lock.exists()
        lock.unlink()
        server.install()
        assert option(server) == "true"

    @pytest.mark.parametrize("name", ["file", "file/below"])
    def test_a_state_directory_that_cannot_be_made(self, server: Server, name: str) -> None:
        (server.root / "file").touch()
        server.state = server.root / name
        refused(StateError, "cannot make the state directory .*choose another --state", server.install)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
class TestOtherUsers:
    @pytest.fixture
    def public(self) -> Iterator[Server]:
        """Where every user can come to."""
        with public_directory() as root, Server(root, install=False, worker=False) as made:
            made.run("git", "config", "--file", root / ".gitconfig", "safe.directory", "*")
            yield made

    @contextlib.contextmanager
    def nobody(self, server: Server) -> Iterator[None]:
        with server.at_home():
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
            try:
                yield
            finally:
                os.seteuid(0)
                os.setegid(0)

    def refused(self, server: Server, error: type[RefcastError], match: str) -> str:
        was = tree(server.bare)
        with self.nobody(server):
            said = refused(error, match, lambda: install_all(server, server.bare))
        assert tree(server.bare) == was
        return said

    def test_a_state_directory_of_somebody_else(self, public: Server) -> None:
        install.create_state(public.state)
        self.refused(public, StateError, "belongs to user 0: run this as that user")
        os.chown(public.state, NOBODY, NOBODY)
        refused(StateError, f"belongs to user {NOBODY}", public.install)

    def test_a_place_where_none_can_be_made(self, public: Server) -> None:
        self.refused(public, StateError, "cannot make the state directory .*: Permission denied")

    def test_a_repository_of_somebody_else(self, public: Server) -> None:
        public.state = self.own(public, "home") / "state"
        self.refused(public, RepositoryError, f"cannot install into {public.bare}: not writable")
        os.chown(public.bare, NOBODY, NOBODY)
        self.refused(public, RepositoryError, f"cannot install into {public.bare}/hooks: not writable")

    def test_hooks_that_cannot_be_read(self, public: Server) -> None:
        public.state = self.own(public, "home") / "state"
        public.run("chown", "-R", f"{NOBODY}:{NOBODY}", public.bare)
        hook = public.hook("update", "exit 0", mode=0o700)
        self.refused(public, RepositoryError, f"cannot read {hook}: Permission denied")

    def test_what_root_installs_stays_its_owner_s(self, public: Server) -> None:
        public.run("chown", "-R", f"{NOBODY}:{NOBODY}", public.bare)
        public.hook("update", "exit 0")
        with public.at_home():
            was = tree(public.bare)
            assert install_all(public, public.bare) == ["installed"]
            assert (public.bare / "config").stat().st_uid == NOBODY
            uninstall(public)
        assert tree(public.bare) == was

    def test_who_may_not_uninstall_hears_so(self, public: Server) -> None:
        public.install()
        was = tree(public.bare)
        with self.nobody(public):
            refused(RepositoryError, "cannot uninstall from .*: Permission denied", lambda: uninstall(public))
        assert tree(public.bare) == was

    def own(self, server: Server, name: str) -> Path:
        path = server.root / name
        path.mkdir()
        os.chown(path, NOBODY, NOBODY)
        return path


class TestLedger:
    def test_the_present_tips_are_the_ledger(self, server: Server) -> None:
        assert server.install() == "installed"
        assert ledger(server) == {}
        uninstall(server)
        tip = server.commit("one")
        server.git("tag", "-m", "one", "v1")
        tag = server.git("rev-parse", "v1")
        server.push("main", "v1", "main:refs/notes/x", "main:refs/heads/caf\udce9")
        server.install()
        names = ("refs/heads/main", "refs/notes/x", "refs/heads/caf\udce9")
        assert ledger(server) == dict.fromkeys(names, tip) | {"refs/tags/v1": tag}

    def test_installing_again_leaves_it_as_it_was(self, server: Server) -> None:
        server.install()
        server.commit("one")
        server.push("main")
        server.install()
        (server.bare / "hooks" / "update").write_text(f"#!/bin/sh\n{install.MARK}update, version 0\n")
        server.install()
        assert ledger(server) == {}

    def test_after_a_time_without_hooks_it_is_taken_afresh(self, server: Server) -> None:
        server.install()
        uninstall(server)
        tip = server.commit("one")
        server.push("main")
        server.install()
        assert ledger(server) == {"refs/heads/main": tip}

    def test_but_not_while_a_record_waits(self, server: Server) -> None:
        server.install()
        server.commit("one")
        server.push("main")
        uninstall(server)
        server.commit("two")
        server.push("main", "main:topic")
        server.install()
        assert ledger(server) == {}
        for path in spool.files(server.state / "spool"):
            path.unlink()
        uninstall(server)
        server.install()
        assert set(ledger(server)) == {"refs/heads/main", "refs/heads/topic"}
