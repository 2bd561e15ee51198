"""History against git, at random: graphs with wrong clocks, trees with awkward names, and malformed objects.

Each seed makes one repository; what it finds is judged by git, or, where git itself stops early because dates
lie, by the graph that was written.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from pygit2.enums import ObjectType

import hard
from hard import git, hash_object
from refcast.history import History, Limits, walk
from refcast.history.objects import GoneError, Objects, oid_of, open_repository
from refcast.history.trees import Trees
from refcast.history.walk import Range
from refcast.model import ZERO_ID, Event, Push, Pusher, RefUpdate, Repository

NOW = datetime(2024, 1, 1, tzinfo=UTC)
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def tell(path: Path, updates: list[RefUpdate], ledger: Mapping[str, str], limits: Limits) -> list[Event]:
    push = Push("id", str(path), "ada", NOW, tuple(updates))
    with History.open(str(path)) as history:
        return list(history.events(push, ledger, Repository("x", "x"), Pusher("ada"), limits))


class Graph(NamedTuple):
    """A repository, and what was written into it: every commit's parents and time."""

    path: Path
    parents: dict[str, list[str]]
    times: dict[str, int]

    def reach(self, *tips: str) -> set[str]:
        reached: set[str] = set()
        stack = list(tips)
        while stack:
            tip = stack.pop()
            if tip not in reached:
                reached.add(tip)
                stack += self.parents[tip]
        return reached


def graph(path: Path, seed: int, *, size: int = 60, skew: bool) -> Graph:
    """A graph of merges, forks and several roots; with `skew`, dates that say nothing about the order."""
    chance = random.Random(seed)
    hard.init_bare(path)
    parts, parents, times = [], [], []
    for number in range(size):
        behind = range(max(0, number - chance.choice([2, 4, 30])), number)
        count = min(len(behind), chance.choice([0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3]))
        mine = chance.sample(behind, count)
        time = chance.choice([0, 1, 10**6, 10**9, chance.randrange(2 * 10**9)]) if skew else 10**9 + number // 3
        parents.append(mine)
        times.append(time)
        parts.append(b"commit refs/build/%d\nmark :%d\n" % (number, number + 1))
        parts.append(b"committer A <a@b> %d +0000\ndata 4\n%04d\n" % (time, number))
        parts += [b"%s :%d\n" % (b"merge" if i else b"from", p + 1) for i, p in enumerate(mine)]
        parts.append(b"\n")
    marks = path / "marks"
    git(path, "fast-import", "--quiet", "--date-format=raw", f"--export-marks={marks}", stdin=b"".join(parts))
    ids = dict(line.split() for line in marks.read_text().splitlines())
    names = [ids[f":{number + 1}"] for number in range(size)]
    return Graph(
        path,
        {names[n]: [names[p] for p in mine] for n, mine in enumerate(parents)},
        dict(zip(names, times, strict=True)),
    )


def check_order(found: Event, made: Graph) -> None:
    """Each commit once, and parents before children."""
    seen: set[str] = set()
    listed = {commit.id for commit in found.commits}
    assert len(listed) == len(found.commits)
    for commit in found.commits:
        assert listed.intersection(made.parents[commit.id]) <= seen
        seen.add(commit.id)


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("seed", range(12))
class TestWhichCommits:
    def test_updates_creations_and_marks(self, tmp_path: Path, seed: int, skew: bool) -> None:
        made = graph(tmp_path, seed, skew=skew)
        chance = random.Random(seed)
        ids = list(made.parents)
        for _ in range(15):
            ledger = {f"refs/heads/{n}": chance.choice(ids) for n in range(chance.randrange(5))}
            updates = [RefUpdate(ZERO_ID, chance.choice(ids), f"refs/heads/new/{n}") for n in range(3)]
            updates += [RefUpdate(tip, chance.choice(ids), ref) for ref, tip in ledger.items()]
            updates = [update for update in updates if update.old != update.new]
            chance.shuffle(updates)
            had = made.reach(*ledger.values())
            for update, event in zip(updates, tell(made.path, updates, ledger, Limits(commits=1000)), strict=True):
                reached = made.reach(update.new)
                want = reached - made.reach(*(ledger.values() if update.created else [update.old]))
                assert {commit.id for commit in event.commits} == want
                assert event.total == len(want)
                check_order(event, made)
                assert {commit.id for commit in event.commits if commit.distinct} == want - had
                assert event.update is not None
                assert event.update.forced == (not update.created and update.old not in reached)
                had |= reached

    def test_the_listed_are_the_newest(self, tmp_path: Path, seed: int, skew: bool) -> None:
        made = graph(tmp_path, seed, skew=skew)
        tip = max(made.parents, key=lambda oid: len(made.reach(oid)))
        updates = [RefUpdate(ZERO_ID, tip, "refs/heads/a")]
        (whole,) = tell(made.path, updates, {}, Limits(commits=1000))
        order = [commit.id for commit in whole.commits]
        if not skew:
            git_order = git(made.path, "rev-list", "--date-order", "--reverse", tip).decode().split()
            assert [made.times[oid] for oid in order] == [made.times[oid] for oid in git_order]
        for limit in (0, 1, 7, len(order) - 1):
            (cut,) = tell(made.path, updates, {}, Limits(commits=limit))
            assert [commit.id for commit in cut.commits] == order[max(0, len(order) - limit) :]
            assert cut.total == len(order)
            # The same commits where the ref is one of several, which share one walk.
            both = [RefUpdate(ZERO_ID, made.parents[tip][0] if made.parents[tip] else tip, "refs/heads/b")]
            *_, shared = tell(made.path, both + updates, {}, Limits(commits=limit))
            assert [c.id for c in shared.commits] == [c.id for c in cut.commits]

    def test_without_the_slop_nothing_is_missing(
        self, tmp_path: Path, seed: int, skew: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(walk, "_SLOP", 0)
        made = graph(tmp_path, seed, skew=skew)
        chance = random.Random(seed)
        objects = Objects(*open_repository(str(made.path)))
        for _ in range(60):
            new, *hidden = chance.choices(list(made.parents), k=chance.randrange(2, 6))
            span = Range(objects, [oid_of(new)], map(oid_of, hidden))
            found = set(map(str, span.members))
            want = made.reach(new) - made.reach(*hidden)
            assert found == want if not skew else found >= want

    def test_git_agrees(self, tmp_path: Path, seed: int, skew: bool) -> None:
        made = graph(tmp_path, seed, skew=skew)
        chance = random.Random(seed)
        for _ in range(3):
            new, *hidden = chance.sample(list(made.parents), 3)
            ledger = {f"refs/heads/{n}": tip for n, tip in enumerate(hidden)}
            (event,) = tell(made.path, [RefUpdate(ZERO_ID, new, "refs/heads/x")], ledger, Limits(commits=1000))
            git_lists = git(made.path, "rev-list", new, "--not", *hidden).decode().split()
            listed = {commit.id for commit in event.commits}
            assert listed == set(git_lists) if not skew else listed <= set(git_lists)


def test_wrong_dates_beyond_gits_patience(tmp_path: Path) -> None:
    """A long hidden branch from 1970 leads to the commit: git lists it all the same, refcast does not."""
    hard.init_bare(tmp_path)
    stream = b"".join(
        b"commit refs/heads/%s\ncommitter A <a@b> %d +0000\ndata 0\n%s\n" % (name, time, extra)
        for name, time, extra in [
            *((b"main", 10**9 + n, b"") for n in range(20)),
            (b"old", 0, b"from refs/heads/main\n"),
            *((b"old", n, b"") for n in range(1, 50)),
            *((b"new", 10**9 + 10**6, b"from refs/heads/main\n") for _ in range(1)),
        ]
    )
    git(tmp_path, "fast-import", "--quiet", "--date-format=raw", stdin=stream)
    tips = dict(
        line.split()[::-1]
        for line in git(tmp_path, "for-each-ref", "--format=%(objectname) %(refname)").decode().splitlines()
    )
    ledger = {"refs/heads/old": tips["refs/heads/old"]}
    (event,) = tell(tmp_path, [RefUpdate(ZERO_ID, tips["refs/heads/new"], "refs/heads/new")], ledger, Limits())
    assert event.total == 1


NAMES = [b"a", b"a.b", b"a0", b"ab", b"a-", b"a b", b"b", b"b\xff", b"\x01", b"100644 a", b"40000", b"z\n", b"\xe9"]
IDS = [
    b"100644 a\x00100644 a\x0012",
    b"40000 a\x0040000 a\x001234",
    b"\0" * 19 + b"\1",
    b"\0001 a" * 5,
    b"1" * 20,
]
"""Ids that look like entries of a tree."""


def changed_tree(chance: random.Random, many: bool) -> bytes:
    """Fast-import commands that add, change and remove paths at random, turning files into directories."""
    commands = []
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        depth = chance.choice([1, 1, 2, 3])
        parts = chance.choices(NAMES, k=depth)
        if many:
            parts[-1] = b"%s%04d" % (parts[-1], chance.randrange(300))
        path = b"/".join(parts)
        match chance.randrange(8):
            case 0 | 1:
                commands.append(hard.drop(path))
            case 2:
                commands.append(hard.put(path, chance.choice(IDS).hex(), "160000"))
            case 3:
                commands.append(hard.put(path, "target", "120000"))
            case kind:
                mode = "100755" if kind == 4 else "100644"
                commands.append(hard.put(path, str(chance.randrange(3)), mode))
    return b"".join(commands)


def git_changes(path: Path, commit: str, parent: str | None) -> dict[str, list[bytes]]:
    """Paths by git's letter for what happened to them."""
    old = parent or EMPTY_TREE
    out = git(path, "diff-tree", "-r", "-z", "--no-renames", old, commit)
    found: dict[str, list[bytes]] = {"A": [], "M": [], "D": [], "T": []}
    fields = out.split(b"\0")
    for status, name in zip(fields[0::2], fields[1::2], strict=False):
        found[status.decode().split()[-1]].append(name)
    return found


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_file_changes_are_gits(tmp_path: Path, seed: int, many: bool) -> None:
    chance = random.Random(seed)
    hard.init_bare(tmp_path)
    git(tmp_path, "hash-object", "-t", "tree", "-w", "--stdin")
    parts = []
    for number in range(40):
        parts.append(b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 0\n" % (10**9 + number))
        if number == 0 and many:
            for directory in ("", "a/", "a/b/"):
                parts += [hard.put(f"{directory}a{n:04}", "0") for n in range(300)]
        parts.append(changed_tree(chance, many) + b"\n")
    git(tmp_path, "fast-import", "--quiet", "--date-format=raw", stdin=b"".join(parts))
    tip = git(tmp_path, "rev-parse", "main").decode().strip()
    (event,) = tell(tmp_path, [RefUpdate(ZERO_ID, tip, "refs/heads/main")], {}, Limits())
    assert len(event.commits) == 40
    for commit in event.commits:
        want = git_changes(tmp_path, commit.id, commit.parents[0] if commit.parents else None)
        raw = [
            [path.encode("utf-8", "surrogateescape") for path in paths]
            for paths in (commit.changes.added, commit.changes.modified, commit.changes.removed)
        ]
        assert raw == [want["A"], sorted(want["M"] + want["T"]), want["D"]]


@pytest.mark.parametrize("seed", range(12))
def test_large_directories_with_ids_that_look_like_entries(tmp_path: Path, seed: int) -> None:
    hard.init_bare(tmp_path)
    chance = random.Random(seed)
    repository, stores = open_repository(str(tmp_path))
    trees = Trees(Objects(repository, stores))
    alphabet = b" 0123a\xff\n"

    def any_id() -> bytes:
        return chance.choice([*IDS, chance.randbytes(20)])

    for _ in range(20):
        size = chance.choice([0, 1, 3, 50, 400])
        old = {bytes(chance.choices(alphabet, k=chance.randrange(1, 12))): any_id() for _ in range(size)}
        new = dict(old)
        for _ in range(chance.choice([0, 1, 1, 3, 40])):
            if new and chance.random() < 0.7:
                name = chance.choice(list(new))
                new[name] = any_id()
                if chance.random() < 0.5:
                    del new[name]
            else:
                new[bytes(chance.choices(alphabet, k=chance.randrange(1, 12)))] = any_id()
        ids = [
            repository.write(ObjectType.TREE, b"".join(b"100644 %s\0%s" % item for item in sorted(entries.items()))).raw
            for entries in (old, new)
        ]
        changes = trees.changes(ids[0], ids[1], 10_000)
        raw = [
            [path.encode("utf-8", "surrogateescape") for path in paths]
            for paths in (changes.added, changes.modified, changes.removed)
        ]
        assert raw == [
            sorted(new.keys() - old.keys()),
            sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
            sorted(old.keys() - new.keys()),
        ]


def tree_change(path: Path, old: bytes, new: bytes) -> Event:
    """The event of a commit whose tree is `new`, on one whose tree is `old`, both as raw bytes."""
    ids = [hash_object(path, "tree", raw) for raw in (old, new)]
    first = commit_object(path, b"tree %s\n" % ids[0].encode())
    second = commit_object(path, b"tree %s\nparent %s\n" % (ids[1].encode(), first.encode()))
    (event,) = tell(path, [RefUpdate(first, second, "refs/heads/main")], {}, Limits())
    return event


WHO = b"author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n"


def commit_object(path: Path, head: bytes, who: bytes = WHO, message: bytes = b"\nm\n") -> str:
    return hash_object(path, "commit", head + who + message)


class TestMalformedTrees:
    @pytest.mark.parametrize(
        ("old", "new", "modified"),
        [
            (b"100644 a\0" + b"1" * 20, b"100664 a\0" + b"1" * 20, ()),  # git sees no difference
            (b"100644 a\0" + b"1" * 20, b"100755 a\0" + b"1" * 20, ("a",)),
            (b"100644 a\0" + b"1" * 20, b"0100644 a\0" + b"1" * 20, ()),
            (b"40000 a\0" + b"1" * 20, b"040000 a\0" + b"1" * 20, ()),
            (b"160000 a\0" + b"1" * 20, b"160000 a\0" + b"2" * 20, ("a",)),
        ],
    )
    def test_modes(self, tmp_path: Path, old: bytes, new: bytes, modified: tuple[str, ...]) -> None:
        hard.init_bare(tmp_path)
        event = tree_change(tmp_path, old, new)
        assert event.head is not None and event.head.changes.modified == modified
        assert not event.incomplete

    @pytest.mark.parametrize(
        "new", [b"garbage", b"100644 a\0short", b"100644 \0" + b"1" * 20, b"\0" * 40, b"40000 a\0" + b"1" * 20]
    )
    def test_what_cannot_be_read_costs_the_file_changes(self, tmp_path: Path, new: bytes) -> None:
        hard.init_bare(tmp_path)
        event = tree_change(tmp_path, b"100644 a\0" + b"1" * 20, new)
        assert event.head is not None and event.head.changes.cut
        assert "objects that are gone" in event.incomplete

    @pytest.mark.parametrize("seed", range(4))
    def test_any_bytes_at_all(self, tmp_path: Path, seed: int) -> None:
        hard.init_bare(tmp_path)
        chance = random.Random(seed)
        repository, stores = open_repository(str(tmp_path))
        trees = Trees(Objects(repository, stores))
        pieces = [b"100644 ", b"40000 ", b"a", b"b\0", b"\0", b"\0" + b"1" * 20, *IDS]
        for _ in range(100):
            old, new = (
                repository.write(ObjectType.TREE, b"".join(chance.choices(pieces, k=chance.randrange(9)))).raw
                for _ in range(2)
            )
            try:
                trees.changes(old, new, 100)
            except GoneError:
                continue

    def test_endless_empty_directories_come_to_an_end(self, tmp_path: Path) -> None:
        hard.init_bare(tmp_path)
        inner = hash_object(tmp_path, "tree", b"")
        for _ in range(12):
            row = b"".join(b"40000 %02d\0" % n + bytes.fromhex(inner) for n in range(20))
            inner = hash_object(tmp_path, "tree", row)
        event = tree_change(tmp_path, b"", b"40000 a\0" + bytes.fromhex(inner))
        assert event.head is not None and event.head.changes.cut

    def test_deeper_than_pythons_stack(self, tmp_path: Path) -> None:
        hard.init_bare(tmp_path)
        path = "/".join(["d"] * 1500)
        git(
            tmp_path,
            "fast-import",
            "--quiet",
            stdin=b"commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 0\n" + hard.put(path, "x"),
        )
        tip = git(tmp_path, "rev-parse", "main").decode().strip()
        (event,) = tell(tmp_path, [RefUpdate(ZERO_ID, tip, "refs/heads/main")], {}, Limits())
        assert event.head is not None and event.head.changes.added == (path,)
