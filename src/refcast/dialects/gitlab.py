"""The dialect of GitLab: `push` and `tag_push`.

Fields and their order are those of GitLab's page "Webhook events" and of `Gitlab::DataBuilder::Push`, from which
it makes them. A tag lists the one commit that it names.
"""

from __future__ import annotations

import re

from refcast.dialects import notices
from refcast.dialects.codeup import checkout_sha, hook_name
from refcast.dialects.fields import commit_url, text, timestamp
from refcast.dialects.trial import TRIAL
from refcast.model import NO_HOOK, Commit, Event, Hook, Message, Notice, RefUpdate, Repository

NAME = "gitlab"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "gitlab-token"

COMMITS: int | None = 20
"""How many commits a push lists at most, the newest."""
FILES = True
REJECTS = True

VERSION = "17.4.0"
"""The first GitLab that sends all the headers below; receivers know the user agent by its prefix."""

DEPRECATED = ("name", "url", "description", "homepage", "git_http_url", "git_ssh_url", "visibility_level")
"""The keys of `project` that `repository` repeats, in its order."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message for a moved ref; a ref that is neither branch nor tag is a push with its full name."""
    update = event.update
    if update is None:
        return []
    listed, total = commits_of(event, update)
    project = project_object(event.repository)
    payload: dict[str, object] = {
        "object_kind": event.kind,
        "event_name": event.kind,
        "before": update.old,
        "after": update.new,
        "ref": text(update.ref),
        "ref_protected": False,
        "checkout_sha": checkout_sha(event),
        "message": tag_message(event, update),
        "user_id": event.pusher.id,
        "user_name": text(event.pusher.name or event.pusher.username),
        "user_username": text(event.pusher.username),
        "user_email": text(event.pusher.email),
        "user_avatar": None,
        "project_id": event.repository.id,
        "project": project,
        "commits": [commit_object(event.repository, commit) for commit in listed],
        "total_commits_count": total,
        "push_options": {},
        "repository": {key: project[key] for key in DEPRECATED},
    }
    return [Message(hook_name(event.kind), payload)]


def test(hook: Hook = NO_HOOK) -> Message:
    """A push of one made-up commit. (GitLab's own test is a push of the newest commits that there are.)"""
    (message,) = render(TRIAL, hook)
    return message


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    """An event of refcast's own, of a kind that no receiver knows: `Endpoint Failing Hook` and so on."""
    kind = notices.kind_of(notice)
    return Message(hook_name(kind), {"object_kind": kind, "event_name": kind, **notices.told(notice)})


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """Receivers know a repeated request by any of the three ids, so each of them stays the same over retries."""
    return {
        "User-Agent": f"GitLab/{VERSION}",
        "Idempotency-Key": delivery_id,
        "X-Gitlab-Event": kind,
        "X-Gitlab-Webhook-UUID": delivery_id,
        **({"X-Gitlab-Instance": hook.site} if hook.site else {}),
        "X-Gitlab-Event-UUID": hook.uuid,
    }


def commits_of(event: Event, update: RefUpdate) -> tuple[tuple[Commit, ...], int]:
    """The listed commits, oldest first, and how many there are. A tag has the one that it names, listed or not."""
    if update.deleted:
        return (), 0
    if event.kind == "tag_push":
        return ((event.head,), 1) if event.head else ((), 0)
    return event.commits, event.total


def tag_message(event: Event, update: RefUpdate) -> str | None:
    """An annotated tag's, without the newline at its end; empty for a light one; None for all else."""
    if event.kind != "tag_push" or update.deleted:
        return None
    return text(event.tag.message.rstrip("\n")) if event.tag else ""


def project_object(repository: Repository) -> dict[str, object]:
    """Each address twice, under its new name and under its old one, as GitLab does."""
    homepage, ssh, http = text(repository.homepage), text(repository.ssh_url), text(repository.http_url)
    return {
        "id": repository.id,
        "name": text(repository.name),
        "description": text(repository.description),
        "web_url": homepage,
        "avatar_url": None,
        "git_ssh_url": ssh,
        "git_http_url": http,
        "namespace": text(repository.namespace),
        "visibility_level": 0,
        "path_with_namespace": text(repository.full_name),
        "default_branch": text(repository.default_branch),
        "ci_config_path": None,
        "homepage": homepage,
        "url": ssh,
        "ssh_url": ssh,
        "http_url": http,
    }


def commit_object(repository: Repository, commit: Commit) -> dict[str, object]:
    """`timestamp` is the committer's; `title` is the whole first line."""
    return {
        "id": commit.id,
        "message": text(commit.message),
        "title": text(re.split(r"[\r\n]", commit.message, maxsplit=1)[0]),
        "timestamp": timestamp(commit.committer.time),
        "url": commit_url(repository, commit.id, below="-/commit"),
        "author": {"name": text(commit.author.name), "email": text(commit.author.email)},
        "added": [text(path) for path in commit.changes.added],
        "modified": [text(path) for path in commit.changes.modified],
        "removed": [text(path) for path in commit.changes.removed],
    }
