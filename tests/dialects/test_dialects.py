"""The table of dialects and what all of them hold to: any event, any text, valid and repeatable."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import NOTICES, SAMPLES, UPDATE, events, times
from refcast import dialects, signing
from refcast.dialects import DIALECTS, fields
from refcast.errors import BadInput
from refcast.model import Event, Notice

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHAT = {"discord", "slack"}
"""They read no headers, and are told nothing where there is nothing to say."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]([01]\d|2[0-3]):[0-5]\d)")


class TestTable:
    def test_every_module_of_the_package_that_renders_is_in_it(self) -> None:
        sources = Path(dialects.__file__).parent.glob("*.py")
        speaking = {source.stem for source in sources if "\ndef render(" in source.read_text()}
        assert speaking == set(DIALECTS)

    @pytest.mark.parametrize("name", DIALECTS)
    def test_an_entry_is_whole(self, name: str) -> None:
        dialect = dialects.get(name)
        assert name == dialect.NAME
        assert dialect.SIGNING in signing.SCHEMES
        assert dialect.CONTENT_TYPES
        assert set(dialect.CONTENT_TYPES) <= {"json", "form"}
        assert dialect.test() == dialect.test()
        assert dialect.headers("kind", "id").keys() >= {"User-Agent"}
        assert ("id" in dialect.headers("kind", "id").values()) == (name not in CHAT)

    def test_an_unknown_name_is_answered_with_the_known_ones(self) -> None:
        with pytest.raises(BadInput) as caught:
            dialects.get("gog")
        assert str(caught.value) == f"unknown dialect 'gog': use one of {', '.join(sorted(DIALECTS))}"


class TestEncode:
    def test_is_compact_and_keeps_order_and_letters(self) -> None:
        payload = {"b": [1, None, True], "a": "é🚀<&>"}
        assert dialects.encode(payload) == '{"b":[1,null,true],"a":"é🚀<&>"}'.encode()

    def test_replaces_what_utf_8_cannot_carry(self) -> None:
        assert json.loads(dialects.encode({"\udcff": "a\ud800b\udce9"})) == {"\ufffd": "a\ufffdb\ufffd"}


class TestBody:
    JSON = '{"a":"é + & = 100%"}'.encode()

    def test_json(self) -> None:
        assert dialects.body(self.JSON, "json") == ("application/json", self.JSON)

    def test_form(self) -> None:
        kind, body = dialects.body(self.JSON, "form")
        assert kind == "application/x-www-form-urlencoded"
        assert body == b"payload=%7B%22a%22%3A%22%C3%A9+%2B+%26+%3D+100%25%22%7D"

    def test_anything_else(self) -> None:
        with pytest.raises(BadInput, match=r"unknown content type 'xml': use json or form$"):
            dialects.body(self.JSON, "xml")


class TestAnyEvent:
    @pytest.mark.parametrize("name", DIALECTS)
    @unhurried
    @given(event=events)
    def test_becomes_valid_bodies_the_same_each_time(self, name: str, event: Event) -> None:
        dialect = DIALECTS[name]
        messages = dialect.render(event)
        assert messages == dialect.render(event)
        assert bool(messages) == (event.update is not None) or (name in CHAT and not messages)
        for message in messages:
            encoded = dialects.encode(message.payload)
            assert json.loads(encoded) == message.payload
            _, form = dialects.body(encoded, "form")
            assert parse_qs(form.decode("ascii"), strict_parsing=True)["payload"] == [encoded.decode()]

    @unhurried
    @given(time=times)
    def test_prints_times_by_the_rfc(self, time: datetime) -> None:
        assert RFC3339.fullmatch(fields.timestamp(time))


class TestNotice:
    @pytest.mark.parametrize("name", DIALECTS)
    @pytest.mark.parametrize("case", NOTICES)
    def test_is_a_valid_body_the_same_each_time(self, name: str, case: str) -> None:
        message = DIALECTS[name].notice(NOTICES[case])
        assert message == DIALECTS[name].notice(NOTICES[case])
        assert json.loads(dialects.encode(message.payload)) == message.payload

    @pytest.mark.parametrize("name", DIALECTS)
    def test_its_kinds_are_three_and_none_of_the_system_s(self, name: str) -> None:
        dialect = DIALECTS[name]
        kinds = {dialect.notice(notice).kind for notice in NOTICES.values()}
        others = {dialect.test().kind, *(one.kind for event in SAMPLES.values() for one in dialect.render(event))}
        assert len(kinds) == 3
        assert not kinds & others

    @pytest.mark.parametrize("name", sorted(set(DIALECTS) - CHAT))
    def test_names_the_endpoint_its_state_and_the_reason(self, name: str) -> None:
        payload = DIALECTS[name].notice(NOTICES["notice-disabled"]).payload
        if name == "codescoring":
            events = payload["events"]
            assert isinstance(events, list)
            payload = events[0]["payload"]
        assert (payload["endpoint"], payload["state"], payload["waiting"]) == ("ci", "disabled", 12_345)
        assert payload["since"] == "2024-05-06T07:08:09.123456+00:00"
        assert "for the 8th time" in str(payload["reason"])

    @unhurried
    @given(name=st.sampled_from(sorted(DIALECTS)), words=st.text(st.characters(exclude_categories=[])), when=times)
    def test_takes_any_words(self, name: str, words: str, when: datetime) -> None:
        message = DIALECTS[name].notice(Notice(words, "failing", words, when))
        assert json.loads(dialects.encode(message.payload)) == message.payload


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (timedelta(), "2024-01-01T00:00:00+00:00"),
        (timedelta(hours=5, minutes=45), "2024-01-01T00:00:00+05:45"),
        (-timedelta(minutes=30), "2024-01-01T00:00:00-00:30"),
        (timedelta(hours=23, minutes=59, seconds=59), "2024-01-01T00:00:00+23:59"),
        (-timedelta(hours=23, minutes=59, seconds=59), "2024-01-01T00:00:00-23:59"),
    ],
)
def test_a_timestamp_keeps_its_own_offset(offset: timedelta, text: str) -> None:
    assert fields.timestamp(datetime(2024, 1, 1, 0, 0, 0, 999, tzinfo=timezone(offset))) == text


def test_no_offset_may_be_z() -> None:
    assert fields.timestamp(datetime(2024, 1, 1, tzinfo=UTC), utc="Z") == "2024-01-01T00:00:00Z"


@unhurried
@given(st.text(st.characters()))
def test_text_is_valid_unicode_and_else_unchanged(value: str) -> None:
    written = fields.text(value)
    written.encode()
    if not any("\ud800" <= character <= "\udfff" for character in value):
        assert written == value


def test_a_dialect_changes_nothing() -> None:
    before = repr(UPDATE)
    for dialect in DIALECTS.values():
        dialect.render(UPDATE)
    assert repr(UPDATE) == before
