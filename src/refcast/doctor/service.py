"""The worker as a service of systemd: whether the unit is as this program writes it, enabled, and what runs.

All of it is read from files and /proc, so the owner of the state directory sees root's unit, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from refcast import presence, service
from refcast.doctor.problem import Case, Problem, by_root, command, shell


def units(case: Case) -> Iterator[Problem]:
    pid = presence.running(case.state)
    for manager, unit, name in service.installed(case.state):
        is_root_s = manager == service.Manager.of_root()
        systemctl = by_root if is_root_s else shell
        file = manager.directory / f"{name}.service"
        if (text := manager.text(name)) != unit.text():
            what = f"{file} is of another version, or was changed"
            if (program := unit.program_in(text)) and not os.path.lexists(program):
                what = f"{file} is for a program that is gone, {program}"
            yield command(what, (case.sudo if is_root_s else case.refcast)("service", "install", "--name", name))
            continue  # that starts and enables it as well
        if not manager.is_enabled(name):
            what = f"the service {name} is not enabled: after a reboot it is not started"
            yield command(what, systemctl(*manager.command, "enable", name))
        if pid is None or not manager.runs(name, pid):
            instead = "no worker runs" if pid is None else "another worker runs in its place"
            if pid is not None and service.is_on_demand(pid):
                instead = "a worker that a push has started has its place"
            log = f"journalctl {'--user ' if '--user' in manager.command else ''}-u {name}"
            what = f"the service {name} does not run, and {instead}; `{log}` may say why"
            line = systemctl(*manager.command, "restart", name)
            if pid is not None and not service.is_on_demand(pid):
                # It takes a while to end: systemd tries again until then.
                again = systemctl(*manager.command, "--no-block", "restart", name)
                line = f"{shell('kill', str(pid))} && {again}"
            yield command(what, line)


def restart(case: Case, pid: int) -> str:
    """The line that has the worker that runs be another."""
    if service.is_on_demand(pid):
        return case.refcast("upgrade")
    words, is_root_s = service.restart(case.state, pid)
    return by_root(*words) if is_root_s else shell(*words)
