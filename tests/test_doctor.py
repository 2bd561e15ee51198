"""`refcast doctor`: for each problem that it knows, the problem is made, the line that it prints is run by a shell, and
it is silent. Where no command can mend it, it says who must do what.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from certificates import Authority
from certificates import server as tls_server
from receiver import Receiver
from refcast import doctor, presence, spool
from refcast.cli import main
from refcast.doctor.problem import shell
from refcast.store import FILE, Store
from refcast.store.repositories import Found
from refcast.store.retention import Figures
from servers import DEAD, Server, alive_name, need, pose_as_worker, public_directory

DAY = 24 * 3600.0
STRANGER = 54321
"""No account has this number."""


class House(Server):
    """A server in good health, with an endpoint `ci` that answers."""

    def __init__(self, root: Path, receiver: Receiver, authority: Authority) -> None:
        super().__init__(root)
        self.receiver = receiver
        self.authority = authority
        self.spool = self.state / "spool"
        self.box = self.spool / str(os.geteuid())

    def __enter__(self) -> House:
        super().__enter__()
        self.run_in("endpoint", "add", "ci", self.receiver.url + "hook", "--dialect", "codeup")
        return self

    def run_in(self, *words: str, code: int = 0) -> Result:
        """`refcast`, in this process."""
        with self.at_home():
            result = CliRunner().invoke(main, ["--state", str(self.state), *words], catch_exceptions=False)
        assert code < 0 or result.exit_code == code, result.output
        return result

    def examine(self, *words: str) -> list[dict[str, Any]]:
        result = self.run_in("doctor", "--json", *words, code=-1)
        found: list[dict[str, Any]] = json.loads(result.stdout)["problems"]
        assert result.exit_code == any(one["severity"] == "error" for one in found)
        return found

    def shell(self, line: str) -> None:
        self.run("sh", "-c", line)

    def store(self) -> Store:
        return Store.open(self.state)

    def sql(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.state / FILE)
        with connection:
            connection.execute(statement, values)
        connection.close()

    def edit(self, *words: str) -> None:
        self.run_in("endpoint", "edit", "ci", *words)

    def write(self, name: str, *fields: str, at: float | None = None) -> Path:
        path = self.box / name
        path.write_bytes(b"".join(os.fsencode(one) + b"\0" for one in fields))
        path.chmod(0o660)
        if at is not None:
            os.utime(path, (at, at))
        return path

    def deliver_one(self, *words: str) -> None:
        """Push one commit and have it delivered, without a worker of its own."""
        pose_as_worker(self.state)
        self.commit("one")
        self.push(*(words or ("main",)))
        (self.state / presence.PID_FILE).unlink()
        self.run_in("worker", "--drain", code=-1)

    def finish(self, state: str) -> None:
        self.deliver_one()
        self.sql("UPDATE deliveries SET state = ?, finished_at = ?", state, time.time())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def house(authority: Authority) -> Iterator[House]:
    with public_directory() as root, Receiver() as receiver, House(root / "house", receiver, authority) as here:
        yield here


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[[House], object]
    says: str
    """Part of what the doctor says."""
    words: tuple[str, ...] = ()
    """For the doctor's command line."""
    root: bool = False
    warning: bool = False
    entails: bool = False
    """Other problems come with it."""


def mode(name: str, bits: int) -> Callable[[House], None]:
    def make(house: House) -> None:
        (house.state / name).touch()
        (house.state / name).chmod(bits)

    return make


def writable_settings(house: House) -> None:
    house.settings("[limits]\ncommits = 3\n")
    (house.state / "refcast.toml").chmod(0o666)


def lock_of_another(house: House) -> None:
    (house.state / "worker.lock").touch(0o600)
    os.chown(house.state / "worker.lock", STRANGER, -1)


def no_box(house: House) -> None:
    shutil.rmtree(house.box)


def no_spool(house: House) -> None:
    shutil.rmtree(house.box)
    house.spool.rmdir()


def box_of_another(house: House, bits: int = 0o2770, group: int = 0) -> None:
    box = house.spool / str(STRANGER)
    box.mkdir()
    os.chown(box, STRANGER, group)
    box.chmod(bits)


def closed_to_those_who_push(house: House) -> None:
    house.run_in("install", "--front-end", "daemon")
    house.spool.chmod(0o700)


def front_end_without_account(house: House) -> None:
    house.run_in("install", "--front-end", str(STRANGER))


def facts(bits: int = 0o644, owner: int = 0) -> Callable[[House], None]:
    def make(house: House) -> None:
        house.run_in("install", "--front-end", "daemon")
        (house.state / "site.json").chmod(bits)
        os.chown(house.state / "site.json", owner or os.geteuid(), -1)

    return make


def not_believed(house: House, at: float = 0) -> None:
    box_of_another(house)
    path = house.spool / str(STRANGER) / DEAD
    fields = ["refcast 1 push", f"id={uuid.uuid4()}", f"repository={house.bare}"]
    fields += [f"updates={'0' * 40} {'1' * 40} refs/heads/x\n", "end"]
    path.write_bytes(b"".join(one.encode() + b"\0" for one in fields))
    path.chmod(0o660)
    os.chown(path, STRANGER, -1)
    os.utime(path, (time.time() - at, time.time() - at))
    house.run_in("worker", "--drain", code=-1)


def squatted(house: House) -> None:
    (house.spool / str(STRANGER)).mkdir()
    (house.spool / str(STRANGER) / "1-1.push").touch()


def squatted_by_a_link(house: House) -> None:
    (house.spool / str(STRANGER)).symlink_to(house.root)


def no_way(house: House) -> None:
    box_of_another(house)
    house.root.chmod(0o700)


def open_record(house: House) -> None:
    house.write(alive_name(), "refcast 1 intent", f"repository={house.bare}").chmod(0o666)


def ended_half_way(house: House, repository: str = "") -> None:
    fields = [
        "refcast 1 intent",
        f"repository={repository or house.bare}",
        f"update={'0' * 40} {'1' * 40} refs/heads/x",
    ]
    house.write(DEAD, *fields, at=time.time() - 2 * DAY)


def malformed(house: House) -> None:
    house.write(
        DEAD, "refcast 1 push", "id=nonsense", f"repository={house.bare}", "updates=", "end", at=time.time() - DAY / 2
    )
    house.run_in("worker", "--drain", code=1)


def aside_and_readable(house: House) -> None:
    record = ["refcast 1 push", f"id={uuid.uuid4()}", f"repository={house.bare}", "updates=", "end"]
    path = house.write(DEAD, *record)
    with house.store() as store:
        store.intake.set_aside(str(path), "a bug in refcast: KeyError()", time.time(), None)


def aside_and_gone(house: House) -> None:
    with house.store() as store:
        store.intake.set_aside(str(house.box / DEAD), "malformed", time.time(), None)


def older_worker(house: House) -> None:
    house.refcast("worker", "--background")
    house.wait_until(lambda: bool(presence.version(house.state)))
    (house.state / "worker.lock").write_text("0.0.1")


def killed_worker(house: House) -> None:
    (house.state / presence.PID_FILE).write_text("99999999 1\n")


def waits(house: House) -> None:
    pose_as_worker(house.state)
    house.commit("one")
    house.push("main")
    (house.state / presence.PID_FILE).unlink()


def hook(name: str = "update") -> Callable[[House], Path]:
    return lambda house: house.bare / "hooks" / name


def foreign_hook(house: House) -> None:
    house.hook("update", "exit 0")


def other_text(house: House) -> None:
    path = house.bare / "hooks" / "update"
    path.write_text(path.read_text() + "# mine\n")


def other_hooks(house: House) -> None:
    house.run("git", "-C", house.bare, "config", "core.hooksPath", house.root / "elsewhere")


def earlier_hook(house: House) -> None:
    house.run_in("uninstall", str(house.bare))
    house.hook("update", "exit 0")
    house.install()
    (house.bare / "hooks" / "update.before-refcast").chmod(0o644)


def earlier_link(house: House) -> None:
    house.run_in("uninstall", str(house.bare))
    target = house.hook("", "exit 0", at=house.root / "target")
    (house.bare / "hooks" / "update").symlink_to(target)
    house.install()
    target.unlink()


def earlier_pre_receive(house: House) -> None:
    house.run_in("uninstall", str(house.bare))
    house.hook("pre-receive", "exit 0")
    house.install(intent="pre-receive")
    (house.bare / "hooks" / "pre-receive.before-refcast").chmod(0o644)


def system(house: House) -> Path:
    """All repositories below `srv` are covered; git's configuration for the whole machine."""
    config, srv = house.root / "etc" / "gitconfig", house.root / "srv"
    config.parent.mkdir()
    house.environment |= {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(config)}
    house.run("git", "init", "-q", "--bare", srv / "a.git")
    house.run_in("install", "--system", "--all", str(srv))
    return config


def covered(house: House, break_it: Callable[[Path], object]) -> None:
    """The hooks for all repositories, and what somebody does to them."""
    config = system(house)
    assert house.examine() == []
    break_it(config.parent / "refcast" / "hooks")


def without_lines(house: House) -> None:
    system(house).write_text("")


def unreadable_config(house: House) -> None:
    system(house).chmod(0o600)


def covered_and_gone(house: House) -> None:
    system(house)
    other = house.root / "other"
    other.mkdir()
    house.run_in("install", "--system", "--all", str(other))
    other.rmdir()


def own_hooks_path(house: House) -> None:
    system(house)
    house.run("git", "-C", house.root / "srv" / "a.git", "config", "core.hooksPath", "mine")


def new_with_hooks_path(house: House) -> None:
    system(house)
    house.run("git", "init", "-q", "--bare", house.root / "srv" / "b.git")
    house.run("git", "-C", house.root / "srv" / "b.git", "config", "core.hooksPath", "mine")


def own_push_options(house: House) -> None:
    system(house)
    house.run("git", "-C", house.root / "srv" / "a.git", "config", "receive.advertisePushOptions", "false")


def no_push_options(house: House) -> None:
    house.run("git", "-C", house.bare, "config", "receive.advertisePushOptions", "false")


def not_swept(house: House) -> None:
    with house.store() as store:
        number = store.repositories.find(str(house.bare))
        assert number is not None
        now = time.time()
        store.repositories.swept(number, Found(error="it could not be read"), began_at=now, now=now)


def uncovered(house: House, number: int = 1) -> None:
    for index in range(number):
        house.run("git", "init", "-q", "--bare", house.root / "more" / f"it's {index}.git")


def below_a_root(house: House, number: int = 1) -> None:
    uncovered(house, number)
    house.settings(f'roots = ["{house.root}/more"]\n')


def held(house: House) -> None:
    house.edit("--max-events", "1")
    house.deliver_one("main", "main:two", "main:three")


def failing(house: House) -> None:
    house.deliver_one()
    house.sql("UPDATE lanes SET failing_since = ?, last_error = 'HTTP 500'", time.time() - DAY)


def secret_file(house: House) -> Path:
    path = house.root / "it's secret"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    house.edit("--secret-path", str(path))
    return path


def old_secret(house: House) -> None:
    house.sql("UPDATE endpoints SET old_secret = CAST('x' AS BLOB), old_secret_until = ?", time.time() - DAY)


def client_files(house: House, end: float = 90) -> tuple[Path, Path]:
    cert, key = house.authority.issue(f"client-{uuid.uuid4()}", end=end)
    key.chmod(0o600)
    house.edit("--client-cert", str(cert), "--client-key", str(key))
    return cert, key


@contextmanager
def secure(house: House, end: float = 90) -> Iterator[Receiver]:
    files = house.authority.issue(f"server-{uuid.uuid4()}", end=end)
    with Receiver(tls=tls_server(files)) as receiver:
        house.edit("--url", receiver.url, "--ca-file", str(lasting(house)))
        yield receiver


def lasting(house: House) -> Path:
    """The authority's certificate is one of a day: the check of it would speak up."""
    return house.authority.file


def of_another_state(house: House) -> None:
    house.set_in_hooks("state", str(house.root / "other"))


def without_python(house: House) -> None:
    house.set_in_hooks("python", "/no/such/python")


KINDS = [
    Kind("settings that others can write", writable_settings, "can be written by others"),
    Kind("mode of the state directory", mode(".", 0o755), "has mode 755, not 711"),
    Kind("a store open to others", mode(FILE, 0o644), "can read or change the secrets", entails=True),
    Kind("a copy of the store open to others", mode(f"{FILE}.bak", 0o644), "can read or change the secrets"),
    Kind("a log open to others", mode("worker.log.1", 0o644), "worker.log.1 has mode 644"),
    Kind("a notice nobody can read", mode("notice", 0o600), "notice has mode 600"),
    Kind("a file of another user", lock_of_another, f"belongs to user {STRANGER}", root=True),
    Kind("mode of the spool", mode("spool", 0o755), "pushes of others cannot be recorded"),
    Kind("no directory in the spool", no_box, "pushes are not announced"),
    Kind("no spool", no_spool, "pushes are not announced"),
    Kind("a closed directory in the spool", mode(f"spool/{os.geteuid()}", 0o700), "is not announced"),
    Kind("a box of another, closed", lambda house: box_of_another(house, 0o700), "are not announced", root=True),
    Kind(
        "a box of another group", lambda house: box_of_another(house, group=STRANGER), "another group than", root=True
    ),
    Kind("a squatted directory", squatted, f"pushes by user {STRANGER} are not announced"),
    Kind("a squatting link", squatted_by_a_link, f"pushes by user {STRANGER} are not announced"),
    Kind("a spool that others need", closed_to_those_who_push, "is closed to them"),
    Kind("a front end without an account", front_end_without_account, "has no account here", warning=True),
    Kind("front ends that others can change", facts(0o666), "it decides who is believed"),
    Kind("front ends of another", facts(owner=STRANGER), f"belongs to user {STRANGER}", root=True),
    Kind("a record that is not believed", not_believed, f"user {STRANGER} may not write", root=True),
    Kind(
        "one that has not been for long",
        lambda house: not_believed(house, 2 * DAY),
        f"user {STRANGER} may not",
        root=True,
    ),
    Kind("no way to the spool", no_way, "lets no other user through", root=True),
    Kind("a record open to others", open_record, "has mode 666, not 660"),
    Kind("a push that ended half-way", ended_half_way, "ended half-way more than a day ago"),
    Kind("one nobody watches", lambda house: ended_half_way(house, "/no/such.git"), "which is not watched"),
    Kind("a malformed record", malformed, "is not the id of a record"),
    Kind("a record to be tried again", aside_and_readable, "a bug in refcast"),
    Kind("a record that is gone", aside_and_gone, "its file is gone"),
    Kind("an older worker", older_worker, "is of version 0.0.1"),
    Kind("a killed worker", killed_worker, "tells of a worker that is gone"),
    Kind("deliveries without a worker", waits, "no worker runs"),
    Kind("a missing hook", lambda house: hook()(house).unlink(), "is not refcast's"),
    Kind("a foreign hook", foreign_hook, "is not refcast's"),
    Kind("a hook that cannot be run", lambda house: hook()(house).chmod(0o644), "is not executable, so git"),
    Kind("a hook of another version", other_text, "of another version"),
    Kind("a hook for another state directory", of_another_state, "for another state directory"),
    Kind("a program that was moved", without_python, "/no/such/python is gone"),
    Kind("hooks that are bypassed", other_hooks, "is not refcast's"),
    Kind("a repository that is gone", lambda house: house.bare.rename(house.root / "gone"), "is gone; put it back"),
    Kind("an earlier hook that is not run", earlier_hook, "so it is not run", warning=True),
    Kind("an earlier hook that is gone", earlier_link, "leads nowhere", warning=True),
    Kind("an earlier pre-receive", earlier_pre_receive, "pre-receive.before-refcast, the hook that", warning=True),
    Kind("no push options", no_push_options, "takes no push options", warning=True),
    Kind("all hooks for all are gone", lambda house: covered(house, shutil.rmtree), "more are missing"),
    Kind(
        "a hook for all is changed",
        lambda house: covered(house, lambda hooks: (hooks / "update").chmod(0o744)),
        "update is",
    ),
    Kind(
        "hooks that pushers cannot reach",
        lambda house: covered(house, lambda hooks: hooks.chmod(0o700)),
        "by everybody",
    ),
    Kind("nothing leads to the hooks for all", without_lines, "has no lines of refcast's"),
    Kind("a configuration that pushers cannot read", unreadable_config, "cannot be read by everybody"),
    Kind("a covered directory that is gone", covered_and_gone, "is gone; put it back"),
    Kind("hooks of its own", own_hooks_path, "takes its hooks from"),
    Kind("hooks of its own in a new one", new_with_hooks_path, "takes its hooks from", warning=True),
    Kind("no push options of its own", own_push_options, "takes no push options", warning=True),
    Kind("a repository that was not swept", not_swept, "could not be swept: it could not be read"),
    Kind("an uncovered repository", below_a_root, "is not covered", warning=True),
    Kind("many of them", lambda house: below_a_root(house, 7), "7 repositories", warning=True),
    Kind("a root that is named", uncovered, "is not covered", words=("--all", "more"), warning=True),
    Kind("a disabled endpoint", lambda house: house.run_in("endpoint", "disable", "ci"), "ci is disabled: disabled by"),
    Kind("a failing endpoint", failing, "has been failing since"),
    Kind("held deliveries", held, "2 deliveries to ci are beyond its limit"),
    Kind("refused deliveries", lambda house: house.finish("refused"), "1 deliveries to ci are refused"),
    Kind("expired deliveries", lambda house: house.finish("expired"), "1 deliveries to ci are expired"),
    Kind("a secret open to others", lambda house: secret_file(house).chmod(0o644), "is open to others"),
    Kind("a secret of another", lambda house: os.chown(secret_file(house), STRANGER, -1), "another user", root=True),
    Kind("an old secret", old_secret, "the old secret is still stored"),
    Kind("a key open to others", lambda house: client_files(house)[1].chmod(0o640), "others can read the key"),
]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_what_a_command_mends(house: House, kind: Kind) -> None:
    need(not kind.root or os.geteuid() == 0, "root")
    words = [str(house.root / word) if word == "more" else word for word in kind.words]
    kind.make(house)
    found = house.examine(*words)
    told = [one for one in found if kind.says in one["what"]]
    assert told, found
    assert all(one["is_command"] for one in told)
    assert {one["severity"] for one in told} == {"warning" if kind.warning else "error"}
    assert kind.entails or told == found, "it is told once, and nothing else is"
    printed = house.run_in("doctor", *words, code=-1).stdout
    for one in told:
        assert f"\n    {one['mend']}\n" in printed
        house.shell(one["mend"])
    house.wait_until(lambda: not house.examine("--offline", *words), 60)
    assert house.examine(*words) == []


def test_one_in_good_health(house: House) -> None:
    result = house.run_in("doctor")
    assert result.stdout == f"checks: {len(doctor.CHECKS)}, all is well; problems: 0\n"
    assert house.receiver.book == [], "nothing is sent"


def test_status_starts_no_process_for_each_repository(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    system(house)

    def place(repository: Path) -> None:
        raise AssertionError(f"git was asked of {repository}")

    monkeypatch.setattr(sys.modules["refcast.install.checking"], "place", place)
    house.run_in("status")


def test_nothing_is_changed(house: House) -> None:
    for kind in KINDS:
        if kind.name in ("a store open to others", "a missing hook", "a closed directory in the spool"):
            kind.make(house)

    def tree() -> dict[str, tuple[int, int, int]]:
        """The log of SQLite comes and goes with those who read."""
        paths = [house.state, *house.state.rglob("*"), *(house.bare / "hooks").iterdir(), house.bare / "config"]
        paths = [path for path in paths if not path.name.endswith(("-wal", "-shm"))]
        return {
            str(path): (path.stat().st_mode, path.stat().st_size, 0 if path.is_dir() else path.stat().st_mtime_ns)
            for path in paths
        }

    before = tree()
    assert len(house.examine()) >= 3
    assert tree() == before


# What no command can mend.


def no_store(house: House) -> None:
    for path in house.state.glob(f"{FILE}*"):
        path.unlink()


def damaged(house: House) -> None:
    no_store(house)
    (house.state / FILE).write_bytes(b"\xff" * 20_000)
    (house.state / FILE).chmod(0o600)


def damaged_inside(house: House) -> None:
    house.deliver_one()
    house.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((house.state / FILE).read_bytes())
    for start in range(4096 * 2, len(data) - 4096, 4096 * 2):
        data[start : start + 200] = os.urandom(200)
    no_store(house)
    (house.state / FILE).write_bytes(data)
    (house.state / FILE).chmod(0o600)


def later_file(house: House) -> None:
    house.write(alive_name(), "refcast 1 intent", f"repository={house.bare}", at=time.time() + DAY)


def later_event(house: House) -> None:
    house.deliver_one()
    house.sql("UPDATE events SET received_at = ?", time.time() + DAY)


def leapt(house: House) -> None:
    with house.store() as store:
        store.retention._note(Figures(time.time(), hold_until=time.time() + DAY))


def trying_again(house: House) -> None:
    path = house.write(DEAD, "refcast 1 push", f"id={uuid.uuid4()}", "repository=/no/such.git", "updates=", "end")
    with house.store() as store:
        store.intake.set_aside(str(path), "no repository /no/such.git", time.time(), time.time() + 60)


def sha256(house: House) -> None:
    house.run("git", "init", "-q", "--bare", "--object-format=sha256", house.root / "more" / "new.git")
    house.settings(f'roots = ["{house.root}/more"]\n')


def foreign_and_earlier(house: House) -> None:
    earlier_hook(house)
    (house.bare / "hooks" / "update.before-refcast").chmod(0o755)
    foreign_hook(house)


def spoiled(house: House) -> None:
    (house.bare / "HEAD").unlink()


def missing_ca(house: House) -> None:
    file = house.root / "ca.pem"
    file.write_bytes(house.authority.file.read_bytes())
    house.edit("--ca-file", str(file))
    file.unlink()


def plain_secret(house: House) -> None:
    with house.at_home():
        os.environ["S"] = "s3cret"
        CliRunner().invoke(
            main, ["--state", str(house.state), "endpoint", "edit", "ci", "--secret-env", "S"], catch_exceptions=False
        )
    house.edit("--url", "http://192.0.2.1/hook")


def closed_port(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    house.edit("--url", f"http://127.0.0.1:{port}/")


def refused_network(house: House) -> None:
    house.settings('[network]\nrefuse = ["127.0.0.0/8"]\n')


@dataclass(frozen=True)
class Sentence:
    name: str
    make: Callable[[House], object]
    says: str
    mend: str
    words: tuple[str, ...] = ()
    warning: bool = False


SENTENCES = [
    Sentence("settings", lambda house: house.settings("[limits]\nx = 1\n"), "limits.x is not a setting", "that file"),
    Sentence("no store", no_store, "there is no store", "put a copy from a backup there"),
    Sentence("no store at all", damaged, "is damaged: file is not a database", "stop the worker"),
    Sentence("a damaged store", damaged_inside, "is damaged", "stop the worker"),
    Sentence(
        "a later store",
        lambda house: house.sql("UPDATE meta SET value = '99' WHERE key = 'version'"),
        "is of version 99",
        "upgrade refcast",
    ),
    Sentence("a file of tomorrow", later_file, "the newest file in the spool", "`date`"),
    Sentence("an event of tomorrow", later_event, "the newest event was received", "`date`"),
    Sentence("a clock that leapt", leapt, "the clock has leapt", "`date`"),
    Sentence("a record without its repository", trying_again, "no repository /no/such.git", "tried again every minute"),
    Sentence("SHA-256", sha256, "sha256", "cannot be announced", warning=True),
    Sentence("a foreign hook and an earlier one", foreign_and_earlier, "is not refcast's", "that you do not need"),
    Sentence(
        "damaged front ends",
        lambda house: (house.state / "site.json").write_text("{"),
        "cannot be understood",
        "--front-end USER",
    ),
    Sentence("a spoiled repository", spoiled, "not a repository that git can read", "mend the repository"),
    Sentence("a missing root", lambda house: house.settings('roots = ["/no/such"]\n'), "/no/such", "mend `roots`"),
    Sentence(
        "no endpoint", lambda house: house.run_in("endpoint", "remove", "ci"), "there is no endpoint", "endpoint add"
    ),
    Sentence("a missing secret", lambda house: secret_file(house).unlink(), "cannot be read", "into that file"),
    Sentence("an empty secret", lambda house: secret_file(house).write_text(""), "is empty", "into that file"),
    Sentence("a secret in clear", plain_secret, "in clear, by http", "--url https://", ("--offline",), warning=True),
    Sentence("missing authorities", missing_ca, "ca.pem cannot be read", "--ca-file"),
    Sentence("a certificate of ours that ends", lambda house: client_files(house, 5), "will end on", "renewed"),
    Sentence("a certificate of ours that ended", lambda house: client_files(house, -0.5), "ended on", "renewed"),
    Sentence("a closed port", closed_port, "(connect)", "is the receiver up"),
    Sentence(
        "a name nobody knows",
        lambda house: house.edit("--url", "http://no.invalid/"),
        "is not reached (dns)",
        "resolver",
    ),
    Sentence("a refused network", refused_network, "(blocked): 127.0.0.1 is in 127.0.0.0/8", "network.allow"),
    Sentence("a proxy", lambda house: house.edit("--proxy", "http://127.0.0.1:1"), "(proxy)", "runs the proxy"),
]


@pytest.mark.parametrize("kind", SENTENCES, ids=[kind.name for kind in SENTENCES])
def test_what_a_person_must_mend(house: House, kind: Sentence) -> None:
    kind.make(house)
    found = house.examine(*kind.words)
    told = [one for one in found if kind.says in one["what"]]
    assert told, found
    for one in told:
        assert not one["is_command"]
        assert kind.mend in one["mend"]
        assert one["severity"] == ("warning" if kind.warning else "error")


class TestTLS:
    def only(self, house: House, says: str, mend: str) -> None:
        # The authority of these tests is one of a day.
        found = [one for one in house.examine() if "the authorities in" not in one["what"]]
        (one,) = found
        assert says in one["what"]
        assert mend in one["mend"]

    def test_a_good_one_is_nothing_to_tell_of(self, house: House) -> None:
        with secure(house) as receiver:
            assert [one for one in house.examine() if "the authorities in" not in one["what"]] == []
            assert receiver.book == []

    def test_one_that_ends_soon(self, house: House) -> None:
        with secure(house, end=3):
            self.only(house, "the certificate of 127.0.0.1 will end on", "whoever runs the receiver must renew it")

    def test_one_that_has_ended(self, house: House) -> None:
        with secure(house, end=-0.5):
            self.only(house, "(tls): the certificate of 127.0.0.1 is refused", "whoever runs the receiver must mend")

    def test_one_that_nobody_vouches_for(self, house: House) -> None:
        with secure(house):
            house.edit("--ca-file", "none")
            self.only(house, "(tls)", "endpoint edit ci --ca-file FILE")

    def test_one_that_is_not_looked_at(self, house: House) -> None:
        with secure(house):
            house.edit("--no-verify-tls")
            (one,) = [one for one in house.examine() if one["severity"] == "warning"]
            assert "is not verified" in one["what"]
            house.shell(one["mend"])
            assert [one for one in house.examine() if one["severity"] == "warning"] == []

    def test_authorities_that_end(self, house: House) -> None:
        with secure(house):
            (one,) = house.examine()
            assert "the authorities in" in one["what"]
            assert "--ca-file FILE" in one["mend"]


def test_a_receiver_that_says_nothing_does_not_hold_it_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["refcast.doctor.endpoints"], "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        house.edit("--url", f"https://127.0.0.1:{listener.getsockname()[1]}/")
        (one,) = house.examine()
    assert "(timeout)" in one["what"]
    assert "firewall" in one["mend"]


def test_a_nearly_full_disk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["refcast.doctor.directory"], "FREE_BYTES", 10**18)
    (one,) = house.examine()
    assert one["mend"].startswith("make room")


@pytest.mark.parametrize("name", ["git", "Python", "pygit2", "libgit2", "SQLite"])
def test_versions_that_are_too_old(house: House, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules["refcast.doctor.programs"].MINIMUM, name, (99,))
    (one,) = house.examine()
    assert one["what"].startswith(f"{name} is of version ")
    assert "needs 99 or later" in one["what"]
    assert "install" in one["mend"]


def test_no_git(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.environment["PATH"] = str(house.root)
    assert any("there is no git here" in one["what"] for one in house.examine())


def test_a_store_of_an_older_version(house: House) -> None:
    no_store(house)
    connection = sqlite3.connect(house.state / FILE)
    connection.executescript((Path(__file__).parent / "golden" / "store-1.sql").read_text())
    connection.close()
    (house.state / FILE).chmod(0o600)
    (one,) = (one for one in house.examine() if one["check"] == "store")
    assert "is of version 1" in one["what"]
    assert one["is_command"]
    house.shell(one["mend"])
    assert [one for one in house.examine("--offline") if one["check"] == "store"] == []


def as_nobody(state: Path, *words: str) -> Result:
    """What a command does when it is another user who runs it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            result = CliRunner().invoke(main, ["--state", str(state), *words])
            os.write(writing, json.dumps([result.exit_code, result.stdout, result.stderr]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    code, out, err = json.loads(Path(f"/proc/self/fd/{reading}").read_bytes())
    os.close(reading)
    os.waitpid(child, 0)
    return Result(CliRunner(), out.encode(), err.encode(), b"", None, code, None)


def test_a_repository_that_the_workers_user_cannot_read() -> None:
    need(os.geteuid() == 0, "root")
    with public_directory() as root:
        state, bare = root / "state", root / "site.git"
        subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
        subprocess.run(["chown", "-R", "65534:65534", root], check=True)

        def reading() -> list[dict[str, Any]]:
            result = as_nobody(state, "doctor", "--offline", "--json")
            assert result.stdout, result.stderr
            return [one for one in json.loads(result.stdout)["problems"] if one["check"] == "reading"]

        assert as_nobody(state, "install", str(bare)).exit_code == 0
        assert reading() == []
        (bare / "objects" / "pack").chmod(0)
        (one,) = reading()
        assert "objects/pack cannot be read by user 65534" in one["what"]
        subprocess.run(["sh", "-c", one["mend"]], check=True, user=65534, group=65534, extra_groups=[])
        assert reading() == []
        for group, mend in ((65534, "sudo chmod -R g+rX"), (0, "make that user a member of group 0")):
            os.chown(bare / "objects" / "pack", 0, group)
            os.chown(bare, 0, group)
            (bare / "objects" / "pack").chmod(0o700)
            (one,) = reading()
            assert one["mend"].startswith(mend)


class TestCommandLine:
    def test_an_endpoint_by_its_name(self, house: House) -> None:
        house.run_in("endpoint", "add", "other", "http://127.0.0.1:1/", "--dialect", "codeup")
        (house.bare / "hooks" / "update").unlink()
        assert house.examine("ci") == []
        (one,) = house.examine("other")
        assert "other is not reached (connect)" in one["what"]
        assert "no endpoint 'nobody'" in house.run_in("doctor", "nobody", code=2).stderr

    def test_another_users_state(self, house: House) -> None:
        need(os.geteuid() == 0, "root")
        os.chown(house.state, STRANGER, -1)
        assert f"sudo -u '#{STRANGER}'" in house.run_in("doctor", code=3).stderr
        os.chown(house.state, 0, -1)

    def test_no_secret_is_shown(self, house: House) -> None:
        house.edit(
            "--url", "http://ann:hunter2@127.0.0.1:1/hook?key=hunter3", "--proxy", "http://bob:hunter4@127.0.0.1:2"
        )
        assert "hunter" not in house.run_in("doctor", code=1).stdout

    def test_what_fails_does_not_hide_the_rest(self, house: House) -> None:
        (house.bare / "hooks" / "update").unlink()
        house.sql("DROP TABLE asides")
        found = house.examine()
        assert any(one["check"] == "set aside" and "no such table" in one["what"] for one in found)
        assert any(one["check"] == "hooks" for one in found)


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize(
    "word", ["plain", "two words", "it's", '$HOME `id` \\ "', "a\nb\x1b[31m%s\\n", "caf\udce9", "%d\x01"]
)
def test_a_word_comes_through_the_shell_as_it_is(word: str, interpreter: str) -> None:
    line = shell("printf", "%s|", word)
    assert line.isprintable()
    done = subprocess.run([interpreter, "-c", line], capture_output=True, check=True)
    assert done.stdout == os.fsencode(word) + b"|"


def test_spool_files_of_the_tests_are_what_the_spool_reads(house: House) -> None:
    ended_half_way(house)
    assert spool.read(house.box / DEAD).stale
