"""Repositories: the hooks of those that are watched, whether they can be read, and those that are not covered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from refcast import install, sites
from refcast.doctor import machine
from refcast.doctor.problem import Case, Problem, advice, as_owner, by_owner, command, shell, told
from refcast.errors import BadInput, RepositoryError
from refcast.history import History

MANY = 5
"""So many uncovered repositories below one directory are named singly; more are counted."""

PACKS = 1000
"""How many entries of `objects/` and `objects/pack` are looked at, in each repository."""


def hooks(case: Case) -> Iterator[Problem]:
    """Hooks that are missing, foreign, of another version or state directory, or bypassed by core.hooksPath."""
    watched = [Path(path) for path in case.opened.repositories.paths()]
    for repository, found in install.problems_of(watched, case.state).items():
        if isinstance(found, RepositoryError):
            if not os.path.lexists(repository):
                line = case.refcast("uninstall", repository)
                yield command(f"the repository {repository} is gone; put it back, or have it forgotten", line)
            else:
                yield advice(str(found), "mend the repository: until then its pushes are not announced")
            continue
        for trouble in found:
            yield told(case, trouble)


def _install(case: Case, repository: Path) -> str:
    return case.refcast(*install.again(install.place(repository)))


def chained(case: Case) -> Iterator[Problem]:
    """The hooks that were there before, which ours are to run."""
    for kept in install.unused(map(Path, case.opened.repositories.paths()), case.state):
        if kept.exists():
            what = f"{kept}, the hook that was there before, is not executable, so it is not run"
            yield command(what, as_owner(kept, "chmod", "+x", kept)).as_warning()
        else:
            what = f"{kept}, the hook that was there before, leads nowhere"
            yield command(what, as_owner(kept, "rm", "--", kept)).as_warning()


def options(case: Case) -> Iterator[Problem]:
    """`git push -o` is refused by git itself where the option is off."""
    covered, gitolite = sites.covered_roots(case.state), install.site.known(case.state)
    is_damaged = any(machine.covered(case))  # of which another check tells, once
    for path in map(Path, case.opened.repositories.paths()):
        if gitolite and gitolite.has(path):
            continue
        is_covered = any(path.is_relative_to(root) for root in covered)
        what = f"{path} takes no push options (receive.advertisePushOptions)"
        try:
            if not (is_covered and is_damaged) and not install.takes_push_options(path):
                own = is_covered and _is_set(path)
                unset = ("git", "config", "--file", path / "config", "--unset-all", "receive.advertisePushOptions")
                yield command(what, by_owner(path / "config", *unset) if own else _install(case, path)).as_warning()
        except RepositoryError:
            continue


def _is_set(repository: Path) -> bool:
    """Whether a repository's own configuration says something of push options."""
    return b"advertisepushoptions" in (repository / "config").read_bytes().lower()


def readable(case: Case) -> Iterator[Problem]:
    """The worker reads refs and objects. What it cannot read is announced late, or without its commits."""
    for path in case.opened.repositories.paths():
        repository = Path(path)
        if not repository.is_dir():
            continue
        closed = next(_closed(repository), None)
        if closed is not None:
            yield _opening(repository, closed)
            continue
        try:
            with History.open(path) as history:
                history.tips()
        except RepositoryError as error:
            yield advice(str(error), "mend the repository: until then its pushes are not announced")


def _closed(repository: Path) -> Iterator[Path]:
    """What the present user, who is the worker's, cannot read."""
    for name in ("", "HEAD", "config", "packed-refs", "refs", "objects", "objects/pack"):
        path = repository / name
        if os.path.lexists(path) and not _may_read(path):
            yield path
            return
    for folder in (repository / "objects", repository / "objects" / "pack"):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for _, entry in zip(range(PACKS), entries, strict=False):
                if not _may_read(Path(entry.path)):
                    yield Path(entry.path)


def _may_read(path: Path) -> bool:
    return os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0), effective_ids=True)


def _opening(repository: Path, closed: Path) -> Problem:
    info = repository.stat()
    what = f"{closed} cannot be read by user {os.geteuid()}, who runs the worker"
    if info.st_uid == os.geteuid():
        return command(what, shell("chmod", "-R", "u+rX", repository))
    if info.st_gid in {os.getegid(), *os.getgroups()}:
        return command(what, as_owner(repository, "chmod", "-R", "g+rX", repository))
    group = f"make that user a member of group {info.st_gid}, and have the repository readable for the group"
    return advice(what, f"{group} (git config core.sharedRepository group); then restart the worker")


def sweeps(case: Case) -> Iterator[Problem]:
    """Repositories that the last sweep could not compare with what is announced."""
    for one in case.opened.repositories.sweepable():
        if one.watched and one.found and one.found.error and os.path.lexists(one.path):
            yield command(f"{one.path} could not be swept: {one.found.error}", case.refcast("sweep", one.path))


def uncovered(case: Case) -> Iterator[Problem]:
    """Bare repositories below the known directories of which no push is announced."""
    watched, gitolite = case.opened.repositories.paths(), install.site.known(case.state)
    covered = [root for root in map(Path, sites.covered_roots(case.state)) if root.is_dir()]
    # Where what covers them is damaged, that is told once.
    for found in install.uncovered(covered, watched) if covered and not any(machine.covered(case)) else ():
        if isinstance(found, RepositoryError):
            yield advice(str(found), "pushes to it cannot be announced").as_warning()
        else:
            yield told(case, found).as_warning()
    roots = [*map(Path, case.settings.roots), *case.roots]
    for root in dict.fromkeys(Path(os.path.realpath(root)) for root in roots):
        try:
            left = [path for path in install.find(root) if str(path.resolve()) not in watched]
        except BadInput as error:
            yield advice(f"roots: {error}", "make it, or mend `roots` in refcast.toml")
            continue
        can = []
        for path in left:
            if any(path.resolve().is_relative_to(one) for one in covered):
                continue
            if gitolite and gitolite.has(path.resolve()):  # another check looks at those
                continue
            try:
                can.append(install.place(path).repository)
            except RepositoryError as error:
                yield advice(str(error), "pushes to it cannot be announced").as_warning()
        if len(can) > MANY:
            what = f"{len(can)} repositories below {root} are not covered: pushes to them are not announced"
            yield command(what, case.refcast("install", *can)).as_warning()
            continue
        for repository in can:
            what = f"{repository} is not covered: pushes to it are not announced"
            yield command(what, _install(case, repository)).as_warning()
