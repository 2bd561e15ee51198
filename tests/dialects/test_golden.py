"""Every dialect over the hard repository and over notices, against golden files: tests/golden/<dialect>/<case>….

Each message has two files: `.json`, the payload, indented and in ASCII so that no letter can hide, and
`.headers`, as they would be sent with the secret `golden`. Where a case makes several messages, their
number and kind stand before the ending. A file that is missing, surplus or different fails the test.

After a change that is meant, `REFCAST_GOLDEN=write pytest tests/dialects/test_golden.py` writes them anew:
read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import hard
from events import NOTICES
from refcast import dialects, signing
from refcast.history import History, Limits
from refcast.model import Event, Message, Push, Pusher, Repository

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PUSHER = Pusher("ada", "Ada Lovelace", "ada@example.org", 7)
REPOSITORY = Repository(
    path="/srv/git/team/hard.git",
    full_name="team/hard",
    id=15,
    description="A deliberately hard repository",
    default_branch="main",
    homepage="https://git.example.org/team/hard",
    http_url="https://git.example.org/team/hard.git",
    ssh_url="git@git.example.org:team/hard.git",
)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Event]:
    """The event of every case of the hard repository, by the case's name."""
    made = hard.build(tmp_path_factory.mktemp("golden") / "hard.git")
    return dict(read(made))


def read(made: hard.HardRepository) -> Iterator[tuple[str, Event]]:
    with History.open(str(made.path)) as history:
        for case in made.cases:
            push = Push("a-push", str(made.path), "ada", NOW, (case.update,))
            (event,) = history.events(push, case.ledger, REPOSITORY, PUSHER, Limits(), other_refs=True)
            yield case.name, event


def files(name: str, events: dict[str, Event]) -> dict[str, str]:
    """What the dialect makes of the events and of the notices: text by file name."""
    dialect = dialects.get(name)
    made: dict[str, str] = {}
    cases: dict[str, list[Message]] = {
        **{case: dialect.render(event) for case, event in events.items()},
        **{case: [dialect.notice(notice)] for case, notice in NOTICES.items()},
    }
    for case, messages in cases.items():
        for number, message in enumerate(messages, 1):
            stem = case if len(messages) == 1 else f"{case}.{number}-{message.kind}"
            payload = dialects.encode(message.payload)
            content_type, body = dialects.body(payload, dialect.CONTENT_TYPES[0])
            delivery_id = f"{case}-{number}"
            signature = signing.sign(
                dialect.SIGNING, secrets=["golden"], payload=payload, body=body, delivery_id=delivery_id, now=NOW
            )
            headers = {
                "Content-Type": content_type,
                **dialect.headers(message.kind, delivery_id),
                **signature,
            }
            made[f"{stem}.json"] = json.dumps(json.loads(payload), indent=2) + "\n"
            made[f"{stem}.headers"] = "".join(f"{key}: {value}\n" for key, value in headers.items())
    return made


@pytest.mark.parametrize("name", dialects.DIALECTS)
def test_golden(name: str, events: dict[str, Event]) -> None:
    folder = GOLDEN / name
    made = files(name, events)
    if os.environ.get("REFCAST_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for file, text in made.items():
            (folder / file).write_text(text)
    stored = {path.name: path.read_text() for path in folder.iterdir()}
    assert stored.keys() == made.keys()
    assert stored == made
