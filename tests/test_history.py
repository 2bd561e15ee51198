"""What a push becomes, over the hard repository and a few broken ones. git is the judge where it can be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hard
from hard import Case, HardRepository, git
from refcast.errors import RepositoryError
from refcast.history import History, Limits
from refcast.model import ZERO_ID, Event, Push, Pusher, RefUpdate, Repository

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HardRepository:
    return hard.build(tmp_path_factory.mktemp("history") / "hard.git")


@pytest.fixture
def own(made: HardRepository, tmp_path: Path) -> HardRepository:
    """The hard repository, copied for a test that breaks it."""
    path = tmp_path / "own.git"
    shutil.copytree(made.path, path, symlinks=True)
    return HardRepository(path, made.cases, made.ids)


def tell(
    path: Path,
    updates: list[RefUpdate],
    ledger: Mapping[str, str],
    limits: Limits | None = None,
    *,
    other_refs: bool = True,
) -> list[Event]:
    push = Push("id", str(path), "ada", NOW, tuple(updates), options=("ci.skip",))
    repository = Repository(str(path), "team/site")
    with History.open(str(path)) as history:
        told = history.events(push, ledger, repository, Pusher("ada"), limits or Limits(), other_refs=other_refs)
        return list(told)


def tell_case(made: HardRepository, name: str, limits: Limits | None = None) -> Event:
    case = made.case(name)
    (event,) = tell(made.path, [case.update], case.ledger, limits)
    return event


def names(made: HardRepository, event: Event) -> list[str]:
    """The event's commits by their names in the story."""
    by_id = {oid: name for name, oid in made.ids.items()}
    return [by_id[commit.id] for commit in event.commits]


def unpack(path: Path) -> None:
    """Take a repository apart into loose objects, so that single ones can be removed."""
    for pack in list((path / "objects/pack").glob("*.pack")):
        data = pack.read_bytes()
        for file in pack.parent.glob(f"{pack.stem}.*"):
            file.unlink()
        git(path, "unpack-objects", "-q", stdin=data)


def remove_object(path: Path, object_id: str) -> None:
    unpack(path)
    (path / "objects" / object_id[:2] / object_id[2:]).unlink()


NAMES = [name for name, _, _ in hard.STORY]


class TestTheStory:
    @pytest.mark.parametrize("name", NAMES)
    def test_commits_are_those_that_git_lists(self, made: HardRepository, name: str) -> None:
        case = made.case(name)
        event = tell_case(made, name)
        want = git_lists(made.path, case)
        assert {commit.id for commit in event.commits} == want
        assert event.total == len(want)
        assert not event.incomplete
        seen: set[str] = set()
        for commit in event.commits:
            assert want.intersection(commit.parents) <= seen
            seen.add(commit.id)

    @pytest.mark.parametrize("name", NAMES)
    def test_head_is_the_peeled_commit(self, made: HardRepository, name: str) -> None:
        case = made.case(name)
        event = tell_case(made, name)
        kind = git(made.path, "cat-file", "-t", f"{case.update.new}^{{}}") if not case.update.deleted else b""
        if kind == b"commit\n":
            assert event.head is not None
            want = git(made.path, "rev-parse", f"{case.update.new}^{{commit}}")
            assert event.head.id == want.decode().strip()
        else:
            assert event.head is None

    @pytest.mark.parametrize("name", NAMES)
    def test_the_rest_is_handed_on(self, made: HardRepository, name: str) -> None:
        case = made.case(name)
        event = tell_case(made, name)
        assert event.kind == ("tag_push" if case.update.ref.startswith("refs/tags/") else "push")
        assert event.repository.full_name == "team/site"
        assert (event.time, event.options, event.pusher.username) == (NOW, ("ci.skip",), "ada")
        assert event.update is not None
        assert (event.update.old, event.update.new, event.update.ref) == (
            case.update.old,
            case.update.new,
            case.update.ref,
        )
        assert event.update.forced == (name in {"force-push", "rewind"})

    def test_paths_against_the_first_parent(self, made: HardRepository) -> None:
        kinds = {commit.id: commit.changes for commit in tell_case(made, "file-kinds").commits}
        types, rename, modes, swaps = (kinds[made.ids[n]] for n in ("types", "rename", "modes", "swaps"))
        assert (types.added, types.modified, types.removed) == ((), ("kind", "link"), ())
        assert (rename.added, rename.removed) == (("new/place/name.txt",), ("old/deep/name.txt",))
        assert modes.modified == ("run.sh", "vendor/lib")
        assert swaps.added == ("pile", "swap/inner.txt", "swap/other.txt", "vendor/lib/code.c")
        assert swaps.removed == ("pile/inner.txt", "swap", "vendor/lib")
        merge = tell_case(made, "merge").commits[-1]
        assert (merge.changes.added, merge.changes.removed) == (
            ("topic/one.txt", "topic/two.txt"),
            ("src/app.py",),
        )

    def test_ugly_names_come_back_as_the_bytes_they_were(self, made: HardRepository) -> None:
        (commit,) = tell_case(made, "ugly-names").commits
        raw = [path.encode("utf-8", "surrogateescape") for path in commit.changes.added]
        assert raw == sorted(hard.UGLY_PATHS)

    def test_encodings(self, made: HardRepository) -> None:
        latin, unknown = tell_case(made, "encodings").commits
        assert latin.message == "Déjà vu à Zürich\n"
        assert latin.author.name == "José Núñez"
        assert latin.author.time.utcoffset() == timedelta(hours=1)
        assert unknown.message == "bytes that are not UTF-8: \ufffd\ufffd, and some that are: €\n"

    def test_distinct(self, made: HardRepository) -> None:
        known = tell_case(made, "fast-forward-to-known")
        assert names(made, known) == ["latin", "unknown", "empty"]
        assert not any(commit.distinct for commit in known.commits)
        merge = tell_case(made, "merge")
        assert [(name, c.distinct) for name, c in zip(names(made, merge), merge.commits, strict=True)] == [
            ("topic1", False),
            ("topic2", False),
            ("merge", True),
        ]
        no_commits = tell_case(made, "new-branch-without-commits")
        assert no_commits.head is not None and not no_commits.head.distinct

    def test_tags(self, made: HardRepository) -> None:
        light = tell_case(made, "lightweight-tag")
        assert light.tag is None and light.head is not None and light.head.id == made.ids["empty"]
        outer = tell_case(made, "tag-of-tag").tag
        assert outer is not None and outer.tagger is not None
        assert (outer.id, outer.target) == (made.ids["outer"], made.ids["v1.0"])
        assert (outer.name, outer.message, outer.tagger.name) == (
            "signed/outer",
            "A tag of a tag\n",
            "Ben Ødegård",
        )
        blob = tell_case(made, "tag-of-blob").tag
        assert blob is not None and blob.tagger is None and blob.message == "A key: \ufffd\n"

    def test_a_tag_of_a_commit_that_only_it_brings_is_distinct(self, made: HardRepository) -> None:
        (event,) = tell(made.path, [RefUpdate(ZERO_ID, made.ids["v1.0"], "refs/tags/v1.0")], {})
        assert event.head is not None and event.head.distinct and event.commits == ()
        assert event.head.changes == tell_case(made, "empty-commit").commits[0].changes

    def test_other_refs_are_left_out_unless_asked_for(self, made: HardRepository) -> None:
        case = made.case("other-ref")
        assert tell(made.path, [case.update], case.ledger, other_refs=False) == []
        assert tell(made.path, [case.update], case.ledger)[0].total == 1

    def test_what_did_not_move_makes_no_event(self, made: HardRepository) -> None:
        tip = made.ids["empty"]
        still = [RefUpdate(tip, tip, "refs/heads/main"), RefUpdate(ZERO_ID, "0" * 64, "refs/heads/x")]
        assert tell(made.path, still, {}) == []


def git_lists(path: Path, case: Case) -> set[str]:
    """The commits of a case by the rules of the design, as git computes them."""
    update = case.update
    if update.deleted or update.kind == "tag":
        return set()
    hidden = list(case.ledger.values()) if update.created else [update.old]
    lines = "".join(f"{line}\n" for line in [update.new, *(f"^{tip}" for tip in hidden)])
    return set(git(path, "rev-list", "--stdin", stdin=lines.encode()).decode().split())


class TestLimits:
    def test_the_newest_commits_are_listed_and_the_total_is_exact(self, made: HardRepository) -> None:
        event = tell_case(made, "file-kinds", Limits(commits=2))
        assert (names(made, event), event.total) == (["modes", "swaps"], 5)
        none = tell_case(made, "file-kinds", Limits(commits=0))
        assert (none.commits, none.total) == ((), 5)
        assert none.head is not None and none.head.id == made.ids["swaps"]

    @pytest.mark.parametrize("files", range(9))
    def test_paths_are_cut_in_gits_order(self, made: HardRepository, files: int) -> None:
        whole = tell_case(made, "file-kinds").commits[-1].changes
        order = sorted(whole.added + whole.modified + whole.removed)
        changes = tell_case(made, "file-kinds", Limits(files=files)).commits[-1].changes
        assert sorted(changes.added + changes.modified + changes.removed) == order[:files]
        assert changes.cut == (files < len(order))


class TestOnePush:
    """Several refs of one push, in order, against one ledger."""

    def test_the_first_of_several_refs_marks_the_commits(self, made: HardRepository) -> None:
        ids = made.ids
        refs = [("refs/heads/a", "topic1"), ("refs/heads/b", "topic2"), ("refs/heads/c", "topic2")]
        updates = [RefUpdate(ZERO_ID, ids[tip], ref) for ref, tip in refs]
        a, b, c = tell(made.path, updates, {"refs/heads/main": ids["rename"]})
        assert [(n, x.distinct) for n, x in zip(names(made, a), a.commits, strict=True)] == [("topic1", True)]
        assert [x.distinct for x in b.commits] == [False, True]
        assert [x.distinct for x in c.commits] == [False, False]
        assert [event.total for event in (a, b, c)] == [1, 2, 2]

    def test_totals_of_refs_that_share_history(self, made: HardRepository) -> None:
        tips = [name for name in made.ids if name not in {"v1.0-again", "tree", "blob"} and "tag" not in name]
        tips = [name for name in tips if name not in {"v1.0", "outer"}]
        updates = [RefUpdate(ZERO_ID, made.ids[name], f"refs/heads/{name}") for name in tips]
        for name, event in zip(tips, tell(made.path, updates, {}), strict=True):
            assert event.total == int(git(made.path, "rev-list", "--count", made.ids[name]))
            assert len(event.commits) == event.total

    @pytest.mark.parametrize("first", ["refs/tags/light", "refs/notes/commits"])
    def test_tags_and_other_refs_take_no_mark_from_a_branch(self, made: HardRepository, first: str) -> None:
        tip = made.ids["topic1"]
        ledger = {"refs/heads/main": made.ids["rename"]}
        _, branch = tell(made.path, [RefUpdate(ZERO_ID, tip, first), RefUpdate(ZERO_ID, tip, "refs/heads/x")], ledger)
        assert [commit.distinct for commit in branch.commits] == [True]

    def test_a_tag_pushed_before_has_the_commits(self, made: HardRepository) -> None:
        tip = made.ids["topic1"]
        ledger = {"refs/heads/main": made.ids["rename"], "refs/tags/x": tip}
        (branch,) = tell(made.path, [RefUpdate(ZERO_ID, tip, "refs/heads/x")], ledger)
        assert (branch.total, branch.commits) == (0, ())
        (branch,) = tell(made.path, [RefUpdate(made.ids["rename"], tip, "refs/heads/main")], ledger)
        assert [commit.distinct for commit in branch.commits] == [False]

    def test_an_annotated_tag_in_the_ledger_hides_what_it_is_of(self, made: HardRepository) -> None:
        ledger = {"refs/tags/outer": made.ids["outer"], "refs/tags/t": made.ids["tree-tag"]}
        ledger |= {"refs/tags/b": made.ids["blob"], "refs/heads/gone": hard.GONE}
        (event,) = tell(made.path, [RefUpdate(ZERO_ID, made.ids["empty"], "refs/heads/x")], ledger)
        assert (event.total, event.incomplete) == (0, "")

    def test_events_are_made_one_by_one(self, made: HardRepository) -> None:
        updates = [RefUpdate(ZERO_ID, made.ids["topic1"], f"refs/heads/{n}") for n in range(3)]
        push = Push("id", str(made.path), "ada", NOW, tuple(updates))
        with History.open(str(made.path)) as history:
            events = history.events(push, {}, Repository("x", "x"), Pusher("ada"), Limits())
            first = next(events)
        assert first.update is not None and first.update.ref == "refs/heads/0"


class TestGoneObjects:
    def test_the_old_tip(self, made: HardRepository) -> None:
        event = tell_case(made, "old-object-gone")
        assert event.update is not None and event.update.forced
        assert (event.commits, event.total) == ((), 0)
        assert event.head is not None and event.head.id == made.ids["topic2b"]
        assert hard.GONE in event.incomplete and "objects that are gone" in event.incomplete

    def test_the_new_tip(self, made: HardRepository) -> None:
        event = tell_case(made, "new-object-gone")
        assert (event.commits, event.total, event.head) == ((), 0, None)
        assert "objects that are gone" in event.incomplete

    def test_ids_that_no_object_can_have(self, made: HardRepository) -> None:
        for new in ("not an id", "a" * 64, "g" * 40, "\u0661" * 40):
            update = RefUpdate(made.ids["root"], new, "refs/heads/x")
            (event,) = tell(made.path, [update], {"refs/heads/y": "nor this"})
            assert "objects that are gone" in event.incomplete
            (event,) = tell(made.path, [RefUpdate(new, made.ids["root"], "refs/heads/x")], {})
            assert event.total == 0 and "objects that are gone" in event.incomplete

    def test_a_commit_in_between(self, own: HardRepository) -> None:
        remove_object(own.path, own.ids["modes"])
        (event,) = tell(
            own.path, [RefUpdate(own.ids["ugly"], own.ids["swaps"], "refs/heads/main")], {"refs/heads/main": "x"}
        )
        assert names(own, event) == ["swaps"]
        assert event.commits[0].changes.cut
        assert event.incomplete.count("objects that are gone") == 2

    def test_a_commit_that_would_have_hidden_others(self, own: HardRepository) -> None:
        remove_object(own.path, own.ids["topic1"])
        # The force push's old side no longer leads to what both sides share.
        update = RefUpdate(own.ids["topic2"], own.ids["swaps"], "refs/heads/x")
        (event,) = tell(own.path, [update], {"refs/heads/x": update.old})
        assert event.update is not None and event.update.forced
        assert (event.commits, event.total) == ((), 0)
        assert "commits are not listed" in event.incomplete
        (event,) = tell(own.path, [RefUpdate(ZERO_ID, own.ids["root"], "refs/heads/y")], {"refs/heads/x": update.old})
        assert event.total == 1 and "that other refs had" in event.incomplete

    def test_a_gap_behind_the_old_tip_does_not_matter_to_its_descendants(self, own: HardRepository) -> None:
        remove_object(own.path, own.ids["second"])
        (event,) = tell(own.path, [RefUpdate(own.ids["ugly"], own.ids["swaps"], "refs/heads/main")], {})
        assert (event.total, event.update and event.update.forced) == (5, False)

    @pytest.mark.parametrize(("name", "tree"), [("swaps", "^{tree}"), ("modes", "^{tree}"), ("swaps", ":swap")])
    def test_a_tree(self, own: HardRepository, name: str, tree: str) -> None:
        spec = own.ids[name] + tree
        remove_object(own.path, git(own.path, "rev-parse", spec).decode().strip())
        update = RefUpdate(own.ids["modes"], own.ids["swaps"], "refs/heads/main")
        (event,) = tell(own.path, [update], {})
        assert event.total == 1 and event.head == event.commits[0]
        assert event.head.changes.cut and event.head.changes.added == ()
        assert event.incomplete.count("objects that are gone") == 1


class TestOpening:
    def test_tips_and_default_branch(self, made: HardRepository) -> None:
        with History.open(str(made.path)) as history:
            tips = history.tips()
            assert history.default_branch() == "main"
        lines = git(made.path, "for-each-ref", "--format=%(objectname) %(symref) %(refname)")
        want = {}
        for line in lines.decode("utf-8", "surrogateescape").splitlines():
            object_id, symbolic, ref = line.split(" ", 2)
            if not symbolic:
                want[ref] = object_id
        assert tips == want and "refs/heads/alias" not in tips and len(tips) > 8

    def test_default_branch_of_an_empty_repository_and_of_a_detached_head(self, tmp_path: Path) -> None:
        hard.init_bare(tmp_path)
        git(tmp_path, "symbolic-ref", "HEAD", "refs/heads/trunk/next")
        with History.open(str(tmp_path)) as history:
            assert (history.default_branch(), history.tips()) == ("trunk/next", {})
        (tmp_path / "HEAD").write_text("a" * 40 + "\n")
        with History.open(str(tmp_path)) as history:
            assert history.default_branch() == ""
        (tmp_path / "HEAD").write_text("")
        with History.open(str(tmp_path)) as history:
            assert history.default_branch() == ""

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("missing", "there is no such repository"),
            ("directory", "is not a git repository"),
            ("file", "is not a git repository"),
            ("inside", "is not a git repository"),
            ("sha256", "SHA-1 ids"),
            ("configuration", "failed to parse config file"),
            ("extension", "unsupported extension"),
        ],
    )
    def test_what_cannot_be_opened(self, tmp_path: Path, kind: str, words: str) -> None:
        path = tmp_path / "x\ny.git"
        if kind == "directory":
            path.mkdir()
        elif kind == "file":
            path.touch()
        elif kind == "sha256":
            path.mkdir()
            git(path, "init", "--quiet", "--bare", "--object-format=sha256", ".")
        elif kind != "missing":
            hard.init_bare(path)
        if kind == "configuration":
            (path / "config").write_text("[broken\n")
        if kind == "extension":
            (path / "config").write_text("[core]\nrepositoryformatversion = 1\n[extensions]\nrefstorage = x\n")
        with pytest.raises(RepositoryError) as raised:
            History.open(str(path / "objects" if kind == "inside" else path))
        message = str(raised.value)
        assert words in message and "\n" not in message

    def test_refs_that_cannot_be_read(self, own: HardRepository) -> None:
        (own.path / "packed-refs").write_text("garbage\n")
        with History.open(str(own.path)) as history, pytest.raises(RepositoryError, match="refs cannot be read"):
            history.tips()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
    def test_another_users_repository(self, own: HardRepository) -> None:
        for found in [own.path, *own.path.rglob("*")]:
            os.chown(found, 12345, 12345, follow_symlinks=False)
        assert tell_case(own, "update").total == 1

    def test_a_configuration_of_the_worker_does_not_matter(
        self, own: HardRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".gitconfig").write_text("[broken\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert tell_case(own, "update").total == 1

    def test_a_repository_with_a_work_tree_alternates_and_ugly_name(self, made: HardRepository, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
        path.mkdir()
        git(path, "clone", "--quiet", "--shared", "--no-checkout", str(made.path), ".")
        case = made.case("octopus")
        (event,) = tell(path, [case.update], case.ledger)
        assert event.total == 3

    def test_a_shallow_repository(self, made: HardRepository, tmp_path: Path) -> None:
        url = made.path.as_uri()
        git(tmp_path, "clone", "--quiet", "--bare", "--depth=2", "--branch=main", url, "shallow.git")
        path = tmp_path / "shallow.git"
        (event,) = tell(path, [RefUpdate(ZERO_ID, made.ids["hostile"], "refs/heads/main")], {})
        assert event.total == int(git(path, "rev-list", "--count", "main"))
        assert event.commits[0].parents == () and not event.incomplete
        update = RefUpdate(made.ids["merge"], made.ids["hostile"], "refs/heads/main")
        (event,) = tell(path, [update], {})
        assert event.update is not None and event.update.forced and "gone" in event.incomplete
