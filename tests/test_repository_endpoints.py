"""Endpoints in a repository's own configuration: what may stand there, and how the store follows it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hard import environment
from receiver import Receiver
from refcast import repository_endpoints
from refcast.errors import RepositoryError
from refcast.model import Endpoint, NetworkRules
from refcast.repository_endpoints import GONE, MAX_ENDPOINTS, Written, written
from refcast.settings import Settings
from spooled import World

URL = "https://ci.example.org/hook"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def of(**options: str) -> Written:
    """The one endpoint of these options."""
    (one,) = written([("refcast.ci.url", URL), *((f"refcast.ci.{key}", value) for key, value in options.items())])
    return one


class TestWritten:
    def test_what_is_not_said_is_the_default(self) -> None:
        assert of() == Written("ci", Endpoint(0, "ci", URL, "refcast", "json"))

    def test_all_that_can_be_said(self) -> None:
        said = {"dialect": "gogs", "contenttype": "form", "secret": "s", "signing": "standard-webhooks"}
        said |= {"branches": "main release/*", "tags": "v* !*-rc", "paths": "/apps/", "pushers": "!robot"}
        one = of(**said, events="push, tag_push", skipby="option, mark", otherrefs="yes")
        assert one.error == ""
        assert one.endpoint == Endpoint(
            0,
            "ci",
            URL,
            "gogs",
            "form",
            secret="s",
            signing="standard-webhooks",
            events=frozenset({"push", "tag_push"}),
            branches=("main", "release/*"),
            tags=("v*", "!*-rc"),
            paths=("/apps/",),
            pushers=("!robot",),
            skips=frozenset({"option", "mark"}),
            other_refs=True,
        )

    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [
            ("url", "ftp://x/", "must begin with http"),
            ("url", "https://ci.example.org/#x", "holds a #"),
            ("url", "", "it has no url"),
            ("dialect", "gitlub", "gitlub"),
            ("contenttype", "xml", "no content type 'xml'"),
            ("events", "push merge", "unknown event 'merge'"),
            ("otherrefs", "perhaps", "otherRefs is neither true nor false"),
            ("branches", "!", "'!' is no pattern for branches"),
            ("paths", "#x", "is no pattern for paths"),
            ("paths", "*a*b*c*d", "a star in 3 places"),
            ("tags", "v" * 300, "may have 256 characters"),
            ("pushers", "a " * 51, "50 patterns"),
            ("skipby", "option wish", "'wish' cannot be"),
            ("signing", "rot13", "rot13"),
            ("signing", "gogs", "needs a secret"),
            *(
                (key, "x", f"{key} cannot be set in a repository's configuration")
                for key in ("secretfile", "secretenv", "verifytls", "cafile", "proxy", "allow", "timeout", "clientkey")
            ),
        ],
    )
    def test_what_cannot_be(self, key: str, value: str, reason: str) -> None:
        one = of(dialect="gogs", **{key: value}) if key not in ("dialect",) else of(**{key: value})
        assert one.error.startswith("refcast.ci: ")
        assert reason in one.error
        assert "\n" not in one.error

    def test_a_secret_is_in_no_error(self) -> None:
        one = of(url="https://ann:hush@ci.example.org:x/", secret="hush")
        assert one.error
        assert "hush" not in one.error + repr(one)

    def test_one_whose_keys_are_all_empty_is_none(self) -> None:
        assert written([("refcast.ci.url", ""), ("refcast.ci.secret", "")]) == []

    def test_a_name_that_cannot_be_shown(self) -> None:
        (one,) = written([("refcast.a\x1b[31m:b#c d.url", URL)])
        assert one.name == "xa--31m-b-c-d"
        assert "the name of an endpoint" in one.error

    def test_a_name_with_dots(self) -> None:
        (one,) = written([("refcast.ci.example.org.url", URL)])
        assert (one.name, one.error) == ("ci.example.org", "")

    def test_what_belongs_to_no_name_is_passed_over(self) -> None:
        assert written([("refcast.url", URL)]) == []

    def test_there_is_a_limit(self) -> None:
        many = written([(f"refcast.ci{number:03}.url", URL) for number in range(MAX_ENDPOINTS + 2)])
        assert [one.error != "" for one in many] == [False] * MAX_ENDPOINTS + [True] * 2


class TestRead:
    def config(self, repository: Path, text: str | bytes) -> Path:
        path = repository / "config"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def test_as_git_reads_it(self, tmp_path: Path) -> None:
        text = '[REFCAST "Ci"]\n\turl = https://old/\n\tURL = "https://ci/hook" ; a remark\n\totherRefs\n'
        self.config(tmp_path, text + "[core]\n\tbare = true\n")
        (one,) = repository_endpoints.read(tmp_path)
        assert (one.name, one.error) == ("Ci", "")
        assert (one.endpoint.url, one.endpoint.other_refs) == ("https://ci/hook", True)

    def test_as_git_and_gitolite_write_it(self, tmp_path: Path) -> None:
        self.config(tmp_path, "")
        for key, value in (("refcast.ci.url", URL), ("refcast.ci.contentType", "json")):
            command = ["git", "config", "--file", str(tmp_path / "config"), key, value]
            subprocess.run(command, env=environment(tmp_path), check=True)
        assert [one.error for one in repository_endpoints.read(tmp_path)] == [""]

    def test_nothing_that_it_includes_is_read(self, tmp_path: Path) -> None:
        """Or a pusher could send another repository's secret to an endpoint of their own."""
        (tmp_path / "private").write_text('[refcast "ci"]\n\tsecret = hush\n')
        self.config(tmp_path, f'[refcast "ci"]\n\turl = {URL}\n[include]\n\tpath = {tmp_path}/private\n')
        (one,) = repository_endpoints.read(tmp_path)
        assert one.endpoint.secret == ""

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "private").write_text('[refcast "ci"]\n\turl = https://x/\n')
        (tmp_path / "config").symlink_to("private")
        with pytest.raises(RepositoryError, match="cannot be read for endpoints"):
            repository_endpoints.read(tmp_path)

    def test_what_would_block_does_not(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "config")
        with pytest.raises(RepositoryError, match="not a regular file"):
            repository_endpoints.read(tmp_path)

    @pytest.mark.parametrize("text", [b'[refcast "ci"\n', b"\0refcast", b'[refcast "ci"]\n url = "x\n'])
    def test_what_git_cannot_read(self, tmp_path: Path, text: bytes) -> None:
        self.config(tmp_path, text)
        with pytest.raises(RepositoryError) as caught:
            repository_endpoints.read(tmp_path)
        assert "\n" not in str(caught.value)

    def test_where_none_is_named_no_program_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        self.config(tmp_path, "[core]\n\tbare = true\n")
        assert repository_endpoints.read(tmp_path) == []


class TestNetwork:
    def test_what_is_not_public_is_refused(self) -> None:
        refused = repository_endpoints.strict(NetworkRules(refuse=("203.0.113.0/24",))).refuse
        assert {"203.0.113.0/24", "127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"} <= set(refused)

    def test_but_for_what_the_administrator_allows(self) -> None:
        rules = repository_endpoints.strict(NetworkRules(allow=("10.0.0.0/8", "192.168.7.0/24", "fd00::/8")))
        assert "10.0.0.0/8" not in rules.refuse
        assert {"192.168.0.0/16", "fc00::/7"} <= set(rules.refuse)  # what is allowed is narrower, and so it counts
        assert rules.allow == ("10.0.0.0/8", "192.168.7.0/24", "fd00::/8")


class TestStore:
    """The configuration as of the last push is what the store has."""

    def configure(self, world: World, text: str) -> None:
        with (world.bare / "config").open("a") as file:
            file.write(text)

    def set(self, world: World, key: str, *value: str) -> None:
        words = [key, *value] if value else ["--unset-all", key]
        command = ["git", "config", "--file", str(world.bare / "config"), *words]
        subprocess.run(command, env=environment(world.root), check=True)

    def endpoints(self, world: World) -> dict[str, tuple[str, str]]:
        return {one.name: (one.state, one.reason) for one in world.store.endpoints.all()}

    def test_it_comes_to_life_with_the_next_push(self, world: World) -> None:
        with Receiver() as receiver:
            world.endpoint("admins", url=f"{receiver.url}admins", dialect="gogs")
            world.put("main:->A")
            world.run()
            self.set(world, "refcast.ci.url", f"{receiver.url}ci")
            self.set(world, "refcast.ci.secret", "s")
            self.set(world, "refcast.ci.dialect", "gogs")
            world.put("main:A>B")
            world.run()
            deliver = world.deliver()
            deliver.settings = Settings(network=NetworkRules(allow=("127.0.0.0/8",)))
            while deliver.one():
                pass
            told = [one.path for one in receiver.book if one.json().get("after") == world.ids["B"]]
            assert sorted(told) == ["/admins", "/ci"]
        assert self.endpoints(world) == {"admins": ("active", ""), "site:ci": ("active", "")}
        assert world.store.endpoints.get("site:ci").origin == world.store.repositories.find(str(world.bare))

    def test_it_gets_the_events_of_its_own_repository_alone(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        other = world.root / "other" / "site.git"
        other.parent.mkdir()
        subprocess.run(["cp", "-a", world.bare, other], check=True)
        world.store.repositories.add(str(other), {}, world.clock())
        world.put("main:->A")
        world.put("main:->A", repository=other)
        world.run()
        rows = world.sql("SELECT name, count(*) FROM deliveries JOIN endpoints e ON e.id = endpoint_id GROUP BY name")
        number = world.store.repositories.find(str(other))
        assert sorted(rows) == [("site:ci", 1), (f"site:ci#{number}", 1)]
        assert self.endpoints(world).keys() == {"site:ci", f"site:ci#{number}"}
        world.put("main:A>B", repository=other)
        world.run()
        assert len(self.endpoints(world)) == 2

    def test_what_is_changed_is_changed(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        self.set(world, "refcast.ci.url", "https://new.example.org/")
        self.set(world, "refcast.ci.dialect", "gitlab")
        world.put("main:A>B")
        world.run()
        one = world.store.endpoints.get("site:ci")
        assert (one.url, one.dialect) == ("https://new.example.org/", "gitlab")
        assert world.store.endpoints.waiting(one.id) == 2

    def test_what_is_gone_is_disabled_and_canceled_and_comes_back(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        self.set(world, "refcast.ci.url")
        world.put("main:A>B")
        world.run()
        assert self.endpoints(world) == {"site:ci": ("disabled", GONE)}
        assert world.sql("SELECT state, reason FROM deliveries") == [("canceled", GONE)]
        self.set(world, "refcast.ci.url", URL)
        world.put("main:B>C")
        world.run()
        assert self.endpoints(world) == {"site:ci": ("active", "")}
        assert [state for (state,) in world.sql("SELECT state FROM deliveries ORDER BY position")] == [
            "canceled",
            "waiting",
        ]

    def test_what_cannot_be_used_is_visible_and_holds_nobody_up(self, world: World) -> None:
        world.endpoint("admins")
        self.set(world, "refcast.ci.url", "ftp://x/")
        world.put("main:->A")
        world.run()
        state, reason = self.endpoints(world)["site:ci"]
        assert state == "disabled"
        assert reason.startswith("refcast.ci: the URL must begin with")
        self.set(world, "refcast.ci.url", URL)
        world.put("main:A>B")
        world.run()
        assert self.endpoints(world)["site:ci"] == ("active", "")
        rows = world.sql("SELECT name, count(*) FROM deliveries JOIN endpoints e ON e.id = endpoint_id GROUP BY name")
        assert sorted(rows) == [("admins", 2), ("site:ci", 1)]

    def test_one_that_was_good_holds_what_comes_while_it_is_not(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        self.set(world, "refcast.ci.dialect", "gitlub")
        world.put("main:A>B")
        world.run()
        assert self.endpoints(world)["site:ci"][0] == "disabled"
        self.set(world, "refcast.ci.dialect")
        world.put("main:B>C")
        world.run()
        assert self.endpoints(world)["site:ci"] == ("active", "")
        assert world.store.endpoints.waiting(world.store.endpoints.get("site:ci").id) == 3

    def test_what_somebody_has_disabled_stays_so(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        world.store.endpoints.disable(world.store.endpoints.get("site:ci").id, "by hand")
        self.configure(world, "# touched\n")
        world.put("main:A>B")
        world.run()
        assert self.endpoints(world) == {"site:ci": ("disabled", "by hand")}

    def test_a_configuration_that_cannot_be_read_for_them_changes_nothing(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        path = world.bare / "config"
        path.rename(world.root / "config")
        path.symlink_to(world.root / "config")
        world.put("main:A>B")
        assert world.run() == 1
        assert self.endpoints(world) == {"site:ci": ("active", "")}
        assert world.asides() == []

    def test_its_name_follows_the_repository_s(self, world: World) -> None:
        self.set(world, "refcast.ci.url", URL)
        world.put("main:->A")
        world.run()
        world.put("main:A>B")
        world.run(Settings(roots=(str(world.root.parent),)))
        assert list(self.endpoints(world)) == [f"{world.root.name}/site:ci"]
