"""What the hooks add to a push, with a worker running, against the same push into a repository without hooks.

Promised: a push of one ref takes at most 1.5 times as long (aim: 1.25), and 300 or 10,000 new branches in one push
cost at most 1.5 ms a ref more. Repositories and state lie in one directory, on the disk that `--scratch` names; pushes
with and without hooks alternate, and each waits until the worker has nothing left to do from the one before. With
`--intent pre-receive` the intents are written once for a push, in place of once for each ref.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from repositories import ENVIRONMENT, commit, file, git, load, row

from refcast import install, presence, spool
from refcast.model import Endpoint
from refcast.store import Store

WAIT_SECONDS = 300.0
MAIN = "refs/heads/main"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def fsync_ms(directory: Path, count: int = 100) -> float:
    """The median of so many times writing a page to a file of its own and having it on disk, in milliseconds."""
    took = []
    for number in range(count):
        descriptor = os.open(directory / f"fsync-{number}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, b"x" * 4096)
        start = time.perf_counter()
        os.fsync(descriptor)
        took.append(time.perf_counter() - start)
        os.close(descriptor)
    return median(took) * 1e3


def history(commits: int) -> Iterator[bytes]:
    for number in range(commits):
        yield commit(MAIN, number) + file(f"file{number % 50}", str(number))


def bare(path: Path) -> Path:
    git(path.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    git(path, "config", "receive.autogc", "false")
    return path


@dataclass(frozen=True, slots=True)
class Took:
    """One push: milliseconds until `git push` returned, and milliseconds of processor time of all that it ran."""

    wall: float
    processor: float


def push(source: Path, target: Path, *refspecs: str) -> Took:
    command = ["git", "-C", str(source), "push", "--quiet", str(target), *refspecs]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=ENVIRONMENT, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall * 1e3, processor * 1e3)


@contextmanager
def running(state: Path) -> Iterator[Callable[[], None]]:
    """A worker of this state directory. What it gives waits until that worker has nothing left to do."""
    command = [sys.executable, "-m", "refcast", "--state", str(state), "worker"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process, Store.open(state) as store:
        try:

            def settle() -> None:
                deadline = time.monotonic() + WAIT_SECONDS
                while presence.running(state) is None or spool.files(state / "spool") or store.lanes.is_pending():
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise SystemExit("the worker does not get done")
                    time.sleep(0.01)

            settle()
            yield settle
        finally:
            process.send_signal(signal.SIGTERM)


def compare(name: str, refs: int, rounds: int, plain: Callable[[int], Took], hooked: Callable[[int], Took]) -> None:
    """Print the medians of both, of their difference a ref and of their ratio; the order changes with each round."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = hooked(number)
            pairs.append((plain(number), second))
        else:
            pairs.append((plain(number), hooked(number)))
    row(
        f"{name}, {rounds} pairs",
        median(a.wall for a, _ in pairs),
        median(b.wall for _, b in pairs),
        median((b.wall - a.wall) / refs for a, b in pairs),
        median((b.processor - a.processor) / refs for a, b in pairs),
        median(b.wall / a.wall for a, b in pairs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intent", choices=install.INTENTS, default="update", help="the hook that notes intents")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--scratch", type=Path, help="where to work; a directory on the disk that matters")
    options = parser.parse_args()
    rounds, sizes = (15, {300: 1, 1000: 1}) if options.quick else (101, {300: 7, 10_000: 3})
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        state, source = scratch / "state", scratch / "source.git"
        load(source, history(rounds + 1))
        ids = git(source, "rev-list", "--reverse", MAIN).decode().split()
        bares = [bare(scratch / f"{kind}.git") for kind in ("plain", "hooked")]
        server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        install.create_state(state)
        with Store.open(state) as store:
            places = [install.place(bares[1])]
            list(install.install(places, state, store, shared=False, now=time.time(), intent=options.intent))
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            store.endpoints.add(Endpoint(0, "one", url, "codeup", "json", repositories=("hooked",)), time.time())
        print(f"fsync of a page in {scratch.parent}: {fsync_ms(scratch):.2f} ms (median)")
        row("one push, medians", "plain ms", "hooked ms", "more ms a ref", "processor ms", "ratio")
        with running(state) as settle:
            one_ref(source, bares, ids, rounds, settle)
            with Store.open(state) as store:  # ten thousand requests are not what is measured
                store.endpoints.remove(store.endpoints.get("one").id, discard=True)
            for refs, times in sizes.items():
                many_refs(source, bares, ids[0], refs, times, settle)
        server.shutdown()
        server.server_close()


def one_ref(source: Path, bares: list[Path], ids: list[str], rounds: int, settle: Callable[[], None]) -> None:
    def moving(target: Path) -> Callable[[int], Took]:
        def once(number: int) -> Took:
            took = push(source, target, f"{ids[number + 1]}:{MAIN}")
            settle()
            return took

        return once

    for target in bares:
        push(source, target, f"{ids[0]}:{MAIN}")
    settle()
    compare("one ref moved", 1, rounds, *(moving(target) for target in bares))


def many_refs(source: Path, bares: list[Path], tip: str, refs: int, rounds: int, settle: Callable[[], None]) -> None:
    names = [f"refs/heads/many/{number:05}" for number in range(refs)]
    git(source, "update-ref", "--stdin", stdin="".join(f"create {name} {tip}\n" for name in names).encode())
    git(source, "pack-refs", "--all")

    def creating(target: Path) -> Callable[[int], Took]:
        def once(number: int) -> Took:
            here = f"refs/heads/{refs}-{number}/"
            took = push(source, target, f"refs/heads/many/*:{here}*")
            settle()
            deletions = [f"delete {here}{index:05}\n" for index in range(refs)]
            git(target, "update-ref", "--stdin", stdin="".join(deletions).encode())
            return took

        return once

    compare(f"{refs} new branches", refs, rounds, *(creating(target) for target in bares))
    git(source, "update-ref", "--stdin", stdin="".join(f"delete {name}\n" for name in names).encode())


if __name__ == "__main__":
    main()
