"""The story has in it what the judges are to judge: what each endpoint received is not too little."""

from __future__ import annotations

import pytest

from refcast.model import ZERO_ID
from verifiers.story import SIGNED, UNSIGNED, Story


def test_github_received_every_kind_of_push(story: Story) -> None:
    ids = story.ids
    pushes = [one.json() for one in story.received["github"] if one.header("X-GitHub-Event") == "push"]
    told = [(push["ref"], push["after"], push["created"], push["deleted"], push["forced"]) for push in pushes]
    assert told[:8] == [
        ("refs/heads/main", ids["one"], True, False, False),
        ("refs/heads/main", ids["three"], False, False, False),
        ("refs/tags/v1.0", ids["v1.0"], True, False, False),
        ("refs/tags/light", ids["three"], True, False, False),
        ("refs/heads/topic", ids["topic"], True, False, False),
        ("refs/heads/topic", ids["forced"], False, False, True),
        ("refs/heads/topic", ZERO_ID, False, True, False),
        ("refs/tags/v1.0", ZERO_ID, False, True, False),
    ]
    assert len(told) > 15
    assert pushes[1]["commits"][0]["added"] == ["ein Name mit Lücken.txt"]


@pytest.mark.parametrize("endpoint", [*SIGNED, *UNSIGNED])
def test_every_endpoint_received_every_push(story: Story, endpoint: str) -> None:
    assert len(story.received[endpoint]) > 15
