"""The judgement of an answer: delivered, retry at a time, set this delivery aside, or disable the endpoint.

Owns the schedule and the rules. Sends nothing, stores nothing, and has neither clock nor chance: both are
arguments.

A payload that is answered 400, 413 or 422 may itself be the trouble, or the endpoint may be: a rotated secret is often
answered 400. What comes behind it tells. After REFUSALS tries it steps aside, and the next is tried in its place: if
that one is delivered, the payload was at fault and is refused for good; if it is refused too, the endpoint is at
fault, and both wait, in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from refcast.model import Response

SCHEDULE: tuple[timedelta, ...] = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=3),
    timedelta(hours=12),
    timedelta(hours=24),
    timedelta(hours=48),
)
"""The wait after the first failure, the second, and so on. One more failure disables the endpoint."""

JITTER = 0.1
"""At most this part of a wait is added to it, so that what failed together does not return together."""

LONGEST = timedelta(hours=24)
"""No Retry-After makes a lane wait longer than this, unless its schedule does."""

SOONEST = timedelta(seconds=5)
"""No Retry-After brings a try nearer than this."""

THROTTLES = frozenset({429, 503})
"""Answers whose Retry-After says when the endpoint is well again: RFC 6585 section 4, RFC 9110 15.6.4."""

REFUSED = frozenset({400, 413, 422})
"""Answers that may be about the payload alone: RFC 9110 15.5.1, 15.5.14 and 15.5.21."""

REFUSALS = 3
"""How many scheduled tries a refused payload gets before it steps aside."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at this time (aware, in the zone of `now`), having failed for this reason (one line)."""

    at: datetime
    reason: str
    at_fault: bool = False
    """Two payloads in a row were refused: it is the endpoint, and nothing steps aside until a success."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Try the next one now in its place. If that fails too, go on at this time, with this one."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Halve:
    """Send half as many in one request, now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Give this delivery up, until a person sends it again, and go on with what comes behind it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Disable:
    """Send nothing to this endpoint until a person enables it; what waits is held. `reason` is one line."""

    reason: str


Decision = Delivered | RetryAt | SetAside | Halve | Refuse | Disable


def decide(
    response: Response,
    *,
    step: int,
    schedule: Sequence[timedelta],
    now: datetime,
    chance: float,
    tries: int | None = None,
    rejects: bool = True,
    several: bool = False,
    behind: bool = False,
    probing: bool = False,
    at_fault: bool = False,
) -> Decision:
    """What to do after `response`.

    `step` counts the scheduled attempts that had failed before this one: 0 at the first try. `now` is aware;
    `chance` lies in [0, 1) and spreads the wait over its jitter. `tries` is how many there are, one more than the
    schedule has waits where it is None; beyond the schedule its last wait repeats.

    `rejects` says whether 400, 413 and 422 can condemn a payload, and 410 the endpoint; `several`, whether the request
    carried more than one delivery; `behind`, whether anything else waits in the lane; `probing`, whether this one was
    tried in the place of one that stepped aside; `at_fault`, whether the endpoint was found to refuse everything.

    Any 2xx is success and nothing else is, redirects included. 410 disables at once, as the Standard Webhooks
    specification has it. Every other failure waits for its step of the schedule, and when no try is left
    the endpoint is disabled, unless the payload alone was refused: that one is given up.

    A refused batch is halved, whatever `rejects` says: nothing is lost by it, and in the end the culprit is alone.

    Retry-After (RFC 9110 10.2.3) can only lengthen a wait, up to LONGEST, with one exception: at the first
    failure, 429 and 503 may also shorten it, down to SOONEST, because a rate limit is often a matter of
    seconds. Later ones may not: an endpoint that always says `Retry-After: 5` would use up days of schedule
    in a minute.
    """
    if response.ok:
        return Delivered()
    reason = reason_of(response)
    if response.status == 410 and rejects:
        return Disable(f"{reason}: the endpoint wants no more deliveries")
    if response.status in REFUSED and several:
        return Halve(reason)
    refused = response.status in REFUSED and rejects
    most = len(schedule) + 1 if tries is None else tries
    over = step + 1 >= most
    at = now + _wait(response, step, schedule, now) * (1 + JITTER * chance)
    blamed = refused and not at_fault and not probing
    if blamed and behind and step + 1 >= min(REFUSALS, most):
        return SetAside(at, reason)
    if over:
        reason = f"{reason}, and no retry is left after {_times(step + 1)}"
        return Refuse(reason) if blamed else Disable(reason)
    return RetryAt(at, reason, at_fault=at_fault or (refused and probing))


def _wait(response: Response, step: int, schedule: Sequence[timedelta], now: datetime) -> timedelta:
    wait = scheduled(step, schedule)
    asked = retry_after(response, now)
    if asked is None:
        return wait
    if step == 0 and response.status in THROTTLES:
        return max(SOONEST, min(asked, LONGEST))
    return max(wait, min(asked, LONGEST))


def scheduled(step: int, schedule: Sequence[timedelta]) -> timedelta:
    """How long to wait after `step` scheduled failures and one more. Beyond the schedule its last wait repeats."""
    return schedule[min(step, len(schedule) - 1)] if schedule else SOONEST


def _times(number: int) -> str:
    return f"{number} tries" if number > 1 else "1 try"


def earliest(at: datetime, *, step: int, schedule: Sequence[timedelta], now: datetime) -> datetime:
    """`at`, or a nearer time where `at` is further ahead than any decision at `now` could have put it.

    That happens when the clock was set back. `step` counts the scheduled attempts that have failed by now,
    the number that `decide` gets at the coming one. A Retry-After may stand behind any wait, so only one
    beyond both LONGEST and the schedule's is pulled back: to the schedule's wait, or to now where nothing
    has failed.
    """
    due = scheduled(step - 1, schedule) if step > 0 and schedule else timedelta(0)
    return now + due if at - now > max(due, LONGEST) * (1 + JITTER) else at


def reason_of(response: Response) -> str:
    """Why a response is a failure, in one line for a person: `HTTP 500`, `timeout: no answer within 30 s`."""
    if response.status is not None:
        return f"HTTP {response.status}"
    error = " ".join(response.error.split())
    return f"{response.error_class}: {error}" if error else response.error_class or "no answer"


def retry_after(response: Response, now: datetime) -> timedelta | None:
    """How long the endpoint asks to wait, never negative; None where it does not say or cannot be understood.

    Both forms of RFC 9110 10.2.3 are read, seconds and HTTP date. Some rate limiters write a fraction of
    a second, which is read too.
    """
    value = next((value.strip() for name, value in response.headers if name.lower() == "retry-after"), "")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return timedelta(seconds=float(value))
    try:
        date = parsedate_to_datetime(value)
        # A date without a zone is in UTC: RFC 9110 5.6.7.
        return max(timedelta(0), date.replace(tzinfo=date.tzinfo or UTC) - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
