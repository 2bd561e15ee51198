"""Who has pushed, from `git push` to the payload: every source of names, and every dialect that tells of them."""

from __future__ import annotations

import json
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import Receiver
from refcast import dialects, settings
from refcast.ingest import Ingest
from refcast.model import Endpoint
from refcast.store import Store
from servers import Server

WHERE: dict[str, dict[str, tuple[str, ...]]] = {
    "refcast": {
        "username": ("pusher", "username"),
        "name": ("pusher", "name"),
        "email": ("pusher", "email"),
    },
    "codeup": {"username": ("user_extern_uid",), "name": ("user_name",), "email": ("user_email",)},
    "gitlab": {"username": ("user_username",), "name": ("user_name",), "email": ("user_email",)},
    "gitcode": {"username": ("user_username",), "name": ("user_name",), "email": ("user_email",)},
    "github": {"username": ("pusher", "name"), "email": ("pusher", "email"), "login": ("sender", "login")},
    "gogs": {
        "username": ("pusher", "username"),
        "name": ("pusher", "full_name"),
        "email": ("pusher", "email"),
        "login": ("sender", "login"),
    },
    "gitea": {
        "username": ("pusher", "username"),
        "name": ("pusher", "full_name"),
        "email": ("pusher", "email"),
        "login": ("sender", "login"),
    },
    "deveo": {"username": ("pusher", "name"), "name": ("pusher", "display_name")},
}
"""Where each dialect's payload of a push has what is known of the pusher."""

WITHOUT = {"codescoring", "discord", "slack"}
"""Those whose systems tell of a user name at most."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With an endpoint for each dialect. What pushes record is ingested by this process."""
    with Server(tmp_path, worker=False) as made, Store.open(made.state) as store:
        for name in WHERE:
            endpoint = Endpoint(0, name, "http://127.0.0.1:9/", name, dialects.get(name).CONTENT_TYPES[0])
            store.endpoints.add(endpoint, 0.0)
        made.git("config", "user.useConfigOnly", "true")
        yield made


def who(server: Server, **facts: str) -> dict[str, dict[str, object]]:
    """What each dialect tells of who has pushed a new commit, with these facts from a front end."""
    server.commit("more")
    server.push("main", more=facts)
    with Store.open(server.state) as store:
        assert Ingest(store, server.state / "spool", time.time).run(settings.load(server.state)) == 1
        newest: dict[str, Any] = {}
        for row in store.reports.deliveries(limit=1000):
            if row.kind != "create":
                newest.setdefault(row.endpoint, json.loads(store.reports.delivery(row.id).payload))
    assert set(newest) == set(WHERE)
    return {name: {key: _at(newest[name], *path) for key, path in paths.items()} for name, paths in WHERE.items()}


def _at(payload: Any, *path: str) -> object:
    for key in path:
        payload = payload[key]
    return payload


def assert_all(found: dict[str, dict[str, object]], username: str, name: str, email: str) -> None:
    """Every dialect tells this, each in its own fields."""
    expected = {"username": username, "login": username, "name": name, "email": email}
    for dialect, facts in found.items():
        wanted = {key: expected[key] for key in facts}
        if dialect == "github" and not email:
            wanted["email"] = None  # type: ignore[assignment]
        assert facts == wanted, dialect


def test_every_dialect_is_looked_at() -> None:
    assert {*WHERE, *WITHOUT} == set(dialects.DIALECTS)


class TestSources:
    def test_a_mapping_file(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "authors").write_text("ann = Ann Lée <ann@example.org>\nada = No One <no@one>\n")
        server.settings(f"[pushers]\nfile = '{tmp_path}/authors'\n")
        assert_all(who(server, GL_USER="ann"), "ann", "Ann Lée", "ann@example.org")
        assert_all(who(server, REMOTE_USER="ada"), "ada", "No One", "no@one")

    def test_a_block_in_gitolite_conf(self, server: Server, tmp_path: Path) -> None:
        conf = tmp_path / "gitolite.conf"
        conf.write_text(
            "repo site\n    RW+ = @all\n\n# BEGIN USER EMAILS\n# ann Ann Lee <ann@example.org>\n# ben ben@example.org\n"
            "# END USER EMAILS\n"
        )
        server.settings(f"[pushers]\ngitolite = '{conf}'\n")
        assert_all(who(server, GL_USER="ann", GL_REPO="site"), "ann", "Ann Lee", "ann@example.org")
        assert_all(who(server, GL_USER="ben"), "ben", "ben", "ben@example.org")
        assert_all(who(server, GL_USER="ada"), "ada", "Ada Lovelace", "ada@example.org")

    def test_an_account(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        account = pwd.struct_passwd(("ann", "x", 0, 0, "Ann Lee,room 7,,", "/", "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwuid", lambda _: account)
        assert_all(who(server), "ann", "Ann Lee", "")
        # A front end's user name is not an account's.
        assert_all(who(server, GL_USER="ben"), "ben", "ben", "")

    def test_ones_own_commits(self, server: Server) -> None:
        assert_all(who(server, GL_USER="ada"), "ada", "Ada Lovelace", "ada@example.org")
        assert_all(who(server, GL_USER="ann"), "ann", "ann", "")

    def test_a_file_that_changes_counts_from_the_next_push_on(self, server: Server, tmp_path: Path) -> None:
        authors = tmp_path / "authors"
        authors.write_text("")
        server.settings(f"[pushers]\nfile = '{authors}'\n")
        assert_all(who(server, GL_USER="ann"), "ann", "ann", "")
        authors.write_text("ann = Ann Lee <ann@example.org>\n")
        assert_all(who(server, GL_USER="ann"), "ann", "Ann Lee", "ann@example.org")

    def test_a_move_that_nobody_told_of_has_no_namesake(self, server: Server) -> None:
        """A commit by unknown@… does not say who the unknown pusher is."""
        assert_all(who(server, GL_USER="ann"), "ann", "ann", "")
        unknown = {"GIT_COMMITTER_NAME": "Not Me", "GIT_COMMITTER_EMAIL": "unknown@example.org"}
        server.git("commit", "-q", "--allow-empty", "-m", "missed", **unknown)
        server.run("git", "-C", server.bare, "fetch", "-q", server.work, "main:main")
        who(server, GL_USER="ann")
        with Store.open(server.state) as store:
            rows = [row for row in store.reports.deliveries(limit=100) if row.endpoint == "refcast"]
            (missed,) = [one for row in rows if (one := store.reports.delivery(row.id)).recovered]
        payload = json.loads(missed.payload)
        assert payload["pusher"] == {"id": 0, "username": "unknown", "name": "unknown", "email": ""}


class TestRender:
    @pytest.mark.parametrize("user", ["ann", "ada", "cat"])
    def test_agrees_with_what_was_sent(self, tmp_path: Path, user: str) -> None:
        """By the worker itself, and the mapping, the pusher's own commits, and nothing at all."""
        with Receiver() as receiver, Server(tmp_path) as server:
            (tmp_path / "authors").write_text("ann = Ann Lee <ann@example.org>\n")
            server.settings(f"[pushers]\nfile = '{tmp_path}/authors'\n")
            server.refcast("endpoint", "add", "ci", receiver.url)
            tip = server.commit("one")
            server.push("main", more={"GL_USER": user})
            (received,) = receiver.wait_for(1)
            name = {"ann": "Ann Lee", "ada": "Ada Lovelace", "cat": "cat"}[user]
            assert received.json()["pusher"]["name"] == name
            words = ("render", str(server.bare), "refs/heads/main", "0", tip, "--endpoint", "ci", "--body")
            assert server.refcast(*words).stdout == received.body.decode()
