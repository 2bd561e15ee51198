"""The dialect of Deveo: `push`, of branches and of tags.

Fields and their order are those of the system's own help page, "Using Deveo Webhooks". The company's and the
project's hooks of that page tell of projects and repositories made and deleted, which no push does.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, compare_url, text, utc_timestamp
from refcast.dialects.trial import TRIAL
from refcast.model import NO_HOOK, Commit, Event, Hook, Message, Pusher, Repository

NAME = "deveo"
CONTENT_TYPES: tuple[str, ...] = ("form", "json")
SIGNING = "hub-sha1"
COMMITS: int | None = None
FILES = True
REJECTS = True

NAMES = UUID("9578e25f-eeaa-4b81-a755-7a6c9f6b3945")
"""Ours alone: with it a name makes the same UUID everywhere and at all times (RFC 9562, section 5.5)."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One push for any moved ref, the newest commit first.

    A tag lists the commit that it names: receivers build what stands first in the list.
    """
    update = event.update
    if update is None:
        return []
    commits, total = event.commits[::-1], event.total
    if update.deleted:
        commits, total = (), 0
    elif update.kind == "tag":
        commits = (event.head,) if event.head else ()
        total = len(commits)
    payload: dict[str, object] = {
        "after": update.new,
        "ref": text(update.ref),
        "before": update.old,
        "compare": compare_url(event.repository, update),
        "forced": update.forced,
        "created": update.created,
        "deleted": update.deleted,
        "project": project_object(event.repository),
        "repository": repository_object(event.repository),
        "pusher": pusher_object(event.pusher),
        "commit_count": total,
        "commits": [commit_object(event.repository, commit) for commit in commits],
    }
    return [Message("push", payload)]


def test(hook: Hook = NO_HOOK) -> Message:
    """A push of one made-up commit, to a repository that is none: the help page knows no test of its own."""
    (message,) = render(TRIAL)
    return message


notice = notices.plain


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """The delivery's id has no documented header; it goes as `X-Deveo-Delivery`."""
    return {
        "User-Agent": "refcast",
        "X-Deveo-Event": kind,
        "X-Deveo-Delivery": delivery_id,
    }


def commit_object(repository: Repository, commit: Commit) -> dict[str, object]:
    """`timestamp` is the committer's."""
    return {
        "distinct": commit.distinct,
        "removed": [text(path) for path in commit.changes.removed],
        "message": text(commit.message),
        "added": [text(path) for path in commit.changes.added],
        "timestamp": utc_timestamp(commit.committer.time),
        "modified": [text(path) for path in commit.changes.modified],
        "url": commit_url(repository, commit.id, below="commits"),
        "author": {"name": text(commit.author.name), "email": text(commit.author.email)},
        "id": commit.id,
    }


def project_object(repository: Repository) -> dict[str, object]:
    """The namespace is the project; its page is not known."""
    return {"uuid": uuid("project", repository.namespace), "name": text(repository.namespace), "url": ""}


def repository_object(repository: Repository) -> dict[str, object]:
    """The owner is the first part of the namespace, whoever pushes."""
    owner = repository.namespace.partition("/")[0]
    return {
        "uuid": uuid("repository", repository.full_name),
        "name": text(repository.name),
        "type": "git",
        "url": text(repository.homepage),
        "https_url": text(repository.http_url),
        "ssh_url": text(repository.ssh_url),
        "owner": {"uuid": uuid("user", owner), "name": text(owner), "email": ""},
    }


def pusher_object(pusher: Pusher) -> dict[str, object]:
    return {
        "uuid": uuid("user", pusher.username),
        "name": text(pusher.username),
        "display_name": text(pusher.name or pusher.username),
    }


def uuid(kind: str, name: str) -> str:
    """The UUID of whoever or whatever has this name: of the name alone, so that it outlives the store."""
    return str(uuid5(NAMES, f"{kind}:{text(name)}"))
