"""gitolite's rc: the lines that refcast needs in it, added at its end and taken away again byte for byte.

The rc is a Perl program, so what it says is gitolite's to tell (`gitolite query-rc`); here is only text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from refcast.install.repository import edit

CONFIG_KEYS = r"$RC{GIT_CONFIG_KEYS} .= ' refcast\..*';"

_BEGIN = b"# refcast: `refcast uninstall --gitolite` takes this away again"
_UNENDED = b" (and this line's end before it)"
"""Behind _BEGIN, where the last line of the rc had no end."""
_BLOCK = re.compile(
    rb"(?P<end>\n?)" + re.escape(_BEGIN) + rb"(?P<unended>" + re.escape(_UNENDED) + rb")?\n(?P<lines>(?:\$RC.*\n)*)1;\n"
)
_LOCAL_CODE = b"$RC{LOCAL_CODE} = "


def local_code(directory: str) -> str:
    """The line that names the directory of local code, a name below the home directory."""
    return f'{_LOCAL_CODE.decode()}"$ENV{{HOME}}/{directory}";'


def add_lines(rc: Path, lines: list[str]) -> None:
    """Write lines at the end, beside those that were added before. Raises RepositoryError."""

    def change(text: bytes) -> bytes:
        before = _BLOCK.search(text)
        text = _without(text)
        all_of_them = (before["lines"].splitlines() if before else []) + [line.encode() for line in lines]
        unended = text != b"" and not text.endswith(b"\n")
        begin = (b"\n" + _BEGIN + _UNENDED) if unended else _BEGIN
        return b"".join([text, begin, b"\n", *(line + b"\n" for line in all_of_them), b"1;\n"])

    edit(rc, change)


def remove_lines(rc: Path, *, keep_local_code: bool = False) -> bool:
    """Take away what `add_lines` added; on demand all but the directory. Whether there was anything. Raises
    RepositoryError."""
    if not has_lines(rc):
        return False

    def change(text: bytes) -> bytes:
        before = _BLOCK.search(text)
        text = _without(text)
        if not before or not keep_local_code:
            return text
        end = b"" if text.endswith(b"\n") else b"\n"
        return text + end + b"".join(line + b"\n" for line in before["lines"].splitlines() if _LOCAL_CODE in line)

    edit(rc, change)
    return True


@contextlib.contextmanager
def undone_on_error(rc: Path) -> Iterator[None]:
    """Whatever happens to the text within, an error brings back what it was."""
    before = rc.read_bytes()
    try:
        yield
    except BaseException:
        edit(rc, lambda _: before)
        raise


def has_lines(rc: Path) -> bool:
    """Whether refcast's lines are there."""
    return _BLOCK.search(rc.read_bytes()) is not None


def _without(text: bytes) -> bytes:
    def instead(found: re.Match[bytes]) -> bytes:
        # What somebody has written behind it since must not join the line before.
        return b"" if found["unended"] and found.end() == len(text) else found["end"]

    return _BLOCK.sub(instead, text)
