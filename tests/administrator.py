"""Somebody who does what a page says: writes its files and runs its commands, as they stand there, as root.

Owns the machine that the page is about: its paths below a directory, its accounts, and the programs that would change
this one (`apt-get`, `systemctl`), of which it keeps note. Judges nothing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pages
from hard import environment
from people import ROOT, People

ACCOUNT = re.compile(
    r"(?<=-u )\w+|(?<=--user )[\w-]+|(?<=--owner )[\w-]+|(?<=--group )[\w-]+|(?<=User=)\w+"
    r"|(?<=chown -R )\w+(?=:)|\w+(?=@git\.)"
)
"""Where a page names a user."""

SUDO = """#!/bin/sh
user=$2; shift 2
HOME=$(getent passwd "$user" | cut -d: -f6) exec runuser -u "$user" -- "$@"
"""
NOTED = '#!/bin/sh\nprintf "%s\\n" "${{0##*/}} $*" >>"{0}"\n'


class Administrator:
    def __init__(self, root: Path, people: People, program: Path, paths: Mapping[str, str | Path]) -> None:
        """`paths`: what the page has, and what it is here."""
        self.root, self.people = root, people
        self.state = root / "var/lib/refcast"
        self.git_config = root / "etc/gitconfig"
        self.asked = root / "asked"
        """The commands that were noted instead of done."""
        self._paths = dict(paths)
        self._bin = root / "bin"
        for name in ("bin", "etc", "srv", "home", "root", "usr/local/bin", "var/lib"):
            (root / name).mkdir(parents=True, mode=0o755)
        refcast = program / "venv" / "bin" / "refcast"
        self.shim("sudo", SUDO)
        for name in ("apt-get", "systemctl"):
            self.shim(name, NOTED.format(self.asked))
        self.shim("refcast", f'#!/bin/sh\nREFCAST_STATE={self.state} exec {refcast} "$@"\n')
        words = f"--prefix {program} --state {self.state}"
        install = f'#!/bin/sh\numask 077\nexec {ROOT}/install.sh {words} "$@"\n'
        self.shim("install.sh", install, at=root / "install.sh")

    def call(self, there: str, here: str | Path) -> None:
        """What the page has, and what it is here."""
        self._paths[there] = here

    def shim(self, name: str, text: str, at: Path | None = None) -> None:
        """A program in the place of one."""
        path = at or self._bin / name
        path.write_text(text)
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """A page's words, with the names of this machine."""
        for role in re.findall(r"^useradd .* (\w+)$", text, re.MULTILINE):
            name = self.people.plan(role)
            text = re.sub(rf"(?m)^(useradd .*) {role}$", rf"\1 {name}", text)
        names = self.people.names
        text = re.sub(r"(?m)^(userdel .*)\b(\w+)$", lambda m: m[1] + names.get(m[2], m[2]), text)
        text = ACCOUNT.sub(lambda found: names.get(found[0], found[0]), text)
        for there, here in self._paths.items():
            text = text.replace(there, str(here))
        tops = "/etc/|/srv/|/home/|/root/|/usr/local/bin/|/var/lib/"
        return re.sub(rf"(?<![\w.])(?={tops})", str(self.root), text)

    def follow(
        self, page: str, heading: str, *, only: str = "", cwd: Path | None = None, more: Mapping[str, str] | None = None
    ) -> str:
        """Do what a section says, or what of it has `only` in it. What its commands printed."""
        said = ""
        for block in pages.blocks(page, heading):
            if only not in block.text + block.file:
                continue
            if block.file:
                path = Path(self.here(block.file))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.here(block.text))
            elif block.language == "sh":
                said += self.run(self.here(block.text), cwd=cwd, more=more)
        return said

    def run(
        self,
        script: str,
        *,
        as_user: str = "",
        cwd: Path | None = None,
        check: bool = True,
        more: Mapping[str, str] | None = None,
    ) -> str:
        """What a script of the shell prints, both its ways; as root, or as somebody."""
        around = environment(self.root) | {
            "PATH": f"{self._bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "GIT_CONFIG_NOSYSTEM": "0",
            "GIT_CONFIG_SYSTEM": str(self.git_config),
            "REFCAST_STATE": str(self.state),
            **(more or {}),
        }
        words = ["sudo", "-u", self.people.names[as_user], "sh", "-ec", script] if as_user else ["sh", "-ec", script]
        done = subprocess.run(
            [str(self._bin / words[0]) if as_user else words[0], *words[1:]],
            cwd=cwd or self.root,
            env=around,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{script}: {done.returncode}: {done.stdout}"
        return done.stdout

    def refcast(self, *words: str, check: bool = True) -> str:
        """`refcast` as the account of the page's repositories."""
        return self.run(shlex.join(["refcast", *words]), as_user="git", check=check)
