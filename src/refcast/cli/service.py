"""`refcast service`: the worker as a service of systemd."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from refcast.cli.common import App, json_option, pass_app, safe, say
from refcast.service import Manager, Unit, account, unit_of


@click.group()
def service() -> None:
    """The worker as a service of systemd, which keeps it running and starts it after a reboot."""


@service.command("install")
@click.option("--name", metavar="NAME", help="The unit's name. Default: the one there is, else refcast.")
@click.option("--renew", is_flag=True, help="Only if it is installed: write the unit anew, and restart the service.")
@json_option
@pass_app
def service_install(app: App, name: str | None, renew: bool, as_json: bool) -> None:
    """Write the unit, start the service, and have it started at each boot.

    As root, for the owner of the state directory; as another user, in the manager of one's own account. A worker
    that a push has started makes room. Running it again writes the unit anew and restarts the service.
    """
    unit, manager = unit_of(app.state), Manager.mine()
    if renew and not manager.find(unit):
        if as_json:
            say({"service": None}, as_json, "")
        return
    done = manager.install(unit, name)
    words = f"{manager.directory / done}.service: runs{f' as {unit.user}' if unit.user else ''}"
    facts: dict[str, object] = {"service": done, "unit": str(manager.directory / f"{done}.service")}
    lingers = bool(unit.user) or (Path("/var/lib/systemd/linger") / account(os.geteuid())).exists()
    if not lingers:
        words += "\nit ends when you log out; to have it run always: loginctl enable-linger"
    say(facts | {"user": unit.user or None, "from_boot": lingers}, as_json, safe_lines(words))


@service.command("remove")
@json_option
@pass_app
def service_remove(app: App, as_json: bool) -> None:
    """Stop the service and take its unit away. Pushes start a worker again, as without a service."""
    names = Manager.mine().remove(Unit(app.state, Path(sys.executable)))  # the directory may be gone by now
    words = "\n".join(f"{name}.service: removed" for name in names) or "there was no service"
    say({"removed": names}, as_json, words)


@service.command("show")
@pass_app
def service_show(app: App) -> None:
    """Print the unit that `install` writes, and change nothing."""
    click.echo(unit_of(app.state).text(), nl=False)


def safe_lines(text: str) -> str:
    return "\n".join(safe(line) for line in text.split("\n"))
