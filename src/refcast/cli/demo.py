"""`refcast demo`."""

from __future__ import annotations

import os

import click

from refcast import demo as demonstration


@click.command()
@click.option("--dialect", default="codeup", show_default=True, help="What the receiver is to understand.")
@click.option("--keep", is_flag=True, help="Keep the scratch directory, to look around in it.")
@click.pass_context
def demo(context: click.Context, dialect: str, keep: bool) -> None:
    """Show it at work in a scratch directory.

    It makes a bare repository, a receiver on loopback and real pushes, shows the payloads as they arrive, and removes
    it all.
    """
    os.umask(0o077)
    context.exit(demonstration.run(dialect, keep=keep, show=click.echo))
