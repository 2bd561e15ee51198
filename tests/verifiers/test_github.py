"""What was received in GitHub's dialect, judged by gidgethub, by octokit and by octokit's schemas."""

from __future__ import annotations

from dataclasses import replace

import gidgethub
import pytest
from gidgethub.sansio import Event

from receiver import Received
from verifiers.judges import altered, lower, misspelt, node
from verifiers.story import SECRET, Story

KINDS = {"create", "delete", "push"}


def without(received: Received, name: str) -> Received:
    return replace(received, headers=[header for header in received.headers if header[0].lower() != name])


def parsed(received: Received) -> Event:
    return Event.from_http(lower(received), received.body, secret=SECRET)


class TestGidgethub:
    @pytest.mark.parametrize("endpoint", ["github", "github-form", "github-sha1"])
    def test_takes_every_request(self, story: Story, endpoint: str) -> None:
        events = [parsed(one) for one in story.received[endpoint]]
        assert {event.event for event in events} == KINDS
        assert len({event.delivery_id for event in events}) == len(events)
        assert [event.data for event in events] == [one.json() for one in story.received["github"]]

    @pytest.mark.parametrize("endpoint", ["github", "github-form", "github-sha1"])
    def test_refuses_one_altered_byte(self, story: Story, endpoint: str) -> None:
        for received in story.received[endpoint]:
            for bad in altered(received):
                with pytest.raises(gidgethub.ValidationFailure):
                    parsed(bad)

    def test_takes_the_older_signature_that_goes_with_the_newer(self, story: Story) -> None:
        older = without(story.received["github"][0], "x-hub-signature-256")
        assert lower(older)["x-hub-signature"].startswith("sha1=")
        parsed(older)
        with pytest.raises(gidgethub.ValidationFailure):
            parsed(altered(older)[1])

    def test_takes_gitea_s_requests(self, story: Story) -> None:
        """They have GitHub's headers, too."""
        for received in story.received["gitea"]:
            assert parsed(received).data == received.json()
            with pytest.raises(gidgethub.ValidationFailure):
                parsed(altered(received)[1])


class TestOctokit:
    def test_hears_every_request(self, story: Story) -> None:
        received = story.received["github"]
        assert node("octokit", received, SECRET) == [None] * len(received)

    def test_refuses_one_altered_byte(self, story: Story) -> None:
        bad = [one for received in story.received["github"] for one in altered(received)]
        assert all("signature does not match" in str(verdict) for verdict in node("octokit", bad, SECRET))


class TestOctokitSchemas:
    def test_know_every_request(self, story: Story) -> None:
        received = story.received["github"]
        assert {one.header("x-github-event") for one in received} == KINDS
        assert node("octokitSchema", received) == [None] * len(received)

    def test_know_the_ping(self, pings: dict[str, Received]) -> None:
        assert node("octokitSchema", [pings["github"]]) == node("octokit", [pings["github"]], SECRET) == [None]
        assert parsed(pings["github"]).event == "ping"

    def test_refuse_one_altered_byte(self, story: Story) -> None:
        bad = [misspelt(received, "ref") for received in story.received["github"]]
        assert all("must have required property 'ref'" in str(verdict) for verdict in node("octokitSchema", bad))
