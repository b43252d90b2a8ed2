"""The commands; each is a thin layer over what the package has for programs."""

from __future__ import annotations

import typer

from coatcheck.cli.bench import bench

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)
app.command()(bench)


@app.callback()
def coatcheck() -> None:
    """Server-side sessions: for those who run them."""
