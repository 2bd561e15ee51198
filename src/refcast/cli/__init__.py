"""The command line: nouns, then verbs. Reads and steers the store; every rule is in the rooms below.

Exit codes: 0 all is well; 1 something failed or needs a person; 2 bad input; 3 the state directory or store cannot
be used; 4 a repository cannot be used; 5 a record is malformed.
"""

from __future__ import annotations

from pathlib import Path

import click

import refcast
from refcast.cli.applying import apply, export
from refcast.cli.backups import backup, restore
from refcast.cli.common import App, Group, default_state
from refcast.cli.deliveries import delivery, record
from refcast.cli.doctor import doctor
from refcast.cli.endpoints import endpoint
from refcast.cli.follow import log
from refcast.cli.moves import explain, render
from refcast.cli.processes import demo, worker
from refcast.cli.repositories import install, uninstall
from refcast.cli.service import service
from refcast.cli.status import status
from refcast.cli.sweep import sweep
from refcast.cli.upgrading import upgrade


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


COMMANDS = (
    install,
    uninstall,
    upgrade,
    service,
    endpoint,
    apply,
    export,
    delivery,
    record,
    render,
    explain,
    sweep,
    worker,
    status,
    doctor,
    log,
    backup,
    restore,
    demo,
)

for command in COMMANDS:
    main.add_command(command)
