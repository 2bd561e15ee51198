"""From the store to a real receiver and back: order, the schedule, and no secret anywhere.

The clock stands still until a test sets it, so days of retries take no time. What was sent is judged from the
receiver's own book.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver import Received, Receiver
from refcast import deliver as delivering
from refcast import dialects, retry
from refcast.deliver import KEPT_BODY, Deliver, attempt
from refcast.errors import BadInput, StateError
from refcast.model import Endpoint, NetworkRules, Request, Response
from refcast.retry import REFUSALS
from refcast.settings import Settings
from refcast.store import outcomes
from refcast.store.claims import Work
from refcast.store.lanes import Lanes
from refcast.store.outcomes import Attempt
from refcast.store.selection import Selection
from refcast.transport import SENT_TWICE, Kept, Transport
from spooled import DAY, NOON, World

SECRET = "s3cret/of+the&tests"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def announce(world: World, *moves: str) -> None:
    for move in moves:
        world.put(move)
    world.run()


def due(world: World) -> float | None:
    """Seconds until the next try."""
    at = world.store.lanes.next_due(after=world.clock())
    return None if at is None else at - world.clock()


def last_attempt(world: World) -> Attempt:
    details = [world.store.reports.delivery(row.id) for row in world.store.reports.deliveries()]
    return max((one for each in details for one in each.attempts), key=lambda one: one.started_at)


class TestSending:
    def test_in_order_to_each(self, world: World, receiver: Receiver) -> None:
        world.endpoint("one", url=f"{receiver.url}one")
        world.endpoint("two", url=f"{receiver.url}two")
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert world.send_all() == 6
        for path in ("/one", "/two"):
            bodies = [one.json() for one in receiver.book if one.path == path]
            moves = [world.move(body["ref"], body["before"], body["after"]) for body in bodies]
            assert moves == ["main:->A", "main:A>B", "main:B>C"]
        assert {row.state for row in world.store.reports.deliveries()} == {"delivered"}
        assert not world.store.lanes.is_pending()

    def test_no_transaction_is_open_meanwhile(self, world: World, receiver: Receiver) -> None:
        def write_meanwhile(_: Received) -> int:
            world.store.repositories.user_id("somebody")
            return 200

        receiver.answer = write_meanwhile
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        assert world.deliver().one()
        assert world.store.repositories.find_user("somebody")

    def test_goes_to_where_the_endpoint_is_now_with_what_was_rendered_then(
        self, world: World, receiver: Receiver
    ) -> None:
        endpoint = world.endpoint(secret="old")
        announce(world, "main:->A")
        payload = world.store.reports.delivery(world.store.reports.deliveries()[0].id).payload
        world.store.endpoints.change(
            Endpoint(endpoint.id, "ci", receiver.url, "gogs", "form", secret="new", events=frozenset({"tag_push"}))
        )
        world.send_all()
        (came,) = receiver.book
        assert came.header("X-Codeup-Token") == "new"
        assert came.header("Content-Type") == "application/json"
        assert came.body == payload

    def test_one_dead_endpoint_holds_up_no_other(self, world: World, receiver: Receiver) -> None:
        world.endpoint("dead", url="http://127.0.0.1:9/")
        world.endpoint("well", url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        world.send_all()
        assert world.sent(receiver) == ["main:->A", "main:A>B"]

    def test_an_endpoint_removed_meanwhile(self, world: World, receiver: Receiver) -> None:
        for status in (200, 500, 410):

            def remove(_: Received, status: int = status) -> int:
                world.store.endpoints.remove(world.store.endpoints.get("ci").id, discard=True)
                return status

            receiver.answer = remove
            world.endpoint(url=receiver.url)
            announce(world, f"b{status}:->A")
            assert world.deliver().one()
            assert world.store.reports.deliveries() == []
        assert not world.deliver().one()

    def test_redelivery_is_the_same_again(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url, dialect="gogs", secret=SECRET)
        announce(world, "main:->A")
        world.send_all()
        world.store.steering.redeliver(Selection(ids=(world.store.reports.deliveries()[0].id,)), NOON)
        world.send_all()
        create, push, again = receiver.book
        assert again.body == push.body
        assert again.headers == push.headers
        assert create.header("X-Gogs-Delivery") != push.header("X-Gogs-Delivery")


class TestSchedule:
    def test_steps_and_then_disables_and_holds(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        deliver = world.deliver()
        waits = []
        while deliver.one():
            assert not deliver.one()
            if (wait := due(world)) is None:
                break
            waits.append(wait)
            world.clock.now += wait - 1
            assert not deliver.one()
            world.clock.now += 1
        assert waits == [60, 300, 1800, 3 * 3600, 12 * 3600, 24 * 3600, 48 * 3600]
        endpoint = world.store.endpoints.get("ci")
        assert (endpoint.state, endpoint.reason) == ("disabled", "HTTP 500, and no retry is left after 8 tries")
        assert [row.state for row in world.store.reports.deliveries()] == ["held", "held"]
        assert world.sent(receiver) == ["main:->A"] * 8
        assert len({one.header("X-Codeup-Delivery") or one.body for one in receiver.book}) == 1
        assert len({one.body for one in receiver.book}) == 1

        receiver.answer = lambda _: 204
        assert world.store.endpoints.enable(endpoint.id, world.clock()) == 2
        world.send_all()
        assert world.sent(receiver)[8:] == ["main:->A", "main:A>B"]

    def test_waits_a_little_longer_by_chance(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.deliver(chance=0.5).one()
        assert due(world) == pytest.approx(63)

    def test_success_begins_it_anew(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500, 500, 200, 500])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        deliver = world.deliver()
        for wait in (60, 300):
            deliver.one()
            assert due(world) == wait
            world.clock.now += wait
        assert deliver.one()
        assert deliver.one()
        assert due(world) == 60
        assert world.sent(receiver) == ["main:->A"] * 3 + ["main:A>B"]

    def test_gone_disables_at_once(self, world: World, receiver: Receiver) -> None:
        receiver.answers([410])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        assert world.send_all() == 1
        endpoint = world.store.endpoints.get("ci")
        assert (endpoint.state, endpoint.reason) == ("disabled", "HTTP 410: the endpoint wants no more deliveries")
        assert last_attempt(world).decision == "endpoint disabled"

    @pytest.mark.parametrize(
        ("status", "asked", "wait"), [(429, "20", 20), (503, "3600", 3600), (500, "20", 60), (503, "9999999", DAY)]
    )
    def test_retry_after(self, world: World, receiver: Receiver, status: int, asked: str, wait: float) -> None:
        receiver.answers([(status, [("Retry-After", asked)], b"")])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.deliver().one()
        assert due(world) == wait

    def test_no_connection_is_a_failure_like_another(self, world: World) -> None:
        world.endpoint(url="http://127.0.0.1:9/")
        announce(world, "main:->A")
        assert world.send_all() == 1
        assert due(world) == 60
        kept = last_attempt(world)
        assert (kept.status, kept.error_class) == (None, "connect")
        assert kept.decision.startswith("retry at 2023-11-14T22:14:")


class TestNudge:
    def test_goes_first_and_leaves_the_schedule_as_it_is(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        deliver = world.deliver()
        for wait in (60, 300):
            assert deliver.one()
            assert due(world) == wait
            world.clock.now += wait
        deliver.one()
        assert due(world) == 1800
        scheduled = world.clock() + 1800
        world.clock.now += 600
        announce(world, "main:A>B")
        assert deliver.one()
        assert world.clock() + (due(world) or 0) == scheduled
        assert not deliver.one()
        world.clock.now += 30
        announce(world, "main:B>C")  # within a minute of the last
        assert not deliver.one()
        world.clock.now = scheduled
        assert deliver.one()
        assert due(world) == 3 * 3600
        assert world.sent(receiver) == ["main:->A"] * 5

    def test_success_drains_the_lane(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.send_all()
        world.clock.now += 1
        announce(world, "main:A>B", "main:B>C")
        world.send_all()
        assert world.sent(receiver) == ["main:->A", "main:->A", "main:A>B", "main:B>C"]

    def test_many_do_not_use_up_the_schedule(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>-")
        deliver = world.deliver()
        deliver.one()
        world.clock.now += 60
        deliver.one()
        for _ in range(3):
            world.clock.now += 61
            announce(world, "main:->A", "main:A>-")
            assert deliver.one()
        world.clock.now = NOON + 360
        assert deliver.one()
        assert due(world) == 1800
        assert world.store.endpoints.get("ci").state == "active"

    def test_an_endpoint_that_asks_for_patience_gets_it(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500, (429, [("Retry-After", "7200")], b"")])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        deliver = world.deliver()
        deliver.one()
        announce(world, "main:A>B")
        deliver.one()
        assert due(world) == 7200


class TestClock:
    def test_set_back_does_not_keep_off_an_endpoint_that_is_well(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.send_all()
        world.clock.now -= 365 * DAY
        announce(world, "main:A>B")
        deliver = world.deliver()
        deliver.pull_back()
        assert deliver.one()

    def test_set_back_pulls_back_what_sleeps_longer_than_it_can(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        deliver = world.deliver()
        deliver.one()
        deliver.pull_back()
        assert due(world) == 60
        world.clock.now -= 365 * DAY
        deliver.pull_back()
        assert due(world) == 60
        world.clock.now += 60
        assert deliver.one()
        assert due(world) == 300

    def test_set_forward_sends_at_once(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        deliver = world.deliver()
        deliver.one()
        world.clock.now += 365 * DAY
        deliver.pull_back()
        assert deliver.one()


class TestStoreThatFails:
    def test_what_came_of_a_request_is_recorded_when_it_can_be(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def locked(self: Lanes, work: Work, attempt: Attempt, now: float, window: float, **_: object) -> None:
            raise StateError("database is locked")

        def patience() -> bool:
            monkeypatch.undo()
            return True

        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        monkeypatch.setattr(Lanes, "delivered", locked)
        deliver = Deliver(world.store, world.deliver()._transport, world.clock, lambda: 0.0, patience)
        assert deliver.one()
        assert not deliver.one()
        assert world.sent(receiver) == ["main:->A"]
        assert world.store.reports.counts() == {"delivered": 1}

    def test_if_it_never_can_it_is_sent_again_by_the_next_worker(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def locked(self: Lanes, work: Work, attempt: Attempt, now: float, window: float, **_: object) -> None:
            raise StateError("database is locked")

        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        monkeypatch.setattr(Lanes, "delivered", locked)
        assert not world.deliver().one()
        monkeypatch.undo()
        world.store.lanes.release_all()
        assert world.send_all() == 1
        first, second = receiver.book
        assert (first.body, first.headers) == (second.body, second.headers)


class TestBugs:
    def test_in_making_a_request_are_a_failed_attempt(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> Request:
            raise LookupError(SECRET)

        world.endpoint(url=receiver.url, secret=SECRET)
        announce(world, "main:->A")
        monkeypatch.setattr(delivering, "build", broken)
        assert world.send_all() == 1
        assert due(world) == 60
        assert last_attempt(world).error == "a bug: LookupError"
        assert "test_deliver.py" in caplog.text
        assert SECRET not in caplog.text

    def test_in_judging_an_answer_disable_and_hold(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> retry.Decision:
            raise LookupError(SECRET)

        world.endpoint(url=receiver.url, secret=SECRET)
        announce(world, "main:->A", "main:A>B")
        monkeypatch.setattr(retry, "decide", broken)
        assert world.send_all() == 1
        endpoint = world.store.endpoints.get("ci")
        assert "a bug in refcast (LookupError)" in endpoint.reason
        assert world.store.reports.counts() == {"held": 2}
        assert SECRET not in caplog.text
        monkeypatch.undo()
        world.store.endpoints.enable(endpoint.id, NOON)
        assert world.send_all() == 2

    def test_in_recording_it_too_keep_no_lane_claimed(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise LookupError

        def patience() -> bool:
            monkeypatch.undo()
            return True

        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        monkeypatch.setattr(Lanes, "delivered", broken)
        monkeypatch.setattr(Lanes, "disable", broken)
        assert Deliver(world.store, Transport(), world.clock, lambda: 0.0, patience).one()
        assert world.store.reports.counts() == {"delivered": 1}
        assert world.sql("SELECT claimed FROM lanes") == [(0,)]

    def test_in_telling_another_of_a_failure_harm_neither(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise LookupError

        crew = world.endpoint("crew", url=receiver.url, repositories=("no/such",))
        world.endpoint(url=receiver.url, on_failure=crew.id)
        receiver.answers([500])
        announce(world, "main:->A")
        monkeypatch.setattr(delivering, "told", broken)
        assert world.send_all() == 1
        assert world.store.endpoints.get("ci").state == "active"
        assert due(world) == 60

    def test_a_secret_that_cannot_be_sent(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url, secret="two\nlines")
        announce(world, "main:->A")
        assert world.send_all() == 1
        assert "cannot be sent" in last_attempt(world).error
        assert receiver.book == []


ESCAPES: list[Callable[[str], str]] = [
    str,
    quote,
    quote_plus,
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")),
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
]

USER, PASSWORD, TOKEN = "us3r/na me", "pässw0rd&\"'<>", "t0ken/with+&=%"


class TestSecrets:
    @pytest.mark.parametrize("status", [200, 500, 410])
    def test_are_nowhere_even_if_everything_is_echoed(
        self, world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int
    ) -> None:
        def echo(received: Received) -> tuple[int, list[tuple[str, str]], bytes]:
            authorization = received.header("Authorization") or ""
            token = received.header("X-Codeup-Token") or ""
            told = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            headers = [("X-Echo", f"{received.path} {token} {authorization}"), ("Set-Cookie", "session=s3ssion")]
            texts = [received.path, token, told, told.partition(":")[2], authorization, TOKEN, PASSWORD, SECRET]
            texts += [json.dumps(texts), json.dumps(texts, ensure_ascii=False), quote(PASSWORD), quote(SECRET, safe="")]
            texts += [quote(PASSWORD).lower(), PASSWORD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")]
            return status, headers, "\n".join(texts).encode()

        caplog.set_level(logging.DEBUG)
        receiver.answer = echo
        where = receiver.url.removeprefix("http://")
        userinfo = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
        world.endpoint(url=f"http://{userinfo}@{where}hook?token={quote(TOKEN, safe='')}&k3y0nly", secret=SECRET)
        announce(world, "main:->A")
        world.send_all()
        assert receiver.book[0].header("X-Codeup-Token") == SECRET
        kept = last_attempt(world)
        assert kept.url == f"http://***@{where}hook?token=***&***"
        status_of = world.store.endpoints.get("ci").reason + str(world.store.lanes.failing())
        everything = f"{kept!r}{caplog.text}{status_of}{world.store.reports.deliveries()!r}"
        everything += kept.response_body.decode("utf-8", "replace")
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        bare = [SECRET, PASSWORD, TOKEN, basic, "k3y0nly", "s3ssion"]
        forms = [form for secret in bare for form in (secret, quote(secret), repr(secret)[1:-1])]
        found = [form for form in forms if form in everything]
        assert not found
        # Parts that no escape changes: what is left of a secret in whatever form.
        assert not [part for part in ("s3cret", "ssw0rd", "t0ken", "k3y0nly", "s3ssion") if part in everything]
        assert dict(kept.request_headers)["X-Codeup-Token"] == "***"
        assert "***" in dict(kept.response_headers)["X-Echo"]

    def test_a_user_name_alone_is_a_token(self) -> None:
        for userinfo in ("t%30ken-alone", "t%30ken-alone:"):
            endpoint = Endpoint(1, "ci", f"http://{userinfo}@x/", "codeup", "json")
            basic = base64.b64encode(b"t0ken-alone:").decode()
            kept = self.keep(endpoint, f"t0ken-alone t%30ken-alone {basic}".encode())
            assert kept.response_body == b"*** *** ***"

    def test_a_secret_that_the_end_of_a_body_cuts_off(self) -> None:
        endpoint = Endpoint(1, "ci", "http://x/", "codeup", "json", secret="abcdefghijkl")
        for length in range(1, 12):
            kept = self.keep(endpoint, b"x" * (KEPT_BODY - length) + b"abcdefghijkl")
            assert b"x" * 1000 in kept.response_body
            assert b"a" not in kept.response_body

    def test_a_secret_in_which_a_body_breaks_off(self) -> None:
        endpoint = Endpoint(1, "ci", "http://x/", "codeup", "json", secret="abcd/fgh" * 20)
        for cut in (b"abcd", b"abcd%2", b"abcd%2Ff", b"abcd\\u002", b"abcd/fgh" * 15):
            assert self.keep(endpoint, b"ends with " + cut).response_body == b"ends with ***"
        assert self.keep(endpoint, b"ends with abc").response_body == b"ends with abc"
        assert self.keep(endpoint, b"abcd and much that follows").response_body == b"abcd and much that follows"

    def test_a_part_of_the_url_that_is_escaped_once_more(self) -> None:
        endpoint = Endpoint(1, "ci", "http://u:a%20pass@x/?k=a%20key&c=cl%C3%A9s", "codeup", "json")
        body = b"?next=%2F%3Fk%3Da%2520key&p=a%2520pass&c=cl%25C3%25A9s cl\\u00c3\\u00a9s"
        assert self.keep(endpoint, body).response_body == b"?next=%2F%3Fk%3D***&p=***&c=*** ***"

    @settings(deadline=None)
    @given(st.text(min_size=3, max_size=12).filter(str.isprintable), st.sampled_from(ESCAPES))
    def test_however_it_is_escaped(self, secret: str, escape: Callable[[str], str]) -> None:
        endpoint = Endpoint(1, "ci", "http://x/", "codeup", "json", secret=secret)
        assert self.keep(endpoint, f"[[{escape(secret)}]]".encode()).response_body == b"[[***]]"

    def test_what_is_no_secret_stays_as_it_is(self) -> None:
        endpoint = Endpoint(1, "ci", "http://x/?v=1", "codeup", "json")
        body = bytes(range(256))
        assert self.keep(endpoint, body).response_body == body

    def test_a_url_that_is_none(self) -> None:
        endpoint = Endpoint(1, "ci", "http://[::1", "codeup", "json", secret="s3cret")
        assert self.keep(endpoint, b"s3cret").response_body == b"***"

    @staticmethod
    def keep(endpoint: Endpoint, body: bytes) -> Attempt:
        request = Request(endpoint.url, (), b"", 1.0)
        return attempt(endpoint, request, Response(0.1, 200, (), body), NOON, "delivered")


class TestRetryAfter:
    def test_no_push_overrides_it(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: (429, [("Retry-After", "3600")], b"")
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        assert world.send_all() == 1
        for move in ("main:A>B", "main:B>C"):
            world.clock.now += 120
            announce(world, move)
            assert world.send_all() == 0
        world.clock.now += 3600
        receiver.answer = lambda _: 200
        assert world.send_all() == 3

    def test_enabling_does(self, world: World, receiver: Receiver) -> None:
        receiver.answers([(429, [("Retry-After", "3600")], b"")])
        endpoint = world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.send_all()
        world.store.endpoints.enable(endpoint.id, world.clock())
        assert world.send_all() == 1


def test_a_try_that_ends_after_its_endpoint_was_enabled_does_not_set_the_schedule_back(
    world: World, receiver: Receiver
) -> None:
    endpoint = world.endpoint(url=receiver.url)
    receiver.answer = lambda _: 500
    announce(world, "main:->A")
    for wait in retry.SCHEDULE:
        assert world.deliver().one()
        world.clock.now += wait.total_seconds()

    def enable(_: Received) -> int:
        world.store.endpoints.enable(endpoint.id, world.clock())
        return 500

    receiver.answer = enable
    assert world.deliver().one()
    assert world.store.endpoints.get("ci").state == "active"
    receiver.answer = lambda _: 200
    assert world.send_all() == 1


BAD = 400


class Choosy:
    """A receiver that refuses some pushes and accepts the rest. `told` is what came, in order, with the answer."""

    def __init__(self, world: World, receiver: Receiver, refused: Iterable[str]) -> None:
        self.world = world
        self.refused = set(refused)
        self.told: list[str] = []
        self.other: int | None = None
        receiver.answer = self.answer

    def answer(self, received: Received) -> int:
        body = received.json()
        move = self.world.move(body["ref"], body["before"], body["after"])
        status = BAD if move in self.refused else self.other or 200
        self.told.append(f"{move} {status}")
        return status


def states(world: World) -> dict[str, str]:
    """The state of each delivery, as it is stored, by its move."""
    rows = world.sql(
        "SELECT e.ref, e.old, e.new, d.state FROM deliveries d JOIN contents c ON c.id = d.content_id "
        "JOIN events e ON e.id = c.event_id ORDER BY d.position"
    )
    return {world.move(os.fsdecode(ref), old, new): state for ref, old, new, state in rows}


def until_next_try(world: World) -> None:
    world.clock.now += due(world) or 0


class TestRefusals:
    def run(self, world: World, tries: int = REFUSALS) -> None:
        """What is due now, and then at each of the following times."""
        world.send_all()
        for _ in range(tries - 1):
            until_next_try(world)
            world.send_all()

    def test_one_that_is_refused_steps_aside_and_is_refused_when_the_next_is_accepted(
        self, world: World, receiver: Receiver
    ) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        self.run(world)
        assert choosy.told == ["main:->A 400"] * 3 + ["main:A>B 200", "main:B>C 200"]
        assert states(world) == {"main:->A": "refused", "main:A>B": "delivered", "main:B>C": "delivered"}
        assert world.clock() == NOON + 360
        assert world.store.lanes.failing() == []
        row = world.store.reports.delivery(world.store.reports.deliveries()[-1].id).row
        assert (row.state, row.attempts, row.finished_at) == ("refused", 3, world.clock())
        assert world.sql("SELECT reason FROM deliveries WHERE state = 'refused'") == [
            ("HTTP 400, and the one behind it was accepted",)
        ]

    def test_it_can_be_sent_again(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        self.run(world)
        choosy.refused.clear()
        refused = world.store.reports.deliveries()[-1].id
        world.sql("UPDATE deliveries SET state = 'waiting', finished_at = NULL, reason = '' WHERE id = ?", refused)
        assert world.send_all() == 1
        assert set(states(world).values()) == {"delivered"}

    def test_if_the_next_is_refused_too_the_endpoint_is_at_fault_and_both_wait_in_order(
        self, world: World, receiver: Receiver
    ) -> None:
        choosy = Choosy(world, receiver, ["main:->A", "main:A>B", "main:B>C"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        self.run(world)
        assert choosy.told == ["main:->A 400"] * 3 + ["main:A>B 400"]
        assert set(states(world).values()) == {"waiting"}
        assert world.sql("SELECT at_fault, aside, step FROM lanes") == [(1, None, 3)]
        assert due(world) == 1800, "the schedule goes on from its step"
        self.run(world, 5)
        assert choosy.told[4:] == ["main:->A 400"] * 4, "nothing steps aside any more"
        choosy.refused.clear()
        until_next_try(world)
        world.send_all()
        assert choosy.told[8:] == ["main:->A 200", "main:A>B 200", "main:B>C 200"]
        assert world.sql("SELECT at_fault FROM lanes") == [(0,)], "a success clears it"

    def test_an_endpoint_at_fault_is_disabled_in_the_end(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A", "main:A>B"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        self.run(world, 8)
        assert world.store.endpoints.get("ci").state == "disabled"
        assert set(states(world).values()) == {"waiting"}
        assert len(choosy.told) == 9

    @pytest.mark.parametrize("status", [500, 404, 302])
    def test_if_the_next_fails_in_another_way_the_first_is_back_in_its_place(
        self, world: World, receiver: Receiver, status: int
    ) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        choosy.other = status
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        self.run(world)
        assert choosy.told == ["main:->A 400"] * 3 + [f"main:A>B {status}"]
        assert world.sql("SELECT at_fault, aside, step FROM lanes") == [(0, None, 3)]
        assert set(states(world).values()) == {"waiting"}
        assert due(world) == 1800
        choosy.other = None
        until_next_try(world)
        world.send_all()
        assert choosy.told[4:] == ["main:->A 400", "main:A>B 200"], "it steps aside again"
        assert states(world)["main:->A"] == "refused"

    def test_if_the_others_never_get_well_it_is_disabled_in_the_end(self, world: World, receiver: Receiver) -> None:
        """It answers 400 to the first and 500 to the others. Nobody can tell which is to blame, so all are kept."""
        choosy = Choosy(world, receiver, ["main:->A"])
        choosy.other = 500
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        self.run(world, 8)
        assert world.store.endpoints.get("ci").state == "disabled"
        assert set(states(world).values()) == {"waiting"}

    def test_gone_in_its_place_disables_and_both_are_held(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        choosy.other = 410
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        self.run(world)
        assert world.store.reports.counts() == {"held": 2}
        choosy.other = None
        choosy.refused.clear()
        world.store.endpoints.enable(world.store.endpoints.get("ci").id, world.clock())
        world.send_all()
        assert choosy.told[4:] == ["main:->A 200", "main:A>B 200"]

    def test_with_nothing_behind_it_is_given_up_when_its_schedule_ends(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        self.run(world, 8)
        assert states(world) == {"main:->A": "refused"}
        assert world.store.endpoints.get("ci").state == "active"
        assert not world.store.lanes.is_pending()
        assert len(world.store.lanes.failing()) == 1, "its last try failed"
        announce(world, "main:A>B")
        world.send_all()
        assert choosy.told[8:] == ["main:A>B 200"]
        assert world.store.lanes.failing() == []

    def test_what_comes_behind_it_later_is_tried_in_its_place(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        self.run(world)
        announce(world, "main:A>B")  # has the lane tried now
        world.send_all()
        assert choosy.told == ["main:->A 400"] * 4 + ["main:A>B 200"]
        assert states(world)["main:->A"] == "refused"

    def test_early_tries_do_not_count(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.send_all()
        for number in range(4):
            world.clock.now += 0 if number else 30
            world.sql("UPDATE lanes SET nudged_at = 0")
            announce(world, f"b{number}:->A")
            world.send_all()
        assert choosy.told == ["main:->A 400"] * 5

    def test_each_gets_tries_of_its_own(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A", "main:B>C"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C", "main:C>D")
        self.run(world, 5)
        told = ["main:->A 400"] * 3 + ["main:A>B 200"] + ["main:B>C 400"] * 3 + ["main:C>D 200"]
        assert choosy.told == told
        assert list(states(world).values()) == ["refused", "delivered"] * 2

    @pytest.mark.parametrize("dialect", ["codeup", "codescoring"])
    @pytest.mark.parametrize("rejects", [None, True, False])
    def test_who_has_refusals(self, world: World, receiver: Receiver, dialect: str, rejects: bool | None) -> None:
        receiver.answer = lambda _: 410
        world.endpoint(url=receiver.url, dialect=dialect, rejects=rejects, batch_window=0)
        announce(world, "main:->A")
        world.send_all()
        knows = rejects if rejects is not None else dialect == "codeup"
        assert world.store.endpoints.get("ci").state == ("disabled" if knows else "active")

    def test_one_on_probation_that_a_person_cancels(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        real = choosy.answer

        def cancel(received: Received) -> int:
            status = real(received)
            if status == 200:
                assert states(world)["main:->A"] == "aside"
                world.sql("UPDATE deliveries SET state = 'canceled', finished_at = 1 WHERE state = 'aside'")
            return status

        receiver.answer = cancel
        self.run(world)
        assert states(world) == {"main:->A": "canceled", "main:A>B": "delivered"}
        assert world.sql("SELECT aside FROM lanes") == [(None,)]

    def test_if_the_next_is_taken_away_it_is_back_in_its_place(self, world: World, receiver: Receiver) -> None:
        Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        for _ in range(REFUSALS):
            assert world.deliver().one()
            world.clock.now += due(world) or 0
        assert states(world)["main:->A"] == "aside"
        world.sql("UPDATE deliveries SET state = 'canceled', finished_at = 1 WHERE state = 'waiting'")
        assert not world.deliver().one()
        assert world.store.lanes.is_pending(), "a worker must not leave"
        world.store.lanes.put_back()
        assert states(world)["main:->A"] == "waiting"
        assert world.sql("SELECT aside FROM lanes") == [(None,)]
        world.store.lanes.put_back()

    def test_a_dead_worker_leaves_nobody_on_probation(self, world: World, receiver: Receiver) -> None:
        choosy = Choosy(world, receiver, ["main:->A"])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        for _ in range(REFUSALS):
            assert world.deliver().one()
            world.clock.now += due(world) or 0
        assert world.store.lanes.claim(world.clock()) is not None
        world.store.lanes.release_all()
        assert set(states(world).values()) == {"waiting"}
        world.send_all()
        assert choosy.told[3:] == ["main:->A 400", "main:A>B 200"]
        assert states(world)["main:->A"] == "refused"


class TestEndpointsOwn:
    def test_schedule_and_tries(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url, schedule=(10.0, 20.0), tries=4)
        announce(world, "main:->A")
        waits = []
        while world.deliver().one() and (wait := due(world)) is not None:
            waits.append(wait)
            world.clock.now += wait
        assert waits == [10, 20, 20]
        assert world.store.endpoints.get("ci").state == "disabled"

    def test_schedule_pulls_back(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        world.endpoint(url=receiver.url, schedule=(10.0,))
        announce(world, "main:->A")
        world.deliver().one()
        world.clock.now -= 365 * DAY
        world.deliver().pull_back()
        assert due(world) == 10

    def test_rules_proxy_and_certificates_go_with_each_request(self, world: World) -> None:
        sent: list[Request] = []

        class Book:
            def send(self, request: Request, kept: Kept | None = None) -> Response:
                sent.append(request)
                return Response(0.1, 200)

        world.endpoint("plain")
        world.endpoint("direct", proxy="none", ca_file="/ca", client_cert="/cert", client_key="/key", verify_tls=False)
        world.endpoint("own", proxy="http://p:1")
        announce(world, "main:->A")
        deliver = Deliver(world.store, Book(), world.clock, lambda: 0.0, lambda: False)
        rules = NetworkRules(("10.0.0.0/8",), ("192.0.2.0/24",))
        deliver.settings = Settings(network=rules, proxy="http://settings:1")
        while deliver.one():
            pass
        assert [one.proxy for one in sent] == ["http://settings:1", "", "http://p:1"]
        assert {one.rules for one in sent} == {rules}
        direct = sent[1]
        assert (direct.ca_file, direct.client_cert, direct.client_key) == ("/ca", "/cert", "/key")
        assert not direct.verify_tls


class TestSecretFile:
    def test_is_read_for_each_request(self, world: World, receiver: Receiver, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("first\n")
        path.chmod(0o600)
        world.endpoint(url=receiver.url, secret_file=str(path))
        announce(world, "main:->A")
        world.send_all()
        path.write_text("second\r\n")
        announce(world, "main:A>B")
        world.send_all()
        assert [one.header("X-Codeup-Token") for one in receiver.book] == ["first", "second"]

    def test_is_masked_and_so_is_the_proxys_password(
        self, world: World, receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET)
        path.chmod(0o600)
        world.endpoint(url=receiver.url, secret_file=str(path))
        receiver.answer = lambda one: (
            500,
            [("X-Echo", one.header("X-Codeup-Token") or "")],
            f"{SECRET} x".encode(),
        )
        announce(world, "main:->A")
        deliver = world.deliver()
        deliver.settings = Settings(proxy="http://user:pr0xy@127.0.0.1:9")
        endpoint = world.store.endpoints.get("ci")
        known = delivering.resolved(endpoint, deliver.settings)
        answer = Response(0.1, 500, (), b"pr0xy " + SECRET.encode())
        kept = attempt(known, Request("http://x", (), b"", 1), answer, 0, "")
        assert kept.response_body == b"*** ***"
        world.store.endpoints.change(replace(endpoint, proxy="none"))
        assert deliver.one()
        kept = last_attempt(world)
        assert dict(kept.response_headers)["X-Echo"] == "***"
        assert kept.response_body.startswith(b"*** ")
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
    def test_that_others_can_use_is_refused(self, world: World, receiver: Receiver, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET)
        path.chmod(mode)
        self.refused(world, receiver, path, "is open to others: chmod 600 it")

    def test_that_is_missing_empty_long_or_no_file(self, world: World, receiver: Receiver, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        self.refused(world, receiver, path, "cannot be read: No such file or directory")
        path.touch(0o600)
        self.refused(world, receiver, path, "is empty")
        path.write_text("\n")
        self.refused(world, receiver, path, "is empty")
        path.write_bytes(b"x" * 20_000)
        self.refused(world, receiver, path, "is longer than 16384 bytes")
        path.unlink()
        os.mkfifo(path, 0o600)
        self.refused(world, receiver, path, "is not a regular file")
        self.refused(world, receiver, tmp_path, "is not a regular file")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_that_belongs_to_another_is_refused(self, world: World, receiver: Receiver, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET)
        path.chmod(0o600)
        os.chown(path, 12345, -1)
        self.refused(world, receiver, path, "belongs to another user")

    def refused(self, world: World, receiver: Receiver, path: Path, why: str) -> None:
        """Nothing is sent, and the attempt says why, without the content."""
        try:
            endpoint = world.store.endpoints.get("ci")
        except BadInput:
            endpoint = world.endpoint(url=receiver.url, secret_file=str(path), tries=99)
            announce(world, "main:->A")
        world.store.endpoints.change(replace(endpoint, secret_file=str(path)))
        world.clock.now += due(world) or 0
        assert world.send_all() == 1
        kept = last_attempt(world)
        assert (kept.error_class, kept.status) == ("secret", None)
        assert why in kept.error
        assert str(path) in kept.error
        assert SECRET not in repr(kept)
        assert receiver.book == []


class TestNotices:
    """An endpoint, `ci`, whose health another, `ops`, is told."""

    @pytest.fixture
    def pair(self, world: World, receiver: Receiver) -> Endpoint:
        more = {"dialect": "refcast", "secret": SECRET, "events": frozenset({"tag_push"})}
        ops = world.endpoint("ops", url=f"{receiver.url}ops", **more)
        return world.endpoint("ci", url=f"{receiver.url}ci", on_failure=ops.id)

    @staticmethod
    def told(receiver: Receiver) -> list[tuple[str, str]]:
        """State and reason of each notice that came."""
        bodies = [one.json() for one in receiver.book if one.path == "/ops"]
        assert {body["endpoint"] for body in bodies} <= {"ci"}
        return [(body["state"], body["reason"]) for body in bodies]

    def answer(self, receiver: Receiver, *statuses: int) -> None:
        """What `ci` answers, and then 200; `ops` is always well."""
        rest = list(statuses)
        receiver.answer = lambda one: rest.pop(0) if one.path == "/ci" and rest else 200

    @pytest.mark.usefixtures("pair")
    def test_of_a_beginning_and_an_end_once_each(self, world: World, receiver: Receiver) -> None:
        self.answer(receiver, 500, 502, 503)
        announce(world, "main:->A", "main:A>B")
        for _ in range(4):
            world.send_all()
            until_next_try(world)
        assert self.told(receiver) == [("failing", "HTTP 500"), ("recovered", "HTTP 503")]
        bodies = [one.json() for one in receiver.book if one.path == "/ops"]
        assert [body["waiting"] for body in bodies] == [2, 1]
        assert {body["since"] for body in bodies} == {"2023-11-14T22:13:20.000000+00:00"}
        ids = {one.header("webhook-id") for one in receiver.book if one.path == "/ops"}
        assert len(ids) == 2

    @pytest.mark.usefixtures("pair")
    def test_of_the_end_of_the_schedule(self, world: World, receiver: Receiver) -> None:
        self.answer(receiver, *[500] * 8)
        announce(world, "main:->A")
        for _ in range(8):
            world.send_all()
            until_next_try(world)
        world.send_all()
        reasons = ["HTTP 500", "HTTP 500, and no retry is left after 8 tries"]
        assert self.told(receiver) == [("failing", reasons[0]), ("disabled", reasons[1])]

    @pytest.mark.usefixtures("pair")
    def test_gone_at_once_is_told_of_once(self, world: World, receiver: Receiver) -> None:
        self.answer(receiver, 410)
        announce(world, "main:->A")
        world.send_all()
        assert [state for state, _ in self.told(receiver)] == ["disabled"]

    def test_none_of_what_a_person_does(self, world: World, receiver: Receiver, pair: Endpoint) -> None:
        def disable(one: Received) -> int:
            if one.path == "/ci":
                world.store.endpoints.disable(pair.id, "by hand")
                return 410
            return 200

        receiver.answer = disable
        announce(world, "main:->A")
        world.send_all()
        assert self.told(receiver) == []
        assert world.store.endpoints.get("ci").reason == "by hand"

    @pytest.mark.usefixtures("pair")
    def test_of_a_refused_payload(self, world: World, receiver: Receiver) -> None:
        self.answer(receiver, 400, 400, 400)
        announce(world, "main:->A", "main:A>B")
        for _ in range(4):
            world.send_all()
            until_next_try(world)
        assert [state for state, _ in self.told(receiver)] == ["failing", "recovered"]

    def test_none_if_nobody_is_named_or_the_named_is_gone(self, world: World, receiver: Receiver) -> None:
        self.answer(receiver, 500)
        world.endpoint("ci", url=f"{receiver.url}ci")
        announce(world, "main:->A")
        world.send_all()
        assert world.sql("SELECT count(*) FROM contents WHERE event_id IS NULL") == [(0,)]

    def test_two_that_watch_each_other_fall_silent(self, world: World, receiver: Receiver) -> None:
        receiver.answer = lambda _: 500
        one = world.endpoint("one", url=receiver.url)
        two = world.endpoint("two", url=receiver.url, on_failure=one.id, events=frozenset({"tag_push"}))
        world.store.endpoints.change(replace(one, on_failure=two.id))
        announce(world, "main:->A")
        for _ in range(12):
            world.send_all()
            world.clock.now += 61
        # One tells of itself to two; that fails, which two tells to one.
        assert world.sql("SELECT count(*) FROM contents WHERE event_id IS NULL") == [(2,)]
        receiver.answer = lambda _: 200
        for _ in range(12):
            world.send_all()
            world.clock.now += 1800
        assert not world.store.lanes.is_pending()
        kinds = [kind for (kind,) in world.sql("SELECT kind FROM contents WHERE event_id IS NULL")]
        assert sorted(kinds) == ["Endpoint Failing Hook"] * 2 + ["Endpoint Recovered Hook"] * 2

    @pytest.mark.usefixtures("pair")
    def test_stored_with_the_change_or_not_at_all(
        self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise StateError("database or disk is full")

        self.answer(receiver, 500)
        announce(world, "main:->A")
        monkeypatch.setattr(outcomes, "put_notice", full)
        assert not world.deliver().one()
        monkeypatch.undo()
        assert world.store.lanes.failing() == []
        assert world.sql("SELECT count(*) FROM attempts") == [(0,)]

    @pytest.mark.parametrize("dialect", sorted(dialects.DIALECTS))
    def test_in_every_dialect(self, world: World, receiver: Receiver, dialect: str) -> None:
        ops = world.endpoint("ops", url=f"{receiver.url}ops", dialect=dialect, events=frozenset({"tag_push"}))
        world.endpoint("ci", url=f"{receiver.url}ci", on_failure=ops.id)
        self.answer(receiver, 500)
        announce(world, "main:->A")
        world.send_all()
        world.clock.now += ops.batch_window
        world.send_all()
        (came,) = [one for one in receiver.book if one.path == "/ops"]
        assert b"fail" in came.body
        assert b"HTTP 500" in came.body


class TestWhatPeopleDoMeanwhile:
    """A request is under way when somebody cancels its delivery, or it expires, or they send it again."""

    def meanwhile(self, world: World, receiver: Receiver, status: int, state: str) -> dict[str, str]:
        def change(_: Received) -> int:
            world.sql("UPDATE deliveries SET state = ?, finished_at = 1, reason = 'why' WHERE state = 'waiting'", state)
            return status

        receiver.answer = change
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        assert world.deliver().one()
        return states(world)

    @pytest.mark.parametrize("state", ["canceled", "expired"])
    def test_what_arrived_is_delivered(self, world: World, receiver: Receiver, state: str) -> None:
        assert self.meanwhile(world, receiver, 200, state) == {"main:->A": "delivered"}
        assert world.sql("SELECT reason FROM deliveries") == [("",)]

    @pytest.mark.parametrize("status", [500, 400, 410])
    @pytest.mark.parametrize("state", ["canceled", "expired"])
    def test_what_failed_stays_as_they_left_it(self, world: World, receiver: Receiver, status: int, state: str) -> None:
        assert self.meanwhile(world, receiver, status, state) == {"main:->A": state}
        assert world.sql("SELECT reason FROM deliveries") == [("why",)]
        assert len(world.store.reports.delivery(world.store.reports.deliveries()[0].id).attempts) == 1

    def test_one_that_would_step_aside(self, world: World, receiver: Receiver) -> None:
        answers = iter([400, 400])

        def cancel(received: Received) -> int:
            status = next(answers, None)
            if status is None and states(world)["main:->A"] == "waiting":
                world.sql(
                    "UPDATE deliveries SET state = 'canceled', finished_at = 1 "
                    "WHERE position = (SELECT min(position) FROM deliveries)"
                )
                return 400
            return status or 200

        receiver.answer = cancel
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        for _ in range(4):
            world.send_all()
            until_next_try(world)
        assert states(world) == {"main:->A": "canceled", "main:A>B": "delivered"}

    def test_sent_again_while_it_is_under_way(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A")
        world.send_all()
        again = "UPDATE deliveries SET state = 'waiting', finished_at = NULL"
        receiver.answer = lambda _: (world.sql(again) and 500) or 500
        world.sql(again)
        assert world.deliver().one()
        assert states(world) == {"main:->A": "waiting"}
        until_next_try(world)
        receiver.answer = lambda _: 200
        assert world.send_all() == 1


class TestServing:
    """Several deliveries of one lane in a row, each recorded together with the claim of the next."""

    def serve(self, world: World, *, failing: bool | None = None, leaving: bool = False) -> bool:
        return world.deliver().serve(failing, lambda: None, lambda: leaving)

    def test_a_lane_until_it_is_empty(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert self.serve(world)
        assert world.sent(receiver) == ["main:->A", "main:A>B", "main:B>C"]
        assert not self.serve(world)

    def test_others_have_their_turn(self, world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivering, "IN_A_ROW", 2)
        for name in ("one", "two"):
            world.endpoint(name, url=f"{receiver.url}{name}")
        announce(world, "main:->A", "main:A>B", "main:B>C")

        def later(_: Received) -> int:
            world.clock.now += 1
            return 200

        receiver.answer = later
        while self.serve(world):
            pass
        assert [one.path for one in receiver.book] == ["/one", "/one", "/two", "/two", "/one", "/two"]

    def test_stops_at_a_failure(self, world: World, receiver: Receiver) -> None:
        receiver.answers([200, 500])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert self.serve(world)
        assert world.sent(receiver) == ["main:->A", "main:A>B"]
        assert due(world) == 60

    def test_by_whether_the_last_try_failed(self, world: World, receiver: Receiver) -> None:
        receiver.answers([500])
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert not self.serve(world, failing=True)
        assert self.serve(world, failing=False)
        until_next_try(world)
        assert not self.serve(world, failing=False)
        assert self.serve(world, failing=True)
        assert len(receiver.book) == 2, "one that is well again is for the others"
        assert not self.serve(world, failing=True)
        assert self.serve(world, failing=False)
        assert len(receiver.book) == 4

    def test_the_first_has_a_connection_to_itself_and_those_behind_it_share_one(
        self, world: World, receiver: Receiver
    ) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert self.serve(world)
        assert [one.header("Connection") for one in receiver.book] == ["close", None, None]
        assert receiver.connections == 2
        receiver.wait_for_end()

    def test_one_at_a_time_shares_nothing(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert world.send_all() == 3
        assert [one.header("Connection") for one in receiver.book] == ["close"] * 3

    def test_one_that_hangs_up_without_a_word_is_not_taken_for_failing(self, world: World, receiver: Receiver) -> None:
        def the_third_is_lost(_: Received) -> int | None:
            return None if len(receiver.book) == 3 else 200

        receiver.answer = the_third_is_lost
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert self.serve(world)
        assert world.store.reports.counts() == {"delivered": 3}
        assert receiver.book[2].body == receiver.book[3].body
        assert [name for name, _ in receiver.book[2].headers] == [name for name, _ in receiver.book[3].headers]
        details = [world.store.reports.delivery(row.id) for row in world.store.reports.deliveries()]
        assert sorted(one.error for each in details for one in each.attempts) == ["", "", SENT_TWICE]

    def test_who_leaves_claims_no_more(self, world: World, receiver: Receiver) -> None:
        world.endpoint(url=receiver.url)
        announce(world, "main:->A", "main:A>B")
        assert self.serve(world, leaving=True)
        assert len(receiver.book) == 1
        assert self.serve(world)

    def test_an_endpoint_that_is_edited_or_disabled_meanwhile(self, world: World, receiver: Receiver) -> None:
        endpoint = world.endpoint(url=f"{receiver.url}old")

        def edit(_: Received) -> int:
            if len(receiver.book) == 1:
                world.store.endpoints.change(replace(endpoint, url=f"{receiver.url}new"))
            else:
                world.store.endpoints.disable(endpoint.id, "by hand")
            return 200

        receiver.answer = edit
        announce(world, "main:->A", "main:A>B", "main:B>C")
        assert self.serve(world)
        assert [one.path for one in receiver.book] == ["/old", "/new"]
        assert world.store.reports.counts() == {"delivered": 2, "held": 1}
