"""The web layer without any web framework."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "fastapi", "pydantic", "anyio", "httpx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import coatcheck.web
from coatcheck.web import PodLifespan, SessionMiddleware, authentication_of, require
try:
    import coatcheck.web.starlette
except ModuleNotFoundError as error:
    print("absent:", error.name)
"""


def test_the_middleware_needs_no_framework() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "absent: starlette"), done.stderr
