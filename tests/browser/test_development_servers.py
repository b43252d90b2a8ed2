"""The configurations in docs/how-to/behind-a-proxy.md for vite and webpack, run before an application, in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.examples.notes_server import PEPPER, no_errors_in
from tests.servers import development
from tests.servers.app import AppServer
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.extended

PAGE = (Path(__file__).parents[2] / "docs/how-to/behind-a-proxy.md").read_text(encoding="utf-8")
CONFIGURATIONS = dict(zip(("vite", "webpack"), re.findall(r"```js\n(.*?)```", PAGE, flags=re.DOTALL), strict=True))
SERVERS = {"vite": development.vite, "webpack": development.webpack}

# A page of theirs: it signs in, reads, writes and listens. It returns what it was answered with.
USE = """async () => {
    const ask = async (method, path) => {
        const answer = await fetch(path, { method, headers: { "Coatcheck-Mode": "cookie" } });
        return answer.ok ? await answer.text() : String(answer.status);
    };
    await ask("POST", "/api/sign-in?user=ada");
    const [secret, written] = [await ask("GET", "/api/secret"), await ask("POST", "/api/write")];
    const socket = new WebSocket(`ws://${location.host}/api/live`);
    const live = await new Promise((done) => {
        socket.onmessage = ({ data }) => done(data);
        socket.onclose = () => done("closed");
    });
    return { secret, written, live };
}"""


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    development.fetch()


@pytest.mark.parametrize(
    ("changes_host", "is_trusted"), [(False, False), (True, True), (True, False)], ids=["keeps", "named", "changes"]
)
@pytest.mark.parametrize("tool", SERVERS)
async def test_a_page_is_answered_and_hears_where_the_host_is_kept_or_the_origin_is_named(
    browser: Browser, tmp_path: Path, tool: str, changes_host: bool, is_trusted: bool
) -> None:
    port = free_port()
    env = {
        **PEPPER,
        "COATCHECK_STORE": f"sqlite:///{tmp_path}/store.db",
        "SPA_TRUSTED_ORIGINS": f"http://localhost:{port}" if is_trusted else "",
    }
    target = "tests.browser.everywhere.application:create_app"
    with no_errors_in(AppServer.uvicorn(target, "--factory", "--log-level", "warning", env=env)) as app:
        configuration = CONFIGURATIONS[tool].replace("localhost:8000", f"127.0.0.1:{app.port}")
        assert "changeOrigin: false" in configuration
        if changes_host:
            configuration = configuration.replace("changeOrigin: false", "changeOrigin: true")
        with SERVERS[tool](tmp_path / tool, configuration, port=port):
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(f"http://localhost:{port}/")
            used = await page.evaluate(USE)
            await context.close()
    secret, written, live = used["secret"], used["written"], used["live"]
    assert re.fullmatch(r"the secret of [\w-]+", secret)
    assert written == secret.replace("the secret of", "written by")
    assert live == ("closed" if changes_host and not is_trusted else secret)
