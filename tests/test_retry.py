"""The schedule and its bounds, by example and by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcast.model import Response
from refcast.retry import (
    JITTER,
    LONGEST,
    REFUSALS,
    REFUSED,
    SCHEDULE,
    SOONEST,
    Decision,
    Delivered,
    Disable,
    Halve,
    Refuse,
    RetryAt,
    SetAside,
    decide,
    earliest,
    retry_after,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ANSWERS = st.integers(100, 999).filter(lambda status: not 200 <= status < 300 and status != 410)


def response(status: int | None, asked: str | None = None) -> Response:
    headers = () if asked is None else (("Retry-after", asked),)
    return Response(duration=0.1, status=status, headers=headers)


def decided(
    status: int | None, asked: str | None = None, *, step: int = 0, chance: float = 0.0, **more: Any
) -> Decision:
    facts: dict[str, Any] = {"step": step, "schedule": SCHEDULE, "now": NOW, "chance": chance}
    return decide(response(status, asked), **facts | more)


def wait(status: int, asked: str | None = None, *, step: int = 0, chance: float = 0.0) -> timedelta:
    decision = decided(status, asked, step=step, chance=chance)
    assert isinstance(decision, RetryAt)
    return decision.at - NOW


class TestDecide:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_2xx_is_delivered(self, status: int) -> None:
        assert decided(status) == Delivered()

    @pytest.mark.parametrize("status", [101, 199, 300, 302, 304, 400, 404, 413, 429, 500, 503, 999])
    def test_everything_else_is_retried(self, status: int) -> None:
        assert decided(status) == RetryAt(NOW + timedelta(minutes=1), f"HTTP {status}")

    def test_410_disables_at_the_first_try(self) -> None:
        assert decided(410) == Disable("HTTP 410: the endpoint wants no more deliveries")

    def test_no_answer_is_retried_for_its_reason_in_one_line(self) -> None:
        silent = Response(duration=30, error_class="timeout", error="no answer\nwithin 30 s")
        decision = decide(silent, step=0, schedule=SCHEDULE, now=NOW, chance=0)
        assert decision == RetryAt(NOW + SCHEDULE[0], "timeout: no answer within 30 s")

    def test_the_schedule_is_walked_and_then_the_endpoint_is_disabled(self) -> None:
        assert [wait(500, step=step) for step in range(7)] == list(SCHEDULE)
        assert decided(500, step=7) == Disable("HTTP 500, and no retry is left after 8 tries")
        assert isinstance(decided(500, step=8), Disable)

    def test_an_empty_schedule_disables_at_the_first_failure(self) -> None:
        assert isinstance(decide(response(500), step=0, schedule=(), now=NOW, chance=0), Disable)

    @given(ANSWERS, st.integers(0, 6), st.floats(0, 1, exclude_max=True), st.none() | st.text())
    def test_no_wait_leaves_its_bounds(self, status: int, step: int, chance: float, asked: str | None) -> None:
        longest = max(SCHEDULE[step], LONGEST) * (1 + JITTER)
        assert SOONEST <= wait(status, asked, step=step, chance=chance) <= longest

    @given(ANSWERS, st.integers(0, 6), st.floats(0, 1, exclude_max=True))
    def test_jitter_only_adds(self, status: int, step: int, chance: float) -> None:
        assert SCHEDULE[step] <= wait(status, step=step, chance=chance) <= SCHEDULE[step] * (1 + JITTER)


class TestEndpointsOwn:
    def test_schedule_in_place_of_the_default(self) -> None:
        own = (timedelta(seconds=7), timedelta(seconds=9))
        waits = [decided(500, step=step, schedule=own) for step in range(3)]
        assert waits[:2] == [RetryAt(NOW + wait, "HTTP 500") for wait in own]
        assert waits[2] == Disable("HTTP 500, and no retry is left after 3 tries")

    def test_tries_beyond_the_schedule_repeat_its_last_wait(self) -> None:
        assert decided(500, step=8, tries=10) == RetryAt(NOW + SCHEDULE[-1], "HTTP 500")
        assert decided(500, step=9, tries=10) == Disable("HTTP 500, and no retry is left after 10 tries")

    def test_fewer_tries_than_the_schedule_has(self) -> None:
        assert decided(500, tries=1) == Disable("HTTP 500, and no retry is left after 1 try")
        assert decided(500, step=1, tries=3) == RetryAt(NOW + SCHEDULE[1], "HTTP 500")

    def test_tries_without_a_schedule(self) -> None:
        assert decided(500, schedule=(), tries=2) == RetryAt(NOW + SOONEST, "HTTP 500")


@pytest.mark.parametrize("status", sorted(REFUSED))
class TestRefusals:
    def test_step_aside_after_a_few_tries_if_something_waits(self, status: int) -> None:
        decisions = [decided(status, step=step, behind=True) for step in range(REFUSALS)]
        reason = f"HTTP {status}"
        assert decisions[:-1] == [RetryAt(NOW + wait, reason) for wait in SCHEDULE[: REFUSALS - 1]]
        assert decisions[-1] == SetAside(NOW + SCHEDULE[REFUSALS - 1], reason)

    def test_with_nothing_behind_keep_to_the_schedule_and_are_then_given_up(self, status: int) -> None:
        assert [wait(status, step=step) for step in range(7)] == list(SCHEDULE)
        assert decided(status, step=7) == Refuse(f"HTTP {status}, and no retry is left after 8 tries")

    def test_of_two_in_a_row_are_the_endpoints_fault(self, status: int) -> None:
        decision = decided(status, step=2, behind=True, probing=True)
        assert decision == RetryAt(NOW + SCHEDULE[2], f"HTTP {status}", at_fault=True)

    def test_of_an_endpoint_at_fault_set_nothing_aside_and_disable_in_the_end(self, status: int) -> None:
        for step in range(7):
            decision = decided(status, step=step, behind=True, at_fault=True)
            assert decision == RetryAt(NOW + SCHEDULE[step], f"HTTP {status}", at_fault=True)
        assert isinstance(decided(status, step=7, behind=True, at_fault=True), Disable)

    def test_another_failure_in_the_place_of_a_refused_one_blames_nobody(self, status: int) -> None:
        assert decided(500, step=2, behind=True, probing=True) == RetryAt(NOW + SCHEDULE[2], "HTTP 500")
        assert decided(status, step=2, probing=True, rejects=False) == RetryAt(NOW + SCHEDULE[2], f"HTTP {status}")

    def test_of_few_tries_are_not_all_given_up_at_once(self, status: int) -> None:
        assert isinstance(decided(status, tries=1, behind=True), SetAside)
        assert isinstance(decided(status, tries=1, behind=True, probing=True), Disable)
        assert isinstance(decided(status, tries=1), Refuse)

    def test_are_failures_like_others_where_the_receiver_has_no_refusals(self, status: int) -> None:
        for step in range(7):
            assert wait(status, step=step) == SCHEDULE[step]
            assert isinstance(decided(status, step=step, behind=True, rejects=False), RetryAt)
        assert isinstance(decided(status, step=7, behind=True, rejects=False), Disable)

    @pytest.mark.parametrize("rejects", [True, False])
    @pytest.mark.parametrize("more", [{}, {"probing": True}, {"at_fault": True}, {"behind": True, "step": 7}], ids=str)
    def test_of_several_halve_them(self, status: int, rejects: bool, more: dict[str, Any]) -> None:
        assert decided(status, several=True, rejects=rejects, **more) == Halve(f"HTTP {status}")


class TestGone:
    def test_is_a_failure_like_another_where_the_receiver_does_not_know_it(self) -> None:
        assert decided(410, rejects=False) == RetryAt(NOW + SCHEDULE[0], "HTTP 410")

    def test_disables_whatever_else(self) -> None:
        for more in ({"several": True}, {"probing": True}, {"behind": True, "step": 2}):
            assert isinstance(decided(410, **more), Disable)


EVERYTHING: dict[str, st.SearchStrategy[Any]] = {
    "step": st.integers(0, 12),
    "schedule": st.lists(st.timedeltas(timedelta(seconds=1), timedelta(days=9)), max_size=9),
    "tries": st.none() | st.integers(1, 12),
    **{name: st.booleans() for name in ("rejects", "several", "behind", "probing", "at_fault")},
}


class TestAnything:
    @given(st.integers(300, 599), st.fixed_dictionaries(EVERYTHING))
    def test_never_condemns_a_payload_that_was_not_refused(self, status: int, more: dict[str, Any]) -> None:
        decision = decided(status, **more)
        if isinstance(decision, SetAside | Refuse):
            assert status in REFUSED and more["rejects"] and not (more["at_fault"] or more["probing"])
        if isinstance(decision, SetAside):
            assert more["behind"]

    @given(st.integers(300, 599), st.fixed_dictionaries(EVERYTHING))
    def test_ends_after_its_tries(self, status: int, more: dict[str, Any]) -> None:
        most = more["tries"] or len(more["schedule"]) + 1
        decision = decided(status, **more)
        if more["step"] + 1 >= most:
            assert isinstance(decision, Disable | Refuse | SetAside | Halve)
        elif status not in REFUSED and status != 410:
            assert isinstance(decision, RetryAt)


class TestRetryAfter:
    @pytest.mark.parametrize("status", [302, 404, 429, 500, 502, 503])
    def test_a_longer_wait_is_honoured(self, status: int) -> None:
        assert wait(status, "7200") == timedelta(hours=2)
        assert wait(status, "7200", step=3) == SCHEDULE[3]

    def test_within_the_bound(self) -> None:
        assert wait(429, "999999999") == LONGEST
        assert wait(500, "999999999") == LONGEST
        assert wait(503, "999999999", step=6) == SCHEDULE[6]

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_throttling_endpoint_may_shorten_its_first_wait(self, status: int) -> None:
        assert wait(status, "20") == timedelta(seconds=20)
        assert wait(status, "0") == SOONEST
        assert wait(status, "20", step=1) == SCHEDULE[1]

    def test_any_other_may_not(self) -> None:
        assert wait(500, "20") == SCHEDULE[0]

    def test_jitter_comes_on_top(self) -> None:
        assert wait(429, "100", chance=0.5) == timedelta(seconds=105)

    @pytest.mark.parametrize(
        "date",
        [
            "Sun, 01 Mar 2026 14:00:00 GMT",
            "Sunday, 01-Mar-26 14:00:00 GMT",
            "Sun Mar  1 14:00:00 2026",
            "Sun, 01 Mar 2026 15:00:00 +0100",
        ],
    )
    def test_every_form_of_an_http_date(self, date: str) -> None:
        assert wait(503, date) == timedelta(hours=2)

    def test_a_date_that_has_passed_asks_for_nothing(self) -> None:
        assert retry_after(response(503, "Sun, 01 Mar 2026 11:00:00 GMT"), NOW) == timedelta(0)

    @pytest.mark.parametrize(
        "garbage",
        [
            *("", " ", "soon", "-5", "5 s", "1e9", "inf", "٣", "9" * 5000),
            "Sun, 01 Mar 99999 14:00:00 GMT",
            "Sun, 01 Mar 2026 14:00:00 +9999",
            "Mon, 01 Jan 0001 00:00:00 +2359",
            "Fri, 31 Dec 9999 23:59:59 -2359",
        ],
    )
    def test_garbage_is_ignored(self, garbage: str) -> None:
        assert wait(500, garbage) in {SCHEDULE[0], LONGEST}

    @given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w+"))
    def test_nothing_raises(self, text: str) -> None:
        asked = retry_after(response(503, text), NOW)
        assert asked is None or asked >= timedelta(0)

    @given(st.datetimes(datetime(2026, 3, 2), datetime(2100, 1, 1)))
    def test_a_date_is_read_to_the_second(self, date: datetime) -> None:
        exact = date.replace(microsecond=0, tzinfo=UTC)
        assert retry_after(response(503, format_datetime(exact, usegmt=True)), NOW) == exact - NOW


class TestEarliest:
    @given(ANSWERS, st.integers(0, 6), st.floats(0, 1, exclude_max=True), st.none() | st.integers(0, 10**8))
    def test_no_decision_of_now_is_pulled_back(self, status: int, step: int, chance: float, asked: int | None) -> None:
        at = NOW + wait(status, None if asked is None else str(asked), step=step, chance=chance)
        assert earliest(at, step=step + 1, schedule=SCHEDULE, now=NOW) == at

    def test_a_clock_set_back_by_a_year_costs_one_wait(self) -> None:
        far = NOW + timedelta(days=365)
        for step, due in enumerate((timedelta(0), *SCHEDULE)):
            assert earliest(far, step=step, schedule=SCHEDULE, now=NOW) == NOW + due

    def test_a_step_past_the_schedule_or_no_schedule(self) -> None:
        far = NOW + timedelta(days=365)
        assert earliest(far, step=99, schedule=SCHEDULE, now=NOW) == NOW + SCHEDULE[-1]
        assert earliest(far, step=3, schedule=(), now=NOW) == NOW

    @given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 9))
    def test_never_later(self, at: datetime, step: int) -> None:
        assert earliest(at, step=step, schedule=SCHEDULE, now=NOW) <= at
