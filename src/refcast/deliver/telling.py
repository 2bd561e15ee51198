"""What one endpoint is told of the health of another, in the words of its own dialect."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from refcast import dialects
from refcast.model import Endpoint, Hook, Notice
from refcast.store.intake import NewContent, NewDelivery


def told(notice: Notice, endpoint: Endpoint, homepage: str) -> NewContent:
    """A notice with its delivery for `endpoint`. `homepage` is the settings' template of the repositories' pages."""
    dialect = dialects.get(endpoint.dialect)
    delivery_id = str(uuid.uuid4())
    parts = urlsplit(homepage)
    hook = Hook(endpoint.id, delivery_id, f"{parts.scheme}://{parts.netloc}" if parts.netloc else "")
    message = dialect.notice(notice, hook)
    delivery = NewDelivery(
        id=delivery_id,
        endpoint_id=endpoint.id,
        content_type=endpoint.content_type,
        signing=endpoint.signing or dialect.SIGNING,
        headers=dialect.headers(message.kind, delivery_id, hook),
        window=endpoint.batch_window if isinstance(dialect, dialects.Batching) else 0.0,
    )
    return NewContent(dialect.NAME, message.kind, dialects.encode(message.payload), [delivery])
