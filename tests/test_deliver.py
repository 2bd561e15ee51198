"""From the store to a real receiver and back: order, the schedule, and no secret anywhere.

The clock stands still until a test sets it, so days of retries take no time. What was sent is judged from the
receiver's own book.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver import Received, Receiver
from refcast import deliver as delivering
from refcast import retry
from refcast.deliver import KEPT_BODY, Deliver, attempt
from refcast.errors import StateError
from refcast.model import Endpoint, Request, Response
from refcast.store.lanes import Attempt, Lanes, Work
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
                world.store.endpoints.remove(world.store.endpoints.get("ci").id)
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
        world.store.reports.redeliver(world.store.reports.deliveries()[0].id, NOON)
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
        def locked(self: Lanes, work: Work, attempt: Attempt, now: float, window: float) -> None:
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
        def locked(self: Lanes, work: Work, attempt: Attempt, now: float, window: float) -> None:
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
        assert self.keep(endpoint, b"ends with abcdef").response_body == b"ends with abcdef"

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
