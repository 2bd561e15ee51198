"""How a notice of another endpoint's health is told, where a dialect has no words of its own for it: none has.

Its kind is refcast's own, so that a receiver which goes by kinds leaves it alone. The chats' lines are in `chat`.
"""

from __future__ import annotations

from refcast.dialects.fields import text, timestamp
from refcast.model import NO_HOOK, Hook, Message, Notice


def kind_of(notice: Notice) -> str:
    """`endpoint_failing`, `endpoint_disabled` or `endpoint_recovered`."""
    return f"endpoint_{notice.state}"


def told(notice: Notice) -> dict[str, object]:
    """What every dialect but the chats tells. `since` is RFC 3339 in UTC."""
    return {
        "endpoint": text(notice.endpoint),
        "state": notice.state,
        "reason": text(notice.reason),
        "since": timestamp(notice.since, timespec="microseconds"),
        "waiting": notice.waiting,
    }


def plain(notice: Notice, hook: Hook = NO_HOOK) -> Message:
    """For dialects that name the event in a header alone."""
    kind = kind_of(notice)
    return Message(kind, {"event": kind, **told(notice)})
