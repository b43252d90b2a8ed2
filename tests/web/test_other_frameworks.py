"""Refusals below Litestar, Quart and Django, in an environment of their own: `.venv-frameworks`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
RIGHT = {
    "allowed": "200 -",
    "no token": "401 authentication_required",
    "bad token": "401 invalid_token",
    "no scope": "403 insufficient_scope",
    "its own error": "500 -",
    "a refusal that was dealt with": "500 -",
    "two refusals at once": "403 insufficient_scope",
    "refused sign-in": "403 sign_in_refused",
    "outage": "503 store_unavailable",
}
# These send their response when the error is gone, and of a group of errors its members do not know.
RIGHT_WHERE_ANSWERS_ARE_SENT_LATER = {**RIGHT, "two refusals at once": "500 -"}
RIGHTS = {
    "with_litestar": RIGHT,
    "inside_of_litestar": RIGHT,
    "with_quart": RIGHT_WHERE_ANSWERS_ARE_SENT_LATER,
    "with_django": RIGHT_WHERE_ANSWERS_ARE_SENT_LATER,
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, str]]:
    subprocess.run([ROOT / "scripts/venv", ".venv-frameworks", "requirements/frameworks.txt"], check=True)
    ran = subprocess.run(
        [ROOT / ".venv-frameworks/bin/python", "-m", "tests.web.other_frameworks", tmp_path_factory.mktemp("stores")],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    found: Mapping[str, Mapping[str, str]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("framework", RIGHTS)
def test_refusals_have_their_answers_and_other_errors_stay(
    answers: Mapping[str, Mapping[str, str]], framework: str
) -> None:
    assert answers[framework] == RIGHTS[framework]
