"""A TOML file with a table `[endpoints.NAME]` for each endpoint: how it is read, and where in it an error is.

What the keys of such a table mean is said in `described`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from refcast.errors import BadInput

STDIN = "-"


class Document:
    """`endpoints` has the tables by the names of the endpoints; `directory` is what paths in them are relative to."""

    def __init__(self, name: str, text: str, directory: Path) -> None:
        """Raises BadInput, naming file and line, for what is no TOML and for what is beside the endpoints."""
        self.name = name
        self.directory = directory
        self._lines = text.splitlines(keepends=True)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{name} cannot be read: {error}") from None
        for key in table:
            if key != "endpoints":
                raise self.error((key,), "nothing stands beside endpoints: the settings have a file of their own")
        if not table:
            # What a command that has failed leaves behind must not be the end of all endpoints.
            raise BadInput(f"{name} is empty: for no endpoint at all it says [endpoints]")
        self.endpoints: dict[str, dict[str, Any]] = table["endpoints"]
        if not isinstance(self.endpoints, dict):
            raise self.error(("endpoints",), "write a table [endpoints.NAME] for each endpoint")
        for key, inner in self.endpoints.items():
            if not isinstance(inner, dict):
                raise self.error(("endpoints", key), f"write it as a table: [endpoints.{key}]")

    @classmethod
    def read(cls, file: str) -> Document:
        """The file of this name; `-` is standard input. Bytes that are no UTF-8 are kept as they are."""
        name = "standard input" if file == STDIN else file
        try:
            with click.open_file(file, "rb") as opened:
                content = opened.read()
        except OSError as error:
            raise BadInput(f"cannot read {name}: {error.strerror}") from error
        directory = Path.cwd() if file == STDIN else Path(file).absolute().parent
        return cls(name, content.decode("utf-8", "surrogateescape"), directory)

    def error(self, path: tuple[str, ...], message: str) -> BadInput:
        """An error at a key, with its line."""
        return BadInput(f"{self.name}, line {self._line(path)}: {'.'.join(path)}: {message}")

    def _line(self, path: tuple[str, ...]) -> int:
        """The line on which the statement begins that has this key.

        That is where the shortest part of the file ends that can be read and lacks it: no other reader of TOML is
        needed for that, and no quoting, nesting or value over several lines can deceive it."""
        without, within = 0, len(self._lines)
        while without + 1 < within:
            middle = (without + within) // 2
            end, table = self._readable(middle, within)
            if end < within and not _has(table, path):
                without = end
            else:
                within = middle
        # Between two parts that can be read there may be lines that can not: a value that has several.
        return without + 1

    def _readable(self, start: int, end: int) -> tuple[int, dict[str, Any]]:
        """The shortest part of at least `start` lines that can be read; `end` and nothing if that would be as long."""
        for count in range(start, end):
            try:
                return count, tomllib.loads("".join(self._lines[:count]))
            except tomllib.TOMLDecodeError:
                continue
        return end, {}


def _has(table: object, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
