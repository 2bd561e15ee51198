"""`refcast endpoint`: what its options take, what they refuse, how each is taken back; enable, release, remove."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from commandline import Run, refusal
from receiver import Receiver
from refcast.store import Store

URL = "https://ci.example.org/hook"


def facts(run: Run, name: str = "ci") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("endpoint", "show", name, "--json").stdout)
    return found


@pytest.fixture
def one(run: Run, installed: Path) -> None:
    assert run("endpoint", "add", "ci", URL, "--dialect", "codeup").exit_code == 0


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "ci.secret"
    file.write_text("first\n")
    file.chmod(0o600)
    return file


@pytest.mark.usefixtures("one")
class TestLimits:
    @pytest.mark.parametrize(
        ("words", "key", "value", "back"),
        [
            (("--schedule", "1m,5m,1.5h,2d"), "schedule", [60, 300, 5400, 172800], ("--schedule", "default")),
            (("--schedule", "90s"), "schedule", [90], ("--schedule", "default")),
            (("--tries", "3"), "tries", 3, ("--tries", "default")),
            (("--max-events", "10"), "max_events", 10, ("--max-events", "none")),
            (("--max-commits", "0"), "max_commits", 0, ("--max-commits", "default")),
            (("--answer", "2.5"), "answer", 2.5, ("--answer", "0")),
            (("--rejection",), "rejection", True, ("--default-rejection",)),
            (("--no-rejection",), "rejection", False, ("--default-rejection",)),
            (("--proxy", "none"), "proxy", "none", ("--proxy", "default")),
            (("--proxy", "http://proxy:3128"), "proxy", "http://proxy:3128", ("--proxy", "default")),
        ],
    )
    def test_is_set_and_taken_back(
        self, run: Run, words: tuple[str, ...], key: str, value: object, back: tuple[str, ...]
    ) -> None:
        before = facts(run)
        assert run("endpoint", "edit", "ci", *words).exit_code == 0
        assert facts(run) == before | {key: value}
        assert run("endpoint", "edit", "ci", "--timeout", "30").exit_code == 0
        assert facts(run)[key] == value, "what is not named stays"
        assert run("endpoint", "edit", "ci", *back).exit_code == 0
        assert facts(run) == before

    @pytest.mark.parametrize(
        "words",
        [
            ("--schedule", ""),
            ("--schedule", "5"),
            ("--schedule", "1m,,5m"),
            ("--schedule", "1m;5m"),
            ("--schedule", "-1m"),
            ("--schedule", "0s"),
            ("--schedule", "0.5s"),
            ("--schedule", "31d"),
            ("--schedule", ",".join(["1m"] * 51)),
            ("--schedule", "1e3s"),
            ("--schedule", "٣m"),
            ("--tries", "0"),
            ("--tries", "1001"),
            ("--tries", "-1"),
            ("--tries", "none"),
            ("--max-events", "0"),
            ("--max-events", "default"),
            ("--max-events", "٣"),
            ("--max-commits", "-1"),
            ("--answer", "-1"),
            ("--answer", "0.01"),
            ("--answer", "10.1"),
            ("--answer", "nan"),
            ("--rejection", "--default-rejection"),
            ("--proxy", "proxy:3128"),
            ("--proxy", "socks5://proxy:3128"),
            ("--proxy", "http://proxy:3128/path"),
            ("--proxy", "http://proxy:3128", "--proxy-file", "-"),
        ],
    )
    def test_refuses_what_cannot_be(self, run: Run, words: tuple[str, ...]) -> None:
        before = facts(run)
        refusal(run("endpoint", "edit", "ci", *words), 2)
        assert facts(run) == before

    def test_the_schedule_is_shown_as_it_is_written(self, run: Run) -> None:
        shown = run("endpoint", "edit", "ci", "--schedule", "90s,60m,24h,1.5s").stdout
        assert "schedule          90s,1h,1d,1.5s\n" in shown

    def test_a_proxy_with_a_password_is_never_shown(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "proxy").write_text("http://ann:hunter2@proxy:3128\n")
        outputs = [
            run("endpoint", "edit", "ci", "--proxy-file", str(tmp_path / "proxy")),
            run("endpoint", "show", "ci", "--json"),
            run("endpoint", "list"),
            run("endpoint", "edit", "ci", "--proxy", "https://ann:hunter2@proxy:3128"),
            run("endpoint", "edit", "ci", "--proxy", "http://ann:hunter2@proxy"),
        ]
        assert all("hunter2" not in result.output for result in outputs)
        assert facts(run)["proxy"] == "http://***@proxy:3128"


@pytest.mark.usefixtures("one")
class TestFilters:
    @pytest.mark.parametrize(
        ("words", "changes", "back"),
        [
            (("--repository", "team/**"), {"repositories": ["team/**"]}, ("--repository", "")),
            (("--branch", "main", "--branch", "!wip"), {"branches": ["main", "!wip"], "tags": []}, ("--branch", "")),
            (("--tag", "v*"), {"tags": ["v*"], "branches": []}, ("--tag", "")),
            (("--paths", "docs/**"), {"paths": ["docs/**"]}, ("--paths", "")),
            (("--pusher", "!robot"), {"pushers": ["!robot"]}, ("--pusher", "")),
            (("--skip-by", "mark", "--skip-by", "option"), {"skip_by": ["mark", "option"]}, ("--skip-by", "none")),
            (("--event", "push"), {"events": ["push"]}, ("--event", "all")),
            (("--other-refs",), {"other_refs": True}, ("--no-other-refs",)),
        ],
    )
    def test_is_set_and_taken_back(
        self, run: Run, words: tuple[str, ...], changes: dict[str, object], back: tuple[str, ...]
    ) -> None:
        before = facts(run)
        assert run("endpoint", "edit", "ci", *words).exit_code == 0
        assert facts(run) == before | changes
        assert run("endpoint", "edit", "ci", "--timeout", "30").exit_code == 0
        assert facts(run) == before | changes, "what is not named stays"
        assert run("endpoint", "edit", "ci", *back).exit_code == 0
        assert facts(run) == before

    def test_an_edit_replaces_the_list(self, run: Run) -> None:
        run("endpoint", "edit", "ci", "--branch", "main", "--branch", "next")
        run("endpoint", "edit", "ci", "--branch", "release/*")
        assert facts(run)["branches"] == ["release/*"]

    def test_what_is_not_wanted_at_all_is_shown_as_none(self, run: Run) -> None:
        shown = run("endpoint", "edit", "ci", "--branch", "main").stdout
        assert "branches          main\ntags              none\npaths             **\n" in shown

    @pytest.mark.parametrize(
        "words",
        [
            ("--branch", "", "--branch", "main"),
            ("--tag", "v*", "--tag", ""),
            ("--paths", "#docs"),
            ("--pusher", "!"),
            ("--repository", "/"),
            ("--branch", "a\\"),
            ("--skip-by", "none", "--skip-by", "mark"),
        ],
    )
    def test_refuses_what_cannot_be(self, run: Run, words: tuple[str, ...]) -> None:
        before = facts(run)
        refusal(run("endpoint", "edit", "ci", *words), 2)
        assert facts(run) == before


@pytest.mark.usefixtures("one")
class TestOnFailure:
    def test_a_rename_keeps_it_and_a_removal_says_so(self, run: Run) -> None:
        run("endpoint", "add", "ops", "https://ops.example.org/", "--dialect", "slack", "--on-failure", "ci")
        assert run("endpoint", "edit", "ci", "--on-failure", "ops").exit_code == 0
        run("endpoint", "edit", "ops", "--rename", "crew")
        assert facts(run)["on_failure"] == "crew"
        assert "nobody is told any more when these fail: ci" in run("endpoint", "remove", "crew").stdout
        assert facts(run)["on_failure"] is None

    def test_none_takes_it_away(self, run: Run) -> None:
        run("endpoint", "add", "ops", "https://ops.example.org/", "--on-failure", "ci")
        run("endpoint", "edit", "ops", "--on-failure", "none")
        assert facts(run, "ops")["on_failure"] is None

    def test_not_itself_and_nobody_else(self, run: Run) -> None:
        assert "its own failure" in refusal(run("endpoint", "edit", "ci", "--on-failure", "ci"), 2)
        renamed = run("endpoint", "edit", "ci", "--rename", "cd", "--on-failure", "ci")
        assert "its own failure" in refusal(renamed, 2)
        assert "its own failure" in refusal(run("endpoint", "add", "x", URL, "--on-failure", "x"), 2)
        assert "there are: ci" in refusal(run("endpoint", "edit", "ci", "--on-failure", "nobody"), 2)

    def test_so_nobody_is_called_none(self, run: Run) -> None:
        refusal(run("endpoint", "add", "none", URL), 2)
        refusal(run("endpoint", "edit", "ci", "--rename", "none"), 2)


class TestSecretPath:
    def test_is_read_for_each_request(self, run: Run, installed: Path, receiver: Receiver, secret: Path) -> None:
        words = ("endpoint", "add", "ci", receiver.url, "--dialect", "codeup", "--secret-path", str(secret))
        assert run(*words).exit_code == 0
        assert run("endpoint", "test", "ci").exit_code == 0
        secret.write_text("second\n")
        assert "second" not in run("endpoint", "test", "ci").output
        assert [one.header("X-Codeup-Token") for one in receiver.wait_for(2)] == ["first", "second"]
        assert (facts(run)["secret"], facts(run)["secret_path"]) == ("file", str(secret))

    def test_another_secret_takes_its_place_and_the_other_way_round(
        self, run: Run, one: None, state: Path, secret: Path
    ) -> None:
        def stored() -> tuple[str, str]:
            with Store.open(state) as store:
                endpoint = store.endpoints.get("ci")
                return endpoint.secret, endpoint.secret_file

        run("endpoint", "edit", "ci", "--secret-env", "S", env={"S": "inline"})
        assert stored() == ("inline", "")
        run("endpoint", "edit", "ci", "--secret-path", str(secret))
        assert stored() == ("", str(secret))
        run("endpoint", "edit", "ci", "--secret-env", "S", env={"S": "inline"})
        assert stored() == ("inline", "")
        run("endpoint", "edit", "ci", "--secret-path", str(secret))
        run("endpoint", "edit", "ci", "--no-secret")
        assert stored() == ("", "")

    def test_a_relative_path_is_made_absolute(
        self, run: Run, one: None, secret: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(secret.parent)
        run("endpoint", "edit", "ci", "--secret-path", secret.name)
        assert facts(run)["secret_path"] == str(secret)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_refuses_one_that_is_open_to_others(self, run: Run, one: None, secret: Path, mode: int) -> None:
        secret.chmod(mode)
        assert "chmod 600" in refusal(run("endpoint", "edit", "ci", "--secret-path", str(secret)), 2)

    def test_refuses_what_is_no_secret(self, run: Run, one: None, secret: Path) -> None:
        for content in ("", "\n", "two\nlines"):
            secret.write_text(content)
            assert (
                content.strip()
                not in refusal(run("endpoint", "edit", "ci", "--secret-path", str(secret)), 2).replace(str(secret), "")
                or not content.strip()
            )
        for path in ("-", "none", str(secret.parent), str(secret) + ".x", "/dev/null"):
            refusal(run("endpoint", "edit", "ci", "--secret-path", path), 2)

    @pytest.mark.parametrize(
        "words", [("--no-secret",), ("--ask-secret",), ("--secret-env", "S"), ("--secret-file", "-")]
    )
    def test_not_with_another_way(self, run: Run, one: None, secret: Path, words: tuple[str, ...]) -> None:
        assert "one way" in refusal(run("endpoint", "edit", "ci", "--secret-path", str(secret), *words), 2)

    def test_the_old_secret_from_a_file_can_stay_valid(
        self, run: Run, installed: Path, receiver: Receiver, secret: Path
    ) -> None:
        secret.write_text("whsec_" + "a" * 32)
        words = ("--signing", "standard-webhooks", "--secret-path", str(secret))
        assert run("endpoint", "add", "ci", receiver.url, *words).exit_code == 0
        new = ("--secret-env", "S", "--keep-old-secret", "1")
        assert run("endpoint", "edit", "ci", *new, env={"S": "whsec_" + "b" * 32}).exit_code == 0
        run("endpoint", "test", "ci")
        signature = receiver.wait_for(1)[0].header("webhook-signature")
        assert signature is not None
        assert len(signature.split()) == 2


@pytest.mark.usefixtures("one")
class TestTls:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[str, str]:
        """A certificate and its key."""
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
        words = ["req", "-x509", *curve, "-nodes", "-subj", "/CN=x"]
        subprocess.run(["openssl", *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key

    def test_files_are_set_and_taken_back(self, run: Run, files: tuple[str, str]) -> None:
        certificate, key = files
        words = ("--ca-file", certificate, "--client-cert", certificate, "--client-key", key)
        assert run("endpoint", "edit", "ci", *words).exit_code == 0
        assert [facts(run)[name] for name in ("ca_file", "client_cert", "client_key")] == [certificate, *files]
        run("endpoint", "edit", "ci", "--ca-file", "none")
        assert facts(run)["ca_file"] == ""
        run("endpoint", "edit", "ci", "--client-cert", "none")
        assert [facts(run)[name] for name in ("client_cert", "client_key")] == ["", ""], "the key goes with it"

    def test_refuses_what_cannot_be_used(self, run: Run, files: tuple[str, str], tmp_path: Path) -> None:
        certificate, key = files
        for words in (
            ("--ca-file", str(tmp_path / "nothing")),
            ("--ca-file", str(tmp_path)),
            ("--ca-file", key),
            ("--client-cert", certificate),
            ("--client-key", key),
            ("--client-cert", key, "--client-key", certificate),
            ("--client-cert", "none", "--client-key", key),
        ):
            refusal(run("endpoint", "edit", "ci", *words), 2)
        assert facts(run)["client_cert"] == ""


class TestHelp:
    @pytest.mark.parametrize("verb", ["add", "edit"])
    def test_it_warns_of_what_ps_would_show(self, run: Run, verb: str) -> None:
        words = " ".join(run("endpoint", verb, "--help").stdout.split())
        for option in ("--url-file", "--proxy-file"):
            (text,) = [part for part in words.split(" --") if part.startswith(option[2:] + " ")]
            assert "`ps`" in text
