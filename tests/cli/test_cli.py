"""The command line, run in this process: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from commandline import Run, make_bare, refusal
from receiver import Received, Receiver
from refcast.cli import main
from refcast.cli.common import App, safe
from refcast.dialects import DIALECTS
from refcast.spool import files


class TestBadInput:
    def test_no_repository(self, run: Run, tmp_path: Path) -> None:
        assert "no repository" in refusal(run("install", str(tmp_path / "nowhere")), 4)

    def test_a_directory_that_is_none(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "plain").mkdir()
        assert "not a repository" in refusal(run("install", str(tmp_path / "plain")), 4)

    def test_a_work_tree(self, run: Run, tmp_path: Path) -> None:
        subprocess.run(["git", "init", "-q", str(tmp_path / "work")], check=True)
        assert "not a bare repository" in refusal(run("install", str(tmp_path / "work")), 4)

    def test_a_sha256_repository(self, run: Run, tmp_path: Path) -> None:
        bare = make_bare(tmp_path / "new.git", "--object-format=sha256")
        assert "sha256" in refusal(run("install", str(bare)), 4)

    def test_nothing_named(self, run: Run) -> None:
        assert "--all" in refusal(run("install"), 2)

    def test_a_root_without_repositories(self, run: Run, tmp_path: Path) -> None:
        assert "no bare repository below" in refusal(run("install", "--all", str(tmp_path)), 2)

    def test_a_state_directory_that_cannot_be_made(self, bare: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = CliRunner().invoke(main, ["--state", str(tmp_path / "file" / "state"), "install", str(bare)])
        assert "cannot make the state directory" in refusal(result, 3)

    def test_a_state_directory_that_is_not_there(self, run: Run) -> None:
        assert "no state directory" in refusal(run("status"), 3)

    def test_a_store_that_is_none(self, run: Run, installed: Path, state: Path) -> None:
        (state / "refcast.db").write_bytes(b"this is no database, and long enough to be seen as none" * 100)
        assert "cannot be used" in refusal(run("status"), 3)

    @pytest.mark.parametrize(
        "url", ["nonsense", "ftp://host/", "http://", "http://host:0/", "http://ho st/", "http://h/#x"]
    )
    def test_an_invalid_url(self, run: Run, installed: Path, url: str) -> None:
        refusal(run("endpoint", "add", "ci", url), 2)

    def test_a_url_that_is_refused_does_not_show_its_password(self, run: Run, installed: Path) -> None:
        assert "hunter2" not in refusal(run("endpoint", "add", "ci", "http://user:hunter2@host:0/?t=hunter2"), 2)

    def test_an_unknown_dialect(self, run: Run, installed: Path) -> None:
        line = refusal(run("endpoint", "add", "ci", "http://h/", "--dialect", "klingon"), 2)
        assert ", ".join(sorted(DIALECTS)) in line

    def test_a_content_type_that_the_dialect_lacks(self, run: Run, installed: Path) -> None:
        line = refusal(run("endpoint", "add", "ci", "http://h/", "--dialect", "codeup", "--content-type", "form"), 2)
        assert "json" in line

    def test_an_unknown_event(self, run: Run, installed: Path) -> None:
        assert "tag_push" in refusal(run("endpoint", "add", "ci", "http://h/", "--event", "merge"), 2)

    @pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb", "ü", "x" * 65, "a/b"])
    def test_a_name_that_cannot_be(self, run: Run, installed: Path, name: str) -> None:
        refusal(run("endpoint", "add", "--", name, "http://h/"), 2)

    def test_a_name_that_is_taken(self, run: Run, installed: Path) -> None:
        run("endpoint", "add", "ci", "http://h/")
        assert "already" in refusal(run("endpoint", "add", "ci", "http://h/"), 2)

    def test_a_secret_that_no_header_can_carry(self, run: Run, installed: Path) -> None:
        result = run(
            "endpoint", "add", "ci", "http://h/", "--dialect", "codeup", "--secret-env", "S", env={"S": "h\nhunter2"}
        )
        assert "hunter2" not in refusal(result, 2)

    def test_a_secret_file_that_is_not_there(self, run: Run, installed: Path) -> None:
        refusal(run("endpoint", "add", "ci", "http://h/", "--secret-file", "/nowhere/at/all"), 2)

    def test_two_ways_to_give_a_secret(self, run: Run, installed: Path) -> None:
        refusal(run("endpoint", "add", "ci", "http://h/", "--secret-file", "/x", "--secret-env", "S"), 2)

    @pytest.mark.parametrize("verb", ["show", "edit", "enable", "disable", "remove", "test"])
    def test_an_unknown_endpoint(self, run: Run, installed: Path, verb: str) -> None:
        run("endpoint", "add", "ci", "http://h/")
        assert "there are: ci" in refusal(run("endpoint", verb, "cd"), 2)

    @pytest.mark.parametrize("verb", ["show", "redeliver"])
    def test_an_unknown_delivery(self, run: Run, installed: Path, verb: str) -> None:
        assert "refcast delivery list" in refusal(run("delivery", verb, "%"), 2)

    @pytest.mark.parametrize("timeout", ["0", "-1", "301", "nan"])
    def test_a_timeout_that_cannot_be(self, run: Run, installed: Path, timeout: str) -> None:
        refusal(run("endpoint", "add", "ci", "http://h/", "--timeout", timeout), 2)

    def test_settings_that_are_none(self, run: Run, installed: Path, state: Path) -> None:
        (state / "refcast.toml").write_text('[urls]\nhomepage = "{nonsense}"\n')
        line = refusal(run("render", str(installed), "refs/heads/main", "0", "1" * 40, "--dialect", "gogs"), 2)
        assert "urls.homepage" in line
        assert "refcast.toml" in line

    @pytest.mark.parametrize(
        ("ref", "old", "new"), [("main", "0", "1" * 40), ("refs/heads/m", "xyz", "0"), ("refs/x", "", "")]
    )
    def test_a_move_that_is_none(self, run: Run, installed: Path, ref: str, old: str, new: str) -> None:
        refusal(run("render", str(installed), ref, old, new, "--dialect", "gogs"), 2)

    def test_a_corrupt_record_is_shown_and_can_be_retried(self, run: Run, installed: Path, state: Path) -> None:
        box = state / "spool" / str(os.geteuid())
        (box / "1-1.push").write_bytes(b"refcast 1 push\0nonsense\0end\0")
        result = run("worker", "--drain")
        assert result.exit_code == 1
        (aside,) = json.loads(run("record", "list", "--json").stdout)
        assert "nonsense" in aside["reason"]
        status = run("status")
        assert status.exit_code == 1
        assert "record set aside" in status.stdout
        assert len(files(state / "spool")) == 1, "it is kept"
        assert run("record", "retry").stdout == "records that are tried again: 1\n"


class TestEndpoint:
    def test_nothing_shows_a_secret(self, run: Run, installed: Path) -> None:
        url = "http://user:hunter2@127.0.0.1:1/hook?token=hunter2"
        outputs = [
            run("endpoint", "add", "ci", url, "--secret-env", "S", env={"S": "hunter2"}),
            run("endpoint", "list"),
            run("endpoint", "list", "--json"),
            run("endpoint", "show", "ci"),
            run("endpoint", "show", "ci", "--json"),
            run("endpoint", "test", "ci"),
            run("endpoint", "test", "ci", "--json"),
            run("status"),
        ]
        assert all("hunter2" not in result.output for result in outputs)
        assert "127.0.0.1:1/hook" in outputs[1].stdout

    def test_the_secret_from_a_file_loses_its_line_end(
        self, run: Run, installed: Path, tmp_path: Path, receiver: Receiver
    ) -> None:
        (tmp_path / "secret").write_text("s3cret\n")
        run("endpoint", "add", "ci", receiver.url, "--dialect", "codeup", "--secret-file", str(tmp_path / "secret"))
        assert run("endpoint", "test", "ci").exit_code == 0
        assert receiver.wait_for(1)[0].header("X-Codeup-Token") == "s3cret"

    def test_the_secret_from_a_prompt(self, run: Run, installed: Path, receiver: Receiver) -> None:
        result = run("endpoint", "add", "ci", receiver.url, "--dialect", "codeup", "--ask-secret", input="s3cret\n")
        assert "s3cret" not in result.output
        run("endpoint", "test", "ci")
        assert receiver.wait_for(1)[0].header("X-Codeup-Token") == "s3cret"

    @pytest.mark.parametrize("dialect", ["codeup", "gogs"])
    def test_the_test_shows_request_and_answer(
        self, run: Run, installed: Path, receiver: Receiver, dialect: str
    ) -> None:
        receiver.answer = lambda _: (418, [("X-Tea", "green")], b"no coffee\x1b[31m")
        run("endpoint", "add", "ci", receiver.url, "--dialect", dialect)
        result = run("endpoint", "test", "ci")
        assert result.exit_code == 1
        assert "HTTP 418" in result.stdout
        assert "X-Tea: green" in result.stdout
        assert "no coffee\\x1b[31m" in result.stdout
        assert receiver.wait_for(1)[0].body.decode() in result.stdout

    def test_edit_changes_what_is_named_and_nothing_else(self, run: Run, installed: Path) -> None:
        run("endpoint", "add", "ci", "http://h/", "--event", "push", "--timeout", "5", "--no-verify-tls")
        run("endpoint", "edit", "ci", "--rename", "cd", "--url", "http://i/", "--event", "all")
        facts = json.loads(run("endpoint", "show", "cd", "--json").stdout)
        assert (facts["url"], facts["events"], facts["timeout"], facts["verify_tls"]) == (
            "http://i/",
            ["all"],
            5.0,
            False,
        )

    def test_disable_enable_remove(self, run: Run, installed: Path) -> None:
        run("endpoint", "add", "ci", "http://h/")
        run("endpoint", "disable", "ci", "--reason", "on holiday")
        status = run("status")
        assert status.exit_code == 1
        assert "on holiday" in status.stdout
        run("endpoint", "enable", "ci")
        assert run("status").exit_code == 0
        run("endpoint", "remove", "ci")
        assert json.loads(run("endpoint", "list", "--json").stdout) == []


class TestDelivery:
    @pytest.fixture
    def pushed(self, run: Run, installed: Path, receiver: Receiver, state: Path, tmp_path: Path) -> Path:
        """One push, delivered by a drain."""
        run("endpoint", "add", "ci", receiver.url, "--dialect", "codeup")
        environment = {**os.environ, **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "A")}
        environment |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@b")
        work = tmp_path / "work"
        # The hook would start a worker of its own: the lock makes it leave.
        from refcast.presence import Lock

        with Lock(state):
            for words in (
                ["init", "-q", "-b", "main", str(work)],
                ["-C", str(work), "commit", "-q", "--allow-empty", "-m", "one"],
                ["-C", str(work), "push", "-q", str(installed), "main"],
            ):
                subprocess.run(["git", *words], check=True, env=environment)
        assert run("worker", "--drain").exit_code == 0
        return installed

    def test_list_and_show(self, run: Run, pushed: Path, receiver: Receiver) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        assert (row["state"], row["ref"], row["endpoint"], row["attempts"]) == ("delivered", "refs/heads/main", "ci", 1)
        assert row["id"][:8] in run("delivery", "list").stdout
        shown = run("delivery", "show", row["id"][:8]).stdout
        assert "HTTP 200" in shown
        assert "> X-Codeup-Event: Push Hook" in shown
        details = json.loads(run("delivery", "show", row["id"], "--json").stdout)
        assert details["payload"] == receiver.wait_for(1)[0].json()
        assert details["attempts"][0]["status"] == 200

    def test_redeliver(self, run: Run, pushed: Path, receiver: Receiver) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        assert run("delivery", "redeliver", row["id"]).stdout == "deliveries that are sent again: 1\n"
        assert run("endpoint", "remove", "ci").exit_code == 2, "one waits"
        assert run("worker", "--drain").exit_code == 0
        first, second = receiver.wait_for(2)
        assert first.body == second.body

    def test_what_waits_without_a_worker_needs_a_person(self, run: Run, pushed: Path) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        run("delivery", "redeliver", row["id"])
        status = run("status")
        assert status.exit_code == 1
        assert "no worker runs" in status.stdout

    def test_a_push_during_a_drain_has_a_worker_started_for_it(
        self, run: Run, pushed: Path, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        woken: list[App] = []

        def wake(app: App) -> None:
            woken.append(app)

        monkeypatch.setattr("refcast.cli.common.App.wake", wake)

        def push_meanwhile(_: Received) -> int:
            subprocess.run(["git", "-C", str(tmp_path / "work"), "push", "-q", str(pushed), "main:later"], check=True)
            return 200

        receiver.answer = push_meanwhile
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        run("delivery", "redeliver", row["id"])
        woken.clear()
        assert run("worker", "--drain").exit_code == 1
        assert len(woken) == 1
        receiver.answer = lambda _: 200
        assert run("worker", "--drain").exit_code == 0

    def test_a_worker_in_the_background_drains_nothing_in_the_foreground(self, run: Run, pushed: Path) -> None:
        assert "leave out --drain" in refusal(run("worker", "--background", "--drain"), 2)

    def test_redeliver_all_or_none(self, run: Run, pushed: Path) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        refusal(run("delivery", "redeliver", row["id"], "nonsense"), 2)
        assert json.loads(run("status", "--json").stdout)["deliveries"] == {"delivered": 1}

    def test_what_waits_keeps_its_scheme_so_the_secret_must_fit(self, run: Run, pushed: Path) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        run("delivery", "redeliver", row["id"])
        words = ("endpoint", "edit", "ci", "--signing", "hub-sha256", "--secret-env", "S")
        assert "codeup-token" in refusal(run(*words, env={"S": "two\nlines"}), 2)
        assert run(*words, env={"S": "one line"}).exit_code == 0

    def test_a_held_delivery_is_said_to_be(self, run: Run, pushed: Path) -> None:
        (row,) = json.loads(run("delivery", "list", "--json").stdout)["deliveries"]
        run("endpoint", "disable", "ci")
        assert "held" in run("delivery", "redeliver", row["id"]).stdout
        assert run("endpoint", "remove", "ci", "--discard").exit_code == 0

    def test_status_as_json(self, run: Run, pushed: Path) -> None:
        facts = json.loads(run("status", "--json").stdout)
        assert facts["deliveries"] == {"delivered": 1}
        assert facts["needs_a_person"] == []


class TestRepositories:
    def test_install_says_what_it_did(self, run: Run, bare: Path) -> None:
        assert "installed" in run("install", str(bare)).stdout
        assert "is installed already" in run("install", str(bare)).stdout
        assert "uninstalled" in run("uninstall", str(bare)).stdout
        assert "was not installed" in run("uninstall", str(bare)).stdout

    def test_install_all(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "srv" / "team").mkdir(parents=True)
        paths = {make_bare(tmp_path / "srv" / "a.git"), make_bare(tmp_path / "srv" / "team" / "b c.git")}
        done = json.loads(run("install", "--all", str(tmp_path / "srv"), "--json").stdout)
        assert {Path(one["repository"]) for one in done} == paths

    def test_one_that_cannot_be_installed_keeps_no_other_of_a_tree_from_it(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "srv").mkdir()
        good = make_bare(tmp_path / "srv" / "good.git")
        make_bare(tmp_path / "srv" / "new.git", "--object-format=sha256")
        for verb in ("install", "uninstall"):
            result = run(verb, "--all", str(tmp_path / "srv"), "--json")
            assert [Path(one["repository"]) for one in json.loads(result.stdout)] == [good]
            assert "new.git is a sha256 repository" in refusal(result, 4)

    def test_pushes_that_never_finished_are_seen(self, run: Run, installed: Path, state: Path) -> None:
        intent = state / "spool" / str(os.geteuid()) / "99999999-1.push"
        intent.write_bytes(f"refcast 1 intent\0repository={installed}\0".encode())
        assert json.loads(run("status", "--json").stdout)["spool"]["unfinished"] == 1
        assert "1 pushes that were refused or killed" in run("status").stdout

    def test_hooks_that_were_changed_need_a_person(self, run: Run, installed: Path) -> None:
        (installed / "hooks" / "update").write_text("#!/bin/sh\nexit 0\n")
        result = run("status")
        assert result.exit_code == 1
        assert "refcast install" in result.stdout

    def test_uninstalling_leaves_nothing_to_complain_of(self, run: Run, installed: Path) -> None:
        run("uninstall", str(installed))
        assert run("status").exit_code == 0
        run("install", str(installed))
        assert json.loads(run("status", "--json").stdout)["repositories"] == 1

    def test_a_repository_that_is_gone_needs_a_person(self, run: Run, installed: Path, tmp_path: Path) -> None:
        installed.rename(tmp_path / "moved.git")
        assert run("status").exit_code == 1

    def test_a_repository_that_is_gone_can_be_forgotten(self, run: Run, installed: Path, tmp_path: Path) -> None:
        other = make_bare(tmp_path / "other.git")
        run("install", str(other))
        shutil.rmtree(installed)
        done = json.loads(run("uninstall", str(installed), str(other), "--json").stdout)
        assert [one["done"] for one in done] == ["forgotten", "uninstalled"]
        assert run("status").exit_code == 0
        assert "no repository" in refusal(run("uninstall", str(installed)), 4)


def test_text_from_elsewhere_cannot_steer_a_terminal() -> None:
    assert safe("a\x1b[31m\r\n\x9b\udcff\u202e") == "a\\x1b[31m\\r\\n\\x9b\ufffd\\u202e"


class TestSigning:
    """What an endpoint can choose, and what its dialect cannot honour."""

    def test_any_scheme_goes_with_any_dialect(self, run: Run, installed: Path, receiver: Receiver) -> None:
        secret = {"S": "s3cret"}
        words = ("endpoint", "add", "ci", receiver.url, "--dialect", "gogs", "--secret-env", "S", "--signing")
        run(*words, "token:X-My-Token", env=secret)
        assert run("endpoint", "test", "ci").exit_code == 0
        run("endpoint", "edit", "ci", "--signing", "bearer")
        run("endpoint", "test", "ci")
        one, other = receiver.wait_for(2)
        assert one.header("X-My-Token") == "s3cret"
        assert other.header("Authorization") == "Bearer s3cret"

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--signing", "rot13"), "standard-webhooks"),
            (("--signing", "token:Content-Length"), "Content-Length"),
            (("--signing", "token:X-Gogs-Event", "--dialect", "gogs"), "dialect's own"),
            (("--signing", "basic"), "user:password"),
            (("--dialect", "slack"), "signs nothing"),
            (("--dialect", "gogs", "--batch-window", "3"), "codescoring"),
            (("--dialect", "codescoring", "--batch-window", "301"), "0 to 300"),
        ],
    )
    def test_what_cannot_be_is_refused(self, run: Run, installed: Path, words: tuple[str, ...], says: str) -> None:
        result = run("endpoint", "add", "ci", "http://h/", "--secret-env", "S", *words, env={"S": "s3cret"})
        assert says.lower() in refusal(result, 2).lower()

    def test_two_ways_into_one_header(self, run: Run, installed: Path) -> None:
        result = run(
            "endpoint", "add", "ci", "http://u:p@h/", "--secret-env", "S", "--signing", "bearer", env={"S": "s3cret"}
        )
        assert "Authorization" in refusal(result, 2)

    def test_a_url_from_a_file(self, run: Run, installed: Path, receiver: Receiver, tmp_path: Path) -> None:
        (tmp_path / "url").write_text(f"{receiver.url}hunter2\n")
        run("endpoint", "add", "chat", "--dialect", "slack", "--url-file", str(tmp_path / "url"))
        assert run("endpoint", "test", "chat").exit_code == 0
        assert receiver.wait_for(1)[0].path == "/hunter2"
        assert "one way" in refusal(run("endpoint", "edit", "chat", "--url", "http://h/", "--url-file", "x"), 2)
        assert "--url-file" in refusal(run("endpoint", "add", "other"), 2)

    def test_an_empty_secret_is_none(self, run: Run, installed: Path) -> None:
        refusal(run("endpoint", "add", "ci", "http://h/", "--secret-file", ""), 2)
        assert "empty" in refusal(run("endpoint", "add", "ci", "http://h/", "--secret-file", "/dev/null"), 2)
        assert "empty" in refusal(run("endpoint", "add", "ci", "http://h/", "--secret-env", "S", env={"S": ""}), 2)

    def test_a_list_that_the_dialect_has_not(self, run: Run, installed: Path) -> None:
        line = refusal(run("endpoint", "add", "ci", "http://h/", "--dialect", "slack", "--max-files", "3"), 2)
        assert "github" in line

    def test_an_old_secret_must_fit_the_new_scheme(self, run: Run, installed: Path) -> None:
        words = ("--secret-env", "S")
        run("endpoint", "add", "ci", "http://h/", "--signing", "bearer", *words, env={"S": "whsec_!!!"})
        result = run(
            "endpoint", "edit", "ci", "--signing", "standard-webhooks", "--keep-old-secret", "5", *words, env={"S": "n"}
        )
        assert "whsec_" in refusal(result, 2)

    def test_a_scheme_without_a_secret(self, run: Run, installed: Path) -> None:
        assert "--secret-file" in refusal(run("endpoint", "add", "ci", "http://h/", "--signing", "bearer"), 2)

    def test_a_secret_is_rotated_where_the_scheme_allows_it(
        self, run: Run, installed: Path, receiver: Receiver
    ) -> None:
        run("endpoint", "add", "ci", receiver.url, "--secret-env", "S", env={"S": "old"})
        run("endpoint", "edit", "ci", "--secret-env", "S", "--keep-old-secret", "24", env={"S": "new"})
        run("endpoint", "test", "ci")
        run("endpoint", "edit", "ci", "--secret-env", "S", env={"S": "newer"})
        run("endpoint", "test", "ci")
        both, one = (request.header("webhook-signature") or "" for request in receiver.wait_for(2))
        assert len(both.split()) == 2
        assert len(one.split()) == 1

    def test_a_secret_is_not_kept_where_the_scheme_cannot(self, run: Run, installed: Path) -> None:
        run("endpoint", "add", "ci", "http://h/", "--dialect", "gogs", "--secret-env", "S", env={"S": "old"})
        result = run("endpoint", "edit", "ci", "--secret-env", "S", "--keep-old-secret", "24", env={"S": "new"})
        assert "standard-webhooks" in refusal(result, 2)

    def test_the_path_of_a_chat_hook_is_its_secret(self, run: Run, installed: Path, receiver: Receiver) -> None:
        receiver.answer = lambda request: (404, [], f"no hook {request.path}".encode())
        for dialect in ("slack", "discord"):
            run("endpoint", "add", dialect, f"{receiver.url}services/T0/B0/hunter2", "--dialect", dialect)
            results = [run("endpoint", verb, dialect) for verb in ("show", "test")]
            assert all("hunter2" not in result.output for result in [*results, run("endpoint", "list")])
        assert receiver.wait_for(2)[0].path.endswith("hunter2")

    @pytest.mark.parametrize("dialect", sorted(DIALECTS))
    def test_the_test_of_every_dialect(self, run: Run, installed: Path, receiver: Receiver, dialect: str) -> None:
        run("endpoint", "add", "ci", receiver.url, "--dialect", dialect)
        result = run("endpoint", "test", "ci")
        assert result.exit_code == 0
        assert "HTTP 200" in result.stdout
        assert receiver.wait_for(1)[0].body.decode() in result.stdout
