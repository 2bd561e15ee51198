"""The command line: nouns, then verbs. Reads and steers the store; every rule is in the rooms below.

Exit codes: 0 all is well; 1 something failed or needs a person; 2 bad input; 3 the state directory or store cannot
be used; 4 a repository cannot be used; 5 a record is malformed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

import refcast
from refcast.cli.common import App, Group, default_state

COMMANDS = {
    "apply": "applying",
    "backup": "backups",
    "delivery": "deliveries",
    "demo": "demo",
    "doctor": "doctor",
    "endpoint": "endpoints",
    "explain": "moves",
    "export": "applying",
    "install": "repositories",
    "log": "follow",
    "record": "deliveries",
    "render": "moves",
    "restore": "backups",
    "service": "service",
    "status": "status",
    "sweep": "sweep",
    "uninstall": "repositories",
    "upgrade": "upgrading",
    "worker": "processes",
}
"""Each command, and the module that is read when it is called: to read all of them takes half a second."""


class Commands(Group):
    """Those of COMMANDS."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = getattr(import_module(f"refcast.cli.{COMMANDS[name]}"), name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--state",
    type=click.Path(path_type=Path, readable=False),  # another user's is refused in our own words
    envvar="REFCAST_STATE",
    help="The state directory. Default: /var/lib/refcast if it is yours or you are root, else "
    "refcast in $XDG_STATE_HOME or ~/.local/state.",
)
@click.version_option(refcast.__version__, prog_name="refcast")
@click.pass_context
def main(context: click.Context, state: Path | None) -> None:
    """Signed, ordered, durable webhooks for plain git servers.

    Exit codes: 0 all is well; 1 something failed or needs a person; 2 bad input; 3 the state directory cannot be
    used; 4 a repository cannot be used; 5 a record is malformed.
    """
    held = context.obj
    if held:
        context.call_on_close(held.close)
    context.obj = App((state or default_state()).absolute(), held)
