"""The spool: its directories, what waits in it for a person, and what nobody has come to."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from refcast import spool
from refcast.doctor.problem import Case, Problem, advice, as_owner, command, shell
from refcast.errors import RecordError

STALE_SECONDS = 24 * 3600.0
"""A worker looks into what ended half-way within seconds; after a day none has."""


def boxes(case: Case) -> Iterator[Problem]:
    """The spool and the users' directories in it."""
    root = case.state / "spool"
    mine = root / str(os.geteuid())
    if not mine.is_dir() and not os.path.lexists(mine):
        # The spool's own mode comes last: whoever could make a directory in it could make this one.
        line = " && ".join(
            [shell("mkdir", "-p", mine), shell("chmod", "2770", mine), shell("chmod", "3733", root)],
        )
        yield command(f"there is no {mine}: pushes are not announced", line)
    if not root.is_dir():
        return
    groups = {os.getegid(), *os.getgroups()}
    for path in sorted(root.iterdir()):
        number = path.name.partition(".")[0]
        if not number.isdecimal():
            continue
        info = path.lstat()
        if not stat.S_ISDIR(info.st_mode) or str(info.st_uid) != number:
            # To rename it the spool's owner needs no right to what is in it.
            line = shell("mv", "-T", "--backup=numbered", path, root / f"squatted.{path.name}")
            yield command(f"{path} is not a directory of user {number}, in whose place it is", line)
            continue
        if info.st_uid != os.geteuid() and info.st_gid not in groups:
            line = as_owner(path, "chgrp", str(os.getegid()), path)
            yield command(f"what is in {path} is not announced: it has not the worker's group", line)
        if (mode := stat.S_IMODE(info.st_mode)) != 0o2770:
            closed = mode & 0o070 != 0o070 or mode & 0o700 != 0o700
            what = f"{path} has mode {mode:o}, not 2770" + (": what is in it is not announced" if closed else "")
            yield command(what, as_owner(path, "chmod", "2770", path))


def files(case: Case) -> Iterator[Problem]:
    """Modes of what pushes wrote, and what ended half-way and was left."""
    known = case.store.repositories.paths() if case.store else {}
    sweep: dict[str, int] = {}
    if not (case.state / "spool").is_dir():
        return
    for path in spool.files(case.state / "spool"):
        with contextlib.suppress(OSError, RecordError):
            info = path.lstat()
            mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISREG(info.st_mode) and (mode & 0o007 or mode & 0o440 != 0o440):
                yield command(f"{path} has mode {mode:o}, not 660", as_owner(path, "chmod", "660", path))
            if info.st_mtime > case.now - STALE_SECONDS or spool.is_complete(path):
                continue
            entry = spool.read_intents(path)
            if entry.torn or not entry.stale:
                continue
            for repository in {part.repository for part in entry.intents}:
                if repository in known:
                    sweep[repository] = sweep.get(repository, 0) + 1
                elif case.store:
                    what = f"{path} tells of a push that ended half-way in {repository}, which is not watched"
                    yield command(what, shell("rm", "--", path))
    for repository, number in sweep.items():
        what = f"{number} pushes to {repository} ended half-way more than a day ago, and no worker has looked into it"
        yield command(what, case.refcast("sweep", repository))


def asides(case: Case) -> Iterator[Problem]:
    """Records that are set aside."""
    for one in sorted(case.opened.intake.asides(), key=lambda one: one.since):
        path = Path(one.path)
        what = f"record set aside: {one.reason}"
        retry = case.refcast("record", "retry", path)
        if one.retry_at is not None:
            yield advice(what, "mend the cause: it is tried again every minute")
        elif path.is_dir():
            yield advice(what, f"look at who that is, and remove from {path} what is junk")
        elif not path.exists():
            yield command(f"{what}; its file is gone", retry)
        elif _is_readable(path):
            yield command(what, retry)
        else:
            # A sweep announces what that push has moved.
            line = " && ".join([shell("rm", "--", path), case.refcast("sweep")])
            yield command(f"{what}; if it cannot be mended, the refs themselves tell what has moved", line)


def _is_readable(path: Path) -> bool:
    try:
        spool.read(path)
    except (OSError, RecordError):
        return False
    return True
