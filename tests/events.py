"""Sample events, made by hand, that every dialect renders; and any event at all, for properties.

Owns values only: nothing here reads a repository (`hard` builds one).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from hypothesis import strategies as st

from refcast.model import ZERO_ID, Commit, Event, FileChanges, Ident, Notice, Pusher, RefUpdate, Repository, Tag

A, B, C, D, E = (digit * 40 for digit in "abcde")
TIME = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
SHANGHAI = timezone(timedelta(hours=8))
NEWFOUNDLAND = timezone(-timedelta(hours=3, minutes=30))

ADA = Pusher("ada", "Ada Lovelace", "ada@example.org", 7)
SITE = Repository(
    path="/srv/git/team/site.git",
    full_name="team/site",
    id=15,
    description="The site",
    default_branch="main",
    homepage="https://git.example.org/team/site",
    http_url="https://git.example.org/team/site.git",
    ssh_url="git@git.example.org:team/site.git",
)
BARE = Repository(path="/srv/git/bare.git", full_name="bare", id=3)
"""A repository of which nothing is known but its place."""


def commit(id: str, message: str, parents: tuple[str, ...] = (), changes: FileChanges | None = None) -> Commit:
    return Commit(
        id=id,
        tree=E,
        parents=parents,
        author=Ident("Ada Lovelace", "Ada@Example.org", datetime(2024, 5, 6, 8, 0, 0, tzinfo=SHANGHAI)),
        committer=Ident("Ben Ødegård", "ben@example.org", datetime(2024, 5, 6, 2, 3, 4, tzinfo=NEWFOUNDLAND)),
        message=message,
        changes=changes or FileChanges(),
    )


ONE = commit(B, "Add a guide\n", (A,), FileChanges(added=("docs/guide.md", "a file with spaces.txt")))
TWO = commit(
    C,
    "Rename <it> & mend it 🚀\n\nBecause.\n",
    (B,),
    FileChanges(added=("new.txt",), modified=("README.md",), removed=("old.txt",)),
)


def branch(old: str, new: str, *commits: Commit, ref: str = "refs/heads/main", forced: bool = False) -> Event:
    return Event(
        kind="push",
        repository=SITE,
        pusher=ADA,
        time=TIME,
        update=RefUpdate(old, new, ref, forced),
        commits=commits,
        total=len(commits),
        head=commits[-1] if commits else None,
    )


def tag(old: str, new: str, head: Commit | None, *, annotated: bool = True) -> Event:
    annotation = Tag(new, "v1.0", head.id if head else E, TWO.committer, "Version 1.0\n")
    return Event(
        kind="tag_push",
        repository=SITE,
        pusher=ADA,
        time=TIME,
        update=RefUpdate(old, new, "refs/tags/v1.0"),
        head=head,
        tag=annotation if annotated else None,
    )


UPDATE = branch(A, C, ONE, TWO)
NEW_BRANCH = branch(ZERO_ID, C, ONE, TWO, ref="refs/heads/feature/x")
FORCED = branch(D, C, TWO, forced=True)
DELETED = branch(C, ZERO_ID)
TAG = tag(ZERO_ID, D, TWO)
LIGHT_TAG = tag(ZERO_ID, C, TWO, annotated=False)
TREE_TAG = tag(ZERO_ID, D, None)
TAG_MOVED = tag(B, D, TWO)
TAG_DELETED = tag(D, ZERO_ID, None, annotated=False)
OTHER = branch(ZERO_ID, C, TWO, ref="refs/notes/commits")
OTHER_DELETED = branch(C, ZERO_ID, ref="refs/notes/commits")

HOSTILE = "<!channel> @everyone <@1> & *b* _i_ ~s~ `c` [a](https://h.example) \u202e # x\x1b[31m\r\n- caf\udce9 \ud800"
"""What an endpoint's name or answer may hold to do harm in a chat or on a screen."""
NOTICES = {
    "notice-failing": Notice("ci", "failing", "connection refused", TIME, 1),
    "notice-disabled": Notice("ci", "disabled", "answered 500 Internal Server Error, for the 8th time", TIME, 12_345),
    "notice-recovered": Notice("ci", "recovered", "no answer within 30 s", TIME),
    "notice-hostile": Notice(HOSTILE, "failing", HOSTILE * 20, TIME, 2),
}

SAMPLES = {name.lower().replace("_", "-"): value for name, value in dict(globals()).items() if isinstance(value, Event)}

# ---- any event at all ----

raw = st.binary(min_size=1, max_size=20).map(lambda b: b.decode("utf-8", "surrogateescape"))
"""Names and paths: any bytes, as the model keeps them."""
prose = st.text(st.characters(), max_size=20)
"""Any text, with surrogates that no byte stands for."""
words = raw | prose
object_ids = st.sampled_from([ZERO_ID, A, B, C, "0" * 64, "f" * 64])
zones = st.integers(-24 * 3600 + 1, 24 * 3600 - 1).map(lambda s: timezone(timedelta(seconds=s)))
times = st.datetimes(timezones=zones)
idents = st.builds(Ident, name=words, email=words, time=times)
paths = st.lists(words, max_size=2).map(tuple)
changes = st.builds(FileChanges, paths, paths, paths, st.booleans())
commits = st.builds(
    Commit,
    id=object_ids,
    tree=object_ids,
    parents=st.lists(object_ids, max_size=2).map(tuple),
    author=idents,
    committer=idents,
    message=words,
    changes=changes,
)
urls = (
    st.sampled_from(["", "https://h/x", "git@h:x.git", "h:/x", "ssh://git@h/x.git", "ssh://h:22/x"])
    | words
    | words.map("ssh://{}".format)
    | words.map("{}{{id}}".format)
)
repositories = st.builds(
    Repository,
    path=words,
    full_name=words,
    id=st.integers(0, 2**63 - 1),
    description=words,
    default_branch=words,
    homepage=urls,
    http_url=urls,
    ssh_url=urls,
    commit_url=urls,
    compare_url=urls,
)
pushers = st.builds(Pusher, words, words, words, st.integers(0, 2**63 - 1))
prefixes = st.sampled_from(["refs/heads/", "refs/tags/", "refs/", ""])
updates = st.builds(
    lambda old, new, prefix, name: RefUpdate(old, new, prefix + name), object_ids, object_ids, prefixes, words
)


def kind_of(update: RefUpdate | None) -> Literal["push", "tag_push"]:
    return "tag_push" if update is not None and update.kind == "tag" else "push"


events = (st.none() | updates).flatmap(
    lambda update: st.builds(
        Event,
        kind=st.just(kind_of(update)),
        repository=repositories,
        pusher=pushers,
        time=times,
        update=st.just(update),
        commits=st.lists(commits, max_size=3).map(tuple),
        total=st.integers(0, 2**40),
        head=st.none() | commits,
        tag=st.none() | st.builds(Tag, object_ids, words, object_ids, st.none() | idents, words),
        options=st.lists(words, max_size=2).map(tuple),
        incomplete=words,
        recovered=st.booleans(),
    )
)
