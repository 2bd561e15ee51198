"""Judges of received requests that are no Python: those that npm has, and TypeScript's compiler.

Owns how they are called, and how one byte of a request is altered. What they say is judged by the tests.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from receiver import Received
from servers import need

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"


def lower(received: Received) -> dict[str, str]:
    """The headers as most frameworks hand them out."""
    return {name.lower(): value for name, value in received.headers}


def altered(received: Received) -> list[Received]:
    """The request with one bit of its body changed: of its first byte, of one in the middle, of its last."""
    body = received.body
    return [flipped(received, at) for at in (0, len(body) // 2, len(body) - 1)]


def misspelt(received: Received, word: str) -> Received:
    """The request with one bit changed in the first occurrence of a word, in its first letter."""
    at = received.body.index(f'"{word}"'.encode()) + 1
    return flipped(received, at)


def flipped(received: Received, at: int) -> Received:
    body = bytearray(received.body)
    body[at] ^= 1
    return replace(received, body=bytes(body))


def need_npm() -> None:
    there = shutil.which("node") is not None and MODULES.is_dir()
    need(there, "node and the packages of tests/verifiers/package.json: run tests/run, which installs them")


def node(judge: str, requests: Iterable[Received], secret: str = "") -> list[str | None]:
    """What one of the judges in judge.mjs says of each request: None, or why it is refused."""
    need_npm()
    told = [
        {"headers": lower(one), "body": base64.b64encode(one.body).decode("ascii"), "secret": secret}
        for one in requests
    ]
    done = subprocess.run(
        ["node", HERE / "judge.mjs", judge], input=json.dumps(told), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[str | None] = json.loads(done.stdout)
    assert len(verdicts) == len(told)
    return verdicts


def typescript(directory: Path, imports: str, typed: Sequence[tuple[str, bytes]]) -> list[str | None]:
    """What TypeScript's strict compiler says of each JSON body as a value of its type: None, or its first complaint.

    A value that is written down may have no key that its type has not. To TypeScript, U+2028 and U+2029 end a line.
    """
    need_npm()
    values = [body.decode().replace("\u2028", r"\u2028").replace("\u2029", r"\u2029") for _, body in typed]
    lines = [f"export const judged{i}: {typed[i][0]} = {value};" for i, value in enumerate(values)]
    before = imports.count("\n") + 1
    (directory / "judged.ts").write_text("\n".join([imports, *lines, ""]))
    options = {"noEmit": True, "strict": True, "skipLibCheck": True, "module": "nodenext", "types": []}
    (directory / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["judged.ts"]}))
    modules = directory / "node_modules"
    if not modules.is_symlink():
        modules.symlink_to(MODULES)
    done = subprocess.run(
        ["node", MODULES / "typescript/bin/tsc"], cwd=directory, capture_output=True, text=True, check=False
    )
    verdicts: list[str | None] = [None] * len(typed)
    for number, complaint in re.findall(r"(?m)^judged\.ts\((\d+),\d+\): (.*)$", done.stdout):
        at = int(number) - before - 1
        assert at >= 0, complaint
        verdicts[at] = verdicts[at] or complaint
    assert done.returncode == 0 or any(verdicts), done.stdout + done.stderr
    return verdicts
