"""The README is true: its code runs unchanged, and its links lead to files."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.servers import chromium
from tests.servers.app import AppServer
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from playwright.async_api import Browser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PEPPER = {"SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper": "a pepper of thirty-two bytes ok!"}


def test_the_readme_opens_with_the_two_commands() -> None:
    commands = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    make ")]
    assert commands == ["make demo", "make test"]
    assert README.index("make test") < 400


def test_the_first_example_serves_signs_in_and_signs_out(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PYTHON_BLOCKS[0], encoding="utf-8")
    with (
        AppServer.uvicorn("app:app", cwd=tmp_path, env=PEPPER) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        token = client.post("/demo-sign-in").json()["token"]
        assert client.get("/session/client.js").headers["content-type"].startswith("text/javascript")
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/notes").status_code == 401
        assert client.get("/notes", headers=headers).status_code == 200
        assert client.get("/session/status", headers=headers).json()["signed_in"]
        assert client.post("/session/sign-out", headers=headers).status_code == 200
        assert client.get("/notes", headers=headers).status_code == 401


def test_the_commands_run_as_they_stand_one_right_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PYTHON_BLOCKS[0], encoding="utf-8")
    (commands,) = re.findall(r"```\n(uvicorn .*?)```", README, flags=re.DOTALL)
    port = free_port()
    commands = commands.replace("localhost:8000", f"localhost:{port}").replace("app:app", f"app:app --port {port}")
    environment = {**os.environ, **PEPPER, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # A file for what is printed: a server that was left running would keep a pipe open.
    with (tmp_path / "printed").open("w+", encoding="utf-8") as printed:
        shell = subprocess.Popen(
            ["bash", "-c", f"{commands}\nwait"], cwd=tmp_path, env=environment, stdout=printed, start_new_session=True
        )
        try:
            shell.wait(60)
        finally:
            with suppress(ProcessLookupError):  # they have all ended, as they should
                os.killpg(shell.pid, signal.SIGKILL)
        printed.seek(0)
        assert re.findall(r"^HTTP/1.1 (\d+)", printed.read(), flags=re.MULTILINE) == ["200", "200", "401"]


def test_the_commands_for_the_pepper_make_one_and_keep_it(tmp_path: Path) -> None:
    (commands,) = re.findall(r"```\npip install [^\n]*\n(.*?)```", README, flags=re.DOTALL)
    (name,) = PEPPER
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    printed = [
        subprocess.run(
            ["bash", "-c", f'{commands}\nprintf %s "${name}"'],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    assert len(printed[0]) > 40
    assert (tmp_path / "pepper").stat().st_mode & 0o077 == 0


def test_the_second_example_runs_to_its_end(tmp_path: Path) -> None:
    environment = {**os.environ, **PEPPER}
    subprocess.run([sys.executable, "-c", PYTHON_BLOCKS[1]], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "coatcheck.db").is_file()


def test_the_python_client_example_signs_in_to_the_first_example_and_out(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PYTHON_BLOCKS[0], encoding="utf-8")
    with AppServer.uvicorn("app:app", cwd=tmp_path, env=PEPPER) as server:
        program = PYTHON_BLOCKS[2].replace("http://localhost:8000", server.url)
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    notes, reason = done.stdout.splitlines()
    assert notes.startswith("{'notes_of': ")
    assert reason == "no longer signed in: signed-out"
    assert not (tmp_path / "session.json").exists()


@pytest.mark.chromium
async def test_the_page_example_signs_in_to_the_first_example_by_a_cookie(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PYTHON_BLOCKS[0], encoding="utf-8")
    (script,) = re.findall(r"```html\n(.*?)```", README, flags=re.DOTALL)
    context = await browser.new_context()
    with AppServer.uvicorn("app:app", cwd=tmp_path, env=PEPPER) as server:
        page = await context.new_page()
        await page.goto(f"{server.url}/session/status")
        body = await page.evaluate(
            "fetch('/demo-sign-in', { method: 'POST', headers: { 'Coatcheck-Mode': 'cookie' } }).then((a) => a.json())"
        )
        assert body["token"] == ""
        await page.set_content(script.replace("</script>", "window.answer = await notes.json();</script>"))
        await page.wait_for_function("window.answer")
        assert await page.evaluate("answer") == {"notes_of": body["auth_user_id"]}
    await chromium.close(context)


def _pages() -> list[Path]:
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def _anchors(page: Path) -> set[str]:
    """Those of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(linked), f"{page.name}: {target}"


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_every_python_block_can_be_parsed(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        compile(textwrap.dedent(block), str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
