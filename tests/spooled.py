"""A spool, a store and a repository for tests of what lies between them, without hooks and without a worker.

Records are written by hand, so that they can come late, out of order, torn or twice. Commits have letters: `A` is the
first, `B` its child, and so on; `-` is no commit at all. A move is written `main:A>B`. Judges nothing.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hard
from receiver import Receiver
from refcast import spool
from refcast.deliver import Deliver
from refcast.ingest import Ingest
from refcast.model import ZERO_ID, Endpoint
from refcast.settings import Settings
from refcast.spool import boxes
from refcast.store import FILE, Store
from refcast.store.outcomes import Attempt
from refcast.transport import Transport

LETTERS = "ABCDEFGH"
NOON = 1_700_000_000.0
DAY = 24 * 3600.0

ENDPOINT = Endpoint(0, "ci", "http://127.0.0.1:9/", "codeup", "json")
ATTEMPT = Attempt(NOON, 0.1, "http://x/", [("A", "b")], 500, [("C", "d")], b"\xff", "status", "HTTP 500", "x")


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


def build(path: Path) -> dict[str, str]:
    """A bare repository with the commits, in a line, and no refs; their ids by letter, `-` for the zero id."""
    hard.init_bare(path)
    stream = b""
    for number, letter in enumerate(LETTERS):
        stream += f"commit refs/heads/all\ncommitter Ada <ada@example.org> {hard.START + number} +0000\n".encode()
        stream += f"data 1\n{letter}\n".encode() + hard.put(letter, letter)
    hard.git(path, "fast-import", "--quiet", stdin=stream)
    ids = hard.git(path, "rev-list", "--reverse", "all").decode().split()
    hard.git(path, "update-ref", "-d", "refs/heads/all")
    return {"-": ZERO_ID, **dict(zip(LETTERS, ids, strict=True))}


@functools.cache
def template() -> tuple[Path, dict[str, str]]:
    """A directory with such a repository and an empty store, which are copied because to make them takes ten times as
    long; and the ids."""
    root = Path(tempfile.mkdtemp(prefix="refcast-template-"))
    atexit.register(shutil.rmtree, root)
    ids = build(root / "site.git")
    Store.open(root).close()
    return root, ids


@dataclass
class World:
    """`with World(tmp_path) as world:` has a repository, known to the store with `tips`, and nothing in the spool."""

    root: Path
    known: bool = True
    clock: Clock = field(default_factory=Clock)

    def __enter__(self) -> World:
        self.bare = self.root / "site.git"
        made, ids = template()
        self.ids = dict(ids)
        shutil.copytree(made / "site.git", self.bare)
        self.letters = {object_id: letter for letter, object_id in self.ids.items()}
        self.state = self.root / "state"
        self.state.mkdir(mode=0o711)
        spool.create(self.state / "spool", os.geteuid())
        self.box = self.state / "spool" / str(os.geteuid())
        shutil.copy2(made / FILE, self.state)
        self.store = Store.open(self.state)
        self.ingest = Ingest(self.store, self.state / "spool", self.clock)
        self.names = (f"99999999-{number}.push" for number in itertools.count(1))
        if self.known:
            self.store.repositories.add(str(self.bare), {}, self.clock())
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def put(
        self,
        *moves: str,
        at: float | None = None,
        id: str = "",
        name: str = "",
        facts: Iterable[str] = (),
        repository: Path | None = None,
        set_refs: bool = True,
    ) -> Path:
        """A record of a push that is over. Its refs are moved, too, unless told otherwise."""
        updates = [self.update(move) for move in moves]
        head = ["refcast 1 push", f"id={id or uuid.uuid4()}", f"repository={repository or self.bare}", *facts]
        lines = "".join(f"{old} {new} {ref}\n" for old, new, ref in updates)
        if set_refs and repository is None:
            self.set_refs(*moves)
        return self.write(name or next(self.names), [*head, f"updates={lines}", "end"], at=at)

    def intend(self, *moves: str, alive: bool, name: str = "", facts: Iterable[str] = ()) -> Path:
        """What `update` leaves of a push that is under way, or that was killed."""
        head = ["refcast 1 intent", f"repository={self.bare}", *facts]
        updates = [f"update={old} {new} {ref}" for old, new, ref in map(self.update, moves)]
        pid = os.getpid()
        name = name or (f"{pid}-{spool.start_time(pid)}.push" if alive else next(self.names))
        return self.write(name, [*head, *updates])

    def write(self, name: str, fields: Iterable[str], *, at: float | None = None) -> Path:
        """Add fields to a file of the spool, all at once: no process of that name lives, so a part would be torn."""
        path = self.box / name
        before = path.read_bytes() if path.exists() else b""
        new = path.with_suffix(".new")
        new.write_bytes(before + b"".join(os.fsencode(one) + b"\0" for one in fields))
        now = self.clock() if at is None else at
        os.utime(new, (now, now))
        return new.replace(path)

    def update(self, move: str) -> tuple[str, str, str]:
        ref, _, ends = move.rpartition(":")
        old, _, new = ends.partition(">")
        return self.ids.get(old, old), self.ids.get(new, new), ref if ref.startswith("refs/") else f"refs/heads/{ref}"

    def set_refs(self, *moves: str) -> None:
        """Move refs in the repository as git would have done, which would take a process."""
        for _, new, ref in map(self.update, moves):
            path = self.bare / ref
            while path.exists() and (text := path.read_text()).startswith("ref: "):
                path = self.bare / text.removeprefix("ref: ").strip()
            if new.strip("0"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{new}\n")
            else:
                path.unlink()

    def refs(self) -> dict[str, str]:
        """The short names of the repository's branches, with the letters that they stand at."""
        heads = self.bare / "refs" / "heads"
        return {path.name: self.letters[path.read_text().strip()] for path in sorted(heads.iterdir())}

    def run(self, settings: Settings | None = None) -> int:
        return self.ingest.run(settings or Settings())

    def endpoint(self, name: str = "ci", **changes: object) -> Endpoint:
        return self.store.endpoints.add(replace(ENDPOINT, name=name, **changes), self.clock())  # type: ignore[arg-type]

    def told(self) -> list[str]:
        """Every event in its order: `main:A>B`, with a `?` behind a recovered one."""
        rows = self.sql("SELECT ref, old, new, recovered FROM events ORDER BY id")
        return [self.move(os.fsdecode(ref), old, new) + ("?" if recovered else "") for ref, old, new, recovered in rows]

    def sent(self, receiver: Receiver) -> list[str]:
        """What arrived, in the words of `told`, by the receiver's own book."""
        bodies = [one.json() for one in receiver.book]
        return [self.move(body["ref"], body["before"], body["after"]) for body in bodies]

    def move(self, ref: str, old: str, new: str) -> str:
        return f"{ref.removeprefix('refs/heads/')}:{self.letters.get(old, old)}>{self.letters.get(new, new)}"

    def tips(self) -> dict[str, str]:
        number = self.store.repositories.find(str(self.bare))
        assert number is not None
        tips = self.store.repositories.tips(number)
        return {ref.removeprefix("refs/heads/"): self.letters.get(tip, tip) for ref, tip in tips.items()}

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the store's own file says."""
        connection = sqlite3.connect(self.state / FILE)
        try:
            with connection:
                return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def spooled(self) -> list[str]:
        return sorted(path.name for path in self.box.iterdir() if path.name != boxes.MARK)

    def asides(self) -> list[str]:
        return [aside.reason for aside in self.store.intake.asides()]

    def deliver(self, chance: float = 0.0) -> Deliver:
        """The real way to the endpoints. What the store cannot take is not tried again."""
        return Deliver(self.store, Transport(), self.clock, lambda: chance, lambda: False)

    def send_all(self) -> int:
        """Send until nothing is due; how many requests that took."""
        deliver = self.deliver()
        return sum(1 for _ in iter(deliver.one, False))
