"""The example's modules are not a package; they are found as `uvicorn --app-dir` finds them."""

from __future__ import annotations

import sys

from tests.examples.notes_server import NOTES, ada, notes, notes_dsn, operator, operator_pod, store_url

__all__ = ["ada", "notes", "notes_dsn", "operator", "operator_pod", "store_url"]

sys.path.insert(0, str(NOTES))
