"""refcast's own dialect: everything that an event knows, in git's own words.

`refcast.schema.json` beside this file is its JSON Schema. Within one `VERSION` members are only added: a receiver
ignores those that it does not know. Whatever else changes makes a new version.
"""

from __future__ import annotations

import base64

from refcast.dialects import notices
from refcast.dialects.fields import commit_url, compare_url, text, timestamp
from refcast.model import (
    NO_HOOK,
    Commit,
    Event,
    FileChanges,
    Hook,
    Ident,
    Message,
    Notice,
    Pusher,
    RefUpdate,
    Repository,
    Tag,
)

NAME = "refcast"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "standard-webhooks"
COMMITS: int | None = None
FILES = True
REJECTS = True

VERSION = 1


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """One message for a moved ref, of the event's own kind."""
    if event.update is None:
        return []
    return [Message(event.kind, neutral(event, event.update, hook))]


def test(hook: Hook = NO_HOOK) -> Message:
    return Message("test", {"version": VERSION, "kind": "test", "id": hook.uuid})


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    """What the schema calls `health`: of another endpoint, and of no repository."""
    kind = notices.kind_of(notice)
    return Message(kind, {"version": VERSION, "kind": kind, "id": hook.uuid, **notices.told(notice)})


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    return {"User-Agent": "refcast", "Refcast-Event": kind, "Refcast-Delivery": delivery_id}


def neutral(event: Event, update: RefUpdate, hook: Hook) -> dict[str, object]:
    """The event as the schema has it. Commits come oldest first, as in the Event."""
    payload: dict[str, object] = {
        "version": VERSION,
        "kind": event.kind,
        "id": hook.uuid,
        "time": timestamp(event.time, timespec="microseconds"),
        "recovered": event.recovered,
        "incomplete": event.incomplete,
        "repository": repository_object(event.repository),
        "pusher": pusher_object(event.pusher),
        "push_options": list(event.options),
        "update": update_object(event.repository, update),
        "tag": event.tag and tag_object(event.tag),
        "head": event.head and commit_object(event.repository, event.head),
        "commits": [commit_object(event.repository, commit) for commit in event.commits],
        "commits_total": event.total,
        "commits_cut": event.total > len(event.commits),
    }
    raw: dict[str, object] = {}
    written = {name: unicode_only(value, f"/{name}", raw) for name, value in payload.items()}
    return {**written, "raw": raw}


def update_object(repository: Repository, update: RefUpdate) -> dict[str, object]:
    return {
        "ref": update.ref,
        "kind": update.kind,
        "short": update.short,
        "old": update.old,
        "new": update.new,
        "created": update.created,
        "deleted": update.deleted,
        "forced": update.forced,
        "compare_url": compare_url(repository, update),
    }


def commit_object(repository: Repository, commit: Commit) -> dict[str, object]:
    return {
        "id": commit.id,
        "tree": commit.tree,
        "parents": list(commit.parents),
        "author": ident_object(commit.author),
        "committer": ident_object(commit.committer),
        "message": commit.message,
        "url": commit_url(repository, commit.id, below="commit"),
        "distinct": commit.distinct,
        "changes": changes_object(commit.changes),
    }


def changes_object(changes: FileChanges) -> dict[str, object]:
    return {
        "added": list(changes.added),
        "modified": list(changes.modified),
        "removed": list(changes.removed),
        "cut": changes.cut,
    }


def tag_object(tag: Tag) -> dict[str, object]:
    return {
        "id": tag.id,
        "name": tag.name,
        "target": tag.target,
        "tagger": tag.tagger and ident_object(tag.tagger),
        "message": tag.message,
    }


def ident_object(ident: Ident) -> dict[str, object]:
    return {"name": ident.name, "email": ident.email, "time": timestamp(ident.time)}


def pusher_object(pusher: Pusher) -> dict[str, object]:
    return {
        "id": pusher.id,
        "username": pusher.username,
        "name": pusher.name or pusher.username,
        "email": pusher.email,
    }


def repository_object(repository: Repository) -> dict[str, object]:
    """Its path on the server's disk is nobody's business."""
    return {
        "id": repository.id,
        "name": repository.name,
        "namespace": repository.namespace,
        "full_name": repository.full_name,
        "description": repository.description,
        "default_branch": repository.default_branch,
        "homepage": repository.homepage,
        "http_url": repository.http_url,
        "ssh_url": repository.ssh_url,
    }


def unicode_only(value: object, place: str, raw: dict[str, object]) -> object:
    """`value`, of JSON's kinds, with every text in it as valid Unicode.

    Into `raw` go the bytes of each text that is not what the repository has, in base64, by the text's place: a
    JSON Pointer (RFC 6901), which needs no escapes as our names hold neither `/` nor `~`.
    """
    if isinstance(value, str):
        shown = text(value)
        if shown != value:
            try:
                held = value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # a surrogate that stands for no byte
                return shown
            if held != shown.encode():
                raw[place] = base64.b64encode(held).decode("ascii")
        return shown
    if isinstance(value, list):
        return [unicode_only(one, f"{place}/{number}", raw) for number, one in enumerate(value)]
    if isinstance(value, dict):
        return {name: unicode_only(one, f"{place}/{name}", raw) for name, one in value.items()}
    return value
