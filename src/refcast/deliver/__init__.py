"""From the store to the endpoint: a claimed head -> Request, signed now -> Response -> an attempt and what follows.

Owns the way of one delivery; `building` beside it makes the requests, `masking` what is kept of them, `telling` what
another endpoint is told. Decides nothing: that is `retry`'s.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from refcast import dialects, retry
from refcast.answers import Answers
from refcast.deliver.building import BATCHING, LONGEST_WINDOW, SecretError, build, gathered, resolved
from refcast.deliver.masking import KEPT_BODY, MASK, attempt, masked, shown_url
from refcast.deliver.telling import told
from refcast.errors import BadInput, StateError
from refcast.model import Endpoint, Notice, Request, Response
from refcast.settings import Settings
from refcast.store import Store
from refcast.store.claims import Work
from refcast.store.intake import NewContent
from refcast.store.outcomes import Attempt
from refcast.transport import Kept

__all__ = [
    "BATCHING",
    "KEPT_BODY",
    "LONGEST_WINDOW",
    "MASK",
    "Deliver",
    "SecretError",
    "Sends",
    "attempt",
    "build",
    "masked",
    "resolved",
    "shown_url",
]

log = logging.getLogger(__name__)

IN_A_ROW = 32
"""How many requests a lane gets before others that are due have their turn."""

_NOWHERE = Endpoint(0, "", "", "", "")
_NOTHING = Request("", (), b"", 0.0)


class Sends(Protocol):
    def send(self, request: Request, kept: Kept | None = None) -> Response: ...


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What was sent, and what came back."""

    endpoint: Endpoint
    """As it was resolved for this request, or as it is stored where that failed."""
    request: Request
    response: Response
    started_at: float


class Deliver:
    """One delivery after another; each thread of the worker calls `serve`. `clock` gives seconds since the epoch,
    `chance` a number from 0 up to 1. `patience` waits a while, and says whether to try once more: it is asked when the
    store cannot take what came of a request. `answers` are told what came of it."""

    def __init__(
        self,
        store: Store,
        transport: Sends,
        clock: Callable[[], float],
        chance: Callable[[], float],
        patience: Callable[[], bool],
        answers: Answers | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._clock = clock
        self._chance = chance
        self._patience = patience
        self._answers = answers
        self.settings = Settings()
        """Those that hold now, of which a request takes its network rules and its proxy."""

    def one(self) -> bool:
        """Send the head of the lane that has been due longest; False if none is due. No transaction is open then."""
        work = self._store.lanes.claim(self._clock(), BATCHING)
        if work is None:
            return False
        return self._send(work, lambda: False, None)[0]

    def serve(self, failing: bool | None, claimed: Callable[[], None], is_leaving: Callable[[], bool]) -> bool:
        """Send from the lane that has been due longest until nothing in it is due, or others have waited long enough;
        False if no lane is due. `failing` is whether the lane's last try failed; None for any.

        `claimed` is called once the lane is claimed: another thread may look for the next."""
        work = self._store.lanes.claim(self._clock(), BATCHING, failing=failing)
        if work is None:
            return False
        claimed()
        left = IN_A_ROW

        def then() -> bool:
            # A lane that has failed until now is left to those that serve the healthy.
            return left > 0 and not failing and not is_leaving()

        recorded = True
        with contextlib.closing(Kept()) as kept:
            while work is not None:
                left -= 1
                # Most come alone: the first has a connection to itself, which ends with it.
                recorded, work = self._send(work, then, kept if left < IN_A_ROW - 1 else None)
        return recorded

    def pull_back(self) -> None:
        """Have the lanes due that sleep longer than a decision made now could have them: the clock was set back."""
        now = self._clock()
        for lane in self._store.lanes.sleeping(now):
            if lane.step == 0:  # it waits for no retry, but perhaps for more to go in one request
                if lane.due_at > now + LONGEST_WINDOW:
                    self._store.lanes.pull_back(lane, now)
                continue
            at = datetime.fromtimestamp(lane.due_at, UTC)
            schedule = _schedule(lane.schedule)
            earliest = retry.earliest(at, step=lane.step, schedule=schedule, now=datetime.fromtimestamp(now, UTC))
            if earliest < at:
                self._store.lanes.pull_back(lane, earliest.timestamp())

    def _send(self, work: Work, then: Callable[[], bool], kept: Kept | None) -> tuple[bool, Work | None]:
        """Send what is claimed, over what is `kept` if that can be, and record what came of it; whether that could be.
        If `then` says so by then, also claim what is next in the lane."""
        exchange = self._exchange(work, kept)
        while True:
            try:
                return True, self._follow(work, exchange, then)
            except StateError as error:
                log.error("%s: cannot record what came of %s: %s", work.endpoint.name, work.delivery_id, error)
            except Exception as error:
                self._report(work, error)
                bug = f"a bug in refcast ({type(error).__name__}) met a delivery; see the worker's log"
                response = Response(duration=0.0, error_class="protocol", error=bug)
                # The lane must not stay claimed for ever, nor the request be sent again and again.
                with contextlib.suppress(Exception):
                    shown = attempt(_NOWHERE, _NOTHING, response, exchange.started_at, "endpoint disabled")
                    self._store.lanes.disable(work, shown, now=self._clock(), reason=bug)
                    return True, None
            if not self._patience():
                return False, None

    def _exchange(self, work: Work, kept: Kept | None) -> _Exchange:
        started_at = self._clock()
        endpoint = work.endpoint
        request = Request(endpoint.url, (), b"", endpoint.timeout)
        try:
            endpoint = resolved(endpoint, self.settings)
            payload, headers, delivery_id = gathered(work)
            request = build(
                endpoint,
                payload=payload,
                content_type=work.content_type,
                scheme=work.signing,
                headers=headers,
                delivery_id=delivery_id,
                now=datetime.fromtimestamp(started_at, UTC),
                settings=self.settings,
            )
            response = self._transport.send(request, kept)
        except SecretError as error:
            response = Response(duration=0.0, error_class="secret", error=str(error))
        except BadInput as error:  # from a store that was edited by hand
            response = Response(duration=0.0, error_class="protocol", error=str(error))
        except Exception as error:
            # The claimed lane must not stay claimed: a bug is a failed attempt like another.
            self._report(work, error)
            response = Response(duration=0.0, error_class="protocol", error=f"a bug: {type(error).__name__}")
        return _Exchange(endpoint, request, response, started_at)

    @staticmethod
    def _report(work: Work, error: Exception) -> None:
        """Log where a bug is. What the exception itself says may hold a secret, such as the URL."""
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a bug in refcast met the delivery %s: %s\n%s", work.delivery_id, type(error).__name__, where)

    def _follow(self, work: Work, exchange: _Exchange, then: Callable[[], bool]) -> Work | None:
        """Have `retry` decide, and store what it says. What is next in the lane, if it was delivered and `then`
        says so."""
        now = self._clock()
        # A try that a new event has brought forward does not use up the schedule.
        early = work.step > 0 and exchange.started_at < work.scheduled_at
        step = work.step - 1 if early else work.step
        decision = self._decide(work, exchange.response, step, now)
        following = self._settle(work, exchange, decision, then, early=early, step=step, now=now)
        self._answer(work, exchange, decision)
        return following

    def _answer(self, work: Work, exchange: _Exchange, decision: retry.Decision) -> None:
        """Tell the pushers who wait for it. That must not spoil what is stored already."""
        if self._answers is None or not self._answers.awaits(work):
            return
        try:
            shown = attempt(exchange.endpoint, exchange.request, exchange.response, exchange.started_at, "")
            self._answers.told(work, shown, decision)
        except Exception as error:
            self._report(work, error)

    def _settle(
        self,
        work: Work,
        exchange: _Exchange,
        decision: retry.Decision,
        then: Callable[[], bool],
        *,
        early: bool,
        step: int,
        now: float,
    ) -> Work | None:
        """Store what was decided."""
        endpoint, response = exchange.endpoint, exchange.response
        name, delivery_id, lanes = endpoint.name, work.delivery_id, self._store.lanes
        about: dict[str, object] = {"endpoint": name, "delivery": delivery_id, "status": response.status}
        about |= {"error_class": response.error_class, "duration": round(response.duration, 3)}

        def kept(decision: str) -> Attempt:
            return attempt(endpoint, exchange.request, response, exchange.started_at, decision)

        if isinstance(decision, retry.Delivered):
            took = response.duration * 1e3
            log.info("%s: delivered %s: %s in %.0f ms", name, delivery_id, response.status, took, extra=about)
            window = endpoint.batch_window if work.dialect in BATCHING else 0.0
            notice = None
            if work.failing_since is not None:
                notice = self._notice(work, "recovered", work.last_error, now)
            following = BATCHING if then() else None
            return lanes.delivered(work, kept("delivered"), now, window, notice=notice, then=following)
        reason = masked(decision.reason, endpoint)
        if isinstance(decision, retry.Halve):
            half = len(work.positions) // 2
            count = len(work.positions)
            log.warning("%s: %d together failed: %s; now at most %d", name, count, reason, half, extra=about)
            lanes.halve(work, kept(f"sent again, at most {half} in one request"), now=now)
            return None
        if isinstance(decision, retry.Disable):
            log.error("%s: disabled: %s", name, reason, extra=about)
            notice = self._notice(work, "disabled", reason, now)
            lanes.disable(work, kept("endpoint disabled"), now=now, reason=reason, notice=notice)
            return None
        notice = None if work.failing_since is not None else self._notice(work, "failing", reason, now)
        if isinstance(decision, retry.Refuse):
            log.error("%s: %s is refused: %s", name, delivery_id, reason, extra=about)
            lanes.refuse(work, kept("refused"), now=now, reason=reason, notice=notice)
            return None
        asked = retry.retry_after(response, datetime.fromtimestamp(now, UTC)) or timedelta(0)
        not_before = now + min(asked, retry.LONGEST).total_seconds()
        due_at = max(work.scheduled_at, not_before) if early else decision.at.timestamp()
        at = datetime.fromtimestamp(due_at, UTC).isoformat(timespec="seconds")
        if isinstance(decision, retry.SetAside):
            log.warning("%s: %s failed: %s; set aside, the next is tried", name, delivery_id, reason, extra=about)
            words = kept("set aside, the next is tried")
            lanes.set_aside(work, words, step=step + 1, now=now, scheduled_at=due_at, error=reason, notice=notice)
            return None
        log.warning("%s: %s failed: %s; next try %s", name, delivery_id, reason, at, extra=about | {"next_try": at})
        lanes.retry(
            work,
            kept(f"retry at {at}"),
            step=step + 1,
            due_at=due_at,
            now=now,
            error=reason,
            not_before=not_before,
            at_fault=decision.at_fault,
            notice=notice,
        )
        return None

    def _decide(self, work: Work, response: Response, step: int, now: float) -> retry.Decision:
        endpoint = work.endpoint
        rejects = endpoint.rejects
        if rejects is None:
            dialect = dialects.DIALECTS.get(endpoint.dialect)
            rejects = dialect is None or dialect.REJECTS
        return retry.decide(
            response,
            step=step,
            schedule=_schedule(endpoint.schedule),
            tries=endpoint.tries,
            now=datetime.fromtimestamp(now, UTC),
            chance=self._chance(),
            rejects=rejects,
            several=bool(work.further),
            behind=response.status in retry.REFUSED and self._store.lanes.waits_behind(work),
            probing=work.aside is not None,
            at_fault=work.at_fault,
        )

    def _notice(
        self, work: Work, state: Literal["failing", "disabled", "recovered"], reason: str, now: float
    ) -> NewContent | None:
        """What the endpoint that it names is told of a change; None where it names none."""
        if work.endpoint.on_failure is None:
            return None
        known = {endpoint.id: endpoint for endpoint in self._store.endpoints.all()}
        listener = known.get(work.endpoint.on_failure)
        if listener is None:
            return None
        waiting = self._store.endpoints.waiting(work.endpoint.id)
        if state == "recovered":  # what has just arrived is not among it
            waiting = max(0, waiting - len(work.positions))
        since = now if work.failing_since is None else work.failing_since
        notice = Notice(
            endpoint=work.endpoint.name,
            state=state,
            reason=reason,
            since=datetime.fromtimestamp(since, UTC),
            waiting=waiting,
        )
        try:
            return told(notice, listener, self.settings.urls.homepage)
        except Exception as error:  # a bug, or a dialect that is none any more: it must not cost the delivery
            self._report(work, error)
            return None


def _schedule(seconds: tuple[float, ...]) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=one) for one in seconds) or retry.SCHEDULE
