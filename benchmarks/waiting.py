"""What the benchmarks of delivery share: deliveries that wait in a store, and a receiver in a process of its own.

The receiver is an asyncio protocol that answers 204 as soon as a request is whole, on connections that are kept or
not, and never at all below /hang. Its own count is what the figures are made of.

`python benchmarks/waiting.py` is that process: it prints its port.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from refcast.deliver import Sends
from refcast.ingest.rendering import rendered
from refcast.model import ZERO_ID, Commit, Endpoint, Event, FileChanges, Ident, Pusher, RefUpdate, Repository
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.intake import Batch
from refcast.worker import Worker

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
CLOSING_ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHUNK = 500
"""How many events are stored in one transaction."""


class Protocol(asyncio.Protocol):
    counts: ClassVar[collections.Counter[str]] = collections.Counter()
    hung: ClassVar[list[asyncio.Transport]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.unread = b""

    def data_received(self, data: bytes) -> None:
        self.unread += data
        while (end := self.unread.find(b"\r\n\r\n")) >= 0:
            head = self.unread[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
            if len(self.unread) < end + 4 + length:
                return
            path = self.unread.split(b" ", 2)[1].decode()
            self.unread = self.unread[end + 4 + length :]
            if path == "/hang-up":
                for transport in self.hung:
                    transport.abort()
                self.hung.clear()
                self.transport.write(CLOSING_ANSWER)
                self.transport.close()
                continue
            if path == "/counts":
                body = json.dumps(self.counts).encode()
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                continue
            self.counts[path] += 1
            if path.startswith("/hang/"):
                self.hung.append(self.transport)
                return
            if b"connection: close" in head:
                self.transport.write(CLOSING_ANSWER)
                self.transport.close()
            else:
                self.transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Receiver:
    """The process, within a `with`."""

    def __enter__(self) -> Receiver:
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def counts(self) -> dict[str, int]:
        """How many requests came, by path."""
        with socket.create_connection(("127.0.0.1", self.port)) as one:
            one.sendall(b"GET /counts HTTP/1.1\r\nConnection: close\r\n\r\n")
            one.settimeout(30)
            said = b""
            while b"\r\n\r\n" not in said or not said.endswith(b"}"):
                said += one.recv(65536)
        found: dict[str, int] = json.loads(said.partition(b"\r\n\r\n")[2])
        return found

    def hang_up(self) -> None:
        """End the connections of those that are never answered."""
        with socket.create_connection(("127.0.0.1", self.port)) as one:
            one.sendall(b"POST /hang-up HTTP/1.1\r\n\r\n")
            one.recv(100)

    def wait_for(self, paths: Sequence[str], number: int, *, every: float = 0.02) -> float:
        """Until so many requests in all have come to these paths; the time (monotonic)."""
        while sum(self.counts().get(path, 0) for path in paths) < number:
            time.sleep(every)
        return time.monotonic()


def event(number: int, choose: random.Random) -> Event:
    """An ordinary push of one commit."""
    who = Ident("Ada Lovelace", "ada@example.org", datetime(2026, 1, 1, tzinfo=UTC))
    old, new = (f"{choose.getrandbits(160):040x}" for _ in range(2))
    changes = FileChanges(modified=tuple(f"src/module_{choose.randrange(99)}.py" for _ in range(3)))
    commit = Commit(new, new, (old,), who, who, f"Change number {number}\n\nFor a reason.\n", changes)
    repository = Repository("/srv/git/site.git", "team/site", 1, default_branch="main")
    update = RefUpdate(ZERO_ID if number == 0 else old, new, f"refs/heads/b{number}")
    return Event("push", repository, Pusher("ada"), who.time, update, (commit,), 1, commit)


def fill(store: Store, endpoints: Sequence[Endpoint], count: int, seed: int) -> None:
    """Have `count` events wait for each of these endpoints, due now."""
    choose = random.Random(seed)
    now = time.time()
    repository_id = store.repositories.add("/srv/git/site.git", {}, now)
    for start in range(0, count, CHUNK):
        record_id = str(uuid.UUID(int=choose.getrandbits(128)))
        numbers = range(start, min(count, start + CHUNK))
        events = [rendered(event(one, choose), record_id, endpoints, Settings()) for one in numbers]
        store.intake.add(Batch(record_id, repository_id, "ada", now, events), now)


def add(store: Store, name: str, url: str, **more: Any) -> Endpoint:
    """A new endpoint of refcast's own dialect, with a secret."""
    return store.endpoints.add(Endpoint(0, name, url, "refcast", "json", secret=SECRET, **more), time.time())


@contextlib.contextmanager
def working(state: Path, store: Store, transport: Sends) -> Iterator[Callable[[], None]]:
    """The real worker, in a thread of this process; what is given stops it."""
    logging.getLogger("refcast").setLevel(logging.CRITICAL)
    worker = Worker(state, store, transport, time.time, random.random)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker.stop
    finally:
        worker.stop()
        thread.join()
        worker.close()


if __name__ == "__main__":
    asyncio.run(serve())
