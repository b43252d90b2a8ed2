"""The command `coatcheck`. Needs `coatcheck[cli]`."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command. If one of its packages is missing, say what to install."""
    try:
        from coatcheck.cli.main import app  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as missing:
        sys.exit(f"the command needs the package {missing.name}; install coatcheck[cli]")
    app()
