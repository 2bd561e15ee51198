"""No secret anywhere: one of every kind is planted, sent to endpoints that repeat it in every way, and looked for.

The pushes, hooks, workers, endpoints and commands are real. `planted` knows what a secret looks like when it leaks.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

import refcast
from haul import COMMANDS, Gathered, Haul, Processes, command
from planted import Echo, core, forms, found, secret
from refcast import presence
from refcast.store import FILE
from servers import Server, workers

pytestmark = pytest.mark.xdist_group("secrets")  # what all look at takes long to gather

DOCS = Path(__file__).parents[1] / "docs"

SENT = ("user", "password", "query", "key-of-query", "chat", "env", "header", "path", "ask", "file", "basic", "proxy")
"""What an endpoint or a proxy gets to see, and may repeat."""
KEPT = ("signing", "old", "hmac")
"""What only signs."""
SHUT = ("client-key", "bad-key", "refused", "malformed", "open", "settings")
"""What is in a file, or was never taken."""
KINDS = (*SENT, *KEPT, *SHUT)

WAYS = (
    "200",
    "500",
    "400",
    "410",
    "302",
    "204",
    "cut",
    "straddle",
    "long",
    "garbage",
    "drop",
    "hang",
    "refused",
    "tls",
)
"""What an endpoint does with a request."""
FEW = {"ask", "file", "basic", "proxy"}
"""Sorts of endpoints that differ from others in how they came by their secret alone, or whose proxy answers for them:
they get the first five ways, and the last."""

HOLDING = {"endpoints.url", "endpoints.secret", "endpoints.old_secret", "endpoints.proxy"}
"""The only columns in which secrets stand."""


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return str(path)


def add_endpoints(haul: Haul, room: Path) -> list[str]:
    """One of each sort for each way in which endpoints go wrong. Their names."""
    q = {kind: quote(secret(kind), safe="") for kind in KINDS}
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    assert haul.call("endpoint", "add", "watcher", f"http://127.0.0.1:{haul.echo.port}/200/watcher").exit_code == 0
    files = {kind: written(room / kind, secret(kind) + "\n") for kind in ("path", "file")}
    proxy = written(room / "proxy", f"http://p:{q['proxy']}@127.0.0.1:{haul.echo.port}\n")
    names = []
    for way in WAYS:
        scheme = "https" if way == "tls" else "http"
        host = f"127.0.0.1:{nobody if way == 'refused' else haul.echo.port}"
        tail = f"{host}/{way}/hook"
        chat = written(room / "chat", f"{scheme}://{host}/{way}/services/T0/{q['chat']}\n")
        for sort, given, options in (
            ("standard", "", [f"{scheme}://r:{q['password']}@{tail}?token={q['query']}&{q['key-of-query']}"]),
            ("header", "", [f"{scheme}://{q['user']}@{tail}", "--dialect=codeup", "--signing=token:X-Deploy-Key:Key "]),
            ("token", "", [f"{scheme}://{tail}", "--dialect=gitcode", "--signing=gitcode-token", "--secret-env=ENV"]),
            (
                "path",
                "",
                [f"{scheme}://{tail}", "--dialect=github", "--signing=bearer", f"--secret-path={files['path']}"],
            ),
            ("chat", "", [f"--url-file={chat}", "--dialect=slack"]),
            ("ask", secret("ask") + "\n", [f"{scheme}://{tail}", "--dialect=gitlab", "--ask-secret"]),
            ("file", "", [f"{scheme}://{tail}", "--dialect=codescoring", f"--secret-file={files['file']}"]),
            (
                "basic",
                f"u:{secret('basic')}\n",
                [f"{scheme}://{tail}", "--dialect=gogs", "--signing=basic", "--secret-file=-"],
            ),
            ("proxy", "", [f"{scheme}://{tail}", "--dialect=deveo", "--secret-env=HMAC", f"--proxy-file={proxy}"]),
        ):
            if sort in FEW and way not in (*WAYS[:5], WAYS[-1]):
                continue
            name = f"{sort}-{way}"
            more = {"standard": ["--secret-env=OLD"], "header": ["--secret-env=HEADER"], "file": ["--batch-window=0"]}
            often = ["--tries=1"] if way in ("500", "refused") else []
            words = [*options, *more.get(sort, []), *often, "--timeout=1", "--on-failure=watcher"]
            environment = {one.upper(): secret(one) for one in ("old", "header", "env", "hmac")}
            done = haul.call("endpoint", "add", name, *words, given=given or None, **environment)
            assert done.exit_code == 0, (name, done.output)
            if sort == "standard":
                rotated = ["--secret-env=NEW", "--keep-old-secret=24"]
                assert haul.call("endpoint", "edit", name, *rotated, NEW=secret("signing")).exit_code == 0
            names.append(name)
    return [*names, *add_files(haul, room)]


def add_files(haul: Haul, room: Path) -> list[str]:
    """Endpoints with files: a certificate and its key, a key that is none, a secret that others may read by now."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=refcast", "-keyout", str(room / "key"), "-out", str(room / "cert")]
    subprocess.run(made, check=True, capture_output=True)
    good = written(room / "key", f"{secret('client-key')}\n{(room / 'key').read_text()}")
    bad = written(room / "no-key", f"-----BEGIN PRIVATE KEY-----\n{secret('bad-key')}\n-----END PRIVATE KEY-----\n")
    for name, key in (("key", good), ("no-key", bad)):
        url = f"https://127.0.0.1:{haul.echo.port}/200/hook"
        haul.call("endpoint", "add", name, url, "--client-cert", str(room / "cert"), "--client-key", key, "--timeout=1")
    opened = written(room / "opened", secret("open"))
    url = f"http://127.0.0.1:{haul.echo.port}/200/hook"
    assert haul.call("endpoint", "add", "opened", url, "--secret-path", opened).exit_code == 0
    Path(opened).chmod(0o640)
    return ["key", "opened"]


def provoke(haul: Haul, room: Path) -> None:
    """Everything that can be refused, with a secret in it."""
    no = quote(secret("refused"), safe="")
    raw = secret("refused")
    ok = f"http://127.0.0.1:{haul.echo.port}/200/hook"
    for url in (
        f"http://u:{raw}@127.0.0.1/x",
        f"http://u:{no}@127.0.0.1:port/x",
        f"http://u:{no}@/x",
        f"ftp://u:{no}@127.0.0.1/x",
        f"//u:{no}@127.0.0.1/x",
        f"http://u:{core('refused')}#@127.0.0.1/x",
        f"http://[{no}]/x",
        f"http://127.0.0.1/x?token={raw}",
        f"http://127.0.0.1:{haul.echo.port}{no}/",
    ):
        file = written(room / "url", url)
        assert haul.call("endpoint", "add", "bad", f"--url-file={file}").exit_code == 2, url
        assert haul.call("endpoint", "edit", "watcher", f"--url={url}").exit_code == 2, url
        assert haul.call("endpoint", "edit", "watcher", f"--proxy-file={file}").exit_code == 2, url
        assert haul.call("endpoint", "add", "bad", ok, f"--proxy={url}").exit_code == 2, url
    broken = {"MALFORMED": f"whsec_{secret('malformed')}", "LINES": f"{secret('malformed')}\nx"}
    for words in (
        ["--secret-env=MALFORMED"],
        ["--secret-env=LINES", "--dialect=codeup"],
        ["--secret-env=LINES", "--signing=basic"],
        ["--secret-env=LINES", "--signing=token:X-Key"],
        ["--secret-env=MALFORMED", "--ask-secret"],
        ["--secret-env=MALFORMED", "--dialect=slack"],
        ["--secret-env=MALFORMED", "--signing=nonsense"],
        ["--secret-env=MALFORMED", "--dialect=nonsense"],
        ["--secret-env=MALFORMED", "--keep-old-secret=0"],
    ):
        assert haul.call("endpoint", "add", "bad", ok, *words, **broken).exit_code == 2, words
    for mode in (0o640, 0o604, 0o660, 0o620):
        opened = written(room / "open", secret("open"), mode)
        refused = haul.call("endpoint", "add", "bad", ok, f"--secret-path={opened}")
        assert refused.exit_code == 2, oct(mode)
        assert "chmod" in refused.output
    assert haul.call("endpoint", "show", "bad").exit_code == 2
    settings = haul.server.state / "refcast.toml"
    for text in (
        f'[network]\nproxy = "http://u:{quote(secret("settings"), safe="")}@127.0.0.1:1"\n',
        f'[network]\nproxy = "{core("settings")}"\n',
        f'[network\nproxy = "{core("settings")}"\n',
    ):
        written(settings, text)
        haul.run("worker", "--drain")
        haul.call("render", str(haul.server.bare), "refs/heads/main", "0", "1" * 40, "--endpoint", "watcher")
        haul.call("endpoint", "test", "watcher")
    settings.unlink()


def sent(haul: Haul, endpoints: list[str]) -> bool:
    """Whether nothing waits in the spool and each endpoint has been tried."""
    with sqlite3.connect(f"file:{haul.server.state / FILE}?mode=ro", uri=True) as store:
        tried = store.execute(
            "SELECT DISTINCT endpoints.name FROM attempt_deliveries JOIN deliveries USING (position)"
            " JOIN endpoints ON endpoints.id = deliveries.endpoint_id"
        ).fetchall()
    store.close()
    return not haul.server.entries() and {one for (one,) in tried} >= set(endpoints)


def tell(haul: Haul, endpoints: list[str]) -> None:
    """One push to a worker that the hook starts, one to a service."""
    server = haul.server
    server.commit("One")
    pushed = server.push("main")
    haul.keep("push", (pushed.stdout + pushed.stderr).encode())
    server.wait_until(lambda: sent(haul, [*endpoints, "watcher"]), 120)
    haul.look_around()
    stop(server)
    with sqlite3.connect(server.state / FILE) as store:
        store.execute("UPDATE lanes SET failing_since = failing_since - 7200")  # so that pushers are told
    store.close()
    log = server.root / "service.log"
    program = [sys.executable, "-m", "refcast", "--state", str(server.state)]
    with log.open("wb") as opened:
        running = [
            subprocess.Popen([*program, *words], env=server.environment, stderr=opened, stdout=opened)
            for words in (["worker", "--log-format=json"], ["log", "-f"], ["log", "-f", "--json"])
        ]
        try:
            server.wait_until(lambda: (notice := server.state / "notice").exists() and notice.read_bytes() != b"")
            before = len(haul.echo.book)
            server.commit("Two")
            pushed = server.push("main")
            haul.keep("push", (pushed.stdout + pushed.stderr).encode())
            server.wait_until(lambda: len(haul.echo.book) > before and not server.entries())
            haul.look_around()
        finally:
            for one in running:
                one.terminate()
                one.wait()
    haul.keep("the service's log, and who follows", log.read_bytes())


def stop(server: Server) -> None:
    """End the worker that a hook has started, and leave the state directory where it is."""
    for pid in workers(server.state):
        os.kill(pid, 15)
    server.wait_until(lambda: not list(workers(server.state)))


def every_command(haul: Haul, endpoints: list[str]) -> None:
    """Each command, for people and for machines. A command that is not here fails `test_every_command_was_called`."""
    bare = str(haul.server.bare)
    head = haul.server.git("rev-parse", "HEAD")
    shown = [name for name in endpoints if re.search("-(500|302|cut|refused)$", name)]
    with sqlite3.connect(f"file:{haul.server.state / FILE}?mode=ro", uri=True) as store:
        rows = store.execute(
            "SELECT deliveries.id, endpoints.name FROM deliveries JOIN endpoints ON endpoints.id = endpoint_id"
        ).fetchall()
    store.close()
    deliveries = [one for one, name in rows if name in shown]
    haul.run("worker", "--drain")
    haul.run("demo", "--dialect", "refcast")
    calls: list[list[str]] = [
        ["install", bare],
        ["status"],
        ["endpoint", "list"],
        ["delivery", "list"],
        *(["delivery", "list", "--state", state] for state in ("waiting", "held", "delivered")),
        ["record", "list"],
        ["render", bare, "refs/heads/main", "0", head, "--endpoint", "standard-500"],
        *(["endpoint", "show", name] for name in shown),
        *(["endpoint", "test", name] for name in shown),
        *(["delivery", "show", one] for one in deliveries),
        ["log", "--lines", "1000"],
        ["explain", bare, "refs/heads/main", "0", head],
        ["delivery", "list", "--skipped"],
        ["export"],
        *(["apply", *words] for words in described(haul)),
        ["endpoint", "remove", "path-200"],
        ["endpoint", "remove", "path-302", "--discard"],
        ["endpoint", "show", "path-302"],
        ["delivery", "show", "nonsense"],
        ["service", "show"],
        ["uninstall", bare],
    ]
    waking = [
        ["delivery", "redeliver", deliveries[0]],
        ["delivery", "cancel", deliveries[-1], "--json"],
        ["endpoint", "edit", "header-200", "--secret-env=NEW"],
        ["endpoint", "disable", "header-200", "--json"],
        ["endpoint", "enable", "header-200"],
        ["endpoint", "release", "header-200", "--json"],
        ["record", "retry"],
        ["sweep"],
        ["doctor"],
        ["doctor", "--offline", "--json"],
        ["upgrade"],
    ]
    for words in waking:
        haul.run(*words, NEW=secret("header"))
    haul.server.wait_until(lambda: presence.running(haul.server.state) is not None)
    for words in calls:
        haul.call(*words)
        if any("--json" in one.opts for one in COMMANDS[command(tuple(words))].params):
            haul.call(*words, "--json")
    stop(haul.server)
    # What is copied is as secret as the store, and lies where this does not look; what these say is read.
    copy = str(haul.server.root / "copy")
    for words in (["backup", copy], ["backup", copy], ["restore", copy], ["restore", f"{copy}.not"]):
        haul.call(*words)
    # Not in here: they would change the machine. What they print has no endpoint in it.
    haul.gathered.called |= {"service install", "service remove"}


def described(haul: Haul) -> list[list[str]]:
    """What `apply` may be called with: a file that is right, and some that hold secrets where none belongs."""
    address = (
        f'url = "http://u:{quote(secret("password"), safe="")}@127.0.0.1:1/?t={quote(secret("query"), safe="")}"\n'
    )
    files = {
        "exported": haul.server.refcast("export").stdout,
        "new": f"[endpoints.applied]\n{address}",
        "inline": f"[endpoints.applied]\n{address}secret = '{core('header')}'\n",
        "twice": f"[endpoints.applied]\n{address}{address}",
        "wrong": f"[endpoints.applied]\n{address.replace('http', 'ftp')}",
        "proxied": f"[endpoints.applied]\n{address}proxy = 'ftp://u:{core('proxy')}@127.0.0.1:1'\n",
    }
    for name, text in files.items():
        written(haul.server.root / name, text)
    return [[str(haul.server.root / name), *more] for name in files for more in (["--dry-run"], [])]


def gathered(room: Path) -> Gathered:
    with Echo() as echo, Server(room / "server") as server, Processes() as processes:
        haul = Haul(server, echo)
        endpoints = add_endpoints(haul, room)
        provoke(haul, room)
        tell(haul, endpoints)
        every_command(haul, endpoints)
        haul.look_around()
        haul.gathered.heard = list(echo.book)
        haul.gathered.texts["the process list"] = b"\n".join(list(processes.seen))
        return haul.gathered


@pytest.fixture(scope="module")
def haul(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    return gathered(tmp_path_factory.mktemp("secrets"))


def test_what_is_planted_is_found_in_every_spelling() -> None:
    for kind in KINDS:
        for form in forms(secret(kind)):
            assert found(KINDS, form.encode()) == {kind}, form
        assert found(KINDS, core(kind)[:9].upper().encode()) == {kind}
    assert not found(KINDS, Path(refcast.__file__).read_bytes())


def test_every_secret_was_used(haul: Gathered) -> None:
    told = b"\n".join(one.head for one in haul.heard)
    assert found(KINDS, told) == set(SENT)
    kept = b"\n".join(haul.columns[one] for one in HOLDING)
    assert found(KINDS, kept) == {*SENT, *KEPT} - {"path"}


def test_every_sort_of_trouble_was_met(haul: Gathered) -> None:
    assert haul.classes >= {"", "status", "connect", "tls", "timeout", "protocol", "proxy", "secret"}


def test_pushers_were_told(haul: Gathered) -> None:
    assert b"remote: refcast: deliveries to" in haul.texts["push"]


def test_every_command_was_called(haul: Gathered) -> None:
    assert haul.called == set(COMMANDS)


def test_nothing_shown_logged_or_left_holds_a_secret(haul: Gathered) -> None:
    leaks = {where: kinds for where, text in haul.texts.items() if (kinds := found(KINDS, text))}
    assert leaks == {}


def test_no_other_column_holds_a_secret(haul: Gathered) -> None:
    leaks = {name: kinds for name, text in haul.columns.items() if (kinds := found(KINDS, text))}
    assert set(leaks) == HOLDING


def test_notices_hold_no_secret(haul: Gathered) -> None:
    told = [one for one in haul.heard if one.target == "/200/watcher"]
    assert len(told) > 9
    assert not any(found(KINDS, one.head + one.body) for one in told)


def test_bodies_hold_no_secret(haul: Gathered) -> None:
    assert not any(found(KINDS, one.body) for one in haul.heard)


def test_the_process_list_was_read_while_workers_ran(haul: Gathered) -> None:
    assert f"refcast\0--state\0{haul.state}\0worker".encode() in haul.texts["the process list"]


def test_the_page_has_backups_made_as_private_as_the_store() -> None:
    page = (DOCS / "upgrading.md").read_text().split("## Backup\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    directory, copy = block.splitlines()
    assert re.match(r"install -d -o git -m 700 (\S+)$", directory)
    assert re.match(r"sudo -u git refcast backup /\S+-\$\(date \+%F\)\.db$", copy)


def test_every_file_has_the_mode_that_the_page_says(haul: Gathered) -> None:
    """docs/operation.md names each file and its mode; 600 and 700 are all that it need not name."""
    page = (DOCS / "operation.md").read_text().split("## Files in the state directory\n")[1].split("\n## ")[0]
    named = re.findall(r"(?m)^\| `([^`]+)` \| ([0-7]{3,4}) \|", page)
    open_ones = {name for name, mode in named if int(mode, 8) & 0o077}
    assert open_ones == {
        ".",
        "spool/",
        "spool/<uid>/",
        "spool/<uid>/*.push",
        "worker.pid",
        "notice",
        "answers/",
        "answers/bound",
        "site.json",
    }
    for name, mode in haul.modes.items():
        said = name.replace(f"spool/{os.getuid()}", "spool/<uid>")
        said = "spool/<uid>/*.push" if said.endswith(".push") else said
        expected = {int(m, 8) for n, m in named if n.rstrip("/") == said} or {0o600, 0o700}
        assert mode in expected, f"{name} {mode:o}"
