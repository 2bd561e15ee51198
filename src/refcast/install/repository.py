"""A bare repository as git sees it: where its hooks are, and whether it takes push options.

Owns the running of git and the change of that one option. Knows nothing of hooks or of the state directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refcast.acting import identity
from refcast.errors import BadInput, RepositoryError
from refcast.history import guard

GIT_SECONDS = 30
"""git answers in milliseconds, unless somebody has put a pipe where it reads a file."""

CONFIG_BYTES = 1024 * 1024
"""Of a larger configuration git is asked."""

OPTION = "receive.advertisePushOptions"
OPTION_REMARK = b"# refcast: `refcast uninstall` takes this away again\n"
OPTION_LINES = (b"[receive]\n", b"\tadvertisePushOptions = true\n")
"""What the end of a repository's configuration gets: the last value counts, and those before it stay as they are."""
MADE_REMARK = b"# refcast made this file, and removes it again where nothing else is in it\n"


@dataclass(frozen=True, slots=True)
class Place:
    """A repository and the directory of hooks that git uses for it."""

    repository: Path
    """Resolved."""
    hooks: Path
    """Resolved; may not exist yet."""

    @property
    def shared(self) -> bool:
        return not self.hooks.is_relative_to(self.repository)


def find(root: Path) -> Iterator[Path]:
    """The bare repositories below a directory, sorted, links not followed. BadInput if there is no such directory."""
    if not root.is_dir():
        raise BadInput(f"{root} is not a directory")
    for directory, names, entries in os.walk(root):
        if "HEAD" in entries and "objects" in names and ("refs" in names or "packed-refs" in entries):
            names.clear()
            if Path(directory).name != ".git":
                yield Path(directory)
        names.sort()


def place(repository: Path) -> Place:
    """Where git looks for the hooks of a bare repository. Raises RepositoryError if it is not one."""
    try:
        resolved = repository.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # the latter for links in a circle
        raise RepositoryError(f"no repository {repository}: {getattr(error, 'strerror', error)}") from error
    if not resolved.is_dir():
        raise RepositoryError(f"{repository} is not a directory, so it is no bare repository")
    said = _git(resolved, "rev-parse", "--is-bare-repository", "--git-dir", "--git-path", "hooks")
    bare, directory, hooks = said.removesuffix("\n").split("\n", 2)
    if (bare, directory) != ("true", "."):
        raise RepositoryError(f"{repository} is not a bare repository; refcast installs into what people push to")
    object_format = _git(resolved, "rev-parse", "--show-object-format").strip()
    if object_format != "sha1":
        raise RepositoryError(f"{repository} is a {object_format} repository, which libgit2 cannot read yet")
    return Place(resolved, (resolved / hooks).resolve())


def configured_hooks() -> str:
    """The directory of hooks that git's own configuration, outside any repository, names; empty for none."""
    with contextlib.suppress(RepositoryError):
        return _git(Path("/"), "config", "--default=", "--get", "core.hooksPath").strip()
    return "?"


def git_version() -> str:
    """What `git --version` says, without the words before the number. Raises RepositoryError if there is no git."""
    return _git(Path("/"), "--version").strip().removeprefix("git version ")


def takes_push_options(repository: Path) -> bool:
    """Whether git takes `git push -o`, whoever pushes: by the configuration of the repository, or else of the machine.
    Raises RepositoryError."""
    # The usual case, for which no process is needed.
    config = guard.read(str(repository / "config"), CONFIG_BYTES) or b""
    lines = OPTION_REMARK + b"".join(OPTION_LINES)
    if config.endswith(lines) and b"include" not in config.lower():
        return True
    # What stands in the ~/.gitconfig of the present user counts for nobody else.
    return _option(repository, Path("/nonexistent")) == "true\n"


def advertise_push_options(repository: Path) -> None:
    """Have git take `git push -o`. Raises RepositoryError."""
    if not takes_push_options(repository):
        edit(repository / "config", _with_push_options)


def user_takes_push_options(home: Path, repository: Path = Path("/")) -> bool:
    """Whether git takes `git push -o` from the user who has this home; in all repositories, or in one."""
    return _option(repository, home) == "true\n"


def _option(directory: Path, home: Path) -> str:
    return _git(directory, "config", "--includes", "--type=bool", "--default=false", "--get", OPTION, home=home)


def advertise_push_options_of_user(home: Path) -> None:
    """Have git take `git push -o` in all repositories that are pushed to as the present user."""
    if user_takes_push_options(home):
        return
    config = home / ".gitconfig"
    try:
        with contextlib.suppress(FileExistsError), config.open("xb") as file:
            file.write(MADE_REMARK)
            os.fchmod(file.fileno(), 0o644)
    except OSError as error:
        raise RepositoryError(f"cannot make {config}: {error.strerror}; run this as its owner") from error
    edit(config, _with_push_options)


def restore_push_options_of_user(home: Path) -> None:
    """Take away what `advertise_push_options_of_user` added."""
    config = home / ".gitconfig"
    if config.exists():
        edit(config, _without_push_options)
        if config.read_bytes() == MADE_REMARK:
            config.unlink()


def restore_push_options(repository: Path) -> None:
    """Take away what `advertise_push_options` added. Raises RepositoryError."""
    edit(repository / "config", _without_push_options)


def _with_push_options(text: bytes) -> bytes:
    text = _without_push_options(text)
    end = b"" if text.endswith(b"\n") or not text else b"\n"
    return b"".join([text, end, OPTION_REMARK, *OPTION_LINES])


def _without_push_options(text: bytes) -> bytes:
    """Takes away what `_with_push_options` added, but not what somebody else has made of it since."""
    head, remark, tail = text.partition(OPTION_REMARK)
    section, option = OPTION_LINES
    if remark and tail.startswith(section + option):
        rest = tail.removeprefix(section + option)
        ends = not rest.strip() or rest.lstrip().startswith(b"[")
        tail = rest if ends else section + rest  # the section has got other options
    return head + tail


def edit(config: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a configuration file as git does, under its lock, and keep its mode and owner. Raises RepositoryError."""
    try:
        config = config.resolve(strict=True)
        if (text := config.read_bytes()) == change(text):
            return
        lock = config.with_name(config.name + ".lock")
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                info = config.stat()
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, info.st_uid, info.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(info.st_mode))
                file.write(change(config.read_bytes()))
                file.flush()
                os.fsync(descriptor)
            lock.replace(config)
        except BaseException:
            lock.unlink()
            raise
    except FileExistsError:
        raise RepositoryError(f"cannot change {config}: {lock} is there; wait for its program, or remove it") from None
    except OSError as error:
        raise RepositoryError(f"cannot change {config}: {error.strerror}; run this as its owner") from error


def _git(directory: Path, *words: str, home: Path | None = None) -> str:
    kept = ("GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")  # which count for whoever pushes here as well
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in kept}
    if home is not None:
        environment["HOME"] = str(home)
        environment.pop("XDG_CONFIG_HOME", None)
    try:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(directory), *words],
            capture_output=True,
            env=environment,
            check=False,
            timeout=GIT_SECONDS,
            **identity(),
        )
    except subprocess.TimeoutExpired:
        raise RepositoryError(
            f"git has not read {directory} within {GIT_SECONDS} s: look for a pipe in the place of one of its files"
        ) from None
    except FileNotFoundError as error:
        raise RepositoryError("there is no git here: install it (apt install git)") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RepositoryError(
            f"{directory} is not a repository that git can read: {said[-1] if said else 'git failed'}"
        )
    return os.fsdecode(done.stdout)
