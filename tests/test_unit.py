"""The text of the unit: each line has its reason in the page, and any path and user can be said in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from refcast.errors import BadInput
from refcast.service import Unit
from servers import need

DOCS = Path(__file__).parents[1] / "docs"
PLAIN = Unit(Path("/var/lib/refcast"), Path("/opt/refcast/venv/bin/python"), "git")


def lines(text: str) -> set[str]:
    """What a unit sets, without what depends on the place."""
    wanted = [
        line for line in text.splitlines() if "=" in line and not line.startswith(("#", "Description", "WantedBy"))
    ]
    return {re.sub(r"^(ExecStart|User|ReadWritePaths|RequiresMountsFor)=.*", r"\1=", line) for line in wanted}


def test_each_line_has_a_reason_in_the_page_and_each_reason_a_line() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \|", (DOCS / "service.md").read_text(), re.MULTILINE)
    assert {line for row in rows for line in re.findall(r"`([^`]+)`", row)} == lines(PLAIN.text())


def test_the_unit_of_ones_own_account_has_no_more() -> None:
    own = Unit(PLAIN.state, PLAIN.program)
    assert lines(own.text()) < lines(PLAIN.text())
    assert "User=" not in own.text()
    assert own.text().endswith("WantedBy=default.target\n")


def test_nothing_hides_what_the_worker_has_to_see() -> None:
    for forbidden in (
        "ProtectProc",
        "ProcSubset",
        "PrivateUsers",
        "ProtectHome=yes",
        "ProtectHome=tmpfs",
        "Inaccessible",
    ):
        assert forbidden not in PLAIN.text()


def test_a_state_directory_in_a_temporary_place_stays_in_sight() -> None:
    assert "PrivateTmp" in PLAIN.text()
    assert "PrivateTmp" not in Unit(Path("/var/tmp/state"), PLAIN.program, "git").text()


@pytest.mark.parametrize(
    "name", ["with space", 'quo"te', "back\\slash", "100%", "do$HOME", "ümlaut", "semi;colon", "it's"]
)
def test_systemd_reads_any_path(tmp_path: Path, name: str) -> None:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    state = tmp_path / name
    state.mkdir()
    unit = tmp_path / "refcast.service"
    made = Unit(state, Path("/bin/sh"), "root")
    unit.write_text(made.text())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "refcast.service" in line] == []
    assert done.returncode == 0
    assert made.is_for(unit.read_text())
    assert not Unit(tmp_path, Path("/bin/sh"), "root").is_for(unit.read_text())


def test_a_line_break_cannot_be_said() -> None:
    with pytest.raises(BadInput, match="line break"):
        Unit(Path("/srv/a\nUser=root"), PLAIN.program, "git").text()
