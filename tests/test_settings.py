"""The settings: what a file may say, and what they make of a repository's path."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from refcast import settings
from refcast.errors import BadInput
from refcast.links import Urls
from refcast.model import NetworkRules
from refcast.settings import FILE, Retention, Settings


def load(state: Path, text: str) -> Settings:
    (state / FILE).write_text(text)
    return settings.load(state)


class TestLoad:
    def test_without_a_file_all_is_default(self, tmp_path: Path) -> None:
        assert settings.load(tmp_path) == Settings()
        assert load(tmp_path, "") == Settings()

    def test_a_preset_gives_the_links_and_a_template_of_its_own_wins(self, tmp_path: Path) -> None:
        found = load(
            tmp_path,
            """
            [urls]
            preset = "cgit"
            base = "https://git.example.org"
            ssh = "git@git.example.org:{path}.git"
            """,
        ).describe("/srv/git/site.git")
        assert found.homepage == "https://git.example.org/site.git/"
        assert found.commit_url == "https://git.example.org/site.git/commit/?id={id}"
        assert found.ssh_url == "git@git.example.org:site.git"

    def test_people(self, tmp_path: Path) -> None:
        (tmp_path / "authors").write_text("ann = Ann Lee <ann@example.org>\n")
        conf = "# BEGIN USER EMAILS\n# ann a@b\n# ben ben@example.org\n# END USER EMAILS\n"
        (tmp_path / "gitolite.conf").write_text(conf)
        found = load(tmp_path, f"[pushers]\nfile = '{tmp_path}/authors'\ngitolite = '{tmp_path}/gitolite.conf'")
        assert found.people == {"ann": ("Ann Lee", "ann@example.org"), "ben": ("", "ben@example.org")}

    def test_people_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "authors").write_text("what\n")
        with pytest.raises(BadInput, match=r"refcast\.toml: pushers\.file: .*/authors: line 1 is not of the form"):
            load(tmp_path, f"[pushers]\nfile = '{tmp_path}/authors'")
        with pytest.raises(BadInput, match=r"pushers\.gitolite: cannot read /nowhere: No such file"):
            load(tmp_path, "[pushers]\ngitolite = '/nowhere'")
        with pytest.raises(BadInput, match="must be an absolute path"):
            load(tmp_path, "[pushers]\nfile = 'authors'")

    def test_everything(self, tmp_path: Path) -> None:
        found = load(
            tmp_path,
            f"""
            roots = ["{tmp_path}/git", "/srv/other/"]
            [urls]
            homepage = "https://git.example.org/{{path}}"
            http = "https://git.example.org/{{path}}.git"
            ssh = "git@git.example.org:{{path}}.git"
            commit = "https://git.example.org/{{path}}/commit/{{id}}"
            compare = "https://git.example.org/{{path}}/compare/{{old}}...{{new}}"
            [limits]
            commits = 20
            files = 0
            [network]
            allow = ["169.254.7.7"]
            refuse = ["10.0.0.0/8", "fd00::/8"]
            proxy = "http://proxy.example.org:3128"
            """,
        )
        assert found.network == NetworkRules(("169.254.7.7",), ("10.0.0.0/8", "fd00::/8"))
        assert found.proxy == "http://proxy.example.org:3128"
        assert found.roots == (f"{tmp_path}/git", "/srv/other")
        assert (found.commits, found.files) == (20, 0)
        site = found.describe(f"{tmp_path}/git/team/site.git", id=3, description="The site", default_branch="main")
        assert (site.id, site.path, site.full_name) == (3, f"{tmp_path}/git/team/site.git", "team/site")
        assert (site.name, site.namespace, site.description, site.default_branch) == (
            "site",
            "team",
            "The site",
            "main",
        )
        assert site.homepage == "https://git.example.org/team/site"
        assert site.http_url == "https://git.example.org/team/site.git"
        assert site.ssh_url == "git@git.example.org:team/site.git"
        assert site.commit_url == "https://git.example.org/team/site/commit/{id}"
        assert site.compare_url == "https://git.example.org/team/site/compare/{old}...{new}"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("what", "Expected"),
            ("[urls]\npreset = 'cgit'", "urls.preset and urls.base go together"),
            ("[urls]\nbase = 'https://x'", "urls.preset and urls.base go together"),
            ("[urls]\npreset = 'x'\nbase = 'https://x'", "urls: 'x' is no preset"),
            ("[urls]\npreset = 1\nbase = 'https://x'", "must be strings"),
            ("root = []", "root is not a setting; known: limits, "),
            ('roots = "/srv"', "roots must be a list of absolute paths"),
            ('roots = ["srv"]', "roots must be a list of absolute paths"),
            ("roots = [1]", "roots must be a list of absolute paths"),
            ("urls = 1", "urls must be a table"),
            (
                "[urls]\nhome = ''",
                "urls.home is not a setting; known: base, commit, compare, homepage, http, preset, ssh",
            ),
            ("[urls]\nhttp = 1", "urls.http must be a string"),
            ("[urls]\nhttp = '{path'", "urls.http is not a template"),
            ("[urls]\nhttp = '{id}'", "urls.http uses {id}; known: {name}, {path}"),
            ("[urls]\nhttp = '{}'", "urls.http uses {}; known: {name}, {path}"),
            ("[urls]\nhttp = '{path.__class__}'", "urls.http uses {path.__class__}"),
            ("[urls]\nhttp = '{path[0]}'", "urls.http uses {path[0]}"),
            ("[urls]\nhttp = '{path!r}'", "urls.http uses {path!r}"),
            ("[urls]\nhttp = '{path:{name}}'", "urls.http uses {path:{name}}"),
            ("[urls]\nhttp = '{path:9999999999}'", "urls.http uses {path:9999999999}"),
            ("[urls]\ncommit = '{old}'", "urls.commit uses {old}; known: {id}, {name}, {path}"),
            ("[limits]\ncommits = -1", "limits.commits must be a whole number from 0 to 100000"),
            ("[limits]\ncommits = true", "limits.commits must be a whole number"),
            ("[limits]\nfiles = 1.5", "limits.files must be a whole number"),
            ("network = 1", "network must be a table"),
            ("[network]\nallow = '10.0.0.0/8'", "network.allow must be a list of networks"),
            ("[network]\nallow = ['10.0.0.1/8']", "network.allow: '10.0.0.1/8' is no network but an address in one"),
            ("[network]\nrefuse = [10]", "network.refuse: 10 is not a network"),
            ("[network]\nrefuse = ['hooks.example']", "network.refuse: 'hooks.example' is not a network"),
            ("[network]\nproxy = 1", "network.proxy must be a string"),
            ("[network]\nproxy = 'proxy:3128'", "network.proxy: the proxy's URL must begin with http://"),
            ("[network]\nproxy = 'http://u:s3cret@proxy:1'", "refcast endpoint edit NAME --proxy-file FILE"),
            ("[network]\nproxies = 1", "network.proxies is not a setting; known: allow, proxy, refuse"),
            ("[limits]\nlines = 1", "limits.lines is not a setting; known: commits, files"),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_line(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(BadInput) as caught:
            load(tmp_path, text)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / FILE}: ")
        assert says in message
        assert "\n" not in message
        assert "s3cret" not in message

    def test_what_is_no_text_or_no_file(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"\xff")
        with pytest.raises(BadInput, match=FILE):
            settings.load(tmp_path)
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).mkdir()
        with pytest.raises(BadInput, match="directory"):
            settings.load(tmp_path)

    def test_a_root_is_resolved_as_the_hooks_resolve_repositories(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert load(tmp_path, f'roots = ["{tmp_path}/link"]').roots == (f"{tmp_path}/real",)

    def test_a_root_that_leads_in_circles(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        assert len(load(tmp_path, f'roots = ["{tmp_path}/a"]').roots) == 1


class TestRetention:
    def test_days_and_sizes_in_all_their_forms(self, tmp_path: Path) -> None:
        found = load(
            tmp_path,
            """
            [retention]
            days = 60
            size = "5 GiB"
            waiting_days = 1.5
            waiting_size = 2000000
            """,
        )
        assert found.retention == Retention(60, 5 * 1024**3, 1.5, 2_000_000)
        assert load(tmp_path, "[retention]\ndays = 1").retention == replace(Retention(), days=1)

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("500 MB", 500_000_000),
            ("500MB", 500_000_000),
            ("1.5 gib", 3 * 512 * 1024**2),
            ("1 TB", 10**12),
            ("2048 KiB", 2 * 1024**2),
            ("2000 kB", 2_000_000),
            ("2000000 B", 2_000_000),
            ("1024 TiB", 1024**5),
        ],
    )
    def test_units(self, tmp_path: Path, text: str, size: int) -> None:
        assert load(tmp_path, f'[retention]\nsize = "{text}"').retention.size == size

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("days = 0", "retention.days must be a number of days from 1 to 36500"),
            ("days = true", "retention.days must be a number of days"),
            ("days = 'never'", "retention.days must be a number of days"),
            ("days = nan", "retention.days must be a number of days"),
            ("waiting_days = inf", "retention.waiting_days must be a number of days"),
            ("size = -1", "retention.size must be a number of bytes, or a text such as '500 MB'"),
            ("size = 1000", "from 1 MiB to 1 PiB"),
            ("size = '1 EB'", "retention.size must be a number of bytes"),
            ("size = 'lots'", "retention.size must be a number of bytes"),
            ("size = 2000000.0", "retention.size must be a number of bytes"),
            ("waiting_size = '1025 TiB'", "retention.waiting_size must be a number of bytes"),
            ("waiting_size = true", "retention.waiting_size must be a number of bytes"),
            ("weeks = 1", "retention.weeks is not a setting; known: days, size, waiting_days, waiting_size"),
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(BadInput) as caught:
            load(tmp_path, f"[retention]\n{text}")
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


class TestFullName:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/srv/git/site.git", "site"),
            ("/srv/git/team/site.git", "team/site"),
            ("/srv/git/site", "site"),
            ("/srv/git/team/site/.git", "team/site"),
            ("/srv/gitolite/site.git", "site"),
            ("/elsewhere/team/site.git", "site"),
            ("/elsewhere/site/.git", "site"),
            ("/srv/git/.git", "git"),
            ("/srv/git/a.git.git", "a.git"),
            (os.fsdecode(b"/srv/git/caf\xe9.git"), "caf\ufffd"),
        ],
    )
    def test_is_the_path_below_the_root(self, path: str, name: str) -> None:
        assert Settings(roots=("/srv/git",)).full_name(path) == name

    def test_the_first_root_that_holds_it_counts(self) -> None:
        assert Settings(roots=("/srv/git/team", "/srv/git")).full_name("/srv/git/team/site.git") == "site"
        assert Settings(roots=("/",)).full_name("/srv/site.git") == "srv/site"


class TestUrls:
    def test_escape_what_a_path_may_hold_unless_they_are_none(self) -> None:
        urls = Urls(
            homepage="https://x/{path}",
            ssh="git@x:{path}.git",
            commit="https://x/{path}/c/{id}",
            compare="x {old} {new}",
        )
        site = Settings(roots=("/srv",), urls=urls).describe("/srv/a team/50%{id}#ü?.git")
        escaped = "a%20team/50%25%7Bid%7D%23%C3%BC%3F"
        assert site.full_name == "a team/50%{id}#ü?"
        assert site.homepage == f"https://x/{escaped}"
        assert site.commit_url == f"https://x/{escaped}/c/{{id}}"
        assert site.compare_url == "x {old} {new}"
        assert site.ssh_url == "git@x:a team/50%{id}#ü?.git"

    def test_none_is_empty(self) -> None:
        site = Settings().describe("/srv/site.git")
        assert (site.homepage, site.http_url, site.ssh_url, site.commit_url, site.compare_url) == ("", "", "", "", "")
