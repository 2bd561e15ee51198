"""The dialect of GitHub: `push` of branches and tags, `create`, `delete`, and `ping` as its test.

Fields are those of GitHub's page "Webhook events and payloads", each one that octokit's schemas require.
A new branch or tag is a `create` and a `push`, a deleted one a `delete` and a `push`. Addresses of the REST
API, which nothing here serves, have the shape that a GitHub Enterprise Server at the home page's host gives them.
"""

from __future__ import annotations

from urllib.parse import quote

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, compare_url, text, timestamp
from refcast.dialects.gogs import person_object
from refcast.model import NO_HOOK, Commit, Event, Hook, Ident, Message, Pusher, RefUpdate, Repository

NAME = "github"
CONTENT_TYPES: tuple[str, ...] = ("json", "form")
SIGNING = "github"

COMMITS: int | None = 2048
"""How many commits a push lists at most: https://docs.github.com/webhooks/webhook-events-and-payloads#push"""
FILES = True
REJECTS = True

CREATED_AT = "1970-01-01T00:00:00Z"
"""When the repository, or the hook, was made: nobody says, and receivers need a time that parses."""

REPOSITORY_LINKS = {
    "forks_url": "/forks",
    "keys_url": "/keys{/key_id}",
    "collaborators_url": "/collaborators{/collaborator}",
    "teams_url": "/teams",
    "hooks_url": "/hooks",
    "issue_events_url": "/issues/events{/number}",
    "events_url": "/events",
    "assignees_url": "/assignees{/user}",
    "branches_url": "/branches{/branch}",
    "tags_url": "/tags",
    "blobs_url": "/git/blobs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "trees_url": "/git/trees{/sha}",
    "statuses_url": "/statuses/{sha}",
    "languages_url": "/languages",
    "stargazers_url": "/stargazers",
    "contributors_url": "/contributors",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "commits_url": "/commits{/sha}",
    "git_commits_url": "/git/commits{/sha}",
    "comments_url": "/comments{/number}",
    "issue_comment_url": "/issues/comments{/number}",
    "contents_url": "/contents/{+path}",
    "compare_url": "/compare/{base}...{head}",
    "merges_url": "/merges",
    "archive_url": "/{archive_format}{/ref}",
    "downloads_url": "/downloads",
    "issues_url": "/issues{/number}",
    "pulls_url": "/pulls{/number}",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "labels_url": "/labels{/name}",
    "releases_url": "/releases{/id}",
    "deployments_url": "/deployments",
}
"""What follows a repository's address in the API."""

USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
"""What follows a user's address in the API."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """What GitHub sends of one moved ref; a ref that is neither branch nor tag is a push with its full name."""
    update = event.update
    if update is None:
        return []
    if update.kind == "other":
        return [push(event, update)]
    if update.deleted:
        return [delete(event, update), push(event, update)]
    if update.created:
        return [create(event, update), push(event, update)]
    return [push(event, update)]


def test(hook: Hook = NO_HOOK) -> Message:
    """A ping. Its addresses are under .invalid (RFC 6761): the endpoint's may hold a secret, and no others exist."""
    url = f"https://refcast.invalid/hooks/{hook.id}"
    return Message(
        "ping",
        {
            "zen": "A push never waits.",
            "hook_id": hook.id,
            "hook": {
                "type": "Repository",
                "id": hook.id,
                "name": "web",
                "active": True,
                "events": ["create", "delete", "push"],
                "config": {"content_type": "json", "insecure_ssl": "0", "url": "https://refcast.invalid/"},
                "updated_at": CREATED_AT,
                "created_at": CREATED_AT,
                "url": url,
                "test_url": f"{url}/test",
                "ping_url": f"{url}/pings",
                "deliveries_url": f"{url}/deliveries",
                "last_response": {"code": None, "status": "unused", "message": None},
            },
        },
    )


notice = notices.plain


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """The user agent has the prefix by which GitHub says its webhooks can be told."""
    return {
        "User-Agent": "GitHub-Hookshot/refcast",
        "X-GitHub-Delivery": delivery_id,
        "X-GitHub-Event": kind,
        "X-GitHub-Hook-ID": str(hook.id),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }


def push(event: Event, update: RefUpdate) -> Message:
    """Oldest commit first. A tag that moves is `forced`, as git takes no other way to move one."""
    commits = () if update.deleted else event.commits
    head = None if update.deleted else event.head
    moved_tag = update.kind == "tag" and not update.created and not update.deleted
    payload: dict[str, object] = {
        "ref": text(update.ref),
        "before": update.old,
        "after": update.new,
        "repository": pushed_repository_object(event),
        "pusher": {"name": text(event.pusher.username), "email": text(event.pusher.email) or None},
        "sender": user_object(event.pusher, event.repository),
        "created": update.created,
        "deleted": update.deleted,
        "forced": update.forced or moved_tag,
        "base_ref": None,
        "compare": compare(event, update),
        "commits": [commit_object(event, commit) for commit in commits],
        "head_commit": commit_object(event, head) if head else None,
    }
    return Message("push", payload)


def create(event: Event, update: RefUpdate) -> Message:
    payload: dict[str, object] = {
        "ref": text(update.short),
        "ref_type": update.kind,
        "master_branch": text(event.repository.default_branch),
        "description": text(event.repository.description) or None,
        "pusher_type": "user",
        "repository": repository_object(event),
        "sender": user_object(event.pusher, event.repository),
    }
    return Message("create", payload)


def delete(event: Event, update: RefUpdate) -> Message:
    payload: dict[str, object] = {
        "ref": text(update.short),
        "ref_type": update.kind,
        "pusher_type": "user",
        "repository": repository_object(event),
        "sender": user_object(event.pusher, event.repository),
    }
    return Message("delete", payload)


def compare(event: Event, update: RefUpdate) -> str:
    """The page of the change, with twelve digits of each id; by the repository's template, where there is one.

    Of a new ref: its only commit, the range of its commits, or the ref alone where it has none or too many to list.
    """
    repository = event.repository
    if repository.compare_url or not repository.homepage:
        return compare_url(repository, update)
    if not update.created:
        page = f"compare/{update.old[:12]}...{update.new[:12]}"
    elif not event.commits or event.total > len(event.commits):
        page = f"compare/{quote(text(update.short))}"
    elif event.total == 1:
        page = f"commit/{update.new[:12]}"
    else:
        page = f"compare/{event.commits[0].id[:12]}^...{update.new[:12]}"
    return text(f"{repository.homepage.rstrip('/')}/{page}")


def commit_object(event: Event, commit: Commit) -> dict[str, object]:
    """`timestamp` is the committer's. GitHub drops the newline that ends a message."""
    return {
        "id": commit.id,
        "tree_id": commit.tree,
        "distinct": commit.distinct,
        "message": text(commit.message.rstrip("\n")),
        "timestamp": timestamp(commit.committer.time, utc="Z"),
        "url": commit_url(event.repository, commit.id, below="commit"),
        "author": named_object(commit.author, event.pusher),
        "committer": named_object(commit.committer, event.pusher),
        "added": [text(path) for path in commit.changes.added],
        "removed": [text(path) for path in commit.changes.removed],
        "modified": [text(path) for path in commit.changes.modified],
    }


def named_object(person: Ident, pusher: Pusher) -> dict[str, object]:
    """An unknown e-mail address is null, and `username` is there for a known user alone."""
    named = person_object(person, pusher)
    if not named["username"]:
        del named["username"]
    return named | {"email": named["email"] or None}


def pushed_repository_object(event: Event) -> dict[str, object]:
    """A push tells the repository in an older form: epoch seconds, the web page as `url`, a named owner."""
    repository = event.repository
    owner = owner_of(repository)
    return repository_object(event) | {
        "owner": {"name": text(owner.username), "email": None, **user_object(owner, repository)},
        "url": text(repository.homepage),
        "created_at": 0,
        "pushed_at": int(event.time.timestamp()),
        "stargazers": 0,
        "master_branch": text(repository.default_branch),
    }


def repository_object(event: Event) -> dict[str, object]:
    """What a plain server lacks has a fixed value: it is private, no fork, and nobody watches it."""
    repository = event.repository
    homepage = text(repository.homepage)
    api = below_api(repository, "repos", repository.full_name)
    now = timestamp(event.time, utc="Z")
    return {
        "id": repository.id,
        "node_id": "",
        "name": text(repository.name),
        "full_name": text(repository.full_name),
        "private": True,
        "owner": user_object(owner_of(repository), repository),
        "html_url": homepage,
        "description": text(repository.description) or None,
        "fork": False,
        "url": api,
        **links(api, REPOSITORY_LINKS),
        "created_at": CREATED_AT,
        "updated_at": now,
        "pushed_at": now,
        "git_url": text(repository.http_url),
        "ssh_url": text(repository.ssh_url),
        "clone_url": text(repository.http_url),
        "svn_url": homepage,
        "homepage": None,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": False,
        "has_projects": False,
        "has_downloads": False,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": 0,
        "license": None,
        "allow_forking": False,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private",
        "forks": 0,
        "open_issues": 0,
        "watchers": 0,
        "default_branch": text(repository.default_branch),
        "custom_properties": {},
    }


def owner_of(repository: Repository) -> Pusher:
    """The first part of the namespace, with id 0 whoever pushes, so that it never changes."""
    return Pusher(repository.namespace.partition("/")[0])


def user_object(user: Pusher, repository: Repository) -> dict[str, object]:
    """A user of the repository's site. The addresses are that site's: no third party hears who pushes."""
    login = text(user.username)
    page = below_site(repository, quote(login, safe=""))
    api = below_api(repository, "users", user.username)
    return {
        "login": login,
        "id": user.id,
        "node_id": "",
        "avatar_url": page and f"{page}.png",
        "gravatar_id": "",
        "url": api,
        "html_url": page,
        **links(api, USER_LINKS),
        "type": "User",
        "site_admin": False,
    }


def links(address: str, tails: dict[str, str]) -> dict[str, object]:
    """Each tail below the address; all of them empty where that is."""
    return {key: address and address + tail for key, tail in tails.items()}


def below_api(repository: Repository, noun: str, name: str) -> str:
    return below_site(repository, f"api/v3/{noun}/{quote(text(name))}")


def below_site(repository: Repository, path: str) -> str:
    """A path at the scheme and host of the repository's home page; empty where it has none."""
    if not repository.homepage:
        return ""
    return "/".join([*text(repository.homepage).split("/")[:3], path])
