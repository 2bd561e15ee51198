"""What was received in GitLab's dialect, judged by the models of pydantic-gitlab-webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_gitlab_webhooks import validate_event_header_and_body_dict as validate

from receiver import Received
from verifiers.judges import misspelt
from verifiers.story import SECRET, Story


def judged(received: Received) -> Any:
    return validate(received.header("X-Gitlab-Event") or "", received.json())


def with_checkout(received: Received) -> Received:
    """The request with an empty text for a null `checkout_sha`."""
    return replace(received, body=received.body.replace(b'"checkout_sha":null', b'"checkout_sha":""'))


def refusals(received: Received) -> set[tuple[int | str, ...]]:
    """Where the model finds fault, without the names of the alternatives that it tries."""
    try:
        judged(received)
    except ValidationError as error:
        return {tuple(part for part in one["loc"] if part == "checkout_sha") for one in error.errors()}
    return set()


class TestModel:
    def test_takes_every_request(self, story: Story) -> None:
        """But for a deletion, whose `checkout_sha` is null with GitLab, too: the model wrongly wants a text."""
        kinds = []
        for received in story.received["gitlab"]:
            sent = received.json()
            if sent["checkout_sha"] is None:
                assert refusals(received) == {("checkout_sha",)}
                assert sent["total_commits_count"] == 0
            event = judged(with_checkout(received))
            kinds.append(event.event_name)
            assert event.model_dump(include={"ref", "before", "after", "user_username", "total_commits_count"}) == {
                key: sent[key] for key in ("ref", "before", "after", "user_username", "total_commits_count")
            }
            assert [commit.id for commit in event.commits] == [commit["id"] for commit in sent["commits"]]
        assert set(kinds) == {"push", "tag_push"}

    def test_refuses_one_altered_byte(self, story: Story) -> None:
        for received in story.received["gitlab"]:
            if received.json()["checkout_sha"] is not None:
                for word in ("object_kind", "project_id", "total_commits_count"):
                    with pytest.raises(ValidationError):
                        judged(misspelt(received, word))

    def test_the_token_is_there(self, story: Story) -> None:
        assert set(story.kinds("gitlab", "X-Gitlab-Token")) == {SECRET}
