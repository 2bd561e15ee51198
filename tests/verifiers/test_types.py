"""What was received, checked by TypeScript's compiler against the types that are published for its receivers."""

from __future__ import annotations

from pathlib import Path

from receiver import Received
from verifiers.judges import misspelt, typescript
from verifiers.story import Story

IMPORTS = """\
import type { components } from "@octokit/openapi-webhooks-types";
import type { MessageAttachment } from "@slack/types";
import type { RESTPostAPIWebhookWithTokenJSONBody } from "discord-api-types/v10";
type GitHub = components["schemas"];
type Discord = RESTPostAPIWebhookWithTokenJSONBody;
type Slack = {
  text: string;
  unfurl_links: boolean;
  unfurl_media: boolean;
  link_names: boolean;
  attachments: MessageAttachment[];
};
"""
WORDS = {"discord": "description", "github": "ref", "slack": "text"}
"""For each endpoint, the key that is altered."""


def kind(received: Received) -> str:
    if received.path == "/github":
        return f'GitHub["webhook-{received.header("X-GitHub-Event")}"]'
    return received.path.strip("/").title()


def test_every_request_is_of_its_type(story: Story, pings: dict[str, Received], tmp_path: Path) -> None:
    received = [one for name in WORDS for one in [*story.received[name], pings[name]]]
    verdicts = typescript(tmp_path, IMPORTS, [(kind(one), one.body) for one in received])
    assert {f"{kind(one)}: {verdict}" for one, verdict in zip(received, verdicts, strict=True) if verdict} == set()


def test_one_altered_byte_is_refused(story: Story, tmp_path: Path) -> None:
    bad = [misspelt(one, word) for name, word in WORDS.items() for one in story.received[name]]
    verdicts = typescript(tmp_path, IMPORTS, [(kind(one), one.body) for one in bad])
    assert all(verdict is not None for verdict in verdicts)
