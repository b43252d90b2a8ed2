"""The commands. Each is a thin layer over the API of the package."""

from __future__ import annotations

from typing import Annotated

import typer

from coatcheck import __version__
from coatcheck.cli.bench import bench

app: typer.Typer = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)
app.command()(bench)


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"coatcheck {__version__}")
        raise typer.Exit


@app.callback()
def coatcheck(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Operate server-side sessions."""
