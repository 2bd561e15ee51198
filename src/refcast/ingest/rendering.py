"""What is stored of an event: its contents in the dialects of the endpoints that want it, and their deliveries."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit

from refcast import dialects, filters
from refcast.history import Limits
from refcast.model import Endpoint, Event, Hook
from refcast.settings import Settings
from refcast.store.intake import NewContent, NewDelivery, NewEvent

_NAMESPACE = uuid.UUID("7a1c2b1e-6d0f-4c57-9f43-4e1e2f0a9d55")
"""Delivery ids are made of what they identify, so that ingesting a record again makes the same ones."""


def limits(endpoint: Endpoint, settings: Settings) -> Limits:
    """How much an endpoint's events list: what it says itself, else its dialect, else the settings."""
    commits = endpoint.commits
    if commits is None:
        commits = dialects.get(endpoint.dialect).COMMITS
    return Limits(
        commits=settings.commits if commits is None else commits,
        files=settings.files if endpoint.files is None else endpoint.files,
    )


def widest(endpoints: Iterable[Endpoint], settings: Settings) -> Limits:
    """How much must be read of history, that each endpoint can list what it may."""
    all_of_them = [limits(endpoint, settings) for endpoint in endpoints]
    return Limits(
        commits=max((one.commits for one in all_of_them), default=0),
        files=max((one.files for one in all_of_them), default=0),
    )


def paths(endpoints: Iterable[Endpoint]) -> list[filters.Paths]:
    """The path filters of these endpoints, each once."""
    return [filters.Paths(patterns) for patterns in dict.fromkeys(one.paths for one in endpoints) if patterns]


def rendered(
    event: Event,
    record_id: str,
    endpoints: Iterable[Endpoint],
    settings: Settings,
    counts: Counter[int] | None = None,
) -> NewEvent:
    """The event with a delivery for each endpoint that wants it. Endpoints to which it says the same share contents.

    `counts` has how many events of the same push each endpoint, by its number, has got before, and counts on: what is
    more than an endpoint takes is held."""
    counts = Counter() if counts is None else counts
    sharing: defaultdict[tuple[str, tuple[tuple[str, bytes], ...]], list[tuple[Endpoint, Hook]]] = defaultdict(list)
    what = (record_id, event.update.ref if event.update else event.kind, event.recovered)
    passed_over: dict[str, list[str]] = {}
    for endpoint in endpoints:
        if reasons := filters.refusals(endpoint, event):
            passed_over[endpoint.name] = reasons
            continue
        dialect = dialects.get(endpoint.dialect)
        most = limits(endpoint, settings)
        hook = Hook(endpoint.id, _id(*what, endpoint.id), site(event.repository.homepage))
        messages = dialect.render(dialects.limited(event, most.commits, most.files), hook)
        if not messages:
            passed_over[endpoint.name] = [f"{dialect.NAME} has no words for this"]
        said = tuple((message.kind, dialects.encode(message.payload)) for message in messages)
        sharing[dialect.NAME, said].append((endpoint, hook))
        counts[endpoint.id] += bool(said)
    contents = []
    for (name, said), those in sharing.items():
        for index, (kind, payload) in enumerate(said):
            deliveries = [
                _delivery(
                    endpoint,
                    hook,
                    kind,
                    _id(*what, endpoint.id, index),
                    held=endpoint.max_events is not None and counts[endpoint.id] > endpoint.max_events,
                )
                for endpoint, hook in those
            ]
            contents.append(NewContent(name, kind, payload, deliveries))
    return NewEvent(event, contents, passed_over)


def _delivery(endpoint: Endpoint, hook: Hook, kind: str, delivery_id: str, *, held: bool) -> NewDelivery:
    dialect = dialects.get(endpoint.dialect)
    return NewDelivery(
        id=delivery_id,
        endpoint_id=endpoint.id,
        content_type=endpoint.content_type,
        signing=endpoint.signing or dialect.SIGNING,
        headers=dialect.headers(kind, delivery_id, hook),
        window=endpoint.batch_window if isinstance(dialect, dialects.Batching) else 0.0,
        held=held,
    )


def _id(*what: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, repr(what)))


def site(homepage: str) -> str:
    """Where the pages of a repository's server are; empty where no home page is known."""
    parts = urlsplit(homepage)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
