"""One HTTP exchange, for people and for machines."""

from __future__ import annotations

from typing import Any

import click

from refcast.cli.common import iso, safe, when
from refcast.store.outcomes import Attempt


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    return {
        "started_at": iso(attempt.started_at),
        "duration_ms": round(attempt.duration * 1000, 1),
        **{
            name: getattr(attempt, name)
            for name in ("url", "request_headers", "status", "response_headers", "response_body")
        },
        **{name: getattr(attempt, name) for name in ("error_class", "error", "decision")},
    }


def show_exchange(attempt: Attempt, body: bytes | None = None, note: str = "") -> None:
    """Request and answer, as one reads them in a protocol's description; `note` in place of a body says what it was."""
    click.echo(f"{when(attempt.started_at)}  POST {safe(attempt.url)}")
    for name, value in attempt.request_headers:
        click.echo(f"> {safe(name)}: {safe(value)}")
    if body is not None:
        click.echo(f">\n> {safe(body.decode('utf-8', 'replace'))}")
    elif note and attempt.request_headers:
        click.echo(f">\n> ({note})")
    ms = f"{attempt.duration * 1000:.0f} ms"
    if attempt.status is None:
        click.echo(f"< no answer after {ms}: {attempt.error_class}: {safe(attempt.error)}")
    else:
        click.echo(f"< HTTP {attempt.status} after {ms}")
    for name, value in attempt.response_headers:
        click.echo(f"< {safe(name)}: {safe(value)}")
    if attempt.response_body:
        click.echo("<")
        for line in attempt.response_body.decode("utf-8", "replace").splitlines():
            click.echo(f"< {safe(line)}")
    click.echo(f"= {safe(attempt.decision)}")
