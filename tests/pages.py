"""What a page of the documentation tells an administrator to write and to run, for the tests that do it.

Owns how a page is read: a block belongs to the section that it stands in, and is the content of a file where the
sentence before it begins with that file's name. Knows nothing of what is in a block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    file: str
    """The absolute path of the file that this is the content of; empty if it is none."""


def blocks(page: str, heading: str) -> list[Block]:
    """The blocks below a heading of the second level, in their order."""
    (text,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    found = []
    for before, language, content in re.findall(r"(.*?)^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        sentence = re.split(r"[.;]\s", before.strip())[-1]
        file = re.match(r"`(/[^`]+)`.*:\Z", sentence, re.DOTALL)
        found.append(Block(language, content, file[1] if file and language != "sh" else ""))
    assert found, f"{page}: nothing to do below {heading}"
    return found


def commands(page: str, heading: str) -> str:
    """The shell commands below a heading."""
    return "".join(one.text for one in blocks(page, heading) if one.language == "sh")
