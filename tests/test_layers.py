"""The house stands as the design draws it: arrows point down, and each library has one room."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "refcast"

FLOORS: list[set[str]] = [
    {"model", "errors", "__init__"},
    {"retry", "signing", "urls", "networks", "filters", "links", "people", "dialects"},
    {"acting", "settings", "spool", "history", "store", "transport", "notify", "repository_endpoints", "sites"},
    {"answers", "presence", "ingest", "deliver", "worker", "install", "service", "doctor"},
    {"cli", "demo", "__main__"},
]
"""From the words up to the entries. A room imports from floors below its own only; the process and
entry floors may also import within their floor (the worker runs ingest and deliver)."""

WITHIN = {3, 4}

LIBRARIES = {
    "pygit2": {"history"},
    "requests": {"transport"},
    "urllib3": {"transport"},
    "sqlalchemy": {"store"},
    "sqlite3": {"store"},
    "click": {"cli"},
    "inotify_simple": {"worker"},
    "subprocess": {"install", "service", "demo", "cli", "repository_endpoints"},
    "tomllib": {"settings", "cli"},
    "tomli_w": {"cli"},
    "pathspec": {"filters"},
}

PURE_MAY_NOT = {
    "os",
    "io",
    "pathlib",
    "socket",
    "time",
    "random",
    "secrets",
    "subprocess",
    "threading",
    "shutil",
    "logging",
}
"""What the two lowest floors have no business with: clock, chance and the outside are handed to them."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """The modules that a file imports, each with the names taken from it; relative ones made absolute."""
    package = ["refcast", *path.relative_to(SOURCE).parts[:-1]]
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.append((".".join([*base, *([node.module] if node.module else [])]), [a.name for a in node.names]))
    return found


def rooms_imported(path: Path) -> set[str]:
    rooms: set[str] = set()
    for module, names in imports(path):
        parts = module.split(".")
        if parts[0] != "refcast":
            continue
        if len(parts) > 1:
            rooms.add(parts[1])
        else:
            rooms |= {name if not name.startswith("__") else "__init__" for name in names}
    return rooms


FILES = sorted(path for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    here = floor_of(room)
    for other in rooms_imported(path) - {room}:
        there = floor_of(other)
        assert there < here or (there == here and here in WITHIN), f"{room} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_library_has_its_room(path: Path) -> None:
    room = room_of(path)
    for module, _ in imports(path):
        top = module.split(".")[0]
        if top == "refcast":
            continue
        if top in LIBRARIES:
            assert room in LIBRARIES[top], f"{room} must not import {top}"
        else:
            assert top in sys.stdlib_module_names, f"{top} is not in the list of libraries"
        if floor_of(room) <= 1:
            assert top not in PURE_MAY_NOT, f"{room} is pure and imports {top}"


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    rooms = {room_of(path) for path in FILES}
    assert rooms <= set().union(*FLOORS)
    assert len(set().union(*FLOORS)) == sum(map(len, FLOORS))


def test_every_module_says_what_it_owns() -> None:
    silent = [str(p.relative_to(SOURCE)) for p in FILES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


def test_spool_stays_on_the_standard_library() -> None:
    tops = {
        module.split(".")[0]
        for path in (SOURCE / "spool").iterdir()
        if path.suffix == ".py"
        for module, _ in imports(path)
    }
    assert tops <= set(sys.stdlib_module_names) | {"refcast"}
