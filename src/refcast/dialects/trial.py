"""The push that a test tells of, for systems whose own test is an ordinary event, or that have none.

Its repository is none and its commit is made up: a receiver that goes by names leaves it alone.
"""

from __future__ import annotations

from datetime import UTC, datetime

from refcast.model import Commit, Event, FileChanges, Ident, Pusher, RefUpdate, Repository

NOBODY = Ident("refcast", "", datetime(1970, 1, 1, tzinfo=UTC))
MADE_UP = Commit(
    id="2" * 40,
    tree="3" * 40,
    parents=("1" * 40,),
    author=NOBODY,
    committer=NOBODY,
    message="This is a test\n",
    changes=FileChanges(added=("test.txt",)),
)
TRIAL = Event(
    kind="push",
    repository=Repository(path="", full_name="refcast/test", default_branch="main"),
    pusher=Pusher("refcast"),
    time=NOBODY.time,
    update=RefUpdate("1" * 40, MADE_UP.id, "refs/heads/main"),
    commits=(MADE_UP,),
    total=1,
    head=MADE_UP,
)
