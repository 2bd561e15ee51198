"""All repositories below some directories, tomorrow's too: one directory of hooks that git is told to use for them.

git's system-wide configuration gets an include for these directories, and what it includes sets core.hooksPath. That
replaces every hook of a repository, so the directory has one of each name that git knows, which runs the repository's
own; those in which refcast has a part do theirs besides. Owns these files and their removal. Ledger and state
directory are others' business.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from refcast.errors import BadInput, RepositoryError
from refcast.install.acting import identity
from refcast.install.hooks import KEPT, Trouble, is_ours, render
from refcast.install.repository import MADE_REMARK, OPTION, edit, find, place

NAMES = (
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "p4-prepare-changelist",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
)
"""Every hook that git knows (githooks(5))."""

FORWARD = "forward"
AGAIN = ("install", "--system")
"""The words of the command behind `refcast`."""

_BEGIN = b"# refcast: `refcast uninstall --system` takes these lines away again\n"
_BEGIN_CUT = b"\n# refcast: `refcast uninstall --system` takes these lines away again, and the end of the line before\n"
_END = b"# refcast: here they end\n"


class System:
    """What is installed, or is to be: by the path of the system-wide configuration."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.directory = config.parent / "refcast"
        self.hooks = self.directory / "hooks"
        self.included = self.directory / "gitconfig"

    @classmethod
    def look(cls) -> System:
        """Of this machine's git, or of the one that GIT_CONFIG_SYSTEM names."""
        environment = {**os.environ, "GIT_EDITOR": "echo"}
        words = ("git", "config", "--system", "--edit")
        try:
            done = subprocess.run(words, capture_output=True, env=environment, cwd="/", check=True, **identity())
        except FileNotFoundError as error:
            raise RepositoryError("there is no git here: install it (apt install git)") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip() or "git failed"
            raise RepositoryError(f"cannot tell where git's system-wide configuration is: {said}") from error
        return cls(Path(os.fsdecode(done.stdout).removesuffix("\n")))

    def roots(self) -> tuple[str, ...]:
        """The directories that are covered already."""
        if not self.config.exists():
            return ()
        return tuple(_roots_in(self.config.read_bytes()))

    def intent(self) -> str:
        """Which hook notes intents there, or is to."""
        return "pre-receive" if (self.hooks / f"pre-receive.{KEPT}").exists() else "update"

    def check(self, roots: Iterable[str]) -> None:
        """Raise unless these directories can be covered. Changes nothing."""
        for root in roots:
            if set(root) & set('*?[\\"\n'):
                raise BadInput(
                    f"{root!r} has a character that git's includeIf takes for a pattern: choose another root"
                )
        if self.config.exists() and not self.config.stat().st_mode & stat.S_IROTH:
            # git passes over it without a word, and so over the hooks.
            raise BadInput(f"{self.config} cannot be read by everybody who pushes: chmod a+r {self.config}")
        set_already = self._ask("--get", "core.hooksPath")
        if set_already:
            raise BadInput(
                f"{self.config} sets core.hooksPath to {set_already} already, for all repositories: install into "
                "that directory, by `refcast install --shared` of one of them"
            )

    def install(self, state: Path, owner: int, roots: Iterable[str], intent: str) -> bool:
        """Cover these directories, besides those that are already. Whether anything changed.

        `owner` is the user whom the state directory belongs to. Hooks stand before git is told of them."""
        forward = render(FORWARD, state, owner)
        wanted: dict[str, bytes] = dict.fromkeys(NAMES, forward)
        for name in (intent, "post-receive"):
            wanted[name] = render(name, state, owner)
            wanted[f"{name}.{KEPT}"] = forward
        try:
            for directory in (self.directory, self.hooks):
                directory.mkdir(exist_ok=True)
                directory.chmod(0o755)  # whatever the umask: those who push run what is in it
            changed = [_put(self.hooks / name, text, 0o755) for name, text in sorted(wanted.items())]
            for path in self.hooks.iterdir():
                if path.name not in wanted and is_ours(path):
                    path.unlink()
                    changed.append(True)
            changed.append(_put(self.included, self._settings(), 0o644))
            if not self.config.exists():
                _put(self.config, MADE_REMARK, 0o644)
        except OSError as error:
            raise RepositoryError(
                f"cannot install into {self.directory}: {error.strerror}; run this as root"
            ) from error
        before = self.config.read_bytes()
        covered = [*dict.fromkeys([*self.roots(), *roots])]
        edit(self.config, lambda text: _with_roots(text, covered, self.included))
        return any(changed) or self.config.read_bytes() != before

    def uninstall(self) -> bool:
        """Take all of it away again. Whether there was anything."""
        there = self.hooks.exists() or bool(self.roots())
        if self.config.exists():
            edit(self.config, _without_roots)
        try:
            if self.config.exists() and self.config.read_bytes() == MADE_REMARK:
                self.config.unlink()
            if self.hooks.is_dir():
                for path in list(self.hooks.iterdir()):
                    if is_ours(path):
                        path.unlink()
                if not any(self.hooks.iterdir()):
                    self.hooks.rmdir()
            self.included.unlink(missing_ok=True)
            if self.directory.is_dir() and not any(self.directory.iterdir()):
                self.directory.rmdir()
        except OSError as error:
            raise RepositoryError(f"cannot remove {self.directory}: {error.strerror}; run this as root") from error
        return there

    def uncovered(self, roots: Iterable[Path]) -> Iterator[Trouble | RepositoryError]:
        """The bare repositories below some directories whose pushes do not run these hooks, and those that cannot.

        What only counts for one pusher (core.hooksPath in a ~/.gitconfig) is seen of the present user alone."""
        for root in roots:
            for repository in find(root):
                try:
                    hooks = place(repository).hooks
                except RepositoryError as error:
                    yield error
                    continue
                if hooks == self.hooks.resolve() or is_ours(hooks / "post-receive"):
                    continue
                if hooks == repository.resolve() / "hooks":
                    what = f"{repository} is not covered: pushes to it are not announced"
                    yield Trouble(what, refcast=(*AGAIN, "--all", str(root)), as_root=True)
                else:
                    own = shlex.join(["git", "-C", str(repository), "config", "--show-origin", "core.hooksPath"])
                    what = f"{repository} takes its hooks from {hooks}, as `{own}` says: its pushes are not announced"
                    yield Trouble(what, refcast=("install", "--shared", str(repository)))

    def _settings(self) -> bytes:
        section, option = OPTION.split(".")
        path = os.fsencode(str(self.hooks)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'[core]\n\thooksPath = "%s"\n[%s]\n\t%s = true\n' % (path, section.encode(), option.encode())

    def _ask(self, *words: str) -> str:
        if not self.config.exists():
            return ""
        command = ["git", "config", "--file", str(self.config), "--includes", *words]
        return os.fsdecode(
            subprocess.run(command, capture_output=True, cwd="/", check=False, **identity()).stdout
        ).strip()


def covers(hooks: Path) -> bool:
    """Whether a directory of hooks is one that `install` has made, for all repositories."""
    return is_ours(hooks / "push-to-checkout") and is_ours(hooks / f"post-receive.{KEPT}")


def _put(path: Path, text: bytes, mode: int) -> bool:
    """Make a file be this, with no moment in which it is not there. Whether it was not."""
    if path.is_file() and path.read_bytes() == text and path.stat().st_mode & 0o777 == mode:
        return False
    new = path.with_name(f"{path.name}.refcast-new")
    new.unlink(missing_ok=True)
    new.write_bytes(text)
    new.chmod(mode)
    new.replace(path)
    return True


def _with_roots(text: bytes, roots: Iterable[str], included: Path) -> bytes:
    text = _without_roots(text)
    begin = _BEGIN if text.endswith(b"\n") or not text else _BEGIN_CUT
    path = os.fsencode(str(included)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    lines = [
        b'[includeIf "gitdir:%s"]\n\tpath = "%s"\n' % (os.fsencode(root.rstrip("/")) + b"/", path) for root in roots
    ]
    return b"".join([text, begin, *lines, _END])


def _without_roots(text: bytes) -> bytes:
    for begin in (_BEGIN_CUT, _BEGIN):
        head, found, tail = text.partition(begin)
        if found:
            _, end, rest = tail.partition(_END)
            return head + rest if end else text
    return text


def _roots_in(text: bytes) -> Iterator[str]:
    without = _without_roots(text)
    if without == text:
        return
    for line in text.partition(b"`refcast uninstall --system`")[2].partition(_END)[0].splitlines():
        if line.startswith(b'[includeIf "gitdir:'):
            root = os.fsdecode(line.removeprefix(b'[includeIf "gitdir:').removesuffix(b'"]'))
            yield root.rstrip("/") or "/"
