"""The tables of the store, and their version. Times are seconds since the epoch, UTC, as REAL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

VERSION = 2
"""Raised with every change to the tables. A program refuses a store of a later version."""


class GitText(sa.types.TypeDecorator[str]):
    """A ref name, path or secret: `str` with surrogateescape in Python, its bytes in the store: none is lost."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:  # noqa: ARG002
        return None if value is None else value.decode("utf-8", "surrogateescape")


metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

repositories = sa.Table(
    "repositories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", GitText, nullable=False, unique=True),
    sa.Column("added_at", sa.Float, nullable=False),
    sa.Column("watched", sa.Boolean, nullable=False, comment="hooks are installed"),
    sa.Column("swept_at", sa.Float, comment="when its refs were last compared with the ledger"),
    sa.Column("sweep_asked_at", sa.Float, comment="when somebody asked for a sweep; NULL when it is done"),
    sa.Column("sweep_found", sa.JSON, comment="what the last sweep found, or why it could not"),
    sqlite_autoincrement=True,
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", GitText, nullable=False, unique=True),
    sqlite_autoincrement=True,
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("ref", GitText, primary_key=True),
    sa.Column("tip", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), nullable=False),
    sa.Column("pusher", GitText, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("ingested_at", sa.Float, comment="NULL while only a part of it is stored"),
    comment="Records that were ingested. One that is read again (a crash came before its removal) is known here.",
)
sa.Index("records_begun", records.c.repository_id, sqlite_where=records.c.ingested_at.is_(None))

covered = sa.Table(
    "covered",
    metadata,
    sa.Column("record_id", sa.ForeignKey("records.id"), primary_key=True),
    sa.Column("ref", GitText, primary_key=True),
    sa.Column("old", sa.Text, nullable=False),
    sa.Column("new", sa.Text, nullable=False),
    sa.Column("event_id", sa.ForeignKey("events.id"), comment="the recovered event; NULL when it is forgotten"),
    sqlite_with_rowid=False,
    comment="What records told that came late: a recovered event had announced it already.",
)
sa.Index("covered_by_event", covered.c.event_id)

asides = sa.Table(
    "asides",
    metadata,
    sa.Column("path", GitText, primary_key=True, comment="the file in the spool, which stays there"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("retry_at", sa.Float, comment="NULL: only when a person asks for it"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("record_id", sa.Text, nullable=False),
    sa.Column("repository_id", sa.ForeignKey("repositories.id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("ref", GitText, nullable=False),
    sa.Column("old", sa.Text, nullable=False),
    sa.Column("new", sa.Text, nullable=False),
    sa.Column("pusher", GitText, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("recovered", sa.Boolean, nullable=False),
    sa.Column("incomplete", sa.Text, nullable=False, comment="why commits are missing; empty when none is"),
    sa.Column(
        "place",
        GitText,
        nullable=False,
        server_default=sa.text("x''"),
        comment="refs/namespaces/…/, or empty: before the ref",
    ),
    sa.Column(
        "passed_over",
        sa.JSON,
        nullable=False,
        server_default=sa.text("'{}'"),
        comment="why endpoints did not get it, by their names",
    ),
    sa.UniqueConstraint("record_id", "ref", "recovered"),
    sa.Index("events_by_ref", "repository_id", "ref"),
    sqlite_autoincrement=True,
)

contents = sa.Table(
    "contents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("event_id", sa.ForeignKey("events.id"), comment="NULL for a notice about another endpoint"),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="the dialect's own name of the event"),
    sa.Column("payload", sa.LargeBinary, nullable=False, comment="JSON, as it is sent or put into a form"),
    comment="An event in a dialect's words, rendered once and shared by all endpoints of that dialect.",
)
sa.Index("contents_by_event", contents.c.event_id)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("secret", GitText, nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("repositories", sa.JSON, nullable=False),
    sa.Column("branches", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("tags", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("paths", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("pushers", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("skips", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("other_refs", sa.Boolean, nullable=False),
    sa.Column("verify_tls", sa.Boolean, nullable=False),
    sa.Column("timeout", sa.Float, nullable=False),
    sa.Column("answer", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("signing", sa.Text, nullable=False),
    sa.Column("old_secret", GitText, nullable=False),
    sa.Column("old_secret_until", sa.Float, nullable=False),
    sa.Column("commits", sa.Integer),
    sa.Column("files", sa.Integer),
    sa.Column("batch_window", sa.Float, nullable=False),
    sa.Column("secret_file", GitText, nullable=False, server_default=sa.text("x''")),
    sa.Column("schedule", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("tries", sa.Integer),
    sa.Column("rejects", sa.Boolean),
    sa.Column("max_events", sa.Integer),
    sa.Column("on_failure", sa.ForeignKey("endpoints.id")),
    sa.Column("proxy", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.Column("ca_file", GitText, nullable=False, server_default=sa.text("x''")),
    sa.Column("client_cert", GitText, nullable=False, server_default=sa.text("x''")),
    sa.Column("client_key", GitText, nullable=False, server_default=sa.text("x''")),
    sa.Column("origin", sa.ForeignKey("repositories.id"), comment="whose configuration names it, or NULL"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id"), nullable=False, unique=True),
    sa.Column("claimed", sa.Boolean, nullable=False, comment="a thread has a request of this lane in flight"),
    sa.Column("step", sa.Integer, nullable=False, comment="failed scheduled tries of the head; 0 when all is well"),
    sa.Column("due_at", sa.Float, nullable=False, comment="the next try, not before"),
    sa.Column("scheduled_at", sa.Float, nullable=False, comment="when the schedule alone would try"),
    sa.Column("not_before", sa.Float, nullable=False, comment="what the endpoint has asked for (Retry-After)"),
    sa.Column("nudged_at", sa.Float, nullable=False, comment="when a new event last brought the next try to now"),
    sa.Column("failing_since", sa.Float, comment="NULL when the last try succeeded"),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("aside", sa.Integer, comment="the position that stepped aside while the next is tried"),
    sa.Column(
        "at_fault",
        sa.Boolean,
        nullable=False,
        server_default=sa.text("0"),
        comment="two payloads in a row were refused",
    ),
    sa.Column("batch_limit", sa.Integer, comment="how many go into one request after a batch was refused; NULL: all"),
    sqlite_autoincrement=True,
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, comment="the order within a lane"),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("content_id", sa.ForeignKey("contents.id"), nullable=False),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id"), nullable=False),
    sa.Column("lane_id", sa.ForeignKey("lanes.id"), nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("signing", sa.Text, nullable=False),
    sa.Column("headers", sa.JSON, nullable=False, comment="all but content type and signature"),
    sa.Column("state", sa.Text, nullable=False, comment="waiting, aside, held, delivered, refused, canceled, expired"),
    sa.Column("reason", sa.Text, nullable=False, server_default=sa.text("''"), comment="why it is in this state"),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("asked_at", sa.Float, comment="when somebody last asked for it again: it waits since then"),
    sa.Column("finished_at", sa.Float),
    sa.Index("deliveries_by_lane", "lane_id", "state", "position"),
    sa.Index("deliveries_by_content", "content_id"),
    sa.Index("deliveries_by_age", "state", "finished_at"),
    sqlite_autoincrement=True,
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("duration", sa.Float, nullable=False),
    sa.Column("url", sa.Text, nullable=False, comment="masked"),
    sa.Column("request_headers", sa.JSON, nullable=False, comment="secrets masked"),
    sa.Column("status", sa.Integer),
    sa.Column("response_headers", sa.JSON, nullable=False),
    sa.Column("response_body", sa.LargeBinary, nullable=False, comment="its first part"),
    sa.Column("error_class", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False, comment="what followed, in words"),
    sqlite_autoincrement=True,
)

attempt_deliveries = sa.Table(
    "attempt_deliveries",
    metadata,
    sa.Column("attempt_id", sa.ForeignKey("attempts.id"), primary_key=True),
    sa.Column("position", sa.ForeignKey("deliveries.position"), primary_key=True),
    sa.Index("attempts_by_delivery", "position"),
    comment="One request carries one delivery, or a batch of them.",
)
