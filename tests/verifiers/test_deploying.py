"""Debian's `webhook`, which runs a command for each request that proves itself, as the receiver of real pushes."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from receiver import Received
from servers import Server, end, need, port_of
from verifiers.judges import altered
from verifiers.story import SECRET, SIGNED, Story, add, refcast

HMACS = {
    "deveo": ("sha1", "X-Hub-Signature"),
    "gitcode": ("sha256", "X-GitCode-Signature-256"),
    "gitea": ("sha256", "X-Gitea-Signature"),
    "github": ("sha256", "X-Hub-Signature-256"),
    "github-form": ("sha256", "X-Hub-Signature-256"),
    "github-sha1": ("sha1", "X-Hub-Signature"),
    "gogs": ("sha256", "X-Gogs-Signature"),
}
"""For each of conftest's endpoints: the hash that `webhook` is told to make, and the header to compare it with."""

TOKENS = {"codeup": "X-Codeup-Token", "gitcode-token": "X-GitCode-Token", "gitlab": "X-Gitlab-Token"}

REFUSED = dict.fromkeys(HMACS, 500) | dict.fromkeys(TOKENS, 403)
"""What `webhook` answers: to it a wrong signature is an error, a wrong token a rule that was not satisfied."""

FORMS = {"deveo", "github-form"}


@dataclass(frozen=True)
class Deployer:
    """A running `webhook`; its command notes in `log` what it is run for."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/"

    def runs(self) -> list[list[str]]:
        """Of each run, the endpoint, and the ref and the new id that were in the payload."""
        return [line.split(" ") for line in self.log.read_text().splitlines()]

    def status(self, received: Received) -> int:
        """Its answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            path = f"/hooks{received.path}"
            connection.request("POST", path, received.body, dict(received.headers))
            return connection.getresponse().status


def hook(name: str, directory: Path) -> dict[str, Any]:
    """What its administrator writes down for an endpoint."""
    if name in TOKENS:
        proof = {"type": "value", "value": SECRET, "parameter": {"source": "header", "name": TOKENS[name]}}
    else:
        algorithm, header = HMACS[name]
        proof = {
            "type": f"payload-hmac-{algorithm}",
            "secret": SECRET,
            "parameter": {"source": "header", "name": header},
        }
    inside = "payload." if name in FORMS else ""
    return {
        "id": name,
        "execute-command": str(directory / "deploy"),
        "include-command-output-in-response": True,
        "pass-arguments-to-command": [
            {"source": "string", "name": name},
            {"source": "payload", "name": f"{inside}ref"},
            {"source": "payload", "name": f"{inside}after"},
        ],
        "trigger-rule": {"match": proof},
        "trigger-rule-mismatch-http-response-code": 403,
        **({"parse-parameters-as-json": [{"source": "payload", "name": "payload"}]} if inside else {}),
    }


@pytest.fixture(scope="session")
def deployer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployer]:
    need(shutil.which("webhook") is not None, "webhook: apt install webhook")
    directory = tmp_path_factory.mktemp("deployer")
    log = directory / "log"
    log.touch()
    script = directory / "deploy"
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{log}'\n")
    script.chmod(0o755)
    (directory / "hooks.json").write_text(json.dumps([hook(name, directory) for name in [*HMACS, *TOKENS]]))
    words = ["webhook", "-ip", "127.0.0.1", "-port", "0", "-hooks", "hooks.json", "-verbose"]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(words, cwd=directory, stdout=output, stderr=output)
    try:
        yield Deployer(port_of(process), log)
    finally:
        end(process.pid)
        process.wait()


class TestPushing:
    def test_each_push_runs_the_command(self, deployer: Deployer, tmp_path: Path) -> None:
        names = [*HMACS, *TOKENS]
        with Server(tmp_path) as server:
            for name in names:
                add(server, name, deployer.url + name, *SIGNED[name])
            first = server.commit("One")
            server.push("main")
            second = server.commit("Two")
            server.push("main")
            server.wait_until(lambda: not server.entries() and set(server.deliveries()) == {"delivered"})
            for name in names:
                runs = [run[1:] for run in deployer.runs() if run[0] == name and run[-1] in {first, second}]
                assert runs == [["refs/heads/main", first], ["refs/heads/main", second]], name

    @pytest.mark.parametrize("name", [*HMACS, *TOKENS])
    def test_another_secret_is_refused(self, deployer: Deployer, tmp_path: Path, name: str) -> None:
        with Server(tmp_path, worker=False) as server:
            for endpoint, secret in ((name, SECRET), (f"{name}-wrong", "another secret")):
                add(server, endpoint, deployer.url + name, secret, SIGNED[name][1])
            before = len(deployer.runs())
            assert refcast(server, "endpoint", "test", name).exit_code == 0
            assert len(deployer.runs()) == before + 1
            refused = refcast(server, "endpoint", "test", f"{name}-wrong", check=False)
            assert (refused.exit_code, str(REFUSED[name]) in refused.output) == (1, True)
            assert len(deployer.runs()) == before + 1


class TestReplaying:
    """What another receiver got is sent here once more, as it came and with one byte altered."""

    @pytest.mark.parametrize("name", HMACS)
    def test_one_altered_byte_runs_nothing(self, deployer: Deployer, story: Story, name: str) -> None:
        received = story.received[name]
        before = len(deployer.runs())
        assert [deployer.status(one) for one in received] == [200] * len(received)
        mine = [run for run in deployer.runs()[before:] if run[0] == name]
        assert len(mine) == len(received)
        after = len(deployer.runs())
        assert {deployer.status(bad) for one in received for bad in altered(one)} == {REFUSED[name]}
        assert len(deployer.runs()) == after

    @pytest.mark.parametrize("name", TOKENS)
    def test_one_altered_letter_of_the_token_runs_nothing(self, deployer: Deployer, story: Story, name: str) -> None:
        received = story.received[name][0]
        assert deployer.status(received) == 200
        before = len(deployer.runs())
        wrong = {TOKENS[name]: SECRET.replace("e", "d", 1)}
        headers = [(key, wrong.get(key, value)) for key, value in received.headers]
        assert headers != received.headers
        assert deployer.status(replace(received, headers=headers)) == REFUSED[name]
        assert len(deployer.runs()) == before
