"""A gitolite as a whole: what its rc says now, its repositories that are not watched, and their push options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refcast import install
from refcast.doctor.problem import Case, Problem, advice, told
from refcast.errors import RepositoryError


def whole(case: Case) -> Iterator[Problem]:
    """Of each hook and link that pushes to watched repositories need, the check of the hooks tells."""
    site = install.site.known(case.state)
    if site is None:
        return
    for trouble in install.gitolite.changed_since(case.state):
        yield told(case, trouble)
    watched = case.opened.repositories.paths()
    for repository in install.find(Path(site.repositories)):
        # A new one, or a wild one, is watched from its first push on.
        for trouble in install.site.link_problems(site, repository) if str(repository) not in watched else ():
            yield told(case, trouble)
        if _refuses_options(site, repository):
            what = f"{repository} takes no push options, by its own configuration"
            yield advice(
                what, f"take that out of gitolite.conf, or where else {repository}/config has it from"
            ).as_warning()


def _refuses_options(site: install.site.Site, repository: Path) -> bool:
    try:
        if b"pushoptions" not in (repository / "config").read_bytes().lower():
            return False  # no process is needed for most
        return not install.site.takes_push_options(site, repository)
    except (OSError, RepositoryError):
        return False
