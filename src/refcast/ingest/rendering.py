"""What is stored of an event: its contents in the dialects of the endpoints that want it, and their deliveries."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence

from refcast import dialects
from refcast.model import Endpoint, Event
from refcast.store.intake import NewContent, NewDelivery, NewEvent

_NAMESPACE = uuid.UUID("7a1c2b1e-6d0f-4c57-9f43-4e1e2f0a9d55")
"""Delivery ids are made of what they identify, so that ingesting a record again makes the same ones."""


def rendered(event: Event, record_id: str, endpoints: Sequence[Endpoint]) -> NewEvent:
    """The event with a content for each dialect that an endpoint wants it in, and a delivery for each endpoint."""
    update = event.update
    wanting: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        if endpoint.wants(event):
            wanting[endpoint.dialect].append(endpoint)
    contents = []
    for name, those in wanting.items():
        dialect = dialects.get(name)
        for index, message in enumerate(dialect.render(event)):
            deliveries = []
            for endpoint in those:
                what = (record_id, update.ref if update else event.kind, event.recovered, endpoint.id, index)
                delivery_id = str(uuid.uuid5(_NAMESPACE, repr(what)))
                headers = dialect.headers(message.kind, delivery_id)
                deliveries.append(
                    NewDelivery(delivery_id, endpoint.id, endpoint.content_type, dialect.SIGNING, headers)
                )
            contents.append(NewContent(name, message.kind, dialects.encode(message.payload), deliveries))
    return NewEvent(event, contents)
