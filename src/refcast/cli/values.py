"""What the values of options mean: durations, counts, moments, files. Bad ones are refused in one clear line."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from refcast.errors import BadInput

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 24 * 3600.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])\Z", re.ASCII)

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 30 * _UNITS["d"]
"""Seconds that a schedule may have between two tries."""

MOST_WAITS = 50


def duration(text: str) -> float | None:
    """Seconds of a duration such as `90s`, `5m`, `1.5h`, `2d`, to the millisecond; None if it is none."""
    found = _DURATION.match(text.strip())
    return round(float(found[1]) * _UNITS[found[2]], 3) if found else None


def spelled(seconds: float) -> str:
    """A duration as `duration` reads it, in the largest unit that tells it exactly."""
    for unit, length in reversed(_UNITS.items()):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def schedule(text: str) -> tuple[float, ...]:
    """The waits of `1m,5m,30m` in seconds; none for `default`. BadInput says how it is written."""
    if text == "default":
        return ()
    waits = [duration(part) for part in text.split(",")]
    if not all(waits) or len(waits) > MOST_WAITS:
        raise BadInput(
            f"{text!r} is no schedule: write up to {MOST_WAITS} waits such as 1m,5m,30m,3h (s, m, h, d), or `default`"
        )
    found = tuple(wait for wait in waits if wait)
    if min(found) < SHORTEST_WAIT or max(found) > LONGEST_WAIT:
        raise BadInput(f"a wait of a schedule is {spelled(SHORTEST_WAIT)} to {spelled(LONGEST_WAIT)}: {text!r}")
    return found


def count(option: str, text: str, lowest: int, highest: int, word: str) -> int | None:
    """A whole number within bounds; None for the word that stands for no number. BadInput for anything else."""
    if text == word:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text) and lowest <= int(text) <= highest:
        return int(text)
    raise BadInput(f"{option} {text!r} cannot be: use {lowest} to {highest}, or `{word}`")


def moment(option: str, text: str, now: float) -> float:
    """Seconds since the epoch of `2h` (so long ago), `2026-03-01` or `2026-03-01T14:00`, all in local time, or of a
    time with `Z` or an offset. BadInput for anything else."""
    ago = duration(text)
    if ago is not None:
        return now - ago
    try:
        return datetime.fromisoformat(text).timestamp()  # one without a zone is local time
    except (ValueError, OverflowError, OSError):
        raise BadInput(
            f"{option} {text!r} is no time: write 2h for two hours ago (s, m, h, d), 2026-03-01, or 2026-03-01T14:00Z"
        ) from None


def file(option: str, text: str) -> str:
    """The absolute path of a file that is there and can be read; empty for `none`. BadInput otherwise."""
    if text == "none":
        return ""
    path = Path(os.path.abspath(text))  # noqa: PTH100 (resolve would follow a link that is changed to renew it)
    try:
        if not path.is_file():
            raise BadInput(f"{option}: there is no file {str(path)!r}; `none` takes it away")
        path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such path"
        raise BadInput(f"{option}: cannot read {str(path)!r}: {reason}") from error
    return str(path)
