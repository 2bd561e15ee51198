"""What pushers are told: one line, which the hooks print, of endpoints that have been failing for long."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from refcast.presence import write
from refcast.store import Store

NOTICE_SECONDS = 3600.0
"""How long an endpoint must have been failing before pushers are told."""


def refresh_notice(state: Path, store: Store, now: float) -> None:
    """Tell pushers, by a line that the hook prints, of endpoints that have been failing for long; no secrets."""
    long = [failing for failing in store.lanes.failing() if now - failing.since >= NOTICE_SECONDS]
    text = ""
    if long:
        since = datetime.fromtimestamp(long[0].since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        names = ", ".join(failing.name + (" (disabled)" if failing.disabled else "") for failing in long[:5])
        more = f" and {len(long) - 5} more" if len(long) > 5 else ""
        text = f"deliveries to {names}{more} have been failing since {since}; what they miss is kept\n"
    path = state / "notice"
    try:
        old = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        old = ""
    if text != old:
        write(path, text)
