"""One story, pushed by git to endpoints of every dialect, and what each of them received over HTTP.

Owns the endpoints and what is pushed. Judges nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

import hard
from receiver import Received, Receiver
from refcast.cli import main
from servers import Server

SECRET = "a secret of the tests"
STANDARD_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode("ascii")

SETTINGS = """
[urls]
homepage = "https://git.example.org/{path}"
http = "https://git.example.org/{path}.git"
ssh = "git@git.example.org:{path}.git"
"""

SHA1 = ["--signing", "hub-sha1"]
STANDARD = ["--signing", "standard-webhooks"]
SIGNED = {
    "codeup": (SECRET, []),
    "deveo": (SECRET, []),
    "gitcode": (SECRET, []),
    "gitcode-token": (SECRET, ["--signing", "gitcode-token"]),
    "gitea": (SECRET, []),
    "github": (SECRET, []),
    "github-form": (SECRET, ["--content-type", "form"]),
    "github-sha1": (SECRET, SHA1),
    "gitlab": (SECRET, []),
    "gitlab-standard": (STANDARD_SECRET, STANDARD),
    "gogs": (SECRET, []),
    "refcast": (STANDARD_SECRET, []),
}
"""The name of each endpoint, which begins with its dialect's; its secret and its options."""
UNSIGNED = ["discord", "slack"]

HOSTILE = "Hello <!channel> @everyone <@1234> & **bold** `code` [a](https://example.org) ünïcode 🚀"


@dataclass(frozen=True)
class Story:
    """What came to each endpoint, in its order; and the ids that were pushed."""

    received: dict[str, list[Received]]
    ids: dict[str, str]

    def kinds(self, endpoint: str, header: str) -> list[str | None]:
        return [one.header(header) for one in self.received[endpoint]]


def add(server: Server, name: str, url: str, secret: str = "", options: Sequence[str] = ()) -> None:
    """An endpoint of the dialect with which its name begins."""
    given = ["--secret-env", "S"] if secret else []
    refcast(server, "endpoint", "add", name, url, "--dialect", name.partition("-")[0], *given, *options, S=secret)


def refcast(server: Server, *words: str, check: bool = True, **environment: str) -> Result:
    """The command line in this process: it is called often here, and a Python of its own takes half a second."""
    with server.at_home():
        done = CliRunner().invoke(main, ["--state", str(server.state), *words], env=environment)
    assert not check or done.exit_code == 0, f"{words}: {done.output}"
    return done


def tell(server: Server) -> dict[str, str]:
    """Push branches and tags, what chats must not obey, by force, deletions, and then all that git allows.

    The ids of what was pushed."""
    ids = {"one": server.commit("One", {"README.md": "1\n"})}
    server.push("main")
    ids["two"] = server.commit("Two\n\nAnd why.", {"ein Name mit Lücken.txt": "2\n"})
    ids["three"] = server.commit(HOSTILE, {"README.md": "3\n"})
    server.push("main")
    server.git("tag", "-a", "v1.0", "-m", "Version 1.0")
    ids["v1.0"] = server.git("rev-parse", "v1.0")
    server.push("v1.0")
    server.push("main:refs/tags/light")
    server.git("checkout", "-q", "-b", "topic")
    for number in range(30):
        server.git("commit", "-q", "--allow-empty", "-m", f"{number}: {HOSTILE} {'long ' * number}")
    ids["topic"] = server.git("rev-parse", "HEAD")
    server.push("topic")
    server.git("reset", "-q", "--hard", ids["two"])
    ids["forced"] = server.commit("Instead")
    server.push("--force", "topic")
    server.push("--delete", "topic")
    server.push("--delete", "v1.0")
    everything = hard.build(server.root / "hard.git")
    server.run("git", "push", "-q", server.bare, "refs/heads/*:refs/heads/hard/*", "refs/tags/*", cwd=everything.path)
    return ids


def received(root: Path) -> Story:
    """Tell the story to all endpoints."""
    with Receiver() as receiver, Server(root) as server:
        server.settings(SETTINGS)
        for name in UNSIGNED:
            add(server, name, receiver.url + name)
        for name, (secret, options) in SIGNED.items():
            add(server, name, receiver.url + name, secret, options)
        ids = tell(server)
        server.wait_until(lambda: not server.entries() and set(server.deliveries()) == {"delivered"})
        return Story(
            {name: [one for one in receiver.book if one.path == f"/{name}"] for name in [*SIGNED, *UNSIGNED]}, ids
        )


def tested(root: Path) -> dict[str, Received]:
    """What `refcast endpoint test` sends, by endpoint."""
    with Receiver() as receiver, Server(root, worker=False) as server:
        server.settings(SETTINGS)
        for name, (secret, options) in [*SIGNED.items(), *((name, ("", [])) for name in UNSIGNED)]:
            add(server, name, receiver.url + name, secret, options)
            refcast(server, "endpoint", "test", name)
        return {one.path.strip("/"): one for one in receiver.book}
