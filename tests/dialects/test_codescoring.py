"""The CodeScoring dialect: the envelope of one event, and envelopes of many."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import BARE, DELETED, SAMPLES, TAG, UPDATE, events
from refcast import dialects
from refcast.dialects import codescoring, refcast
from refcast.model import Event, Hook

HOOK = Hook(3, "0f6d2c3e-1111-4222-8333-444455556666")


def event_of(event: Event) -> dict[str, Any]:
    """The one event of the envelope."""
    (message,) = codescoring.render(event, HOOK)
    assert message.payload.keys() == {"events"}
    events_told = message.payload["events"]
    assert isinstance(events_told, list)
    (told,) = events_told
    assert isinstance(told, dict)
    return told


def encoded(event: Event) -> bytes:
    (message,) = codescoring.render(event, HOOK)
    return dialects.encode(message.payload)


def told_in(payload: bytes) -> list[Any]:
    envelope = json.loads(payload)
    assert list(envelope) == ["events"]
    assert isinstance(envelope["events"], list)
    return envelope["events"]


class TestRender:
    @pytest.mark.parametrize(("event", "trigger"), [(UPDATE, "push"), (DELETED, "push"), (TAG, "tag_push")])
    def test_an_envelope_of_one_event(self, event: Event, trigger: str) -> None:
        (message,) = codescoring.render(event, HOOK)
        told = event_of(event)
        assert list(told) == ["created_at", "trigger", "payload"]
        assert told["created_at"] == "2024-05-06T07:08:09.123456+00:00"
        assert told["trigger"] == message.kind == trigger

    @pytest.mark.parametrize("name", SAMPLES)
    def test_the_payload_is_the_project_and_then_the_neutral_event(self, name: str) -> None:
        (neutral,) = refcast.render(SAMPLES[name], HOOK)
        payload = event_of(SAMPLES[name])["payload"]
        assert list(payload)[:2] == ["project_id", "project_name"]
        assert payload == {"project_id": 15, "project_name": "team/site", **neutral.payload}

    def test_a_project_is_named_by_all_of_its_name(self) -> None:
        full_name = b"caf\xe9/site".decode("utf-8", "surrogateescape")
        payload = event_of(replace(UPDATE, repository=replace(BARE, full_name=full_name)))["payload"]
        assert payload["project_name"] == "caf\ufffd/site"
        assert payload["raw"].keys() == {"/repository/full_name", "/repository/namespace"}

    def test_an_event_without_a_ref_update_is_not_spoken(self) -> None:
        assert codescoring.render(replace(UPDATE, update=None)) == []


def test_the_test_button_sends_an_empty_payload() -> None:
    message = codescoring.test()
    assert message.kind == "test"
    assert message.payload == {
        "events": [{"created_at": "1970-01-01T00:00:00.000000+00:00", "trigger": "test", "payload": {}}]
    }


def test_the_delivery_has_a_header() -> None:
    assert codescoring.headers("push", "an-id") == {"User-Agent": "refcast", "Refcast-Delivery": "an-id"}


class TestBatch:
    def test_codescoring_alone_batches(self) -> None:
        found = [name for name, one in dialects.DIALECTS.items() if isinstance(one, dialects.Batching)]
        assert found == ["codescoring"]

    def test_one_payload_stays_as_it_is(self) -> None:
        assert codescoring.batch([encoded(UPDATE)]) == encoded(UPDATE)

    def test_several_are_one_envelope_in_their_order(self) -> None:
        payloads = [encoded(event) for event in (UPDATE, TAG, DELETED, UPDATE)]
        batch = codescoring.batch(payloads)
        assert told_in(batch) == [event_of(event) for event in (UPDATE, TAG, DELETED, UPDATE)]
        assert len(batch) == sum(map(len, payloads)) - 3 * len(b'{"events":[]}') + 3

    def test_a_frozen_event_keeps_every_byte(self) -> None:
        payload = b'{"events":[{"created_at":"x",  "trigger":"push","payload":{"a":1.0,"b":"\\u00e9"}}]}'
        assert payload[len(b'{"events":[') : -2] in codescoring.batch([encoded(TAG), payload, encoded(UPDATE)])

    def test_nothing_is_an_empty_envelope(self) -> None:
        assert codescoring.batch([]) == dialects.encode({"events": []})

    @pytest.mark.parametrize("payload", [b"", b"{}", b'{"events":[', b'{"events":[{}]} ', b'[{"events":[]}]'])
    def test_what_is_no_envelope_is_refused(self, payload: bytes) -> None:
        with pytest.raises(ValueError, match="not a payload of the dialect codescoring"):
            codescoring.batch([encoded(UPDATE), payload])

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(events.filter(lambda event: event.update is not None), max_size=4), st.integers(0, 4))
    def test_batches_of_batches_are_one_batch(self, made: list[Event], place: int) -> None:
        payloads = [encoded(event) for event in made]
        whole = codescoring.batch(payloads)
        assert told_in(whole) == [event_of(event) for event in made]
        assert codescoring.batch([codescoring.batch(payloads[:place]), codescoring.batch(payloads[place:])]) == whole
