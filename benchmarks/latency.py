"""From the end of `git push` to the arrival of its payload at an endpoint on loopback.

Promised: less than 100 ms (median) with a worker running and idle, and less than 1 s where none runs and the hook
starts one. A figure below zero means that the payload was there before git had returned.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from push import bare, fsync_ms, history, running
from repositories import ENVIRONMENT, git, load, row

from refcast import install, presence
from refcast.model import Endpoint
from refcast.store import Store

MAIN = "refs/heads/main"
WAIT_SECONDS = 30.0


def receiver(arrivals: queue.Queue[float]) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            arrivals.put(time.perf_counter())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Receiver


def stop_worker(state: Path) -> None:
    """End the worker that a hook has started, and wait until it has gone."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if (pid := presence.running(state)) is not None:
            os.kill(pid, signal.SIGTERM)
        try:
            with presence.Lock(state):
                return
        except presence.AlreadyRunning:
            time.sleep(0.02)
    raise SystemExit("the worker does not end")


def measure(
    source: Path, target: Path, ids: list[str], arrivals: queue.Queue[float], between: Callable[[], None]
) -> list[float]:
    """Milliseconds from the end of each push to its arrival."""
    found = []
    for tip in ids:
        between()
        command = ["git", "-C", str(source), "push", "--quiet", str(target), f"{tip}:{MAIN}"]
        subprocess.run(command, env=ENVIRONMENT, check=True)
        end = time.perf_counter()
        found.append((arrivals.get(timeout=WAIT_SECONDS) - end) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pushes")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    count = 5 if options.quick else 20
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        state, source, target = scratch / "state", scratch / "source.git", bare(scratch / "target.git")
        load(source, history(2 * count))
        ids = git(source, "rev-list", "--reverse", MAIN).decode().split()
        arrivals: queue.Queue[float] = queue.Queue()
        server = ThreadingHTTPServer(("127.0.0.1", 0), receiver(arrivals))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        install.create_state(state)
        with Store.open(state) as store:
            list(install.install([install.place(target)], state, store, shared=False, now=time.time()))
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            store.endpoints.add(Endpoint(0, "one", url, "codeup", "json"), time.time())
        print(f"fsync of a page in {scratch.parent}: {fsync_ms(scratch):.2f} ms (median)")
        row(f"{count} pushes each", "median ms", "least ms", "most ms")
        with running(state) as settle:

            def idle() -> None:
                settle()
                time.sleep(0.2)  # the worker has looked, and waits

            found = measure(source, target, ids[:count], arrivals, idle)
        row("a worker runs and is idle", median(found), min(found), max(found))
        found = measure(source, target, ids[count:], arrivals, lambda: stop_worker(state))
        row("no worker runs", median(found), min(found), max(found))
        stop_worker(state)
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
