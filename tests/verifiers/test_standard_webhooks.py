"""Signatures of Standard Webhooks on what was received, judged by the libraries of its authors and of Svix."""

from __future__ import annotations

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from verifiers.judges import altered, lower, node
from verifiers.story import STANDARD_SECRET, Story

pytestmark = pytest.mark.parametrize("endpoint", ["gitlab-standard", "refcast"])

PYTHON = Webhook(STANDARD_SECRET)


class TestPython:
    def test_takes_every_request(self, story: Story, endpoint: str) -> None:
        received = story.received[endpoint]
        assert [PYTHON.verify(one.body, lower(one)) for one in received] == [one.json() for one in received] != []

    def test_refuses_one_altered_byte(self, story: Story, endpoint: str) -> None:
        for received in story.received[endpoint]:
            for bad in altered(received):
                with pytest.raises(WebhookVerificationError):
                    PYTHON.verify(bad.body, lower(bad))

    def test_refuses_another_id_or_time(self, story: Story, endpoint: str) -> None:
        received = story.received[endpoint][0]
        headers = lower(received)
        later = str(int(headers["webhook-timestamp"]) + 1)
        for name, value in (("webhook-id", "another"), ("webhook-timestamp", later)):
            with pytest.raises(WebhookVerificationError):
                PYTHON.verify(received.body, headers | {name: value})


@pytest.mark.parametrize("judge", ["standardWebhooks", "svix"])
class TestJavaScript:
    def test_takes_every_request(self, story: Story, endpoint: str, judge: str) -> None:
        received = story.received[endpoint]
        assert node(judge, received, STANDARD_SECRET) == [None] * len(received)

    def test_refuses_one_altered_byte(self, story: Story, endpoint: str, judge: str) -> None:
        bad = [one for received in story.received[endpoint] for one in altered(received)]
        assert all("No matching signature" in str(verdict) for verdict in node(judge, bad, STANDARD_SECRET))
