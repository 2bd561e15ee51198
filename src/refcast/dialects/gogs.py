"""The dialect of Gogs: `push`, `create` and `delete`.

Fields are those of Gogs's documentation ("Webhook"), in its order, with what its own structures hold
besides: https://github.com/gogs/go-gogs-client. A new branch is a `create`, then a `push`; a tag is a
`create` alone; whatever is deleted is a `delete` alone (CommitRepo and PushTag in Gogs).
"""

from __future__ import annotations

from datetime import UTC, datetime

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, compare_url, text, timestamp
from refcast.model import NO_HOOK, ZERO_ID, Commit, Event, Hook, Ident, Message, Pusher, RefUpdate, Repository

NAME = "gogs"
CONTENT_TYPES: tuple[str, ...] = ("json", "form")
SIGNING = "gogs"
COMMITS: int | None = None
FILES = True
REJECTS = True

CREATED_AT = "1970-01-01T00:00:00Z"
"""When the repository was made: a plain server does not say, and receivers need a time that parses."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """What Gogs sends of one moved ref; a ref that is neither branch nor tag is a push with its full name."""
    update = event.update
    if update is None:
        return []
    if update.kind == "other":
        return [push(event, update)]
    if update.deleted:
        return [delete(event, update)]
    if update.kind == "tag":
        return [create(event, update)]
    return [create(event, update), push(event, update)] if update.created else [push(event, update)]


def test(hook: Hook = NO_HOOK) -> Message:
    """A push of one made-up commit to no repository, with the words of Gogs's own test of an empty one."""
    ghost = Ident("Ghost", "", datetime(1, 1, 1, tzinfo=UTC))
    fake = Commit(ZERO_ID, ZERO_ID, (), ghost, ghost, "This is a fake commit")
    return push(
        Event(
            kind="push",
            repository=Repository(path="", full_name="refcast/test", default_branch="main"),
            pusher=Pusher("refcast"),
            time=datetime(1970, 1, 1, tzinfo=UTC),
            update=(update := RefUpdate(ZERO_ID, ZERO_ID, "refs/heads/main")),
            commits=(fake,),
            total=1,
        ),
        update,
    )


notice = notices.plain


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """Event and delivery under Gogs's names and under GitHub's, as Gogs sends them."""
    return {
        "User-Agent": "GogsServer",
        "X-Gogs-Delivery": delivery_id,
        "X-Gogs-Event": kind,
        "X-GitHub-Delivery": delivery_id,
        "X-GitHub-Event": kind,
    }


def push(event: Event, update: RefUpdate) -> Message:
    """Newest commit first. Lists are whole: Gogs's own cut to its news page's length is not copied."""
    sender = user_object(event.pusher)
    payload: dict[str, object] = {
        "ref": text(update.ref),
        "before": update.old,
        "after": update.new,
        "compare_url": compare_url(event.repository, update),
        "commits": [commit_object(event, commit) for commit in reversed(event.commits)],
        "repository": repository_object(event),
        "pusher": sender,
        "sender": sender,
    }
    return Message("push", payload)


def create(event: Event, update: RefUpdate) -> Message:
    """`sha` is the ref's new id: of an annotated tag the tag object. (Gogs leaves it empty for a branch.)"""
    payload: dict[str, object] = {
        "ref": text(update.short),
        "ref_type": update.kind,
        "sha": update.new,
        "default_branch": text(event.repository.default_branch),
        "repository": repository_object(event),
        "sender": user_object(event.pusher),
    }
    return Message("create", payload)


def delete(event: Event, update: RefUpdate) -> Message:
    payload: dict[str, object] = {
        "ref": text(update.short),
        "ref_type": update.kind,
        "pusher_type": "user",
        "repository": repository_object(event),
        "sender": user_object(event.pusher),
    }
    return Message("delete", payload)


def commit_object(event: Event, commit: Commit) -> dict[str, object]:
    """`timestamp` is the committer's. A file list is never null, which Gogs prints for an empty one."""
    return {
        "id": commit.id,
        "message": text(commit.message),
        "url": commit_url(event.repository, commit.id, below="commit"),
        "author": person_object(commit.author, event.pusher),
        "committer": person_object(commit.committer, event.pusher),
        "added": [text(path) for path in commit.changes.added],
        "removed": [text(path) for path in commit.changes.removed],
        "modified": [text(path) for path in commit.changes.modified],
        "timestamp": timestamp(commit.committer.time, utc="Z"),
    }


def person_object(person: Ident, pusher: Pusher) -> dict[str, object]:
    """Gogs finds a user by the commit's e-mail address; of the users, refcast knows the pusher alone."""
    if pusher.email and person.email:
        known = person.email.casefold() == pusher.email.casefold()
    else:
        known = bool(person.name) and person.name in (pusher.name, pusher.username)
    return {
        "name": text(person.name),
        "email": text(person.email),
        "username": text(pusher.username) if known else "",
    }


def repository_object(event: Event) -> dict[str, object]:
    """What a plain server lacks has a fixed value: it is private, no fork, no mirror, and nobody watches it.

    The owner is the first part of the namespace, with id 0 whoever pushes, so that it never changes.
    """
    repository = event.repository
    owner = Pusher(repository.namespace.partition("/")[0])
    return {
        "id": repository.id,
        "owner": user_object(owner),
        "name": text(repository.name),
        "full_name": text(repository.full_name),
        "description": text(repository.description),
        "private": True,
        "fork": False,
        "parent": None,
        "empty": False,
        "mirror": False,
        "size": 0,
        "html_url": text(repository.homepage),
        "ssh_url": text(repository.ssh_url),
        "clone_url": text(repository.http_url),
        "website": "",
        "stars_count": 0,
        "forks_count": 0,
        "watchers_count": 0,
        "open_issues_count": 0,
        "default_branch": text(repository.default_branch),
        "created_at": CREATED_AT,
        "updated_at": timestamp(event.time, utc="Z"),
    }


def user_object(user: Pusher) -> dict[str, object]:
    """`login` and `username` are the same name, as in Gogs; there are no avatars."""
    return {
        "id": user.id,
        "login": text(user.username),
        "full_name": text(user.name or user.username),
        "email": text(user.email),
        "avatar_url": "",
        "username": text(user.username),
    }
