"""gitolite's rc: lines come and go, and every other byte of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refcast.install import rc

LINES = [rc.local_code("local"), rc.CONFIG_KEYS]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".gitolite.rc"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.binary(max_size=50) | st.sampled_from([b"", b"\n", b"1;", b"1;\n", b"1;\r\n", b"%RC = (\n);\n\n\n"]))
def test_any_text_comes_back_to_the_byte(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    assert not rc.has_lines(file)
    rc.add_lines(file, LINES)
    assert rc.has_lines(file)
    assert file.read_bytes().startswith(text)
    assert file.read_bytes().endswith(b"1;\n")
    assert rc.remove_lines(file)
    assert file.read_bytes() == text
    assert not rc.remove_lines(file)


@pytest.mark.parametrize("text", [b"1;", b"1;\n"])
def test_one_line_after_the_other(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    for line in LINES:
        rc.add_lines(file, [line])
    content = file.read_text()
    assert [line for line in content.splitlines() if line.startswith("$RC")] == LINES
    assert content.count("# refcast") == 1
    rc.remove_lines(file)
    assert file.read_bytes() == text


def test_what_was_written_behind_them_stays_on_a_line_of_its_own(file: Path) -> None:
    file.write_bytes(b"1; # a remark")
    rc.add_lines(file, LINES)
    with file.open("a") as opened:
        opened.write("$RC{UMASK} = 0027;\n1;\n")
    rc.remove_lines(file)
    assert file.read_bytes() == b"1; # a remark\n$RC{UMASK} = 0027;\n1;\n"


def test_the_directory_can_be_kept(file: Path) -> None:
    file.write_bytes(b"1;\n")
    rc.add_lines(file, LINES)
    rc.remove_lines(file, keep_local_code=True)
    assert file.read_text() == f"1;\n{LINES[0]}\n"


def test_an_error_brings_back_what_it_was(file: Path) -> None:
    file.write_bytes(b"1;\n")
    with pytest.raises(ZeroDivisionError), rc.undone_on_error(file):
        rc.add_lines(file, LINES)
        raise ZeroDivisionError
    assert file.read_bytes() == b"1;\n"
