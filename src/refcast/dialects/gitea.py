"""The dialect of Gitea, with the headers of Forgejo, its fork: `push`, `create` and `delete`.

Fields and their order are those of Gitea's structures `PushPayload`, `CreatePayload`, `DeletePayload`,
`Repository` and `User`. A new branch or tag is a `create`, then a `push`; a deleted branch is a `delete`, a
deleted tag a `push` to the zero id, then a `delete`.
"""

from __future__ import annotations

from dataclasses import replace

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, compare_url, text, timestamp
from refcast.dialects.gogs import person_object
from refcast.dialects.trial import TRIAL
from refcast.model import NO_HOOK, ZERO_ID, Commit, Event, Hook, Message, Pusher, RefUpdate

NAME = "gitea"
CONTENT_TYPES: tuple[str, ...] = ("json", "form")
SIGNING = "gitea"
COMMITS: int | None = None
FILES = True
REJECTS = True

FAMILIES = ("Forgejo", "Gitea", "Gogs", "GitHub")

CREATED_AT = "1970-01-01T00:00:00Z"
"""When the repository was made: a plain server does not say, and receivers need a time that parses."""

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """What Gitea sends of one moved ref; a ref that is neither branch nor tag is a push with its full name."""
    update = event.update
    if update is None:
        return []
    if update.kind == "other":
        return [push(event, update)]
    if update.deleted:
        return [*([push(event, update)] if update.kind == "tag" else []), delete(event, update)]
    if update.created or update.kind == "tag":
        return [create(event, update), push(event, update)]
    return [push(event, update)]


def test(hook: Hook = NO_HOOK) -> Message:
    """A push of one made-up commit. (Gitea's own test is a push of the newest commit that there is.)"""
    (message,) = render(TRIAL, hook)
    return message


notice = notices.plain


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """Event and delivery under the names of all four systems, as Forgejo sends them."""
    families = {
        f"X-{family}-{name}": value
        for family in FAMILIES
        for name, value in (("Delivery", delivery_id), ("Event", kind), ("Event-Type", kind))
    }
    return {
        "User-Agent": "refcast",
        **families,
        "X-Gitea-Hook-Installation-Target-Type": "repository",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }


def push(event: Event, update: RefUpdate) -> Message:
    """Newest commit first. A tag lists none, but has its commit as `head_commit`."""
    sender = user_object(event.pusher)
    payload: dict[str, object] = {
        "ref": text(update.ref),
        "before": update.old,
        "after": update.new,
        "compare_url": compare(event, update),
        "commits": [commit_object(event, commit) for commit in reversed(event.commits)],
        "total_commits": event.total,
        "head_commit": commit_object(event, event.head) if event.head else None,
        "repository": repository_object(event, update),
        "pusher": sender,
        "sender": sender,
    }
    return Message("push", payload)


def create(event: Event, update: RefUpdate) -> Message:
    """`sha` is the ref's new id: of an annotated tag the tag object."""
    payload: dict[str, object] = {
        "sha": update.new,
        "ref": text(update.short),
        "ref_type": update.kind,
        "repository": repository_object(event, update),
        "sender": user_object(event.pusher),
    }
    return Message("create", payload)


def delete(event: Event, update: RefUpdate) -> Message:
    payload: dict[str, object] = {
        "ref": text(update.short),
        "ref_type": update.kind,
        "pusher_type": "user",
        "repository": repository_object(event, update),
        "sender": user_object(event.pusher),
    }
    return Message("delete", payload)


def compare(event: Event, update: RefUpdate) -> str:
    """Of a new branch: from the parent of its oldest commit, or from the default branch. Empty for tags."""
    if update.kind == "branch" and update.created and not update.deleted:
        whole = event.total == len(event.commits)
        parents = event.commits[0].parents if event.commits and whole else ()
        default = "" if update.short == event.repository.default_branch else event.repository.default_branch
        base = parents[0] if parents else default
        return compare_url(event.repository, replace(update, old=base)) if base else ""
    return "" if update.kind == "tag" else compare_url(event.repository, update)


def commit_object(event: Event, commit: Commit) -> dict[str, object]:
    """`timestamp` is the author's. Signatures are not verified, nor does Gitea do so in its webhooks."""
    return {
        "id": commit.id,
        "message": text(commit.message),
        "url": commit_url(event.repository, commit.id, below="commit"),
        "author": person_object(commit.author, event.pusher),
        "committer": person_object(commit.committer, event.pusher),
        "verification": None,
        "timestamp": timestamp(commit.author.time, utc="Z"),
        "added": [text(path) for path in commit.changes.added],
        "removed": [text(path) for path in commit.changes.removed],
        "modified": [text(path) for path in commit.changes.modified],
    }


def repository_object(event: Event, update: RefUpdate) -> dict[str, object]:
    """What a plain server lacks has a fixed value: it is private, no fork, no mirror, and nobody watches it.

    The owner is the first part of the namespace, with id 0 whoever pushes, so that it never changes.
    """
    repository = event.repository
    return {
        "id": repository.id,
        "owner": user_object(Pusher(repository.namespace.partition("/")[0])),
        "name": text(repository.name),
        "full_name": text(repository.full_name),
        "description": text(repository.description),
        "empty": False,
        "private": True,
        "fork": False,
        "template": False,
        "mirror": False,
        "size": 0,
        "language": "",
        "languages_url": "",
        "html_url": text(repository.homepage),
        "url": "",
        "link": "",
        "ssh_url": text(repository.ssh_url),
        "clone_url": text(repository.http_url),
        "original_url": "",
        "website": "",
        "stars_count": 0,
        "forks_count": 0,
        "watchers_count": 0,
        "open_issues_count": 0,
        "open_pr_counter": 0,
        "release_counter": 0,
        "default_branch": text(repository.default_branch),
        "archived": False,
        "created_at": CREATED_AT,
        "updated_at": timestamp(event.time, utc="Z"),
        "archived_at": CREATED_AT,
        "permissions": {"admin": True, "push": True, "pull": True},
        "has_issues": False,
        "has_wiki": False,
        "has_pull_requests": False,
        "has_projects": False,
        "projects_mode": "all",
        "has_releases": False,
        "has_packages": False,
        "has_actions": False,
        "ignore_whitespace_conflicts": False,
        "allow_merge_commits": False,
        "allow_rebase": False,
        "allow_rebase_explicit": False,
        "allow_squash_merge": False,
        "allow_fast_forward_only_merge": False,
        "allow_rebase_update": False,
        "allow_manual_merge": False,
        "autodetect_manual_merge": False,
        "default_delete_branch_after_merge": False,
        "default_merge_style": "merge",
        "default_allow_maintainer_edit": False,
        "avatar_url": "",
        "internal": False,
        "mirror_interval": "",
        "object_format_name": "sha1" if len(update.new) == len(ZERO_ID) else "sha256",
        "mirror_updated": NEVER,
        "topics": [],
        "licenses": [],
    }


def user_object(user: Pusher) -> dict[str, object]:
    """`login` and `username` are the same name, as in Gitea; there are no avatars and no pages of users."""
    return {
        "id": user.id,
        "login": text(user.username),
        "login_name": "",
        "source_id": 0,
        "full_name": text(user.name or user.username),
        "email": text(user.email),
        "avatar_url": "",
        "html_url": "",
        "language": "",
        "is_admin": False,
        "last_login": NEVER,
        "created": CREATED_AT,
        "restricted": False,
        "active": False,
        "prohibit_login": False,
        "location": "",
        "website": "",
        "description": "",
        "visibility": "private",
        "followers_count": 0,
        "following_count": 0,
        "starred_repos_count": 0,
        "username": text(user.username),
    }
