"""What was received for Slack and Discord, judged by their own kits and by those of discord.js."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from slack_sdk.models.attachments import Attachment
from slack_sdk.webhook import WebhookClient

from receiver import Receiver
from verifiers.judges import misspelt, node
from verifiers.story import Story

LIMIT = 40_000
"""Past so many characters Slack cuts a text: https://docs.slack.dev/changelog/2018-truncating-really-long-messages"""
ATTACHED = 8_000
"""Past so many, an attachment's."""


def built(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """The attachments, as Slack's kit makes them of the same parts; it refuses what Slack would not take."""
    attachments = []
    for attachment in sent["attachments"]:
        made = Attachment(**attachment).to_dict()
        attachments.append({key: value for key, value in made.items() if key in attachment or value})
    return attachments


class TestSlack:
    def test_its_kit_would_send_the_same(self, story: Story) -> None:
        received = story.received["slack"]
        with Receiver() as slack:
            client = WebhookClient(slack.url)
            for one in received:
                sent = one.json()
                assert sent.pop("link_names") is False  # an option of Slack's that its kit has no name for
                assert client.send(**{**sent, "attachments": built(sent)}).status_code == 200
                assert slack.book[-1].json() == sent
                assert len(sent["text"]) <= LIMIT
                assert all(len(attachment["text"]) <= ATTACHED for attachment in sent["attachments"])
        assert any(one.json()["attachments"] for one in received)

    def test_refuses_one_altered_byte(self, story: Story) -> None:
        with Receiver() as slack:
            client = WebhookClient(slack.url)
            for received in story.received["slack"]:
                bad = misspelt(received, "unfurl_links").json()
                with pytest.raises(TypeError, match="unexpected keyword"):
                    client.send(**bad)
        described = [one for one in story.received["slack"] if one.json()["attachments"]]
        for received in described:
            with pytest.raises(TypeError, match="unexpected keyword"):
                built(misspelt(received, "fallback").json())

    def test_nobody_is_called(self, story: Story) -> None:
        """By the marks that Slack documents: https://docs.slack.dev/messaging/formatting-message-text"""
        for received in story.received["slack"]:
            assert not re.search("<[!@#]|@everyone|@channel|@here", received.body.decode())


class TestDiscord:
    def test_its_builders_build_the_same(self, story: Story) -> None:
        received = story.received["discord"]
        assert node("discord", received) == [None] * len(received) != []

    def test_refuse_one_altered_byte(self, story: Story) -> None:
        bad = [misspelt(received, "description") for received in story.received["discord"]]
        assert all("no embed has" in str(verdict) for verdict in node("discord", bad))

    def test_refuse_what_is_too_long(self, story: Story) -> None:
        """So that the builders are seen to know the limits."""
        received = story.received["discord"][0]
        start = b'"description":"'
        long = received.body.replace(start, start + b"x" * 4096)
        good, bad = node("discord", [received, replace(received, body=long)])
        assert good is None
        assert "Invalid string length" in str(bad)

    def test_nobody_is_called(self, story: Story) -> None:
        for received in story.received["discord"]:
            sent = received.json()
            assert sent["allowed_mentions"] == {"parse": []}
            assert not re.search("<@[!&0-9]|@everyone|@here", received.body.decode())
