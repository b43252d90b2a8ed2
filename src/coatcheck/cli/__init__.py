"""The command `coatcheck`. Needs `coatcheck[cli]`, but for `--version`."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Run the command. If one of its packages is missing, say what to install."""
    if sys.argv[1:] == ["--version"]:
        from coatcheck import __version__  # noqa: PLC0415 (reads the package's metadata)

        sys.stdout.write(f"coatcheck {__version__}\n")
        return
    try:
        from coatcheck.cli.main import app  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as missing:
        sys.exit(f"the command needs the package {missing.name}; install coatcheck[cli]")
    app()
