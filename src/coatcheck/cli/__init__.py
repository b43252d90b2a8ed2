"""The command `coatcheck`. Needs `coatcheck[cli]`."""

from __future__ import annotations

from coatcheck.cli.main import app

__all__ = ["app"]
