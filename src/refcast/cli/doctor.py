"""`refcast doctor`: shows what is wrong, each with what mends it. Every rule is in the room `doctor`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from refcast import doctor as looking
from refcast import sites
from refcast.cli.common import App, default_state, json_option, pass_app, safe, show_json
from refcast.transport import Transport


@click.command()
@click.argument("names", metavar="[ENDPOINT]...", nargs=-1)
@click.option("--offline", is_flag=True, help="Connect to no endpoint.")
@click.option(
    "--all",
    "roots",
    metavar="ROOT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Also name the bare repositories below ROOT that are not covered; again for more.",
)
@json_option
@pass_app
@click.pass_context
def doctor(
    context: click.Context, app: App, names: tuple[str, ...], offline: bool, roots: tuple[Path, ...], as_json: bool
) -> None:
    """Look for what is wrong, and print what mends it.

    Looks at everything, or at the endpoints that are named. It changes nothing; to endpoints it connects, and sends
    nothing. Exit code 1 if there is a problem; warnings leave it at 0.
    """
    sites.check_owner(app.state)
    transport = Transport()
    try:
        found, checks = looking.examine(
            app.state,
            program(app.state),
            time.time(),
            probe=None if offline else transport.probe,
            names=names,
            roots=tuple(root.absolute() for root in roots),
        )
    finally:
        transport.close()
    if as_json:
        show_json({"checks": checks, "problems": [asdict(one) for one in found]})
    else:
        for one in found:
            click.echo(f"{one.severity}: {safe(one.what)}\n    {safe(one.mend)}\n")
        click.echo(f"checks: {checks}, {'problems' if found else 'all is well; problems'}: {len(found)}")
    context.exit(1 if any(one.severity == "error" for one in found) else 0)


def program(state: Path) -> tuple[str, ...]:
    """How this program is called for a state directory, in words that work in the shell at hand."""
    script = Path(sys.executable).with_name("refcast")
    on_path = shutil.which("refcast")
    if on_path and Path(on_path).resolve() == script.resolve():
        called: tuple[str, ...] = ("refcast",)
    else:
        called = (str(script),) if script.exists() else (sys.executable, "-I", "-m", "refcast")
    usual = "REFCAST_STATE" not in os.environ and state == default_state()
    return called if usual else (*called, "--state", str(state))
