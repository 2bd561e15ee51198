"""The spool: its directories, what waits in it for a person, and what nobody has come to."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from refcast import install, spool
from refcast.doctor.directory import CLOSED, others_push
from refcast.doctor.problem import Case, Problem, advice, as_owner, command, shell, told
from refcast.errors import RecordError
from refcast.ingest.trust import is_doubt
from refcast.spool import boxes

STALE_SECONDS = 24 * 3600.0
"""A worker looks into what ended half-way within seconds; after a day none has."""


def directories(case: Case) -> Iterator[Problem]:
    """The spool and the users' directories in it."""
    root = case.state / "spool"
    mine = root / str(os.geteuid())
    if not mine.is_dir() and not os.path.lexists(mine):
        yield command(f"there is no {mine}: pushes are not announced", case.refcast("upgrade"))
    if not root.is_dir():
        return
    whole = root.stat()
    for path, info in boxes.squatters(root):
        if stat.S_ISDIR(info.st_mode) and path.name == str(info.st_uid) and info.st_gid != whole.st_gid:
            continue  # told below, with the group that it should have
        user = boxes.user_of(path)
        what = f"{path} was made by user {info.st_uid} or has mode {stat.S_IMODE(info.st_mode):o}, so that in it "
        what += f"pushes by user {user} are not announced; a worker clears the place"
        yield command(what, case.refcast("worker", "--background"))
    for path in sorted(boxes.rightful(root)):
        if (mode := stat.S_IMODE(path.lstat().st_mode)) != boxes.MODE:
            closed = mode & 0o070 != 0o070 or mode & 0o700 != 0o700
            what = f"{path} has mode {mode:o}, not 2770" + (": what is in it is not announced" if closed else "")
            yield command(what, as_owner(path, "chmod", "2770", path))
    # A spool that is closed to others is all right where nobody else pushes.
    if stat.S_IMODE(root.stat().st_mode) & 0o777 != CLOSED or others_push(case):
        for trouble in install.group.problems(case.state):
            yield told(case, trouble)


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
        # A sweep announces what that push has moved.
        instead = " && ".join([shell("rm", "--", path), case.refcast("sweep")])
        entry = _read(path)
        if is_doubt(one.reason) and path.exists():
            what += f"; if you believe it, mend that, then `{retry}`; if not, the refs themselves tell what has moved"
            yield command(what, instead)
        elif entry and all(install.removed(Path(part.repository), case.state) for part in entry.records):
            yield command(f"{what}; gitolite's users have removed it, and nothing is left to be announced", instead)
        elif one.retry_at is not None:
            yield advice(what, "mend the cause: it is tried again every minute")
        elif path.is_dir():
            yield advice(what, f"look at who that is, and remove from {path} what is junk")
        elif not path.exists():
            yield command(f"{what}; its file is gone", retry)
        elif entry:
            yield command(what, retry)
        else:
            yield command(f"{what}; if it cannot be mended, the refs themselves tell what has moved", instead)


def _read(path: Path) -> spool.Entry | None:
    with contextlib.suppress(OSError, RecordError):
        return spool.read(path)
    return None
