"""`refcast apply` and `export`: what a file makes of the endpoints, what it is refused for, and that twice is once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commandline import Run, refusal
from refcast import dialects, install, signing
from refcast.cli import main
from refcast.cli.described import KEYS, OPTIONS
from refcast.model import Endpoint
from refcast.store import FILE, Store
from refcast.store.intake import Batch, NewContent, NewDelivery, NewEvent

FILE_OF_TWO = """
# What the two are for stands in the wiki.
[endpoints.ci]
url = "https://ci.example.org/hook"
timeout = 10
branches = [
  "main",   # [endpoints.ci] timeout = 1
  "release/*",
]
secret_env = "CI_SECRET"
on_failure = "ops"

[endpoints.ops]
url_file = "ops.url"
dialect = "slack"
"""


@pytest.fixture
def file(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CI_SECRET", "hush-hush")
    (tmp_path / "ops.url").write_text("https://chat.example.org/services/hunter2\n")
    path = tmp_path / "endpoints.toml"
    path.write_text(FILE_OF_TWO)
    return path


def stored(state: Path) -> dict[str, Endpoint]:
    with Store.open(state) as store:
        return {one.name: one for one in store.endpoints.all()}


@contextlib.contextmanager
def nothing_written(state: Path) -> Iterator[None]:
    """By SQLite's own count of the transactions that have changed something."""
    connection = sqlite3.connect(state / FILE)

    def count() -> object:
        return connection.execute("PRAGMA data_version").fetchone()

    before = count()
    yield
    assert count() == before
    connection.close()


class TestApply:
    def test_makes_the_endpoints_of_a_file(self, run: Run, state: Path, file: Path) -> None:
        result = run("apply", str(file))
        assert result.exit_code == 0, result.output
        ci, ops = stored(state).values()
        assert (ci.name, ci.dialect, ci.timeout, ci.branches) == ("ci", "refcast", 10, ("main", "release/*"))
        assert (ci.secret, ci.on_failure) == ("hush-hush", ops.id)
        assert (ops.url, ops.dialect) == ("https://chat.example.org/services/hunter2", "slack")
        assert result.stdout.splitlines() == [
            "+ ci: url https://ci.example.org/hook",
            "+ ci: dialect refcast",
            "+ ci: secret: set",
            '+ ci: branches ["main", "release/*"]',
            "+ ci: timeout 10",
            "+ ci: on_failure ops",
            "+ ops: url https://chat.example.org/***",
            "+ ops: dialect slack",
        ]

    def test_twice_is_once(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        with nothing_written(state):
            assert run("apply", str(file)).stdout == "nothing changes\n"
            assert json.loads(run("apply", str(file), "--json").stdout)["changed"] is False

    def test_a_dry_run_tells_the_same_and_changes_nothing(self, run: Run, state: Path, file: Path) -> None:
        with nothing_written(state):
            dry = run("apply", str(file), "--dry-run").stdout
        assert stored(state) == {}
        assert dry == run("apply", str(file)).stdout + "nothing is changed yet: this was a dry run\n"

    def test_tells_the_difference_field_by_field(
        self, run: Run, state: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("apply", str(file))
        (file.parent / "ops.url").write_text("https://chat.example.org/services/hunter3\n")
        monkeypatch.setenv("CI_SECRET", "other")
        text = FILE_OF_TWO.replace("timeout = 10", 'schedule = ["90s", "1h"]').replace('on_failure = "ops"', "")
        file.write_text(text + "enabled = false\n")
        result = run("apply", str(file))
        assert result.stdout.splitlines() == [
            "~ ci: secret: changed",
            "~ ci: timeout 10 -> 30",
            '~ ci: schedule [] -> ["90s", "1h"]',
            "~ ci: on_failure ops -> default",
            "~ ops: url: changed",
            "~ ops: enabled true -> false",
        ]
        ci, ops = stored(state).values()
        assert (ci.secret, ci.schedule, ci.on_failure) == ("other", (90, 3600), None)
        assert (ops.state, ops.reason) == ("disabled", "disabled by the file that was applied")
        assert "hunter" not in result.output

    def test_what_a_file_does_not_say_is_the_default_but_for_secrets(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        run("endpoint", "edit", "ci", "--tries", "3", "--paths", "docs/**", "--skip-by", "mark", "--proxy", "none")
        file.write_text(FILE_OF_TWO.replace('secret_env = "CI_SECRET"\n', ""))
        assert run("apply", str(file)).exit_code == 0
        ci = stored(state)["ci"]
        assert (ci.tries, ci.paths, ci.skips, ci.proxy, ci.secret) == (None, (), frozenset(), "", "hush-hush")

    def test_the_state_is_left_alone_unless_it_is_named(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        run("endpoint", "disable", "ci", "--reason", "it burns")
        assert run("apply", str(file)).stdout == "nothing changes\n"
        file.write_text(FILE_OF_TWO.replace("timeout = 10", "timeout = 10\nenabled = false"))
        assert run("apply", str(file)).stdout == "nothing changes\n"
        assert stored(state)["ci"].reason == "it burns"
        file.write_text(FILE_OF_TWO.replace("timeout = 10", "timeout = 10\nenabled = true"))
        assert run("apply", str(file)).stdout == "~ ci: enabled false -> true\n"
        assert stored(state)["ci"].state == "active"

    def test_a_secret_in_the_store_can_be_demanded_and_taken_away(self, run: Run, state: Path, file: Path) -> None:
        named = FILE_OF_TWO.replace('secret_env = "CI_SECRET"', 'secret = "stored"')
        file.write_text(named)
        assert "no secret is stored" in refusal(run("apply", str(file)), 2)
        file.write_text(FILE_OF_TWO)
        run("apply", str(file))
        file.write_text(named)
        assert run("apply", str(file)).stdout == "nothing changes\n"
        file.write_text(named.replace("stored", "none"))
        assert run("apply", str(file)).stdout == "~ ci: secret: changed\n"
        assert stored(state)["ci"].secret == ""

    def test_two_can_tell_each_other(self, run: Run, state: Path, file: Path) -> None:
        file.write_text(FILE_OF_TWO + 'on_failure = "ci"\n')
        run("apply", str(file))
        ci, ops = stored(state).values()
        assert (ci.on_failure, ops.on_failure) == (ops.id, ci.id)
        assert run("apply", str(file)).stdout == "nothing changes\n"

    def test_what_was_masked_is_what_is_stored(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        before = stored(state)
        shown = FILE_OF_TWO.replace('url_file = "ops.url"', 'url = "https://chat.example.org/***"')
        file.write_text(shown)
        assert run("apply", str(file)).stdout == "nothing changes\n"
        file.write_text(shown.replace("chat.", "chat2."))
        assert "url_file" in refusal(run("apply", str(file)), 2)
        file.write_text(FILE_OF_TWO + 'proxy = "http://***@proxy:3128"\n')
        assert "proxy_file" in refusal(run("apply", str(file)), 2)
        assert stored(state) == before

    def test_standard_input(self, run: Run, state: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        assert run("apply", "-", input=FILE_OF_TWO).exit_code == 0
        assert list(stored(state)) == ["ci", "ops"]

    def test_somebody_else_is_not_overwritten(self, run: Run, state: Path, file: Path) -> None:
        from refcast.errors import BadInput
        from refcast.store.endpoints import Wanted

        run("apply", str(file))
        with Store.open(state) as store:
            before = store.endpoints.all()
            store.endpoints.change(replace(before[0], timeout=7))
            wanted = Wanted(before, [replace(before[0], timeout=9)])
            with pytest.raises(BadInput, match="meanwhile"):
                store.endpoints.match(wanted, 1.0)
            store.endpoints.disable(before[0].id, "deliveries may do that at any time")
            before = store.endpoints.all()
            store.endpoints.enable(before[0].id, 1.0)
            store.endpoints.match(Wanted(before, [replace(before[0], timeout=9)]), 1.0)
            assert (store.endpoints.all()[0].timeout, store.endpoints.all()[0].state) == (9, "active")


class TestPrune:
    def test_what_the_file_lacks_is_kept_and_named(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        run("endpoint", "add", "old", "https://old.example.org/")
        result = run("apply", str(file))
        assert result.stdout == "= old: the file does not have it; --prune removes it\nnothing changes\n"
        assert run("apply", str(file), "--prune").stdout == "- old\n"
        assert list(stored(state)) == ["ci", "ops"]

    def test_not_while_deliveries_wait(self, run: Run, state: Path, file: Path, installed: Path) -> None:
        run("endpoint", "add", "old", "https://old.example.org/")
        with Store.open(state) as store:
            number = store.endpoints.get("old").id
            import events

            delivery = NewDelivery("d1", number, "json", "none", {})
            new = NewEvent(events.UPDATE, [NewContent("refcast", "push", b"{}", [delivery])])
            store.intake.add(Batch("r1", store.repositories.find(str(installed)) or 0, "ada", 1.0, [new]), 1.0)
        with nothing_written(state):
            line = refusal(run("apply", str(file), "--prune"), 2)
        assert "1 deliveries wait for old" in line
        dry = run("apply", str(file), "--prune", "--discard", "--dry-run")
        assert "- old; deliveries discarded: 1" in dry.stdout
        facts = json.loads(run("apply", str(file), "--prune", "--discard", "--json").stdout)
        assert facts["discarded"] == 1
        assert list(stored(state)) == ["ci", "ops"]

    def test_nobody_may_tell_one_that_goes(self, run: Run, file: Path) -> None:
        run("endpoint", "add", "old", "https://old.example.org/")
        file.write_text(FILE_OF_TWO.replace('"ops"', '"old"'))
        assert "line 11: endpoints.ci.on_failure: " in refusal(run("apply", str(file), "--prune"), 2)
        assert run("apply", str(file)).exit_code == 0

    def test_an_empty_file_is_a_mistake(self, run: Run, state: Path, file: Path) -> None:
        run("apply", str(file))
        file.write_text("# nothing\n")
        assert "is empty" in refusal(run("apply", str(file), "--prune"), 2)
        file.write_text("[endpoints]\n")
        assert run("apply", str(file), "--prune").exit_code == 0
        assert stored(state) == {}

    def test_discard_alone_says_nothing(self, run: Run, file: Path) -> None:
        refusal(run("apply", str(file), "--discard"), 2)


BAD = {
    "tries = 0": "use 1 to 1000",
    "tries = true": "whole number",
    "timeot = 3": "no such key",
    'timeout = "x"': "number of seconds",
    "timeout = 500": "use 1 to 300",
    "timeout = nan": "use 1 to 300",
    'dialect = "hub"': "unknown dialect",
    'content_type = "xml"': "no content type",
    'signing = "foo"': "signing scheme",
    'signing = "github"': "needs a secret: secret_file, secret_env or secret_path",
    'secret = "hunter2"': "does not belong",
    'secret = "stored"': "no secret is stored",
    'secret_file = "nothing"': "cannot read the secret",
    'secret_file = "-"': "standard input",
    'secret_env = "NOWHERE"': "is not set",
    'secret_path = "ops.url"': "open to others",
    'client_key = "ops.url"': "name that with client_cert",
    'ca_file = "ops.url"': "",
    "batch_window = 3": "batch_window goes with codescoring",
    'skip_by = ["mark", "none"]': "give it alone",
    'skip_by = ["x"]': "cannot be",
    'branches = ["!"]': "no pattern for branches",
    'branches = ["", "main"]': "give it alone",
    'paths = ["#a"]': "no pattern for paths",
    'branches = "main"': "write a list",
    "branches = [1]": "write a list",
    'events = ["pull"]': "unknown event",
    'schedule = ["1x"]': "no schedule",
    "schedule = [60]": "list of waits",
    'proxy = "ftp://x"': "http://",
    'proxy_file = "nothing"': "cannot read the proxy",
    'on_failure = "zz"': "no endpoint 'zz'",
    'on_failure = "ops"': "its own failure",
    'enabled = "yes"': "true or false",
    "verify_tls = 1": "true or false",
}


class TestWhatCannotBe:
    @pytest.mark.parametrize("line", BAD)
    def test_is_refused_by_file_line_and_key_and_changes_nothing(
        self, run: Run, state: Path, file: Path, line: str
    ) -> None:
        text = '\n[endpoints.new]\nurl = "https://new.example.org/"\n\n[endpoints.ops]\n# ops\nurl_file = "ops.url"\n'
        before = 'paths = [\n  "x",\n  "[endpoints.ops]",\n]\n' if "paths" not in line else "timeout = 5\n\n\n\n"
        file.write_text(f"{text}{before}{line}\n")
        with nothing_written(state):
            said = refusal(run("apply", str(file)), 2)
        key = line.partition(" ")[0]
        assert said.startswith(f"refcast: {file}, line 12: endpoints.ops.{key}: ")
        assert BAD[line] in said
        assert "hunter2" not in said
        assert "--" not in said
        assert stored(state) == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[endpoints.ci]\nurl = \n", "(at line 2, column 7)"),
            ("[endpoints.ci]\nurl = 'http://a/'\nurl = 'http://b/'\n", "(at line 3, column"),
            ("[endpoint.ci]\nurl = 'http://a/'\n", "line 1: endpoint: "),
            ("endpoints = 3\n", "line 1: endpoints: "),
            ("[endpoints]\n\nci = 3\n", "line 3: endpoints.ci: "),
            ("\n\n[endpoints.ci]\ntimeout = 3\n", "line 3: endpoints.ci: an endpoint needs a url"),
            ("\n[endpoints.none]\nurl = 'http://a/'\n", "line 2: endpoints.none: "),
            ("\n[endpoints.'a b']\nurl = 'http://a/'\n", "line 2: endpoints.a b: "),
            ("[endpoints.ci]\nurl = 'ftp://a/'\n", "line 2: endpoints.ci.url: "),
            ("[endpoints.ci]\nurl = 'http://a/'\nurl_file = 'x'\n", "endpoints.ci.url"),
            ("endpoints.ci.url = 'http://a/'\nendpoints.ci.tries = 0\n", "line 2: endpoints.ci.tries: "),
            ("[endpoints]\nci = { url = 'http://a/', tries = 0 }\n", "line 2: endpoints.ci.tries: "),
            ('[endpoints."c.i"]\nurl = """\nhttp://a/"""\ntries = 0\n', "line 4: endpoints.c.i.tries: "),
        ],
    )
    def test_wherever_it_stands(self, run: Run, file: Path, text: str, said: str) -> None:
        file.write_text(text)
        assert said in refusal(run("apply", str(file)), 2)

    def test_a_file_that_is_not_there(self, run: Run, file: Path) -> None:
        assert "nothing.toml" in refusal(run("apply", "nothing.toml"), 2)
        refusal(run("apply", str(file.parent)), 2)

    def test_a_secret_that_what_waits_cannot_be_signed_with(self, run: Run, state: Path, file: Path) -> None:
        import events

        run("apply", str(file))
        with Store.open(state) as store:
            number = store.endpoints.get("ci").id
            store.repositories.add("/srv/x.git", {}, 1.0)
            delivery = NewDelivery("d1", number, "json", "standard-webhooks", {})
            new = NewEvent(events.UPDATE, [NewContent("refcast", "push", b"{}", [delivery])])
            store.intake.add(Batch("r1", 1, "ada", 1.0, [new]), 1.0)
        file.write_text(FILE_OF_TWO.replace('secret_env = "CI_SECRET"', 'secret_file = "s"\nsigning = "github"'))
        (file.parent / "s").write_text("whsec_!!\n")
        assert "what waits" in (said := refusal(run("apply", str(file)), 2)) or "deliveries that wait" in said


def test_every_option_of_an_endpoint_has_a_key() -> None:
    said = {key.option for key in KEYS.values()}
    assert set(OPTIONS) - said == {"ask_secret", "no_secret", "default_rejection"}
    assert said - set(OPTIONS) == {"url", "secret", "enabled"}


PATTERNS = st.lists(
    st.sampled_from(["main", "release/*", "!wip", "docs/**", "*.c", "caf\udce9", 'a"b', "a\\\\b", "ä b"]), max_size=3
).map(tuple)
WAITS = st.floats(1, 30 * 24 * 3600).map(lambda seconds: round(seconds, 3))


SECRETS = {"basic": "whsec:password"}
"""What a scheme takes that does not take any secret."""


def built(**values: Any) -> Endpoint:
    """One that `endpoint add` could have made."""
    dialect = dialects.get(values["dialect"])
    one = Endpoint(0, "", **values)
    scheme = one.signing or dialect.SIGNING
    one = replace(one, content_type=dialect.CONTENT_TYPES[len(one.url) % len(dialect.CONTENT_TYPES)])
    if scheme == "none":
        return replace(one, secret="")
    if one.secret:
        one = replace(one, secret=SECRETS.get(scheme, "whsec_" + "a" * 32))
    theirs = {name.lower() for name in dialect.headers("", "")}
    mine = {name.lower() for name in signing.check(scheme, one.secret)}
    if (one.signing and not one.secret) or theirs & mine or ("authorization" in mine and "@" in one.url):
        return replace(one, signing="", secret="")
    return one


ENDPOINTS = st.lists(
    st.builds(
        built,
        url=st.sampled_from(
            [
                "https://ci.example.org/hook",
                "http://ann:hunter2@10.0.0.1:8080/a/b?token=hunter2&x",
                "https://chat.example.org/T000/B000",
                "https://ci.example.org/***",
                "https://ci.example.org",
            ]
        ),
        dialect=st.sampled_from(sorted(dialects.DIALECTS)),
        content_type=st.just("json"),
        signing=st.sampled_from(["", *sorted(signing.SCHEMES)]),
        secret=st.sampled_from(["", "x"]),
        events=st.frozensets(st.sampled_from(["push", "tag_push"])),
        repositories=PATTERNS,
        branches=PATTERNS,
        tags=PATTERNS,
        paths=PATTERNS,
        pushers=PATTERNS,
        skips=st.frozensets(st.sampled_from(["option", "mark"])),
        other_refs=st.booleans(),
        verify_tls=st.booleans(),
        timeout=st.floats(1, 300),
        answer=st.sampled_from([0.0, 0.5, 2.0]),
        schedule=st.lists(WAITS, max_size=3).map(tuple),
        tries=st.none() | st.integers(1, 1000),
        rejects=st.none() | st.booleans(),
        commits=st.none() | st.integers(0, 1000),
        files=st.none() | st.integers(0, 1000),
        max_events=st.none() | st.integers(1, 1000),
        batch_window=st.floats(0, 300),
        proxy=st.sampled_from(["", "none", "http://proxy:3128", "http://ann:hunter2@proxy:3128"]),
        state=st.sampled_from(["active", "disabled"]),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(ENDPOINTS, st.lists(st.integers(0, 3), max_size=4))
def test_what_is_exported_changes_nothing_when_it_is_applied(some: list[Endpoint], told: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        install.create_state(state)
        with Store.open(state) as store:
            made = [store.endpoints.add(replace(one, name=f"e.{i}"), 1.0) for i, one in enumerate(some)]
            for one, index in zip(made, told, strict=False):
                if index < len(made) and made[index].id != one.id:
                    store.endpoints.change(replace(one, on_failure=made[index].id))
        exported = CliRunner().invoke(main, ["--state", str(state), "export"], catch_exceptions=False)
        assert b"hunter2" not in exported.stdout_bytes
        assert b"whsec" not in exported.stdout_bytes
        for words in (["--dry-run"], ["--prune"]):
            with nothing_written(state):
                line = ["--state", str(state), "apply", "-", *words]
                applied = CliRunner().invoke(main, line, input=exported.stdout_bytes, catch_exceptions=False)
            assert applied.stdout.splitlines()[0] == "nothing changes", exported.stdout + applied.output
