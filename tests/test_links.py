"""The presets, and what fills a template."""

from __future__ import annotations

import pytest

from refcast import links
from refcast.errors import BadInput
from refcast.links import Urls

ID, OLD = "a" * 40, "b" * 40


def told(urls: Urls, full_name: str = "team/my site") -> dict[str, str]:
    ids = {"id": ID, "old": OLD, "new": ID}
    return {
        key: links.filled(getattr(urls, key), full_name, **ids)
        for key in ("homepage", "http", "ssh", "commit", "compare")
    }


class TestPresets:
    def test_cgit(self) -> None:
        assert told(links.preset("cgit", "https://git.example.org/cgit/")) == {
            "homepage": "https://git.example.org/cgit/team/my%20site.git/",
            "http": "https://git.example.org/cgit/team/my%20site.git",
            "ssh": "",
            "commit": f"https://git.example.org/cgit/team/my%20site.git/commit/?id={ID}",
            "compare": f"https://git.example.org/cgit/team/my%20site.git/diff/?id={ID}&id2={OLD}",
        }

    def test_gitweb(self) -> None:
        assert told(links.preset("gitweb", "http://git.example.org/gitweb/")) == {
            "homepage": "http://git.example.org/gitweb/?p=team/my%20site.git",
            "http": "",
            "ssh": "",
            "commit": f"http://git.example.org/gitweb/?p=team/my%20site.git;a=commit;h={ID}",
            "compare": f"http://git.example.org/gitweb/?p=team/my%20site.git;a=commitdiff;h={ID};hp={OLD}",
        }

    def test_gitolite_with_cgit(self) -> None:
        found = told(links.preset("gitolite-cgit", "https://git.example.org:8443"), "team/site")
        assert found["ssh"] == "git@git.example.org:team/site"
        assert found["commit"] == f"https://git.example.org:8443/team/site/commit/?id={ID}"

    def test_a_host_that_is_an_address_of_ipv6(self) -> None:
        assert told(links.preset("gitolite-cgit", "http://[::1]:8080/"), "site")["ssh"] == "git@[::1]:site"

    def test_a_base_may_hold_braces(self) -> None:
        assert told(links.preset("cgit", "https://x/{y}"), "site")["homepage"] == "https://x/{y}/site.git/"

    @pytest.mark.parametrize(
        ("name", "base", "says"),
        [
            ("viewvc", "https://x/", "no preset: use cgit, gitweb, gitolite-cgit"),
            ("cgit", "git.example.org", "cannot be the base"),
            ("cgit", "https://user:pw@x/", "cannot be the base"),
            ("cgit", "file:///x", "cannot be the base"),
            ("gitweb", "https://x/?p=", "cannot be the base"),
            ("cgit", "https://x/#top", "cannot be the base"),
        ],
    )
    def test_what_cannot_be_is_refused(self, name: str, base: str, says: str) -> None:
        with pytest.raises(BadInput, match=says):
            links.preset(name, base)


def test_names_are_encoded_in_urls_alone() -> None:
    assert links.filled("https://x/{path}/{name}", "a b/c?d") == "https://x/a%20b/c%3Fd/c%3Fd"
    assert links.filled("git@x:{path}.git", "a b/c") == "git@x:a b/c.git"
