"""The spool: what the hooks write, and how it is read. Standard library only.

The hooks are shell scripts, so this page is the format's definition and its reader; one golden file checks both. What
is in which directory is told by `boxes`, what a record can say by `parts`, whether its push still runs by `processes`.

A push writes one file, `spool/<uid>/<pid>-<start>.push`, named by the process id and the start time (field 22 of
/proc/<pid>/stat) of its receive-pack. The file is a sequence of fields, each ended by a NUL, `name=value`:

    refcast 1 intent                    by `update`, or else by `pre-receive`
    repository=/srv/git/site.git        the resolved path
    GL_USER=ann                         facts about the pusher, where the environment has them
    update=<old> <new> <ref>            again for each ref that `update` lets pass
    updates=<the hook's standard input, whole>    instead, by `pre-receive`
                                        an empty field: ends what a full disk may have cut off
    refcast 1 push                      the record, by post-receive
    id=<random uuid>
    repository=/srv/git/site.git
    option=ci.skip                      again for each push option
    updates=<the hook's standard input, whole>
    end                                 only behind a record that is whole

The file's owner is the pusher and its time of modification the time of the push: neither can be forged by another user.
A file that does not end with `end` is still being written while its receive-pack lives; after that its intents are
stale, and a record that it may hold is truncated.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from refcast.errors import RecordError
from refcast.spool.boxes import SUFFIX, closed, create, files, look, rightful, user_of
from refcast.spool.parts import Part, intent, record, split
from refcast.spool.processes import HIDDEN_SECONDS, is_alive, start_time

__all__ = [
    "END",
    "HEAD_BYTES",
    "HIDDEN_SECONDS",
    "MAX_BYTES",
    "STRANGER_BYTES",
    "SUFFIX",
    "Entry",
    "Part",
    "closed",
    "create",
    "files",
    "is_alive",
    "is_complete",
    "look",
    "read",
    "read_head",
    "read_intents",
    "remove",
    "rightful",
    "start_time",
]

END = b"\0end\0"
MAX_BYTES = 64 * 1024 * 1024
"""About half a million ref updates. A larger file is not read into memory."""

STRANGER_BYTES = 32 * 1024 * 1024
"""The same for who is not trusted as they are. A file names each ref twice, in the intent and in the record, so this is
a push of 100,000 refs with names of 75 bytes; what a larger one moved, a sweep finds."""

HEAD_BYTES = 16 * 1024
"""What `read_head` looks at: the first push of a file, and some of its refs."""

_LEAST_FIELD = 80
_MORE_FIELDS = 10_000
_MOST_PARTS = 1000
"""What bounds the work: each update that is a field of its own takes so many bytes at least, and there may be so many
facts and push options besides. Nor do so many pushes share a process id and a start time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the spool."""

    path: Path
    uid: int
    """The unix user who pushed."""
    time: datetime
    """When the file was last written; aware, UTC."""
    intents: tuple[Part, ...]
    records: tuple[Part, ...]
    """One record; more only if two pushes happened on one process id and start time, as in two containers."""
    complete: bool
    alive: bool
    """Whether the receive-pack that the file's name tells of still runs."""
    size: int = 0
    """Bytes."""
    torn: bool = False
    """What follows the intents cannot be read; only `read_intents` returns such an entry."""

    @property
    def stale(self) -> bool:
        """Whether it tells of a push that ended without a record: refused, or killed."""
        return bool(self.intents) and not (self.records or self.complete or self.alive)


def is_complete(path: Path) -> bool:
    """Whether the file ends with the mark of a whole record. Cheap: a push of 10,000 refs touches its file as often."""
    try:
        with open(_open(path), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(END)))
            return file.read() == END
    except (OSError, RecordError):
        return False


def read(path: Path, limit: int = MAX_BYTES) -> Entry:
    """One file of the spool, of no more than `limit` bytes.

    Raises FileNotFoundError if it is gone, RecordError (one line, with the reason) if it is not what a hook writes,
    or if its record was cut off and the push that wrote it is over."""
    entry, fault = _read(path, limit)
    if fault:
        raise fault
    return entry


def read_intents(path: Path, limit: int = MAX_BYTES) -> Entry:
    """The same, but of a file that is spoiled its intents, and no record.

    Raises RecordError only for what no hook can have written at all."""
    entry, fault = _read(path, limit)
    return replace(entry, records=(), complete=False, torn=True) if fault else entry


def read_head(path: Path) -> Entry:
    """How a file begins: its first push with the first of its updates as an intent, whatever stands behind them.

    Raises what `read` raises."""
    with open(_open(path), "rb") as file:
        info = os.fstat(file.fileno())
        data = file.read(HEAD_BYTES)
    if len(data) == HEAD_BYTES:
        # A list of updates is one field, and ends far behind.
        data = data[: max(data.rfind(b"\0"), data.rfind(b"\n")) + 1] + b"\0"
    for _, _, fields in split(path, data):
        part = intent(path, fields)
        time = _time(path, info.st_mtime_ns)
        return Entry(path, info.st_uid, time, (part,), (), complete=False, alive=False, size=info.st_size)
    raise RecordError(f"{path}: nothing in it is a record, or an intent of one")


def _read(path: Path, limit: int) -> tuple[Entry, RecordError | None]:
    """What can be read of a file, and what is wrong with the rest."""
    alive = is_alive(path)  # before reading: what is written afterwards is seen next time
    with open(_open(path), "rb") as file:
        info = os.fstat(file.fileno())
        if info.st_size > limit:
            raise RecordError(f"{path}: {info.st_size} bytes is more than a record may have ({limit})")
        if _has_hole(file.fileno(), info.st_size):
            raise RecordError(f"{path}: it has holes, which no hook leaves")
        data = file.read(limit)
    intents: list[Part] = []
    records: list[Part] = []
    fault = None
    try:
        if data.count(b"\0") > _MORE_FIELDS + len(data) // _LEAST_FIELD:
            raise RecordError(f"{path}: so many fields in so few bytes are not what a hook writes")
        for kind, ended, fields in split(path, data):
            if len(intents) + len(records) == _MOST_PARTS:
                raise RecordError(f"{path}: so many pushes in one file are not what a hook writes")
            if kind == "intent":
                # One that a full disk spoiled must not take the record behind it along.
                with contextlib.suppress(RecordError):
                    intents.append(intent(path, fields))
            elif ended:
                records.append(record(path, fields))
            elif not alive:
                raise RecordError(f"{path}: the record was cut off while it was written")
        if not (intents or records or alive):
            raise RecordError(f"{path}: nothing in it is a record, or an intent of one")
    except RecordError as error:
        fault = error
    entry = Entry(
        path=path,
        uid=info.st_uid,
        time=_time(path, info.st_mtime_ns),
        intents=tuple(intents),
        records=tuple(records),
        complete=data.endswith(END),
        alive=alive,
        size=len(data),
    )
    return entry, fault


def _has_hole(descriptor: int, size: int) -> bool:
    """Whether a file claims bytes that nobody wrote: they cost their owner nothing, and the reader its time."""
    try:
        return size > 0 and os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except OSError:  # a file system that knows no holes
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _open(path: Path) -> int:
    """A descriptor of a regular file with one name that belongs to the owner of its directory."""
    try:
        box = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:  # the user has put a link there
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    try:
        whole = os.fstat(box)
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=box)
    finally:
        os.close(box)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
            raise RecordError(f"{path}: not a regular file with a single name")
        if not info.st_uid == whole.st_uid == user_of(path.parent):
            raise RecordError(f"{path}: belongs to user {info.st_uid}, not to the user of its directory")
        mode = stat.S_IMODE(info.st_mode)
        if info.st_uid != os.geteuid() and (mode & 0o007 or info.st_gid != whole.st_gid):
            raise RecordError(f"{path}: group {info.st_gid} and mode {mode:o} are not those that a hook gives a file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _time(path: Path, nanoseconds: int) -> datetime:
    """The owner of a file can give it any time, on some file systems one that no calendar has."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        raise RecordError(f"{path}: its time of modification is not a time: {nanoseconds} ns") from None


def remove(path: Path) -> None:
    """Forget a file whose records are stored. It may be gone already."""
    path.unlink(missing_ok=True)
