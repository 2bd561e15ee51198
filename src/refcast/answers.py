"""Answers: what pushers are told of their own push, where an endpoint is to answer them.

Owns the directory `answers/`, which hooks look into, and what stands there:

    bound        the longest that an endpoint has a pusher wait: `250 2.5`, hundredths of a second, then seconds for
                 people; not there where none does, and then no hook waits
    <record>     of one push, by its record's id: `wait 250 2.5`, that push's own bound; `say deploy: 200 in 132 ms` for
                 each delivery; `end` when there is no more to come

A record's id is random and known to its pusher's hook alone, and nobody else can list the directory. What endpoints say
is untrusted: it becomes one short line without control characters. Nothing here may hold up a delivery, or have one
fail: what cannot be written is not told.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refcast import retry
from refcast.errors import StateError
from refcast.model import Endpoint, visible
from refcast.store.claims import Work
from refcast.store.intake import NewEvent
from refcast.store.outcomes import Attempt

log = logging.getLogger(__name__)

DIRECTORY = "answers"
BOUND = "bound"

LONGEST = 10.0
"""Seconds that an endpoint may have a pusher wait."""

KEPT_SECONDS = 20.0
"""How long a file stays: longer than any hook waits for it, and shorter than an idle worker stays."""

MOST_LINES = 20
MOST_TEXT = 200
"""Characters of an answer that are shown."""

_MOST_REF = 80


def set_bound(state: Path, endpoints: Iterable[Endpoint]) -> None:
    """Tell the hooks how long they may have to wait, now that the endpoints are these. Raises StateError."""
    longest = max((one.answer for one in endpoints if one.state == "active"), default=0.0)
    text = f"{_seconds(longest)}\n" if longest > 0 else ""
    path = state / DIRECTORY / BOUND
    try:
        try:
            old = path.read_text("ascii", "replace")
        except FileNotFoundError:
            old = ""
        if text != old:
            _replace(path, text)
    except OSError as error:
        raise StateError(f"pushers are not answered: cannot write {path}: {error.strerror}; make room there") from error


@dataclass(slots=True)
class _Push:
    since: float
    several: bool
    """It moves more than one ref, so that a line names its own."""
    endpoints: Mapping[int, Endpoint]
    """Those that are to answer."""
    bound: float = 0.0
    awaited: set[str] = field(default_factory=set)
    """The ids of the deliveries that have not been answered yet."""
    lines: list[str] = field(default_factory=list)
    more: int = 0
    stored: bool = False
    """Nothing more is going to be awaited."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    record_id: str
    endpoint: Endpoint
    label: str


class Answers:
    """Of the pushes whose hooks may be waiting. `steady` gives seconds that never go back. Any thread may call it."""

    def __init__(self, state: Path, steady: Callable[[], float]) -> None:
        self._state = state
        self._directory = state / DIRECTORY
        self._steady = steady
        self._lock = threading.Lock()
        self._pushes: dict[str, _Push] = {}
        self._awaited: dict[str, _Awaited] = {}
        self._trouble = ""

    def begin(self) -> None:
        """Forget what an earlier worker has left."""
        with self._lock:
            self._pushes.clear()
            self._awaited.clear()
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name != BOUND:
                    path.unlink(missing_ok=True)

    def refresh(self, endpoints: Iterable[Endpoint]) -> None:
        """Have the hooks know the bound that counts now, and forget the pushes that nobody waits for any more."""
        try:
            set_bound(self._state, endpoints)
        except StateError as error:
            self._complain(str(error))
        with self._lock:
            now = self._steady()
            for record_id in [key for key, push in self._pushes.items() if now - push.since > KEPT_SECONDS]:
                for delivery_id in self._pushes.pop(record_id).awaited:
                    self._awaited.pop(delivery_id, None)
                with contextlib.suppress(OSError):
                    (self._directory / record_id).unlink(missing_ok=True)

    def expect(self, record_id: str, events: Iterable[NewEvent], endpoints: Iterable[Endpoint], refs: int) -> None:
        """These events of a push are about to be stored: what of them is sent is to be told. `refs` is how many refs
        the push moves. Before they are stored, because they may be sent in the very moment after."""
        answering = {one.id: one for one in endpoints if one.answer > 0}
        if not answering:
            return
        with self._lock:
            push = self._pushes.setdefault(record_id, _Push(self._steady(), refs > 1, answering))
            said = len(push.lines) + push.more
            for new in events:
                if new.event.recovered:  # that was another's push
                    continue
                for delivery in (delivery for content in new.contents for delivery in content.deliveries):
                    endpoint = push.endpoints.get(delivery.endpoint_id)
                    if endpoint is None:
                        continue
                    label = endpoint.name
                    if push.several and new.event.update:
                        label += f" ({_short(new.event.update.short, _MOST_REF)})"
                    if endpoint.state != "active":
                        self._say(push, f"{label}: it is disabled, and this is held until it is enabled")
                    elif delivery.held:
                        self._say(push, f"{label}: this push has more events than it takes, so this one is held")
                    else:
                        push.bound = max(push.bound, endpoint.answer)
                        push.awaited.add(delivery.id)
                        self._awaited[delivery.id] = _Awaited(record_id, endpoint, label)
            if len(push.lines) + push.more > said:
                self._write(record_id, push)

    def stored(self, record_id: str, asleep: Callable[[], Mapping[str, str]]) -> None:
        """All of a push is stored. `asleep` gives, by name, the endpoints that are not going to be tried before any
        hook has ceased to wait, and the last error of each."""
        push = self._pushes.get(record_id)
        if push is None:
            return
        sleeping = asleep() if push.awaited else {}
        with self._lock:
            push.stored = True
            for delivery_id in [one for one in push.awaited if self._awaited[one].endpoint.name in sleeping]:
                one = self._answered(push, delivery_id)
                why = _short(sleeping[one.endpoint.name], MOST_TEXT)
                self._say(push, f"{one.label}: it has been failing ({why}), and this waits until it is tried again")
            self._write(record_id, push)

    def awaits(self, work: Work) -> bool:
        """Whether somebody may wait for what comes of this: cheap where nobody is to be answered."""
        return work.endpoint.answer > 0 and bool(self._awaited)

    def told(self, work: Work, attempt: Attempt, decision: retry.Decision) -> None:
        """What came of a request, as it may be shown. A failure for which what is behind it waits is told to those who
        wait for that, too."""
        if isinstance(decision, retry.Halve):  # it is sent again at once
            return
        words = said(attempt)
        changed = set()
        with self._lock:
            for delivery_id in (work.delivery_id, *(one.delivery_id for one in work.further)):
                if delivery_id in self._awaited:
                    one = self._awaited[delivery_id]
                    changed.add(one.record_id)
                    push = self._pushes[one.record_id]
                    self._say(push, f"{self._answered(push, delivery_id).label}: {words}{_FOLLOWS[type(decision)]}")
            if isinstance(decision, retry.RetryAt | retry.Disable):
                behind = [key for key, one in self._awaited.items() if one.endpoint.id == work.endpoint.id]
                for delivery_id in behind:
                    one = self._awaited[delivery_id]
                    changed.add(one.record_id)
                    push = self._pushes[one.record_id]
                    self._say(push, f"{self._answered(push, delivery_id).label}: waits behind one that failed: {words}")
            for record_id in changed:
                self._write(record_id, self._pushes[record_id])

    def _answered(self, push: _Push, delivery_id: str) -> _Awaited:
        push.awaited.discard(delivery_id)
        return self._awaited.pop(delivery_id)

    def _say(self, push: _Push, line: str) -> None:
        if len(push.lines) < MOST_LINES:
            push.lines.append(line)
        else:
            push.more += 1

    def _write(self, record_id: str, push: _Push) -> None:
        lines = [f"wait {_seconds(push.bound)}"] if push.stored else []
        lines += [f"say {line}" for line in push.lines]
        if push.stored and not push.awaited:
            lines += [f"say and {push.more} more: see refcast delivery list"] if push.more else []
            lines.append("end")
        try:
            _replace(self._directory / record_id, "".join(f"{line}\n" for line in lines))
            self._trouble = ""
        except OSError as error:
            self._complain(f"pushers are not answered: cannot write into {self._directory}: {error.strerror}")

    def _complain(self, trouble: str) -> None:
        """Once for as long as it lasts: each push would have it again."""
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble


_FOLLOWS: Mapping[type[retry.Decision], str] = {
    retry.Delivered: "",
    retry.RetryAt: "; it is tried again",
    retry.SetAside: "; it is tried again",
    retry.Refuse: "; it is given up",
    retry.Disable: "; the endpoint is disabled",
}


def said(attempt: Attempt) -> str:
    """What came of a request, in a few words for a terminal: `200 in 132 ms: deployed`."""
    if attempt.status is None:
        return f"{attempt.error_class}: {_short(attempt.error, MOST_TEXT)}"
    text = _short(_text(attempt), MOST_TEXT)
    return f"{attempt.status} in {attempt.duration * 1e3:.0f} ms" + (f": {text}" if text else "")


def _text(attempt: Attempt) -> str:
    """The first line of an answer that is plain text, or that does not say what it is and looks like that."""
    headers = {name.lower(): value.strip().lower() for name, value in attempt.response_headers}
    kind = headers.get("content-type", "").partition(";")[0].strip()
    body = attempt.response_body.strip()
    if kind not in ("", "text/plain") or headers.get("content-encoding", "identity") != "identity":
        return ""
    if not kind and body[:1] in (b"{", b"[", b'"', b"<"):
        return ""
    return body.split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def _short(text: str, most: int) -> str:
    """Untrusted text as one line of at most so many characters, fit for a terminal."""
    text = visible(text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _seconds(seconds: float) -> str:
    seconds = min(seconds, LONGEST)  # a store that was edited by hand
    return f"{round(seconds * 100)} {seconds:g}"


def _replace(path: Path, text: str) -> None:
    """Write a small file that hooks of all users may open by its name; they see the old text or the new. Raises
    OSError. Without a text there is no file."""
    if not text:
        path.unlink(missing_ok=True)
        return
    if not path.parent.is_dir():
        path.parent.mkdir()
        path.parent.chmod(0o711)
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8", "replace")
    new.chmod(0o644)
    new.replace(path)
