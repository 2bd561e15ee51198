"""The demonstration: a scratch repository, a receiver on loopback, real pushes, and the payloads as they arrive."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from refcast import dialects, install, presence
from refcast.errors import RefcastError
from refcast.model import Endpoint
from refcast.store import Store

WAIT_SECONDS = 30.0
SHOWN_HEADERS = ("codeup", "gogs", "github", "hub-signature", "user-agent", "content-type")
WHO = {"NAME": "Ann Example", "EMAIL": "ann@example.org"}


def run(dialect_name: str, *, keep: bool, show: Callable[[str], None]) -> int:
    """Run it all and clean up. The exit code: 0 if every push arrived."""
    dialect = dialects.get(dialect_name)
    scratch = Path(tempfile.mkdtemp(prefix="refcast-demo-"))
    arrived: queue.Queue[tuple[list[tuple[str, str]], bytes]] = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _receiver(arrived))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        bare, work, state = scratch / "demo.git", scratch / "work", scratch / "state"
        git = _Git(scratch)
        git("init", "-q", "--bare", "-b", "main", str(bare))
        git("init", "-q", "-b", "main", str(work))
        install.create_state(state)
        with Store.open(state) as store:
            list(install.install([install.place(bare)], state, store, shared=False, now=time.time()))
            content_type = dialect.CONTENT_TYPES[0]
            endpoint = Endpoint(0, "demo", url, dialect.NAME, content_type, secret="a demo's secret")  # noqa: S106
            store.endpoints.add(endpoint, time.time())
        show(f"a bare repository {bare}\nan endpoint {url} that understands {dialect.NAME}\n")
        (work / "hello.txt").write_text("hello\n")
        git("-C", str(work), "add", "hello.txt")
        git("-C", str(work), "commit", "-q", "-m", "Say hello")
        git("-C", str(work), "tag", "-m", "The first one", "v1.0")
        for words in (["main"], ["v1.0"], [":v1.0"], ["main:topic"], [":topic"]):
            show(f"$ git push {bare.name} {' '.join(words)}")
            git("-C", str(work), "push", "-q", str(bare), *words)
            if not _show_arrivals(arrived, state, show):
                raise RefcastError(f"nothing arrived in {WAIT_SECONDS:.0f} s; see {state / 'worker.log'}")
        show("Every push arrived. For repositories of your own: docs/install.md, or refcast install --help")
        return 0
    except RefcastError:
        keep = True
        raise
    finally:
        _stop_worker(scratch / "state")
        server.shutdown()
        server.server_close()
        if keep:
            show(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _show_arrivals(
    arrived: queue.Queue[tuple[list[tuple[str, str]], bytes]], state: Path, show: Callable[[str], None]
) -> bool:
    """Show what arrives of one push, which may be more than one request. Whether anything did."""
    deadline = time.monotonic() + WAIT_SECONDS
    count = 0
    with Store.open(state) as store:
        while time.monotonic() < deadline:
            try:
                _show(*arrived.get(timeout=0.05), show)
                count += 1
            except queue.Empty:
                if count and not store.lanes.is_pending():
                    return True
    return False


def _stop_worker(state: Path) -> None:
    pid = presence.running(state)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_SECONDS
    while presence.running(state) == pid and time.monotonic() < deadline:
        time.sleep(0.02)


def _show(headers: list[tuple[str, str]], body: bytes, show: Callable[[str], None]) -> None:
    for name, value in headers:
        if any(part in name.lower() for part in SHOWN_HEADERS):
            show(f"  {name}: {value}")
    text = body.decode()
    if text.startswith("payload="):
        text = parse_qs(text)["payload"][0]
    for line in json.dumps(json.loads(text), indent=2).splitlines():
        show(f"  {line}")
    show("")


def _receiver(arrived: queue.Queue[tuple[list[tuple[str, str]], bytes]]) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()
            arrived.put((list(self.headers.items()), body))

        def log_message(self, *_: object) -> None:
            """The demonstration prints what arrives itself."""

    return Receiver


class _Git:
    """git, as somebody with no configuration of their own runs it."""

    def __init__(self, home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in WHO.items()}
        self._environment = {**kept, **who, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}

    def __call__(self, *words: str) -> None:
        try:
            done = subprocess.run(["git", *words], env=self._environment, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise RefcastError("there is no git here: install it (apt install git)") from error
        if done.returncode != 0:
            raise RefcastError(f"git {' '.join(words)}: {done.stderr.strip()}")
