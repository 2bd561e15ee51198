"""The worker's own log: where it goes, and as what.

Owns the forms of a line. Text from elsewhere is made harmless in each: a line break or an escape in it is shown, so
that no line can be forged. To which endpoint, delivery or repository something happened is said in the message for
people, and again in fields for machines: `log.info("…", extra={"endpoint": …})` with the names in FIELDS.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from refcast.cli.common import iso, safe

FIELDS = ("endpoint", "delivery", "repository", "status", "error_class", "duration", "next_try")

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""What sd-daemon(3) calls these levels."""


class Text(logging.Formatter):
    """`INFO message`, for people; a traceback follows in lines that are set off."""

    def __init__(self, head: str) -> None:
        super().__init__(head + "%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        harmless = logging.makeLogRecord({**record.__dict__, "msg": safe(record.getMessage()), "args": None})
        harmless.exc_info = harmless.exc_text = harmless.stack_info = None
        return "\n".join([super().format(harmless), *(f"    {line}" for line in _traceback(record))])


class Json(logging.Formatter):
    """One object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": iso(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "process": record.process,
        }
        facts |= {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) not in (None, "")}
        if lines := _traceback(record):
            facts["traceback"] = "\n".join(lines)
        return json.dumps(facts, default=str)  # ASCII: what stands for a byte or breaks a line is escaped


class Journal(logging.Formatter):
    """Each line with the priority that the journal takes from it; it knows the time itself (sd-daemon(3))."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in self._inner.format(record).split("\n"))


def begin(state: Path | None, form: str) -> None:
    """Log to standard error, where a service manager keeps it, as `text` or `json`; or, given the state directory of a
    detached worker, to the files of its own there."""
    handler: logging.Handler
    if state is not None:
        handler = logging.handlers.RotatingFileHandler(state / "worker.log", maxBytes=1_000_000, backupCount=3)
        os.chmod(handler.baseFilename, 0o600)  # noqa: PTH101 (a str)
        handler.setFormatter(_dated(Text("%(asctime)s %(process)d %(levelname)s ")))
    else:
        handler = logging.StreamHandler(sys.stderr)
        journal = is_journal(os.environ, sys.stderr)
        inner = Json() if form == "json" else Text("" if journal else "%(levelname)s ")
        handler.setFormatter(Journal(inner) if journal else inner)
    logger = logging.getLogger("refcast")
    for earlier in list(logger.handlers):
        logger.removeHandler(earlier)
        earlier.close()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def is_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether what is written there goes to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        info = os.fstat(stream.fileno())
    except OSError:  # closed, or no file at all
        return False
    return environment.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def _dated(formatter: logging.Formatter) -> logging.Formatter:
    formatter.converter = time.gmtime
    formatter.default_msec_format = "%s.%03dZ"
    return formatter


def _traceback(record: logging.LogRecord) -> list[str]:
    """The lines of a bug's traceback, each harmless."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    text = "".join(traceback.format_exception(record.exc_info[1]))
    return [safe(line) for line in text.rstrip("\n").split("\n")]
