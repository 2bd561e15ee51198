"""The links that presets make, followed in the web pages themselves: cgit and gitweb of Debian, as CGI programs."""

from __future__ import annotations

import html
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import hard
from refcast import links
from servers import need

CGIT = Path("/usr/lib/cgit/cgit.cgi")
GITWEB = Path("/usr/share/gitweb/gitweb.cgi")
BASE = "https://git.example.org/pages"


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Where repositories are, one `team/my site.git` among them, and its two commits."""
    root = tmp_path_factory.mktemp("pages")
    path = root / "team" / "my site.git"
    path.parent.mkdir()
    hard.init_bare(path)
    stream = b""
    for number in (1, 2):
        stream += f"commit refs/heads/main\ncommitter Ada <ada@x> {hard.START + number} +0000\n".encode()
        stream += f"data 6\nstep {number}\n".encode() + hard.put("file", f"content {number}\n")
    hard.git(path, "fast-import", "--quiet", stdin=stream)
    old, new = hard.git(path, "rev-list", "--reverse", "main").decode().split()
    return root, old, new


def page(program: Path, url: str, **environment: str) -> str:
    """The page that a CGI program at BASE gives for a URL."""
    need(program.exists(), f"{program}: run tests/run, which installs it")
    parts = urlsplit(url)
    base = urlsplit(BASE).path
    request = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "git.example.org",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTPS": "on",
        "SCRIPT_NAME": base,
        "PATH_INFO": unquote(parts.path.removeprefix(base)),
        "QUERY_STRING": parts.query,
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    done = subprocess.run([program], env=request | environment, capture_output=True, check=True, timeout=60)
    text = done.stdout.decode("utf-8", "replace")
    assert "Status: 4" not in text and "Status: 5" not in text, text[:500]
    return text


@pytest.mark.parametrize(("preset", "suffix"), [("cgit", "0"), ("gitolite-cgit", "1")])
def test_cgit(ids: tuple[Path, str, str], tmp_path: Path, preset: str, suffix: str) -> None:
    root, old, new = ids
    config = tmp_path / "cgitrc"
    config.write_text(f"virtual-root=/pages/\nremove-suffix={suffix}\nscan-path={root}\n")
    urls = links.preset(preset, BASE)

    def follow(template: str) -> str:
        url = links.filled(template, "team/my site", id=new, old=old, new=new)
        return page(CGIT, url, CGIT_CONFIG=str(config))

    assert "step 2" in follow(urls.homepage)
    commit = follow(urls.commit)
    assert new in commit and "step 2" in commit
    compare = follow(urls.compare).replace("&nbsp;", " ")
    assert "content 1" in compare and "content 2" in compare


def test_gitweb(ids: tuple[Path, str, str], tmp_path: Path) -> None:
    root, old, new = ids
    config = tmp_path / "gitweb.conf"
    config.write_text(f"our $projectroot = '{root}';\n")
    urls = links.preset("gitweb", BASE)

    def follow(template: str) -> str:
        url = links.filled(template, "team/my site", id=new, old=old, new=new)
        return page(GITWEB, url, GITWEB_CONFIG=str(config))

    assert "step 2" in follow(urls.homepage)
    assert f'<td>commit</td><td class="sha1">{new}' in follow(urls.commit)
    compare = html.unescape(re.sub("<[^>]*>", "", follow(urls.compare))).replace("\xa0", " ")
    assert "-content 1" in compare and "+content 2" in compare
