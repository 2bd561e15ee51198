"""Notices, which no system has, judged by those who know its requests: they parse, verify, and call nobody."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gidgethub.sansio import Event
from slack_sdk.models.attachments import Attachment
from slack_sdk.webhook import WebhookClient

from events import NOTICES
from receiver import Received, Receiver
from refcast import dialects, signing
from verifiers.judges import altered, lower, misspelt, node, typescript
from verifiers.story import SECRET
from verifiers.test_types import IMPORTS


def noticed(name: str) -> list[Received]:
    """A request for each sample notice, as an endpoint of this dialect would receive it."""
    dialect, now = dialects.get(name), datetime(2024, 1, 1, tzinfo=UTC)
    made = []
    for case, notice in NOTICES.items():
        message = dialect.notice(notice)
        payload = dialects.encode(message.payload)
        content_type, body = dialects.body(payload, "json")
        signed = signing.sign(
            dialect.SIGNING,
            secrets=[SECRET],
            payload=payload,
            body=body,
            delivery_id=case,
            now=now,
        )
        headers = {"Content-Type": content_type, **dialect.headers(message.kind, case), **signed}
        made.append(Received("POST", f"/{name}", list(headers.items()), body, now, 0.0))
    return made


@pytest.mark.parametrize("name", ["github", "gitea"])
def test_gidgethub_takes_them_as_events_of_their_own_kind(name: str) -> None:
    for one, notice in zip(noticed(name), NOTICES.values(), strict=True):
        event = Event.from_http(lower(one), one.body, secret=SECRET)
        assert event.event == f"endpoint_{notice.state}"
        assert event.data["reason"] == json.loads(one.body)["reason"]


def test_octokit_hears_them() -> None:
    requests = noticed("github")
    assert node("octokit", requests, SECRET) == [None] * len(requests)
    assert all(node("octokit", altered(requests[0]), SECRET))


def test_slack_s_kit_would_send_the_same() -> None:
    with Receiver() as slack:
        client = WebhookClient(slack.url)
        for one in noticed("slack"):
            sent = one.json()
            assert sent.pop("link_names") is False  # an option of Slack's that its kit has no name for
            (attachment,) = sent["attachments"]
            built = {key: value for key, value in Attachment(**attachment).to_dict().items() if key in attachment}
            assert client.send(**{**sent, "attachments": [built]}).status_code == 200
            assert slack.book[-1].json() == sent
            assert not re.search("<[!@#]|@everyone|@channel|@here", one.body.decode())


def test_discord_s_builders_build_the_same() -> None:
    requests = noticed("discord")
    assert node("discord", requests) == [None] * len(requests)
    assert all(node("discord", [misspelt(one, "description") for one in requests]))
    assert not re.search("<@[!&0-9]|@everyone|@here", "".join(one.body.decode() for one in requests))


def test_they_are_of_the_published_types(tmp_path: Path) -> None:
    typed = [(name.title(), one.body) for name in ("discord", "slack") for one in noticed(name)]
    assert typescript(tmp_path, IMPORTS, typed) == [None] * len(typed)
    words = {"discord": "description", "slack": "text"}
    bad = [(name.title(), misspelt(one, word).body) for name, word in words.items() for one in noticed(name)]
    assert all(typescript(tmp_path, IMPORTS, bad))
