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
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from refcast.acting import identity
from refcast.errors import BadInput, RepositoryError
from refcast.install.hooks import INTENTS, KEPT, MARK, Trouble, is_ours, render
from refcast.install.receiving import is_receiving
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
        # Where it cannot be read git would not start.
        environment = {**os.environ, "GIT_EDITOR": "echo", "GIT_CONFIG_NOSYSTEM": "1"}
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
        notes = _is_hook(self.hooks / "pre-receive", "pre-receive") or (self.hooks / f"pre-receive.{KEPT}").exists()
        return "pre-receive" if notes else "update"

    def check(self, roots: Iterable[str]) -> None:
        """Raise unless these directories can be covered. Changes nothing."""
        for root in roots:
            if set(root) & set('*?[\\"\n'):
                raise BadInput(
                    f"{root!r} has a character that git's includeIf takes for a pattern: choose another root"
                )
        if self.config.exists() and not self.config.stat().st_mode & stat.S_IROTH:
            # git fails for them, or passes over it without a word, and so over the hooks.
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
        wanted = self._wanted(state, owner, intent)
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
        """Take all of it away again. Whether there was anything.

        While git receives a push, hooks stay that run each repository's own: without them it would be let in unseen."""
        leaving = self.directory / "leaving"
        roots = self.roots()
        if not roots and leaving.exists():  # it was begun already
            roots = tuple(os.fsdecode(leaving.read_bytes()).split("\0"))
        there = self.hooks.exists() or bool(roots)
        if self.config.exists():
            edit(self.config, _without_roots)
        try:
            if self.hooks.is_dir() and is_receiving(roots):
                forward = (self.hooks / "push-to-checkout").read_bytes()
                for name in (*INTENTS, "post-receive"):
                    _put(self.hooks / name, forward, 0o755)
                _put(leaving, os.fsencode("\0".join(roots)), 0o644)
                return there
            if self.config.exists() and self.config.read_bytes() == MADE_REMARK:
                self.config.unlink()
            if self.hooks.is_dir():
                for path in list(self.hooks.iterdir()):
                    if is_ours(path):
                        path.unlink()
                if not any(self.hooks.iterdir()):
                    self.hooks.rmdir()
            self.included.unlink(missing_ok=True)
            leaving.unlink(missing_ok=True)
            if self.directory.is_dir() and not any(self.directory.iterdir()):
                self.directory.rmdir()
        except OSError as error:
            raise RepositoryError(f"cannot remove {self.directory}: {error.strerror}; run this as root") from error
        return there

    def narrow(self, roots: Iterable[str]) -> None:
        """Cover no other directories than these any more."""
        kept = list(roots)
        edit(self.config, lambda text: _with_roots(text, kept, self.included))

    def problems(self, state: Path, owner: int, roots: Iterable[str]) -> Iterator[Trouble]:
        """What is wrong with what `install` has written for these directories."""
        there = [root for root in roots if Path(root).is_dir()]
        for root in sorted({*roots} - {*there}):
            what = f"{root}, below which all repositories are covered, is gone; put it back, or have it forgotten"
            yield Trouble(what, refcast=("uninstall", "--system", "--all", root), as_root=True)
        if not there:
            return
        for path in (self.config.parent, self.config, self.directory, self.hooks, self.included):
            wanted = 0o005 if path.is_dir() else 0o004
            if path.exists() and path.stat().st_mode & wanted != wanted:
                what = f"{path} cannot be read by everybody who pushes: git fails there, or passes over the hooks"
                yield Trouble(what, command=("chmod", "a+rX", str(path)), as_root=True)
                return  # what lies below it may be out of sight
        again = (*AGAIN, *(word for root in there for word in ("--all", root)))
        for root in there:
            if root not in self.roots():
                what = (
                    f"{self.config} has no lines of refcast's for {root}: pushes to what is below it are not announced"
                )
                yield Trouble(what, refcast=again, as_root=True)
        wrong = [self.included] if _content(self.included) != self._settings() else []
        hooks = {self.hooks / name: text for name, text in self._wanted(state, owner, self.intent()).items()}
        wrong += [path for path, text in hooks.items() if not _is_put(path, text, 0o755)]
        if wrong:
            these = f"{wrong[0]} and {len(wrong) - 1} more are" if len(wrong) > 1 else f"{wrong[0]} is"
            yield Trouble(f"{these} missing, changed or of another version", refcast=again, as_root=True)

    def _wanted(self, state: Path, owner: int, intent: str) -> dict[str, bytes]:
        """Name -> text of each hook."""
        forward = render(FORWARD, state, owner)
        wanted: dict[str, bytes] = dict.fromkeys(NAMES, forward)
        for name in (intent, "post-receive"):
            wanted[name] = render(name, state, owner)
            wanted[f"{name}.{KEPT}"] = forward
        return wanted

    def uncovered(self, roots: Iterable[Path], known: Container[str] = ()) -> Iterator[Trouble | RepositoryError]:
        """The bare repositories below some directories whose pushes do not run these hooks, and those that cannot; but
        for the known ones.

        What only counts for one pusher (core.hooksPath in a ~/.gitconfig) is seen of the present user alone."""
        for root in roots:
            for repository in find(root):
                if str(repository.resolve()) in known:
                    continue
                try:
                    hooks = place(repository).hooks
                except RepositoryError as error:
                    yield error
                    continue
                if hooks == repository.resolve() / "hooks" and not is_ours(hooks / "post-receive"):
                    what = f"{repository} is not covered: pushes to it are not announced"
                    yield Trouble(what, refcast=(*AGAIN, "--all", str(root)), as_root=True)
                elif trouble := self.elsewhere(repository, hooks):
                    yield trouble

    def elsewhere(self, repository: Path, hooks: Path) -> Trouble | None:
        """What is wrong where a repository takes its hooks from another directory than this one; None if nothing is."""
        if hooks == self.hooks.resolve() or is_ours(hooks / "post-receive"):
            return None
        own = shlex.join(["git", "-C", str(repository), "config", "--show-origin", "core.hooksPath"])
        what = f"{repository} takes its hooks from {hooks}, as `{own}` says: its pushes are not announced"
        if all(os.access(path, os.W_OK) for path in (repository, hooks if hooks.exists() else hooks.parent)):
            return Trouble(what, refcast=("install", "--shared", str(repository)))
        return Trouble(what, advice="whoever owns it must unset that (git config --unset core.hooksPath)")

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
    return any(_is_hook(hooks / name, FORWARD) for name in ("push-to-checkout", f"post-receive.{KEPT}", "pre-auto-gc"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_hook(path: Path, name: str) -> bool:
    return f"{MARK}{name},".encode() in _content(path)[:200]


def _is_put(path: Path, text: bytes, mode: int) -> bool:
    return path.is_file() and path.read_bytes() == text and path.stat().st_mode & 0o777 == mode


def _put(path: Path, text: bytes, mode: int) -> bool:
    """Make a file be this, with no moment in which it is not there. Whether it was not."""
    if _is_put(path, text, mode):
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
