"""What is wrong with an installation, and what mends it. Changes nothing, and sends nothing to an endpoint.

`CHECKS` is all that is looked at, in the order in which it is told: first what spoils the rest. A check is a function
of the case that yields problems; `problem` has the words. The checks that neither need time nor the network are also
what `refcast status` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from refcast import settings
from refcast.doctor import directory, endpoints, gitolite, machine, programs, repositories, service, spooled
from refcast.doctor.problem import Case, Problem, advice
from refcast.errors import BadInput, RefcastError
from refcast.model import Request
from refcast.store import Store
from refcast.transport import Probe

__all__ = ["CHECKS", "Case", "Check", "Problem", "examine", "run"]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    find: Callable[[Case], Iterator[Problem]]
    store: bool = True
    """It is left out where the store cannot be used."""
    status: bool = False
    """`refcast status` tells of it, too."""
    endpoint: bool = False
    """It looks at endpoints one by one."""


CHECKS: tuple[Check, ...] = (
    Check("settings", directory.settings_file, store=False, status=True),
    Check("modes", directory.modes, store=False),
    Check("parents", directory.parents, store=False),
    Check("store", directory.store_file, store=False),
    Check("disk", directory.disk, store=False, status=True),
    Check("clock", directory.clock, store=False, status=True),
    Check("spool", spooled.directories, store=False, status=True),
    Check("records", spooled.files, store=False),
    Check("set aside", spooled.asides, status=True),
    Check("covered", machine.covered, store=False, status=True),
    Check("versions", programs.versions, store=False),
    Check("worker", programs.running, store=False, status=True),
    Check("service", service.units, store=False, status=True),
    Check("front ends", machine.front_ends, store=False, status=True),
    Check("gitolite", gitolite.whole),
    Check("hooks", repositories.hooks, status=True),
    Check("earlier hooks", repositories.chained),
    Check("push options", repositories.options),
    Check("reading", repositories.readable),
    Check("sweeps", repositories.sweeps, status=True),
    Check("uncovered", repositories.uncovered),
    Check("endpoints", endpoints.some),
    Check("deliveries", endpoints.backlog, status=True, endpoint=True),
    Check("secrets", endpoints.secrets, endpoint=True),
    Check("certificates", endpoints.files, endpoint=True),
    Check("reached", endpoints.reached, endpoint=True),
)


def examine(
    state: Path,
    program: tuple[str, ...],
    now: float,
    *,
    probe: Callable[[Request], Probe] | None = None,
    names: Sequence[str] = (),
    roots: tuple[Path, ...] = (),
) -> tuple[list[Problem], int]:
    """The problems of a state directory, and how many checks were made. With `names` of endpoints, of these alone.

    BadInput if there is no such endpoint, or if they cannot be looked up."""
    with ExitStack() as stack:
        case = Case(state, program, now, health=directory.look(state), roots=roots, probe=probe)
        with suppress(BadInput):  # the check of the settings tells of it
            case = replace(case, settings=settings.load(state))
        if directory.usable(state, case.health):
            store = stack.enter_context(Store.open(state))
            case = replace(case, store=store, endpoints=tuple(store.endpoints.all()))
        elif names:
            raise BadInput(
                f"the endpoints cannot be looked up, for the store in {state} cannot be used: run refcast doctor"
            )
        if names:
            case = replace(case, endpoints=tuple(case.opened.endpoints.get(name) for name in names))
        checks = [check for check in CHECKS if check.endpoint or not names]
        return run(case, checks)


def run(case: Case, checks: Iterable[Check]) -> tuple[list[Problem], int]:
    """What these checks find, and how many were made."""
    found, number = list[Problem](), 0
    for check in checks:
        if check.store and case.store is None:
            continue
        number += 1
        try:
            for problem in check.find(case):
                found.append(replace(problem, check=check.name))
        except (RefcastError, OSError) as error:
            # One that fails must not hide what the others find.
            problem = advice(f"{check.name}: this cannot be looked at: {error}", "mend that, and look again")
            found.append(replace(problem, check=check.name))
    return found, number
