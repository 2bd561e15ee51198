"""What runs: the worker, and the versions of this program and of what it stands on."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import refcast
from refcast import history, install, presence, spool
from refcast.doctor import service
from refcast.doctor.problem import Case, Problem, advice, command, shell
from refcast.errors import RepositoryError, StateError
from refcast.service import installed
from refcast.store import health

MINIMUM = {
    # `rev-parse --show-object-format`
    "git": (2, 25),
    # `tomllib`, `datetime.UTC`
    "Python": (3, 11),
    # `settings.owner_validation`, `enums`
    "pygit2": (1, 15),
    "libgit2": (1, 8),
    # `INSERT … RETURNING`
    "SQLite": (3, 35),
}
"""What refcast needs, and for what."""


def versions(case: Case) -> Iterator[Problem]:  # noqa: ARG001 (a check takes the case)
    found = {"Python": sys.version, "SQLite": health.SQLITE, **history.libraries()}
    try:
        found["git"] = install.git_version()
    except RepositoryError as error:
        yield advice(str(error), "install git, for the worker's user and for those who push")
    for name, version in found.items():
        least = MINIMUM[name]
        numbers = tuple(int(number) for number in re.findall(r"[0-9]+", version)[: len(least)])
        if numbers < least:
            wanted = ".".join(map(str, least))
            yield advice(
                f"{name} is of version {version.split()[0]}; refcast needs {wanted} or later",
                f"install a newer {name}"
                if name == "git"
                else "install refcast anew with a newer Python, by ./install.sh",
            )


def running(case: Case) -> Iterator[Problem]:
    """The worker that runs, or should."""
    pid = presence.running(case.state)
    version = presence.version(case.state)
    if pid is not None:
        if version != refcast.__version__:
            what = f"the worker that runs is of version {version or '?'}, this is {refcast.__version__}"
            yield command(what, service.restart(case, pid))
        if not _can_read_the_spool(pid, case.state / "spool"):
            what = "the worker that runs was started before it was in the group of the spool: it cannot read that"
            yield command(what, service.restart(case, pid))
        return
    path = case.state / presence.PID_FILE
    if path.exists():
        yield command(f"{path} tells of a worker that is gone: it was killed", shell("rm", "--", path))
    if case.store is None or any(installed(case.state)):  # of a service that does not run another check tells
        return
    resting = {one.path for one in case.store.intake.asides()}
    records = list[Path]()
    with contextlib.suppress(StateError):  # without a spool there is nothing in it
        records = [path for path in spool.files(case.state / "spool") if spool.is_complete(path)]
    if case.store.lanes.is_pending() or any(str(path) not in resting for path in records):
        yield command(
            "deliveries wait and no worker runs; after a reboot only a service, or a push, starts one",
            case.refcast("worker", "--background"),
        )


def _can_read_the_spool(pid: int, root: Path) -> bool:
    """Whether a process is in the group through which it reads what others push."""
    try:
        info = root.stat()
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        uid, groups = int(lines["Uid"].split()[1]), {int(lines["Gid"].split()[1]), *map(int, lines["Groups"].split())}
    except (OSError, ValueError, KeyError):
        return True
    return uid == 0 or not info.st_mode & 0o001 or info.st_gid in groups
