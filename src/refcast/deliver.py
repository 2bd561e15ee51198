"""From the store to the endpoint: a claimed head -> Request, signed now -> Response -> an attempt and what follows."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

from refcast import dialects, retry, signing, urls
from refcast.errors import BadInput, StateError
from refcast.model import Endpoint, Request, Response
from refcast.store import Store
from refcast.store.lanes import Attempt, Work

log = logging.getLogger(__name__)

MASK = "***"
KEPT_BODY = 16 * 1024
"""How much of an answer's body a record keeps."""


class Sends(Protocol):
    def send(self, request: Request) -> Response: ...


class Deliver:
    """One delivery after another; each thread of the worker calls `one`. `clock` gives seconds since the epoch,
    `chance` a number from 0 up to 1. `patience` waits a while, and says whether to try once more: it is asked when the
    store cannot take what came of a request."""

    def __init__(
        self,
        store: Store,
        transport: Sends,
        clock: Callable[[], float],
        chance: Callable[[], float],
        patience: Callable[[], bool],
    ) -> None:
        self._store = store
        self._transport = transport
        self._clock = clock
        self._chance = chance
        self._patience = patience

    def one(self) -> bool:
        """Send the head of the lane that has been due longest; False if none is due. No transaction is open then."""
        work = self._store.lanes.claim(self._clock())
        if work is None:
            return False
        started_at = self._clock()
        request, response = self._exchange(work, started_at)
        while True:
            try:
                self._follow(work, request, response, started_at)
                return True
            except StateError as error:
                log.error("%s: cannot record what came of %s: %s", work.endpoint.name, work.delivery_id, error)
                if not self._patience():
                    return False

    def _exchange(self, work: Work, started_at: float) -> tuple[Request, Response]:
        request = Request(work.endpoint.url, (), b"", work.endpoint.timeout)
        try:
            request = build(
                work.endpoint,
                payload=work.payload,
                content_type=work.content_type,
                scheme=work.signing,
                headers=work.headers,
                delivery_id=work.delivery_id,
                now=datetime.fromtimestamp(started_at, UTC),
            )
            return request, self._transport.send(request)
        except BadInput as error:  # a secret or URL that cannot be used, from a store that was edited by hand
            return request, Response(duration=0.0, error_class="protocol", error=str(error))
        except Exception as error:
            # The claimed lane must not stay claimed: a bug is a failed attempt like another.
            log.exception("a bug in refcast met the delivery %s", work.delivery_id)
            return request, Response(duration=0.0, error_class="protocol", error=f"a bug: {type(error).__name__}")

    def _follow(self, work: Work, request: Request, response: Response, started_at: float) -> None:
        now = self._clock()
        # A try that a new event has brought forward does not use up the schedule.
        early = work.step > 0 and started_at < work.scheduled_at
        step = work.step - 1 if early else work.step
        decision = retry.decide(
            response,
            step=step,
            schedule=retry.SCHEDULE,
            now=datetime.fromtimestamp(now, UTC),
            chance=self._chance(),
        )
        name = work.endpoint.name
        if isinstance(decision, retry.Delivered):
            log.info(
                "%s: delivered %s: %s in %.0f ms", name, work.delivery_id, response.status, response.duration * 1e3
            )
            self._store.lanes.delivered(work, attempt(work.endpoint, request, response, started_at, "delivered"), now)
        elif isinstance(decision, retry.RetryAt):
            due_at = work.scheduled_at if early else decision.at.timestamp()
            at = datetime.fromtimestamp(due_at, UTC).isoformat(timespec="seconds")
            log.warning("%s: %s failed: %s; next try %s", name, work.delivery_id, decision.reason, at)
            kept = attempt(work.endpoint, request, response, started_at, f"retry at {at}")
            self._store.lanes.retry(work, kept, step=step + 1, due_at=due_at, now=now, error=decision.reason)
        else:
            log.error("%s: disabled: %s", name, decision.reason)
            kept = attempt(work.endpoint, request, response, started_at, "endpoint disabled")
            self._store.lanes.disable(work, kept, now=now, reason=decision.reason)


def build(
    endpoint: Endpoint,
    *,
    payload: bytes,
    content_type: str,
    scheme: str,
    headers: Mapping[str, str],
    delivery_id: str,
    now: datetime,
) -> Request:
    """The request that carries `payload` to the endpoint, signed at `now`. BadInput if its secret cannot be used."""
    header, body = dialects.body(payload, content_type)
    signed = signing.sign(scheme, secret=endpoint.secret, payload=payload, body=body, delivery_id=delivery_id, now=now)
    return Request(
        url=endpoint.url,
        headers=(*headers.items(), ("Content-Type", header), *signed.items()),
        body=body,
        timeout=endpoint.timeout,
        verify_tls=endpoint.verify_tls,
    )


def attempt(endpoint: Endpoint, request: Request, response: Response, started_at: float, decision: str) -> Attempt:
    """An exchange as it may be kept and shown: masked, also where the endpoint echoes a secret."""
    secrets = _secrets(endpoint)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return text

    def headers(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return [(name, MASK if name.lower() in signing.SECRET_HEADERS else clean(value)) for name, value in pairs]

    body = response.body[:KEPT_BODY]
    for secret in secrets:
        body = body.replace(signing.key(secret), MASK.encode())
    return Attempt(
        started_at=started_at,
        duration=response.duration,
        url=urls.masked(request.url),
        request_headers=headers(request.headers),
        status=response.status,
        response_headers=headers(response.headers),
        response_body=body,
        error_class=response.error_class,
        error=clean(response.error),
        decision=decision,
    )


def _secrets(endpoint: Endpoint) -> list[str]:
    """What an answer could echo of an endpoint's secrets, longest first. One of a letter or two hides nothing."""
    userinfo = urlsplit(endpoint.url).netloc.rpartition("@")[0]
    password = userinfo.partition(":")[2]
    basic = base64.b64encode(unquote_to_bytes(userinfo)).decode() if userinfo else ""
    query = [value for _, value in parse_qsl(urlsplit(endpoint.url).query)]
    found = {endpoint.secret, userinfo, password, unquote(password), basic, *query}
    return sorted((secret for secret in found if len(secret) > 2), key=len, reverse=True)
