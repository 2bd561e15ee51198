"""The dialect of GitCode (AtomGit), which grew out of GitLab's: `push` and `tag_push`.

Fields and their order are those of the system's own help pages, "Commit Event" and "Tag Push Event"
(https://docs.gitcode.com), with what its requests hold besides. Issues, merge requests and notes, which a
plain git server does not have, are not spoken here.
"""

from __future__ import annotations

import re

from refcast.dialects import gitlab
from refcast.dialects.codeup import checkout_sha, hook_name
from refcast.dialects.fields import commit_url, text, utc_timestamp
from refcast.dialects.trial import TRIAL
from refcast.model import NO_HOOK, Commit, Event, Hook, Message, RefUpdate, Repository

NAME = "gitcode"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "gitcode-signature"
"""Of the help page's two, the one that it calls more secure; `gitcode-token` is the other."""
COMMITS: int | None = None
FILES = True
REJECTS = True

CO_AUTHOR = re.compile(r"^co-authored-by:[ \t]*([^<>\r\n]*?)[ \t]*<([^<>\r\n]*)>[ \t]*$", re.IGNORECASE | re.MULTILINE)


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message for a moved ref; a ref that is neither branch nor tag is a push with its full name."""
    update = event.update
    if update is None:
        return []
    tag = event.kind == "tag_push"
    payload: dict[str, object] = {
        "object_kind": event.kind,
        "event_name": event.kind,
        "before": update.old,
        "after": update.new,
        "ref": text(update.ref),
        **({"base_ref": ""} if tag else {}),
        "checkout_sha": checkout_sha(event),
        "message": text(event.tag.message) if tag and event.tag and not update.deleted else "",
        "user_id": event.pusher.id,
        "user_name": text(event.pusher.name or event.pusher.username),
        "user_username": text(event.pusher.username),
        "user_email": text(event.pusher.email),
        "user_avatar": "",
        "project_id": event.repository.id,
        "project": project_object(event.repository),
        **(tagged(event, update) if tag else listed(event, update)),
        "push_options": [text(option) for option in event.options],
        "repository": repository_object(event.repository),
        **({} if tag else {"git_branch": text(update.short), "git_commit_no": update.new}),
        "manual_build": False,
        "uuid": hook.uuid,
        "hook_id": hook.id,
        "hook_type": "project",
    }
    return [Message(hook_name(event.kind), payload)]


def test(hook: Hook = NO_HOOK) -> Message:
    """An ordinary push, as the test button's is: of one made-up commit, to a repository that is none."""
    (message,) = render(TRIAL, hook)
    return message


notice = gitlab.notice


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    return {
        "User-Agent": "git-gitcode-hook",
        "X-GitCode-Event": kind,
        "X-GitCode-Delivery": delivery_id,
    }


def listed(event: Event, update: RefUpdate) -> dict[str, object]:
    """A push's commits, oldest first, with their files; a deletion has none."""
    commits = () if update.deleted else event.commits
    return {
        "commits": [
            {
                **commit_object(event.repository, commit),
                "added": [text(path) for path in commit.changes.added],
                "removed": [text(path) for path in commit.changes.removed],
                "modified": [text(path) for path in commit.changes.modified],
                "cooperate_authors": authors(commit),
            }
            for commit in commits
        ],
        "total_commits_count": 0 if update.deleted else event.total,
    }


def tagged(event: Event, update: RefUpdate) -> dict[str, object]:
    """The commit that a tag names, without its files; none for a deletion and for a tag of no commit."""
    head = None if update.deleted else event.head
    commits = [commit_object(event.repository, head)] if head else []
    return {"commits": commits, "total_commits_count": len(commits)}


def commit_object(repository: Repository, commit: Commit) -> dict[str, object]:
    """`timestamp` is the committer's."""
    return {
        "id": commit.id,
        "message": text(commit.message),
        "timestamp": utc_timestamp(commit.committer.time),
        "url": commit_url(repository, commit.id, below="commits/detail"),
        "author": {"name": text(commit.author.name), "email": text(commit.author.email)},
    }


def authors(commit: Commit) -> list[object]:
    """The author, then whom the message's `Co-authored-by:` lines name; each address once."""
    found = {commit.author.email.casefold(): (commit.author.name, commit.author.email)}
    for name, email in CO_AUTHOR.findall(commit.message):
        found.setdefault(email.casefold(), (name, email))
    return [{"name": text(name), "email": text(email)} for name, email in found.values()]


def project_object(repository: Repository) -> dict[str, object]:
    """`url`, `ssh_url` and `git_ssh_url` are one address, `http_url` and `git_http_url` another, as seen."""
    return {
        "id": repository.id,
        "name": text(repository.name),
        "description": text(repository.description),
        "web_url": text(repository.homepage),
        "avatar_url": "",
        "git_ssh_url": text(repository.ssh_url),
        "git_http_url": text(repository.http_url),
        "namespace": text(repository.namespace),
        "visibility_level": 0,
        "path_with_namespace": text(repository.full_name),
        "default_branch": text(repository.default_branch),
        "homepage": text(repository.homepage),
        "url": text(repository.ssh_url),
        "ssh_url": text(repository.ssh_url),
        "http_url": text(repository.http_url),
    }


def repository_object(repository: Repository) -> dict[str, object]:
    return {
        "name": text(repository.name),
        "url": text(repository.ssh_url),
        "description": text(repository.description),
        "homepage": text(repository.homepage),
        "git_http_url": text(repository.http_url),
        "git_ssh_url": text(repository.ssh_url),
        "visibility_level": 0,
    }
