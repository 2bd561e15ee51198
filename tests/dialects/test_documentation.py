"""docs/dialects.md tells the truth: its examples are what is rendered, its receiver's code works.

After a change that is meant, `REFCAST_GOLDEN=write pytest tests/dialects/test_documentation.py` writes the
examples anew.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from events import NOTICES, ONE, TAG, TAG_DELETED, UPDATE, A, B
from refcast import dialects, signing
from refcast.model import Message, RefUpdate

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"
PUSH = replace(UPDATE, update=RefUpdate(A, B, "refs/heads/main"), commits=(ONE,), total=1, head=ONE)
EXAMPLES = {
    "codescoring push": PUSH,
    "codescoring tag_push": TAG,
    "codeup push": PUSH,
    "codeup tag_push": TAG,
    "deveo push": PUSH,
    "deveo tag": TAG,
    "discord push": PUSH,
    "discord tag": TAG,
    "gitcode push": PUSH,
    "gitcode tag_push": TAG,
    "gitea push": PUSH,
    "gitea create": TAG,
    "github push": PUSH,
    "github create": TAG,
    "gitlab push": PUSH,
    "gitlab tag_push": TAG,
    "gogs push": PUSH,
    "gogs create": TAG,
    "gogs delete": TAG_DELETED,
    "refcast push": PUSH,
    "refcast tag_push": TAG,
    "slack push": PUSH,
    "slack tag": TAG,
}
NOTICED = [f"{name} notice" for name in ("codescoring", "discord", "github", "gitlab", "refcast", "slack")]
"""The others say the same as one of these."""


def rendered(example: str) -> Message:
    name, kind = example.split()
    dialect = dialects.get(name)
    if kind == "notice":
        return dialect.notice(NOTICES["notice-failing"])
    messages = dialect.render(EXAMPLES[example])
    (message,) = messages if len(messages) == 1 else [message for message in messages if message.kind == kind]
    return message


@pytest.mark.parametrize("example", [*EXAMPLES, *NOTICED])
def test_an_example_is_what_is_rendered(example: str) -> None:
    message = rendered(example)
    block = f"```json\n{json.dumps(message.payload, indent=2, ensure_ascii=False)}\n```\n"
    page = PAGE.read_text()
    place = re.compile(rf"(<!-- example: {example} -->\n)(\n```json\n.*?\n```\n)?", re.DOTALL)
    if os.environ.get("REFCAST_GOLDEN") == "write":
        PAGE.write_text(place.sub(lambda found: f"{found[1]}\n{block}", page))
        return
    found = place.search(page)
    assert found is not None
    assert found[2] == f"\n{block}"


def test_the_page_has_no_other_examples() -> None:
    assert set(re.findall(r"<!-- example: (.*) -->", PAGE.read_text())) == {*EXAMPLES, *NOTICED}


@pytest.mark.parametrize("name", dialects.DIALECTS)
def test_every_dialect_and_its_headers_are_on_the_page(name: str) -> None:
    section = PAGE.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    dialect = dialects.get(name)
    signed = signing.sign(
        dialect.SIGNING, secrets=["s"], payload=b"", body=b"", delivery_id="", now=datetime(2024, 1, 1, tzinfo=UTC)
    )
    for header in [*dialect.headers("", ""), *signed]:
        assert f"`{header}`" in section


def receiver(name: str) -> Callable[..., bool]:
    """A function of the page's Python, run as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    room: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), room)
    function: Callable[..., bool] = room[name]
    return function


def sent(name: str, content_type: str, secret: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a push in this dialect, signed."""
    dialect = dialects.get(name)
    (message,) = dialect.render(PUSH)
    payload = dialects.encode(message.payload)
    kind, body = dialects.body(payload, content_type)
    signed = signing.sign(
        dialect.SIGNING,
        secrets=[secret],
        payload=payload,
        body=body,
        delivery_id="an-id",
        now=datetime(2024, 1, 1, tzinfo=UTC),
    )
    return {"Content-Type": kind, **dialect.headers(message.kind, "an-id"), **signed}, body


@pytest.mark.parametrize("name", [*signing.SCHEMES, *signing.FAMILIES])
def test_every_signing_scheme_is_on_the_page(name: str) -> None:
    section = PAGE.read_text().split("\n## Signing schemes\n")[1].split("\n## ")[0]
    assert f"| `{name}`" in section or f"| `{name}:<header>[:<prefix>]`" in section


@pytest.mark.parametrize("secret", ["s3cret", "clé"])
class TestReceiver:
    def test_knows_codescoring_by_its_token(self, secret: str) -> None:
        check = receiver("from_codescoring")
        headers, _ = sent("codescoring", "json", secret)
        assert check(headers, secret)
        assert not check(headers, "another")
        assert not check(sent("codescoring", "json", "")[0], secret)

    def test_knows_codeup_by_its_token(self, secret: str) -> None:
        check = receiver("from_codeup")
        headers, _ = sent("codeup", "json", secret)
        assert check(headers, secret)
        assert not check(headers, "another")
        assert not check(sent("codeup", "json", "")[0], secret)

    @pytest.mark.parametrize(("name", "content_type"), [("deveo", "form"), ("deveo", "json"), ("gitcode", "json")])
    def test_knows_deveo_and_gitcode_by_their_signature(self, secret: str, name: str, content_type: str) -> None:
        check = receiver(f"from_{name}")
        headers, body = sent(name, content_type, secret)
        assert check(headers, body, secret)
        assert not check(headers, body, "another")
        assert not check(headers, body.replace(b"main", b"evil"), secret)
        assert not check(sent(name, content_type, "")[0], body, secret)

    @pytest.mark.parametrize("name", ["gitea", "github"])
    @pytest.mark.parametrize("content_type", ["json", "form"])
    def test_knows_gitea_and_github_by_their_signature(self, secret: str, name: str, content_type: str) -> None:
        check = receiver(f"from_{name}")
        headers, body = sent(name, content_type, secret)
        assert check(headers, body, secret)
        assert not check(headers, body, "another")
        assert not check(headers, body.replace(b"main", b"evil"), secret)
        assert not check(sent(name, content_type, "")[0], body, secret)

    def test_knows_gitlab_by_its_token(self, secret: str) -> None:
        check = receiver("from_gitlab")
        headers, _ = sent("gitlab", "json", secret)
        assert check(headers, secret)
        assert not check(headers, "another")
        assert not check(sent("gitlab", "json", "")[0], secret)

    @pytest.mark.parametrize("content_type", dialects.get("gogs").CONTENT_TYPES)
    def test_knows_gogs_by_its_signature(self, secret: str, content_type: str) -> None:
        check = receiver("from_gogs")
        headers, body = sent("gogs", content_type, secret)
        assert check(headers, body, secret)
        assert not check(headers, body, "another")
        assert not check(headers, body.replace(b"main", b"evil"), secret)
        assert not check(sent("gogs", content_type, "")[0], body, secret)

    @pytest.mark.parametrize("prefix", ["", "whsec_"])
    def test_knows_refcast_by_its_signature(self, secret: str, prefix: str) -> None:
        check = receiver("from_refcast")
        secret = prefix + base64.b64encode(secret.encode()).decode() if prefix else secret
        headers, body = sent("refcast", "json", secret)
        now = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
        assert check(headers, body, secret, now)
        assert not check(headers, body, secret, now + 300)
        assert not check(headers, body, "another", now)
        assert not check(headers, body.replace(b"main", b"evil"), secret, now)
        assert not check(sent("refcast", "json", "")[0], body, secret, now)
