"""The dialect of CodeScoring: its envelope, which holds any number of events, around refcast's own words.

The envelope and its token are those of the system's own help page, "Connecting webhooks". The triggers that the
page lists tell of analyses, which a git server does not make; here they are `push`, `tag_push` and `test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from refcast.dialects import notices, refcast
from refcast.dialects.fields import text, timestamp
from refcast.dialects.refcast import neutral
from refcast.model import NO_HOOK, Event, Hook, Message, Notice

NAME = "codescoring"
CONTENT_TYPES: tuple[str, ...] = ("json",)
SIGNING = "codescoring-token"
COMMITS: int | None = None
FILES = True
REJECTS = False

OPENING, CLOSING = b'{"events":[', b"]}"
"""What stands around the events of an encoded envelope."""


def render(event: Event, hook: Hook = NO_HOOK) -> list[Message]:
    """An envelope of one event for a moved ref; `batch` makes one of many."""
    update = event.update
    if update is None:
        return []
    payload = {
        "project_id": event.repository.id,
        "project_name": text(event.repository.full_name),
        **neutral(event, update, hook),
    }
    return [Message(event.kind, envelope(event.time, event.kind, payload))]


def test(hook: Hook = NO_HOOK) -> Message:
    """The trigger `test` with an empty payload. A test has no time of its own; the epoch is one that parses."""
    return Message("test", envelope(datetime(1970, 1, 1, tzinfo=UTC), "test", {}))


def notice(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    """An event of no project, with a trigger of refcast's own; its time is when the other began to fail."""
    kind, payload = notices.kind_of(notice), refcast.notice(notice, hook).payload
    return Message(kind, envelope(notice.since, kind, payload))


def headers(kind: str, delivery_id: str, hook: Hook = NO_HOOK) -> dict[str, str]:
    """CodeScoring names neither event nor request in a header; an id is worth having in a receiver's log."""
    return {"User-Agent": "refcast", "Refcast-Delivery": delivery_id}


def batch(payloads: Sequence[bytes]) -> bytes:
    """One envelope with the events of all these, in their order, each byte of an event as it was.

    Takes envelopes of several events as well. ValueError for what is no envelope of ours.
    """
    for payload in payloads:
        if not (payload.startswith(OPENING) and payload.endswith(CLOSING)):
            raise ValueError("not a payload of the dialect codescoring")
    events = (payload[len(OPENING) : -len(CLOSING)] for payload in payloads)
    return OPENING + b",".join(event for event in events if event) + CLOSING


def envelope(time: datetime, trigger: str, payload: dict[str, object]) -> dict[str, object]:
    created_at = timestamp(time, timespec="microseconds")
    return {"events": [{"created_at": created_at, "trigger": trigger, "payload": payload}]}
