"""A gitolite as its rc and its repositories tell of it: where things are, and which hooks it runs where.

Owns the asking of gitolite itself and the reading of the links that it makes. Changes nothing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refcast import settings
from refcast.acting import identity
from refcast.errors import BadInput, RepositoryError
from refcast.install.hooks import Trouble, hook_problems, is_ours, kept_hook
from refcast.install.repository import user_takes_push_options

NAMES = ("pre-receive", "post-receive")
AGAIN = ("install", "--gitolite")
"""The words of the command behind `refcast`."""
SPECIFIC = "refcast-{name}"
"""In hooks/repo-specific: what `option hook.post-receive` can name."""


@dataclass(frozen=True, slots=True)
class Site:
    """One gitolite, by the paths that its rc names."""

    rc: str
    repositories: str
    """Resolved."""
    admin: str
    local_code: str
    """As gitolite writes it into links; empty if the rc has none."""
    specific: bool = False
    """Whether the feature repo-specific-hooks is on."""

    @property
    def home(self) -> Path:
        return Path(self.rc).parent

    @property
    def common(self) -> Path:
        return Path(self.local_code) / "hooks" / "common"

    def has(self, repository: Path) -> bool:
        return repository.is_relative_to(self.repositories)

    def name(self, repository: Path) -> str:
        """As gitolite.conf has it."""
        return str(repository.relative_to(self.repositories)).removesuffix(".git")


def known(state: Path) -> Site | None:
    """The gitolite that this state directory was installed into."""
    facts = settings.gitolite(state)
    return Site(**facts) if facts else None


def removed(repository: Path, state: Path) -> bool:
    """Whether a repository is gone that was gitolite's: its users remove their wild ones, and nobody need look."""
    site = known(state)
    return site is not None and site.has(repository) and not repository.exists()


def takes_push_options(site: Site, repository: Path) -> bool:
    """Whether git takes `git push -o` there, from the hosting user, who runs it. Raises RepositoryError."""
    return user_takes_push_options(site.home, repository)


def owns(repository: Path) -> bool:
    """Whether a gitolite looks after a repository."""
    return target_of(repository / "hooks" / "update").endswith("/hooks/common/update")


def look() -> Site:
    """The present user's gitolite. BadInput if there is none."""
    account = pwd.getpwuid(os.geteuid())
    homes = dict.fromkeys(path for path in (os.environ.get("HOME"), account.pw_dir) if path)
    rc = next((rc for home in homes if os.access(rc := Path(home) / ".gitolite.rc", os.R_OK)), None)
    if rc is None:
        raise BadInput(
            f"user {account.pw_name} hosts no gitolite: there is no {account.pw_dir}/.gitolite.rc; "
            "run this as the user who does (on Debian mostly gitolite3 or git), after `gitolite setup`"
        )
    if (owner := rc.stat().st_uid) != os.geteuid():
        raise BadInput(f"{rc} belongs to user {owner}: run this as that user (sudo -u '#{owner}')")
    return site_of(rc)


def problems(site: Site, repository: Path, state: Path) -> list[Trouble]:
    """What is wrong with the hooks that gitolite runs in a repository; empty if all is well."""
    return [*common_problems(site, state), *link_problems(site, repository)]


def common_problems(site: Site, state: Path) -> list[Trouble]:
    """What is wrong with the hooks that gitolite links into every repository."""
    return [trouble for name in NAMES for trouble in hook_problems(site.common / name, state, AGAIN)]


def link_problems(site: Site, repository: Path) -> list[Trouble]:
    """What a repository has in the place of gitolite's links to them. No process is started for it."""
    found = []
    for name in NAMES:
        hook = repository / "hooks" / name
        if runs_common(site, repository, name) or runs_specific(hook):
            continue
        if is_driver(hook):
            found.append(_replaced(site, repository, name))
            continue
        what = f"{hook} is not gitolite's link to {site.common / name}"
        if is_by_hand(site, repository, name) and (kept_hook(hook.parent, name) or kept_hook(site.common, name)):
            away = f"move it away, or into {site.common.parent / 'repo-specific'}"
            found.append(Trouble(what, advice=f"{away}: another is kept already; then `refcast {' '.join(AGAIN)}`"))
        else:
            # That runs `gitolite setup --hooks-only`, which alone would lose a hook that somebody has put there, and
            # those of `option hook.…`.
            found.append(Trouble(what, refcast=AGAIN))
    return found


def _replaced(site: Site, repository: Path, name: str) -> Trouble:
    offered = SPECIFIC.format(name=name)
    follows = "pushes there are not announced" if name == "post-receive" else "a push killed half-way is found late"
    made = "" if site.specific else f" (`refcast {' '.join(AGAIN)}` makes {offered})"
    return Trouble(
        f"{site.name(repository)}: `option hook.{name}` in gitolite.conf replaces refcast's hook, so {follows}",
        advice=f"put {offered} first into that option's list and push gitolite-admin{made}",
    )


def site_of(rc: Path) -> Site:
    def ask(name: str) -> str:
        return run_gitolite(rc.parent, "query-rc", name, quiet=True).removesuffix("\n")

    return Site(
        rc=str(rc),
        repositories=os.path.realpath(ask("GL_REPO_BASE")),
        admin=ask("GL_ADMIN_BASE"),
        local_code=ask("LOCAL_CODE").rstrip("/"),
        specific="repo-specific-hooks" in ask("POST_COMPILE").split(),
    )


def target_of(hook: Path) -> str:
    """What a link says; empty for anything else."""
    return str(hook.readlink()) if hook.is_symlink() else ""


def runs_common(site: Site, repository: Path, name: str) -> bool:
    return target_of(repository / "hooks" / name) == f"{site.local_code}/hooks/common/{name}"


def announces(site: Site, repository: Path) -> bool:
    """Whether pushes to a repository are announced already."""
    hook = repository / "hooks" / "post-receive"
    return is_ours(site.common / hook.name) and (runs_common(site, repository, hook.name) or runs_specific(hook))


def is_driver(hook: Path) -> bool:
    """Whether the hook is gitolite's, for `option hook.…`: it runs all that is called like it with more behind."""
    return bool(target_of(hook)) and any(hook.parent.glob(f"{hook.name}.[a-z][0-9][0-9]-*"))


def runs_specific(hook: Path) -> bool:
    """Whether refcast's hook is among those that gitolite's driver runs."""
    return any(each.exists() and is_ours(each.resolve()) for each in hook.parent.glob(f"{hook.name}.[a-z][0-9][0-9]-*"))


def is_by_hand(site: Site, repository: Path, name: str) -> bool:
    """Whether a repository has a hook of its own that gitolite knows nothing of, and would replace."""
    hook = repository / "hooks" / name
    if not hook.exists() or is_ours(hook.resolve()):  # gitolite's link, perhaps of before LOCAL_CODE was changed
        return False
    return not target_of(hook).startswith(f"{site.local_code}/hooks/") and not is_driver(hook)


def run_gitolite(home: Path, *words: str, quiet: bool = False) -> str:
    environment = environment_of(home)
    command = shutil.which("gitolite", path=environment["PATH"])
    if command is None:
        raise BadInput(f"there is no command gitolite in PATH nor in {home}/bin: add its directory to PATH")
    done = subprocess.run([command, *words], capture_output=True, env=environment, cwd=home, check=False, **identity())
    # `query-rc` of a variable that is not set ends with 1 and says nothing.
    if done.returncode and not (quiet and not done.stderr):
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise RepositoryError(f"`gitolite {' '.join(words)}` failed: {said[-1] if said else done.returncode}")
    return os.fsdecode(done.stdout)


def environment_of(home: Path) -> dict[str, str]:
    """That which sshd gives to gitolite, near enough."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "GL_"))}
    path = f"{kept.get('PATH') or os.defpath}:{home}/bin"
    return kept | {"HOME": str(home), "PATH": path, "USER": pwd.getpwuid(os.geteuid()).pw_name}
