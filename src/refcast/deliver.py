"""From the store to the endpoint: a claimed head -> Request, signed now -> Response -> an attempt and what follows."""

from __future__ import annotations

import base64
import contextlib
import html
import logging
import re
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote, unquote_plus, unquote_to_bytes, urlsplit

from refcast import dialects, retry, signing, urls
from refcast.errors import BadInput, StateError
from refcast.model import Endpoint, Hook, Request, Response
from refcast.store import Store
from refcast.store.lanes import Attempt, Work

log = logging.getLogger(__name__)

MASK = "***"
KEPT_BODY = 16 * 1024
"""How much of an answer's body a record keeps."""

BATCHING = frozenset(name for name, dialect in dialects.DIALECTS.items() if isinstance(dialect, dialects.Batching))
"""The dialects of which one request carries what has gathered."""

LONGEST_WINDOW = 300.0
"""Seconds that an endpoint may gather events for."""

_BATCHES = uuid.UUID("0b0c6c1c-8b0e-4d0f-9a5e-3f7f8a1d2c11")
_SHORTEST = 3
_LONGEST_FORM = 12
"""Characters that one character may become, such as `%F0%9F%9A%80`."""

_NOWHERE = Endpoint(0, "", "", "", "")
_NOTHING = Request("", (), b"", 0.0)


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
        work = self._store.lanes.claim(self._clock(), BATCHING)
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
            except Exception as error:
                self._report(work, error)
                bug = f"a bug in refcast ({type(error).__name__}) met a delivery; see the worker's log"
                response = Response(duration=0.0, error_class="protocol", error=bug)
                with contextlib.suppress(StateError):
                    # The lane must not stay claimed for ever, nor the request be sent again and again.
                    kept = attempt(_NOWHERE, _NOTHING, response, started_at, "endpoint disabled")
                    self._store.lanes.disable(work, kept, now=self._clock(), reason=bug)
                    return True
            if not self._patience():
                return False

    def pull_back(self) -> None:
        """Have the lanes due that sleep longer than a decision made now could have them: the clock was set back."""
        now = self._clock()
        for lane in self._store.lanes.sleeping(now):
            if lane.step == 0:  # it waits for no retry, but perhaps for more to go in one request
                if lane.due_at > now + LONGEST_WINDOW:
                    self._store.lanes.pull_back(lane, now)
                continue
            at = datetime.fromtimestamp(lane.due_at, UTC)
            earliest = retry.earliest(at, step=lane.step, schedule=retry.SCHEDULE, now=datetime.fromtimestamp(now, UTC))
            if earliest < at:
                self._store.lanes.pull_back(lane, earliest.timestamp())

    def _exchange(self, work: Work, started_at: float) -> tuple[Request, Response]:
        request = Request(work.endpoint.url, (), b"", work.endpoint.timeout)
        try:
            payload, headers, delivery_id = _gathered(work)
            request = build(
                work.endpoint,
                payload=payload,
                content_type=work.content_type,
                scheme=work.signing,
                headers=headers,
                delivery_id=delivery_id,
                now=datetime.fromtimestamp(started_at, UTC),
            )
            return request, self._transport.send(request)
        except BadInput as error:  # a secret that the scheme cannot use, from a store that was edited by hand
            return request, Response(duration=0.0, error_class="protocol", error=str(error))
        except Exception as error:
            # The claimed lane must not stay claimed: a bug is a failed attempt like another.
            self._report(work, error)
            return request, Response(duration=0.0, error_class="protocol", error=f"a bug: {type(error).__name__}")

    @staticmethod
    def _report(work: Work, error: Exception) -> None:
        """Log where a bug is. What the exception itself says may hold a secret, such as the URL."""
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a bug in refcast met the delivery %s: %s\n%s", work.delivery_id, type(error).__name__, where)

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
        kept = attempt(work.endpoint, request, response, started_at, "delivered")
        if isinstance(decision, retry.Delivered):
            log.info(
                "%s: delivered %s: %s in %.0f ms", name, work.delivery_id, response.status, response.duration * 1e3
            )
            window = work.endpoint.batch_window if work.dialect in BATCHING else 0.0
            self._store.lanes.delivered(work, kept, now, window)
        elif isinstance(decision, retry.RetryAt):
            due_at = decision.at.timestamp()
            asked = retry.retry_after(response, datetime.fromtimestamp(now, UTC)) or timedelta(0)
            not_before = now + min(asked, retry.LONGEST).total_seconds()
            if early:
                due_at = max(work.scheduled_at, not_before)
            at = datetime.fromtimestamp(due_at, UTC).isoformat(timespec="seconds")
            reason = masked(decision.reason, work.endpoint)
            log.warning("%s: %s failed: %s; next try %s", name, work.delivery_id, reason, at)
            kept = replace(kept, decision=f"retry at {at}")
            self._store.lanes.retry(
                work, kept, step=step + 1, due_at=due_at, now=now, error=reason, not_before=not_before
            )
        else:
            reason = masked(decision.reason, work.endpoint)
            log.error("%s: disabled: %s", name, reason)
            self._store.lanes.disable(work, replace(kept, decision="endpoint disabled"), now=now, reason=reason)


def _gathered(work: Work) -> tuple[bytes, Mapping[str, str], str]:
    """Payload, headers and id of the request: the head's own, or those of a batch, the same for the same deliveries."""
    dialect = dialects.get(work.dialect)
    if not work.further or not isinstance(dialect, dialects.Batching):
        return work.payload, work.headers, work.delivery_id
    ids = [work.delivery_id, *(one.delivery_id for one in work.further)]
    batch_id = str(uuid.uuid5(_BATCHES, " ".join(ids)))
    payload = dialect.batch([work.payload, *(one.payload for one in work.further)])
    return payload, dialect.headers("", batch_id, Hook(work.endpoint.id, batch_id)), batch_id


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
    secrets = [endpoint.secret]
    if now.timestamp() < endpoint.old_secret_until:
        secrets.append(endpoint.old_secret)
    signed = signing.sign(scheme, secrets=secrets, payload=payload, body=body, delivery_id=delivery_id, now=now)
    return Request(
        url=endpoint.url,
        headers=(*headers.items(), ("Content-Type", header), *signed.items()),
        body=body,
        timeout=endpoint.timeout,
        verify_tls=endpoint.verify_tls,
    )


def attempt(endpoint: Endpoint, request: Request, response: Response, started_at: float, decision: str) -> Attempt:
    """An exchange as it may be kept and shown: masked, also where the endpoint echoes a secret."""

    def headers(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return [
            (name, MASK if name.lower() in signing.SECRET_HEADERS else masked(value, endpoint)) for name, value in pairs
        ]

    # latin-1 has a character for each byte: nothing of a body is lost.
    body = masked(response.body[:KEPT_BODY].decode("latin-1"), endpoint)
    if len(response.body) >= KEPT_BODY:
        # Where it was cut off, the beginning of a secret may be left.
        longest = max(map(len, _secrets(endpoint)), default=0) * _LONGEST_FORM
        body = body[: len(body) - longest] if longest < len(body) else ""
    return Attempt(
        started_at=started_at,
        duration=response.duration,
        url=shown_url(endpoint) if request.url else "",
        request_headers=headers(request.headers),
        status=response.status,
        response_headers=headers(response.headers),
        response_body=body.encode("latin-1"),
        error_class=response.error_class,
        error=masked(response.error, endpoint),
        decision=decision,
    )


def shown_url(endpoint: Endpoint) -> str:
    """The endpoint's URL as it may be shown. Where nothing signs a request, the path itself is the secret."""
    return urls.masked(endpoint.url, hide_path=_is_path_secret(endpoint))


def _is_path_secret(endpoint: Endpoint) -> bool:
    dialect = dialects.DIALECTS.get(endpoint.dialect)
    return (endpoint.signing or (dialect.SIGNING if dialect else "")) == "none"


def masked(text: str, endpoint: Endpoint) -> str:
    """The text without the endpoint's secrets, as they are or as programs escape them. Bytes of UTF-8 may be read as
    latin-1 in it, as headers are."""
    for secret in _secrets(endpoint):
        text = _pattern(secret).sub(MASK, text)
    return text


def _secrets(endpoint: Endpoint) -> list[str]:
    """What an answer could echo of an endpoint's secrets, longest first.

    One of a letter or two hides nothing, and is not among them."""
    found = signing.spellings(endpoint.secret) | signing.spellings(endpoint.old_secret)
    try:
        parts = urlsplit(endpoint.url)
    except ValueError:  # a store that was edited by hand
        parts = urlsplit("")
    if userinfo := parts.netloc.rpartition("@")[0]:
        user, _, password = userinfo.partition(":")
        basic = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        # A user name alone is a token.
        found |= {unquote(userinfo), unquote(password or user), base64.b64encode(basic).decode()}
    if _is_path_secret(endpoint):
        found |= {unquote(parts.path.strip("/")), *(unquote(one) for one in parts.path.split("/") if len(one) >= 8)}
    for item in parts.query.split("&"):
        key, equals, value = item.partition("=")
        found.add(unquote_plus(value if equals else key))
    return sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True)


@lru_cache(maxsize=256)
def _pattern(secret: str) -> re.Pattern[str]:
    """A secret in any mixture of the ways in which URLs, JSON and HTML write its characters."""
    return re.compile("".join(f"(?:{'|'.join(map(re.escape, _forms(character)))})" for character in secret))


def _forms(character: str) -> list[str]:
    raw = character.encode("utf-8", "surrogateescape")
    units = character.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    forms = {character, raw.decode("latin-1")}
    for case in (str.lower, str.upper):
        forms |= {"%" + case(raw.hex("%")), "".join("\\u" + case(unit) for unit in units)}
        forms |= {f"&#x{case(f'{ord(character):x}')};"}
    forms |= {html.escape(character), f"&#{ord(character)};", f"&#{ord(character):03};"}
    if character in "\"'\\/":
        forms.add("\\" + character)
    if character == " ":
        forms.add("+")
    return sorted(forms, key=len, reverse=True)
