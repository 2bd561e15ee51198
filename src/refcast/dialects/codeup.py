"""The dialect of Codeup (Alibaba Cloud DevOps): `push` and `tag_push`.

Fields and their order are those of the system's own help page, "Webhooks settings"; `checkout_sha`,
`user_extern_uid` and `aliyun_pk`, which that page leaves out, are those that its receivers declare.
Notes and merge requests, which a plain git server does not have, are not spoken here.
"""

from __future__ import annotations

import re

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, text, timestamp
from refcast.model import NO_HOOK, Commit, Event, Hook, Message, Notice, Repository

NAME = "codeup"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "codeup-token"
COMMITS: int | None = None
FILES = False
REJECTS = True

SCP_LIKE = re.compile(r"((?:[^/@:\[\]]+@)?(?:\[[0-9A-Fa-f:.]+\]|[^/@:\[\]]+)):(.+)", re.DOTALL)
"""`[user@]host:path`, by git's rule: a colon before the first slash."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message for a moved ref. A tag lists no commits; a ref that is neither branch nor tag is a push."""
    update = event.update
    if update is None:
        return []
    tag = event.kind == "tag_push"
    listed = () if tag or update.deleted else event.commits
    ids = {"before": update.old, "after": update.new}
    ref = {"ref": text(update.ref)}
    payload: dict[str, object] = {
        "object_kind": event.kind,
        **({**ref, **ids} if tag else {**ids, **ref}),
        "checkout_sha": checkout_sha(event),
        "user_id": event.pusher.id,
        "user_name": text(event.pusher.name or event.pusher.username),
        "user_email": text(event.pusher.email),
        "user_extern_uid": text(event.pusher.username),
        "aliyun_pk": "",
        "project_id": event.repository.id,
        "repository": repository_object(event.repository, tag=tag),
        "commits": [commit_object(event.repository, commit) for commit in listed],
        "total_commits_count": 0 if tag or update.deleted else event.total,
    }
    return [Message(hook_name(event.kind), payload)]


def test(hook: Hook = NO_HOOK) -> Message:
    """The body that the help page shows for the test button: two ids and nothing else."""
    return Message(
        hook_name("push"),
        {
            "before": "f2e2d577fab1562a6239b82721fd9827e05fdce6",
            "after": "eb63d0277e64684236ebf8394b919230c4b8a286",
        },
    )


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    """An event of refcast's own, of a kind that no receiver knows: `Endpoint Failing Hook` and so on."""
    kind = notices.kind_of(notice)
    return Message(hook_name(kind), {"object_kind": kind, **notices.told(notice)})


def hook_name(kind: str) -> str:
    """How this family writes a kind in its header: `tag_push` is `Tag Push Hook`."""
    return f"{kind.replace('_', ' ').title()} Hook"


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """The event under both names: the help page prints the one, most receivers read the other.

    The delivery's id has no documented header; `X-Codeup-Delivery` is the one that receivers look for.
    """
    return {
        "User-Agent": "refcast",
        "Codeup-Event": kind,
        "X-Codeup-Event": kind,
        "X-Codeup-Delivery": delivery_id,
    }


def checkout_sha(event: Event) -> str | None:
    """The commit to check out: an annotated tag peeled; None for a deletion, and for a tag of no commit."""
    if event.update is None or event.update.deleted:
        return None
    if event.head is not None:
        return event.head.id
    return None if event.kind == "tag_push" else event.update.new


def repository_object(repository: Repository, *, tag: bool) -> dict[str, object]:
    """`url` is scp-like in a push, ssh:// in a tag push, as on the help page; `git_ssh_url` is scp-like."""
    scp = scp_form(repository.ssh_url, disk=repository.path)
    return {
        "name": text(repository.name),
        "url": text(ssh_form(repository.ssh_url) if tag else scp),
        "description": text(repository.description),
        "homepage": text(repository.homepage),
        "git_http_url": text(repository.http_url),
        "git_ssh_url": text(scp),
        "visibility_level": 0,
    }


def commit_object(repository: Repository, commit: Commit) -> dict[str, object]:
    return {
        "id": commit.id,
        "message": text(commit.message),
        "timestamp": timestamp(commit.committer.time),
        "url": commit_url(repository, commit.id, below="commits"),
        "author": {"name": text(commit.author.name), "email": text(commit.author.email)},
    }


def scp_form(url: str, *, disk: str = "") -> str:
    """`ssh://git@host/team/site.git` as `git@host:team/site.git`; anything else as it is.

    A port keeps the ssh:// form, which alone can say it. A path that is the repository's own on the
    server's disk keeps its slash, without which it would be sought in the home directory.
    """
    if not url.startswith("ssh://"):
        return url
    authority, _, path = url.removeprefix("ssh://").partition("/")
    host = authority.rpartition("@")[2]
    if not host or not path or ":" in host.rpartition("]")[2]:
        return url
    return f"{authority}:{'/' if f'/{path}' == disk else ''}{path}"


def ssh_form(url: str) -> str:
    """`git@host:team/site.git` as `ssh://git@host/team/site.git`; anything else as it is."""
    scp = None if "://" in url else SCP_LIKE.fullmatch(url)
    return f"ssh://{scp[1]}/{scp[2].removeprefix('/')}" if scp else url
