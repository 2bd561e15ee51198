"""What was installed for the whole machine: the hooks of all repositories below some directories, and front ends."""

from __future__ import annotations

import pwd
from collections.abc import Iterator

from refcast import install, sites
from refcast.doctor.problem import Case, Problem, advice, command, told


def covered(case: Case) -> Iterator[Problem]:
    """The hooks for all repositories, and the lines that lead git to them."""
    for trouble in install.problems_for_all(case.state):
        yield told(case, trouble)


def front_ends(case: Case) -> Iterator[Problem]:
    """What the administrator has told of front ends and directories."""
    if sites.is_damaged(case.state):
        yield advice(
            f"{case.state / sites.FILE} cannot be understood: no front end is believed, and no directory covered",
            "remove it, then `refcast install --front-end USER` and `refcast install --system --all ROOT` once more",
        )
    for uid in sorted(sites.front_ends(case.state)):
        try:
            pwd.getpwuid(uid)
        except KeyError:
            what = f"the front end {uid} has no account here: whoever gets that number will be believed"
            yield command(what, case.refcast("uninstall", "--front-end", str(uid))).as_warning()
