"""gitolite 3: one installation for all of its repositories, those to come among them.

gitolite owns `update` and each repository's hooks directory: what lies in `LOCAL_CODE/hooks/common` it links into every
repository, and into each new one. So refcast's `pre-receive` and `post-receive` go there. Owns that
installation and its undoing; where things are is `site`'s to tell, the lines in gitolite's rc are `rc`'s, the hooks
themselves `hooks`'.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from refcast import settings
from refcast.acting import identity
from refcast.errors import BadInput, RepositoryError
from refcast.install import rc as rcs
from refcast.install.hooks import KEPT, Trouble, is_ours, keep, place_hook, take_away
from refcast.install.repository import (
    OPTION,
    advertise_push_options_of_user,
    find,
    restore_push_options_of_user,
    user_takes_push_options,
)
from refcast.install.site import (
    AGAIN,
    NAMES,
    SPECIFIC,
    Site,
    announces,
    environment_of,
    is_by_hand,
    known,
    look,
    problems,
    run_gitolite,
    site_of,
    target_of,
)

MADE = ".before-refcast"
"""In hooks/common, the directories that were made for it. gitolite links no file whose name begins with a dot."""


@dataclass(frozen=True, slots=True)
class Done:
    """What an installation did, and what it could not do."""

    site: Site
    what: str
    rc_lines: tuple[str, ...]
    """What was written into the rc."""
    repositories: tuple[Path, ...]
    explained: tuple[str, ...]
    """A line for each repository that does not run refcast's hooks, and what to do."""
    refused: tuple[RepositoryError, ...]


def install(state: Path, *, keep_rc: bool, enter: Callable[[Path, bool], None]) -> Done:
    """Install into the present user's gitolite. `enter` makes a repository known, and is told whether it is new.

    With `keep_rc` the rc is not changed: BadInput then says what it lacks. Nothing is changed before all is checked."""
    site = look()
    lines = _needed(site)
    if lines and keep_rc:
        raise BadInput(f"{site.rc} lacks what refcast needs; write at its end: {' '.join(lines)}")
    with rcs.undone_on_error(Path(site.rc)):
        if lines:
            rcs.add_lines(Path(site.rc), lines)
            site = site_of(Path(site.rc))
            if left := _needed(site):
                raise BadInput(f"{site.rc} takes no lines at its end (__END__?); write into it: {' '.join(left)}")
        _check(site)
    before = [is_ours(site.common / name) for name in NAMES]
    there = list(find(Path(site.repositories)))
    repositories, refused = [], []
    for repository in there:
        try:
            enter(repository, not announces(site, repository))
            repositories.append(repository)
        except RepositoryError as error:
            refused.append(error)
    _make(site.common)
    changed = [place_hook(site.common, name, state) for name in NAMES]
    if site.specific:
        changed += [_offer(site, name) for name in NAMES]
    for repository in there:
        for name in NAMES:
            if is_by_hand(site, repository, name):
                keep(repository / "hooks", name)
    advertise_push_options_of_user(site.home)
    (state / settings.GITOLITE).write_text(json.dumps(asdict(site), indent=2) + "\n")
    _propagate(site)
    return Done(
        site=site,
        what="is installed already" if not any(changed) else "upgraded" if any(before) else "installed",
        rc_lines=tuple(lines),
        repositories=tuple(repositories),
        explained=tuple(dict.fromkeys(trouble.line for one in repositories for trouble in problems(site, one, state))),
        refused=tuple(refused),
    )


def uninstall(state: Path) -> tuple[Site, bool]:
    """Bring back what was there before; no link to what is gone stays. Whether there was anything to remove."""
    site = look()
    if line := rcs.has_lines(Path(site.rc)) and _configured(site):
        raise BadInput(
            f"{line} is a line for refcast, and gitolite refuses it without refcast's line in {site.rc}: "
            "take it out, push gitolite-admin, then uninstall again"
        )
    removed = [take_away(site.common, name) for name in NAMES] if site.local_code else []
    if site.local_code:
        for name in NAMES:
            offered = Path(site.local_code) / "hooks" / "repo-specific" / SPECIFIC.format(name=name)
            if offered.is_symlink():
                offered.unlink()
        _remove_empty(site.common / KEPT)
        for repository in find(Path(site.repositories)):
            _free(site, repository)
        # Somebody else has begun to use the directory that was made for refcast.
        used = Path(site.local_code) in _unmake(site.common)
        removed.append(rcs.remove_lines(Path(site.rc), keep_local_code=used))
    restore_push_options_of_user(site.home)
    (state / settings.GITOLITE).unlink(missing_ok=True)
    return site, any(removed)


def changed_since(state: Path) -> list[Trouble]:
    """What the rc and the configuration of the hosting user say otherwise than when refcast was installed into it.
    Raises RepositoryError if gitolite cannot be asked."""
    then = known(state)
    if then is None:
        return []
    site = site_of(Path(then.rc))
    found = [
        f"{site.rc} lacks `{line}`: "
        + ("endpoints in gitolite.conf are refused" if line == rcs.CONFIG_KEYS else "new repositories are not covered")
        for line in _needed(site)
    ]
    if site.local_code and site.local_code != then.local_code:
        found.append(
            f"{site.rc} names {site.local_code} for LOCAL_CODE, and refcast's hooks are in {then.local_code}: "
            "new repositories are not covered"
        )
    if site.specific and not then.specific:
        found.append(f"{site.rc} has repo-specific-hooks now, and there are none of refcast's for it to name")
    if not user_takes_push_options(site.home):
        found.append(f"gitolite's repositories take no push options ({OPTION} in {site.home}/.gitconfig)")
    return [Trouble(what, refcast=AGAIN) for what in found]


def _needed(site: Site) -> list[str]:
    """The lines that the rc lacks."""
    # What is in ~/local already is not meant for gitolite, but where refcast has put its hooks there.
    own = site.home / "local" / "hooks" / "common"
    is_foreign = (site.home / "local").exists() and not any(is_ours(own / name) for name in NAMES)
    directory = "gitolite-local" if is_foreign else "local"
    lines = [] if site.local_code else [rcs.local_code(directory)]
    keys = run_gitolite(site.home, "query-rc", "GIT_CONFIG_KEYS", quiet=True).split()
    if not any(_matches(key, "refcast.ci.url") for key in keys):
        lines.append(rcs.CONFIG_KEYS)
    return lines


def _matches(pattern: str, key: str) -> bool:
    try:
        return re.fullmatch(pattern, key, re.IGNORECASE) is not None
    except re.error:  # Perl's patterns are not quite Python's
        return False


def _check(site: Site) -> None:
    """Raise unless the hooks can be placed and nobody's own hook is lost by it."""
    above = next(path for path in (site.common, *site.common.parents) if path.exists())
    for directory in (above, Path(site.repositories)):
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise RepositoryError(f"cannot install into {directory}: not writable; run this as its owner")
    for name in NAMES:
        hook = site.common / name
        if hook.is_relative_to(site.admin) and _is_tracked(site, hook):
            raise BadInput(
                f"{hook} is kept in the gitolite-admin repository, which would put it back; "
                f"rename it there to {name}.{KEPT}, push, then install again"
            )
        if not hook.exists() or (is_ours(hook) and not _has_kept(site.common, name)):
            continue
        for repository in find(Path(site.repositories)):
            if is_by_hand(site, repository, name):
                raise RepositoryError(
                    f"{repository / 'hooks' / name} was put there by hand, and gitolite is about to replace it "
                    f"by {hook}: move it away, or into {site.common.parent / 'repo-specific'}"
                )


def _is_tracked(site: Site, path: Path) -> bool:
    repository = Path(site.repositories) / "gitolite-admin.git"
    below = str(path.relative_to(site.admin))
    words = ("git", "-C", str(repository), "cat-file", "-e", f"HEAD:{below}")
    return (
        subprocess.run(words, capture_output=True, env=environment_of(site.home), check=False, **identity()).returncode
        == 0
    )


def _has_kept(hooks: Path, name: str) -> bool:
    return any(os.path.lexists(path) for path in (hooks / f"{name}.{KEPT}", hooks / KEPT / name))


def _make(common: Path) -> None:
    """Make hooks/common, and note which directories that took."""
    missing = [path for path in (common, *common.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o755)
        if missing:
            (common / MADE).write_bytes(b"".join(os.fsencode(path) + b"\n" for path in missing))
    except OSError as error:
        raise RepositoryError(f"cannot make {common}: {error.strerror}; run this as its owner") from error


def _unmake(common: Path) -> list[Path]:
    """Remove the directories that `_make` made; those that stay, because something else is in them."""
    note = common / MADE
    if not note.is_file():
        return []
    made = [Path(os.fsdecode(line)) for line in note.read_bytes().splitlines()]
    note.unlink()
    for path in made:
        _remove_empty(path)
    return [path for path in made if path.exists()]


def _remove_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def _offer(site: Site, name: str) -> bool:
    """Put refcast's hook where `option hook.…` can name it. Whether it was not there."""
    offered = Path(site.local_code) / "hooks" / "repo-specific" / SPECIFIC.format(name=name)
    if os.path.lexists(offered) or not offered.parent.is_dir():
        return False
    offered.symlink_to(f"../common/{name}")
    return True


def _free(site: Site, repository: Path) -> None:
    """Remove the links that lead to what is gone, and bring back what the repository had of its own."""
    hooks = repository / "hooks"
    for name in NAMES:
        # What was kept is linked into each repository as well, and so was a new hook for the moment of its making.
        ours = [hooks / name, hooks / f"{name}.{KEPT}", hooks / f"{name}.refcast-new", hooks / KEPT]
        ours += hooks.glob(f"{name}.[a-z][0-9][0-9]-{SPECIFIC.format(name=name)}")
        for link in ours:
            if target_of(link).startswith(f"{site.local_code}/hooks/") and not link.exists():
                link.unlink()
        take_away(hooks, name)
    _remove_empty(hooks / KEPT)


def _configured(site: Site) -> str:
    """Where gitolite.conf has a `config` line for refcast, as file and line; empty if nowhere."""
    for path in sorted((Path(site.admin) / "conf").rglob("*.conf")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if re.match(rb"\s*config\s+refcast\.", line, re.IGNORECASE):
                return f"{path}:{number}"
    return ""


def _propagate(site: Site) -> None:
    """Have gitolite link the hooks into all repositories."""
    run_gitolite(site.home, "setup", "--hooks-only")
    if site.specific:
        # That has replaced the hooks of `option hook.…`, until gitolite compiles its configuration again.
        run_gitolite(site.home, "trigger", "POST_COMPILE")
