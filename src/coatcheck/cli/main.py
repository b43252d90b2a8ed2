"""The commands. Each is a thin layer over the API of the package."""

from __future__ import annotations

import typer

from coatcheck.cli.bench import bench

app: typer.Typer = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)
app.command()(bench)


@app.callback()
def coatcheck() -> None:
    """Operate server-side sessions."""
