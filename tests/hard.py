"""The deliberately hard repository: what git allows and what breaks converters, with fixed names and dates.

`build(path)` makes a bare repository there with git itself, and tells a story over it: cases that follow
one another, each a ref update with the ledger as it stood before. The ids are the same on every machine, so
golden files may be rendered over the cases. Owns also `git`, the way in which tests run git without the
user's configuration. Does not know refcast's history; it only speaks its words.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refcast.model import ZERO_ID, RefUpdate

ADA = b"Ada Lovelace <ada@example.org>"
BEN = "Ben Ødegård <ben@example.org>".encode()
START = 1_700_000_000
"""The first commit's time; each further one comes an hour later."""


@dataclass(frozen=True)
class Case:
    """One ref update of the story, and every ref's tip just before it."""

    name: str
    update: RefUpdate
    ledger: Mapping[str, str]


@dataclass(frozen=True)
class HardRepository:
    path: Path
    cases: list[Case]
    ids: Mapping[str, str]
    """Every commit and tag of the story by the name it has in this file."""

    def case(self, name: str) -> Case:
        return next(case for case in self.cases if case.name == name)


def environment(home: Path) -> dict[str, str]:
    """The environment for git in which nothing of the user's or the caller's configuration counts."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Ada Lovelace",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_AUTHOR_DATE": f"{START} +0000",
        "GIT_COMMITTER_NAME": "Ada Lovelace",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "GIT_COMMITTER_DATE": f"{START} +0000",
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def git(repository: Path, *arguments: str | bytes, stdin: bytes = b"") -> bytes:
    """What `git -C repository …` prints. An exit code other than 0 is an error that shows git's own words."""
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        env=environment(repository),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {arguments!r}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def init_bare(path: Path) -> None:
    """An empty bare repository at `path`, without templates, whose HEAD names `main`."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".")


def hash_object(repository: Path, kind: str, content: bytes) -> str:
    """The id of a new object with exactly this content, however malformed."""
    options = ("-t", kind, "-w", "--stdin", "--literally")
    return git(repository, "hash-object", *options, stdin=content).decode().strip()


def put(path: str | bytes, content: str, mode: str = "100644") -> bytes:
    """The fast-import command that writes a file, a symlink (120000) or a submodule (160000; content: id)."""
    if mode == "160000":
        return b"M 160000 %s %s\n" % (content.encode(), quoted(path))
    data = content.encode()
    return b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted(path), len(data), data)


def drop(path: str | bytes) -> bytes:
    return b"D %s\n" % quoted(path)


def quoted(path: str | bytes) -> bytes:
    """A path as fast-import reads it: quoted, with escapes for what would end the line or the quotes."""
    raw = path.encode() if isinstance(path, str) else path
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


@dataclass
class Stream:
    """A fast-import stream in the making. Commits are named; `load` tells their ids by name."""

    parts: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def commit(
        self,
        name: str,
        parents: str,
        *changes: bytes,
        message: str | bytes = "",
        author: bytes = ADA,
        zone: bytes = b"+0000",
        encoding: bytes = b"",
    ) -> None:
        """One commit. `parents` are names with spaces between; the tree starts as the first parent's."""
        text = message.encode() if isinstance(message, str) else message
        text = text or b"%s\n" % name.encode()
        self.names.append(name)
        time = START + 3600 * len(self.names)
        marks = [b":%d" % (self.names.index(parent) + 1) for parent in parents.split()]
        self.parts += [
            b"commit refs/build/%d\nmark :%d\n" % (len(self.names), len(self.names)),
            b"author %s %d %s\n" % (author, time - 60, zone),
            b"committer %s %d +0000\n" % (BEN, time),
            b"encoding %s\n" % encoding if encoding else b"",
            b"data %d\n%s\n" % (len(text), text),
            *(b"%s %s\n" % (b"merge" if i else b"from", mark) for i, mark in enumerate(marks)),
            *changes,
            b"\n",
        ]

    def load(self, repository: Path) -> dict[str, str]:
        """Write the objects into the repository and nothing else: no ref stays."""
        marks = repository / "marks"
        git(
            repository,
            "fast-import",
            "--quiet",
            "--force",
            "--date-format=raw",
            f"--export-marks={marks}",
            stdin=b"".join(self.parts),
        )
        ids = dict(line.split() for line in marks.read_text().splitlines())
        marks.unlink()
        gone = b"".join(b"delete refs/build/%d\n" % (i + 1) for i in range(len(self.names)))
        git(repository, "update-ref", "--stdin", stdin=gone)
        return {name: ids[f":{i + 1}"] for i, name in enumerate(self.names)}


SUBMODULE = "5b0a1de1c0ffee5b0a1de1c0ffee5b0a1de1c0ff"
GONE = "dead0000dead0000dead0000dead0000dead0000"
"""An id that no object of the repository has."""

UGLY_PATHS: tuple[bytes, ...] = (
    b" leading and trailing ",
    b"a file with spaces.txt",
    b'double"quote.txt',
    b"single'quote.txt",
    b"back\\slash.txt",
    b"new\nline.txt",
    b"tab\there.txt",
    b"bell\x07.txt",
    b"caf\xe9 in Latin-1.txt",
    "naïve/日本語/🚀.txt".encode(),
    b"<b>&amp;.html",
    b"-rf",
)


def commits() -> Stream:
    """Every commit of the story."""
    s = Stream()
    s.commit(
        "root",
        "",
        put("README.md", "# Site\n"),
        put("docs/guide.md", "Read me.\n"),
        put("kind", "I am a file.\n"),
        put("old/deep/name.txt", "moved later\n"),
        put("pile/inner.txt", "a directory that becomes a file\n"),
        put("run.sh", "#!/bin/sh\n"),
        put("swap", "a file that becomes a directory\n"),
        put("swap.txt", "sorts before swap/ and after swap\n"),
        message="Initial import\n\nWith a body of\ntwo lines.\n",
        zone=b"+0800",
    )
    s.commit("second", "root", put("README.md", "# Site\n\nMore.\n"), put("src/app.py", "print()\n"), zone=b"-0330")
    s.commit("ugly", "second", *(put(path, "ugly\n") for path in UGLY_PATHS), message="Ugly names")
    s.commit(
        "links",
        "ugly",
        put("link", "README.md", "120000"),
        put("vendor/lib", SUBMODULE, "160000"),
        put(".gitmodules", '[submodule "lib"]\n\tpath = vendor/lib\n\turl = ../lib.git\n'),
    )
    s.commit("types", "links", put("kind", "README.md", "120000"), put("link", "Now a file.\n"), author=BEN)
    s.commit(
        "rename",
        "types",
        drop("old/deep/name.txt"),
        put("new/place/name.txt", "moved later\n"),
        zone=b"+0545",
    )
    s.commit(
        "modes",
        "rename",
        put("run.sh", "#!/bin/sh\n", "100755"),
        put("vendor/lib", SUBMODULE[::-1], "160000"),
    )
    s.commit(
        "swaps",
        "modes",
        drop("swap"),
        put("swap/inner.txt", "a\n"),
        put("swap/other.txt", "b\n"),
        drop("pile/inner.txt"),
        put("pile", "a file now\n"),
        drop("vendor/lib"),
        put("vendor/lib/code.c", "int main;\n"),
    )
    s.commit(
        "latin",
        "swaps",
        put("docs/guide.md", "Lis-moi.\n"),
        message="Déjà vu à Zürich\n".encode("latin-1"),
        author="José Núñez <jose@example.org>".encode("latin-1"),
        encoding=b"ISO-8859-1",
        zone=b"+0100",
    )
    s.commit(
        "unknown",
        "latin",
        put("docs/guide.md", "nuqneH\n"),
        message=b"bytes that are not UTF-8: \xff\xfe, and some that are: \xe2\x82\xac\n",
        encoding=b"x-klingon",
    )
    s.commit("empty", "unknown", message="Nothing changed\n")
    s.commit("topic1", "rename", put("topic/one.txt", "1\n"))
    s.commit("topic2", "topic1", put("topic/two.txt", "2\n"), drop("src/app.py"), author=BEN)
    s.commit(
        "merge",
        "empty topic2",
        put("topic/one.txt", "1\n"),
        put("topic/two.txt", "2\n"),
        drop("src/app.py"),
        message="Merge branch 'topic'\n",
    )
    s.commit("fix", "swaps", put("docs/fix.md", "fixed\n"))
    s.commit("island", "", put("island/palm.txt", "palm\n"), message="Another root\n")
    s.commit(
        "octopus",
        "merge fix island",
        put("docs/fix.md", "fixed\n"),
        put("island/palm.txt", "palm\n"),
        message="Merge branches 'fix' and 'island'\n",
    )
    s.commit(
        "hostile",
        "octopus",
        put("README.md", "# Pwned\n"),
        message="🚀 <script>alert('x')</script> & @everyone <!channel> [a](javascript:b) `${c}`\n"
        "\n\x1b[31mred\x1b[0m bell \x07 backspace \x08 right-to-left \u202eevil\u202c\r\n"
        'line separator \u2028 and a quote " and a backslash \\ and */ and ]]>\n',
        author='Robert\'); DROP TABLE "users";-- @here 🐛 <bobby+tables@example.org>'.encode(),
        zone=b"-1200",
    )
    s.commit("topic2b", "topic1", put("topic/two.txt", "two, rewritten\n"))
    s.commit("accent", "hostile", put("accent.txt", "é\n"), zone=b"+1400")
    s.commit("notes", "", put("aa/bb", "a note\n"), message="Notes added by 'git notes add'\n")
    return s


def tag_object(repository: Path, target: str, kind: str, name: str, message: str | bytes, tagger: bytes = ADA) -> str:
    """The id of a new annotated tag; without a tagger line where `tagger` is empty, as git made them once."""
    lines = b"object %s\ntype %s\ntag %s\n" % (target.encode(), kind.encode(), name.encode())
    if tagger:
        lines += b"tagger %s %d +0200\n" % (tagger, START + 1_000_000)
    text = message.encode() if isinstance(message, str) else message
    return hash_object(repository, "tag", lines + b"\n" + text)


def tags(repository: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """The annotated tags of the story, by name, and the tree and blob that two of them name."""
    tree = git(repository, "rev-parse", f"{ids['hostile']}^{{tree}}").decode().strip()
    blob = git(repository, "rev-parse", f"{ids['root']}:README.md").decode().strip()
    made = {"tree": tree, "blob": blob}
    made["v1.0"] = tag_object(repository, ids["empty"], "commit", "v1.0", "Version 1.0\n\n• first 🎉\n")
    made["outer"] = tag_object(repository, made["v1.0"], "tag", "signed/outer", "A tag of a tag\n", BEN)
    made["tree-tag"] = tag_object(repository, tree, "tree", "tree-tag", "A tag of a tree\n")
    made["blob-tag"] = tag_object(repository, blob, "blob", "blob-tag", b"A key: \xe9\n", b"")
    made["v1.0-again"] = tag_object(repository, ids["hostile"], "commit", "v1.0", "Version 1.0, once more\n")
    return made


STORY: tuple[tuple[str, str, str], ...] = (
    # name of the case, ref, the name of its new tip ("" deletes)
    ("first-push", "refs/heads/main", "second"),
    ("ugly-names", "refs/heads/main", "ugly"),
    ("file-kinds", "refs/heads/main", "swaps"),
    ("encodings", "refs/heads/main", "unknown"),
    ("empty-commit", "refs/heads/main", "empty"),
    ("new-branch", "refs/heads/topic", "topic2"),
    ("new-branch-without-commits", "refs/heads/release/1.x", "swaps"),
    ("fast-forward-to-known", "refs/heads/release/1.x", "empty"),
    ("merge", "refs/heads/main", "merge"),
    ("octopus", "refs/heads/main", "octopus"),
    ("update", "refs/heads/main", "hostile"),
    ("force-push", "refs/heads/topic", "topic2b"),
    ("rewind", "refs/heads/topic", "topic1"),
    ("non-ascii-branch", b"refs/heads/caf\xe9/\xf0\x9f\x9a\x80".decode("utf-8", "surrogateescape"), "accent"),
    ("lightweight-tag", "refs/tags/light", "empty"),
    ("annotated-tag", "refs/tags/v1.0", "v1.0"),
    ("tag-of-tag", "refs/tags/signed/outer", "outer"),
    ("tag-of-tree", "refs/tags/tree-tag", "tree-tag"),
    ("tag-of-blob", "refs/tags/blob-tag", "blob-tag"),
    ("lightweight-tag-of-blob", "refs/tags/light-blob", "blob"),
    ("tag-moved", "refs/tags/v1.0", "v1.0-again"),
    ("tag-deletion", "refs/tags/light", ""),
    ("branch-deletion", "refs/heads/release/1.x", ""),
    ("other-ref", "refs/notes/commits", "notes"),
)


def build(path: Path) -> HardRepository:
    """The hard repository, bare, at `path`. Its refs stand as they are after the last case."""
    init_bare(path)
    ids = commits().load(path)
    ids |= tags(path, ids)
    ledger: dict[str, str] = {}
    cases = []
    for name, ref, tip in STORY:
        update = RefUpdate(ledger.get(ref, ZERO_ID), ids[tip] if tip else ZERO_ID, ref)
        cases.append(Case(name, update, dict(ledger)))
        ledger[ref] = update.new
        if not tip:
            del ledger[ref]
    lost = RefUpdate(GONE, ids["topic2b"], "refs/heads/lost")
    cases.append(Case("old-object-gone", lost, ledger | {lost.ref: lost.old}))
    ledger[lost.ref] = lost.new
    cases.append(
        Case("new-object-gone", RefUpdate(ids["topic1"], GONE, "refs/heads/topic"), dict(ledger)),
    )
    commands = b"".join(
        b"create %s\0%s\0" % (ref.encode("utf-8", "surrogateescape"), tip.encode()) for ref, tip in ledger.items()
    )
    git(path, "update-ref", "--stdin", "-z", stdin=commands)
    git(path, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    return HardRepository(path, cases, ids)
