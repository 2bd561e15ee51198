"""Raw commits and tags -> words: whatever is in them, words come out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from encodings.aliases import aliases
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hard
from refcast.history import History, Limits
from refcast.history.text import decode, parse
from refcast.model import ZERO_ID, Ident, Push, Pusher, RefUpdate, Repository

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_9999 = datetime(9999, 12, 30, tzinfo=UTC)


def ident(line: bytes, encoding: bytes = b"") -> Ident:
    header = b"encoding %s\n" % encoding if encoding else b""
    return parse(b"tree 1\nauthor %s\n%s\nm" % (line, header)).ident(b"author")


class TestIdent:
    @pytest.mark.parametrize(
        ("line", "name", "email", "seconds", "offset"),
        [
            (b"A B <a@b> 1700000000 +0130", "A B", "a@b", 1_700_000_000, 90),
            (b"A B <a@b> 1700000000 -0930", "A B", "a@b", 1_700_000_000, -570),
            (b"A <a@b> 5 -0000", "A", "a@b", 5, 0),
            (b"<a@b> 5 +0000", "", "a@b", 5, 0),
            (b" <> 5 +0000", "", "", 5, 0),
            (b"A <a@b> 5", "A", "a@b", 5, 0),
            (b"A <a@b>", "A", "a@b", 0, 0),
            (b"A <a@b> yesterday", "A", "a@b", 0, 0),
            (b"A 5 +0100", "A", "", 5, 60),
            (b"A 12 B", "A 12 B", "", 0, 0),
            (b"5 +0100", "", "", 5, 60),
            (b"A <a@b 5 +0100", "A", "a@b", 5, 60),
            (b"A <a <b> c> 5 +0100", "A", "a <b", 5, 60),
            (b"A> B <a@b> 5 +0100", "A> B", "a@b", 5, 60),
            (b"", "", "", 0, 0),
            (b"A <a@b> -5 +0000", "A", "a@b", 0, 0),
            (b"A <a@b> 5 +9999", "A", "a@b", 5, 0),
            (b"A <a@b> 5 +2400", "A", "a@b", 5, 0),
            (b"A <a@b> 5 +0160", "A", "a@b", 5, 0),
            (b"A <a@b> 5 +2359", "A", "a@b", 5, 23 * 60 + 59),
            (b"A <a@b> 5 -2359", "A", "a@b", 5, -23 * 60 - 59),
            (b"A <a@b> 5 +1", "A", "a@b", 5, 1),
            (b"A\0\r <a\0@b> 5 +0000", "A", "a@b", 5, 0),
        ],
    )
    def test_lines(self, line: bytes, name: str, email: str, seconds: int, offset: int) -> None:
        found = ident(line)
        assert (found.name, found.email) == (name, email)
        assert found.time == EPOCH + timedelta(seconds=seconds)
        assert found.time.utcoffset() == timedelta(minutes=offset)

    @pytest.mark.parametrize("digits", [12, 15, 20, 21, 5000])
    def test_times_beyond_all_calendars(self, digits: int) -> None:
        found = ident(b"A <a@b> %s +2359" % (b"9" * digits))
        assert found.time == (YEAR_9999 if digits <= 20 else EPOCH)
        assert found.time.isoformat()

    @settings(deadline=None)
    @given(st.binary(max_size=80))
    def test_any_line(self, line: bytes) -> None:
        found = ident(line.replace(b"\n", b""))
        (found.name + found.email).encode()
        assert found.time.astimezone(UTC).isoformat()
        assert "\0" not in found.name + found.email

    def test_a_header_that_is_missing(self) -> None:
        assert parse(b"tree 1\n\nm").ident(b"author") == Ident("", "", EPOCH)


class TestHeaders:
    def test_continuation_lines_are_not_headers(self) -> None:
        raw = (
            b"tree 1\nparent 2\nparent 3\nauthor A <a> 1 +0000\ngpgsig x\n encoding latin-1\n author B <b> 2 +0000\n"
            b"encoding utf-8\nencoding latin-1\nparent 4\n\nbody\n\nmore\n"
        )
        headers = parse(raw)
        assert headers.parents == ("2", "3")
        assert headers.fields[b"encoding"] == b"utf-8"
        assert headers.ident(b"author").name == "A"
        assert headers.message == "body\n\nmore\n"

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, raw: bytes) -> None:
        headers = parse(raw)
        assert headers.ident(b"author").time.tzinfo
        (headers.message + headers.tree + "".join(headers.parents)).encode()


class TestDecode:
    @pytest.mark.parametrize(
        ("encoding", "raw", "want"),
        [
            (b"", "é".encode(), "é"),
            (b"", b"\xe9", "\ufffd"),
            (b"ISO-8859-1", b"\xe9", "é"),
            (b"latin1", b"\xe9", "é"),
            (b"WINDOWS-1251", "Привет".encode("cp1251"), "Привет"),
            (b"cp936", "你好".encode("gbk"), "你好"),
            (b"GB18030", "你好".encode("gb18030"), "你好"),
            (b"Shift_JIS", "日本".encode("shift_jis"), "日本"),
            (b"EUC-JP", "日本".encode("euc-jp"), "日本"),
            (b"ISO-2022-JP", "日本".encode("iso2022-jp"), "日本"),
            (b"ascii", "é".encode(), "é"),  # declared wrongly, and UTF-8 all the same
            (b"ascii", b"a\xe9", "a\ufffd"),
            (b"x-klingon", "é".encode(), "é"),
            (b"x-klingon", b"\xe9", "\ufffd"),
            (b"hex", b"616263", "616263"),
            (b"rot13", b"abc", "abc"),
            (b"unicode_escape", b"\\x41", "\\x41"),
            (b"idna", b"xn--a", "xn--a"),
            (b"undefined", b"abc", "abc"),
            (b"utf-8\0", b"abc", "abc"),
            (b"\xff", b"abc", "abc"),
            (b"../x", b"abc", "abc"),
            (b"utf-7", b"+2AA-", "\ufffd"),  # a lone surrogate
            (b"", b"a\0b", "ab"),
        ],
    )
    def test_encodings(self, encoding: bytes, raw: bytes, want: str) -> None:
        assert decode(raw, encoding) == want

    @settings(deadline=None)
    @given(st.binary(max_size=60), st.sampled_from(sorted({*aliases, *aliases.values()})))
    def test_any_bytes_in_any_of_pythons_codecs(self, raw: bytes, encoding: str) -> None:
        text = decode(raw, encoding.encode())
        assert "\0" not in text
        text.encode()


WHO = b"author A <a@b> 1700000000 +0000\n"
BY = b"committer A <a@b> 1700000000 +0000\n"


@pytest.mark.parametrize(
    "lines",
    [
        BY,
        WHO,
        b"",
        b"author A\ncommitter B 12 +0000\n",
        WHO + b"committer A <a@b> 99999999999999999999 +9999\n",
        WHO + b"committer A <a@b> -5 +0000\n",
        WHO + b"committer A <a@b> never\n",
        b"author A\0B <a\0> 1 +0000\n" + BY,
        WHO + BY + b"parent 1111111111111111111111111111111111111111\n",
    ],
)
def test_malformed_commits_are_told_whole(tmp_path: Path, lines: bytes) -> None:
    """libgit2 refuses some of these, but their parents, their paths and their messages are there."""
    hard.init_bare(tmp_path)
    root = commit(tmp_path, "", WHO + BY, "one")
    odd = commit(tmp_path, root, lines, "two")
    tip = commit(tmp_path, odd, WHO + BY, "three")
    push = Push("id", "x", "ada", EPOCH, (RefUpdate(ZERO_ID, tip, "refs/heads/main"),))
    with History.open(str(tmp_path)) as history:
        (event,) = history.events(push, {}, Repository("x", "x"), Pusher("ada"), Limits())
        assert [c.id for c in event.commits] == [root, odd, tip]
        assert [c.changes.added for c in event.commits] == [("one",), ("two",), ("three",)]
        assert event.commits[1].message == "two\n" and event.commits[1].parents == (root,)
        assert not event.incomplete
        again = Push("id", "x", "ada", EPOCH, (RefUpdate(odd, tip, "refs/heads/main"),))
        (event,) = history.events(again, {"refs/heads/main": odd}, Repository("x", "x"), Pusher("a"), Limits())
        assert event.total == 1 and event.update is not None and not event.update.forced


def commit(path: Path, parent: str, lines: bytes, name: str) -> str:
    """A commit with this name as its message and its file's name."""
    blob = hard.hash_object(path, "blob", b"x")
    tree = hard.git(path, "mktree", stdin=f"100644 blob {blob}\t{name}\n".encode()).decode().strip()
    head = f"tree {tree}\n" + (f"parent {parent}\n" if parent else "")
    return hard.hash_object(path, "commit", head.encode() + lines + f"\n{name}\n".encode())
