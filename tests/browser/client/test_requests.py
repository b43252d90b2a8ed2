"""`session.fetch` is `fetch`: its arguments, the session that it adds, and the listeners that hear of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.test_client_in_browser import SIGNED_OUT, TOKEN, opened, reasons, started
from tests.servers.faults import Fault, FaultyServer

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

pytestmark = pytest.mark.chromium

START_ON = """async ({ mode, base, token }) => {
  window.session = createSessionClient({ mode, base });
  window.changes = [];
  session.onAuthChange((state) => changes.push(state));
  await session.ready;
  if (mode === "header") await session.signedIn({ token, auth_user_id: "ada", scope_names: [] });
  changes.length = 0;
}"""


@pytest.mark.parametrize("wanted", ["'/api/notes?a=1'", "new URL('/api/notes?a=1', location)"])
async def test_session_fetch_takes_the_arguments_of_fetch(page: Page, server: FaultyServer, wanted: str) -> None:
    assert await page.evaluate(f"session.fetch({wanted}).then((answer) => answer.json())") == {"ok": True}
    assert server.requests[-1].path == "/api/notes?a=1"


async def test_a_request_goes_out_as_it_was_made(page: Page, server: FaultyServer, mode: str) -> None:
    await page.evaluate("""() => session.fetch(
        new Request("/api/notes", { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } }),
        { headers: { "Coatcheck-Client": "a%20page", "Content-Type": "application/json" } },
    )""")
    sent = server.requests[-1]
    assert (sent.method, sent.path) == ("POST", "/api/notes")
    assert sent.headers["content-length"] == "2"
    assert (sent.headers["content-type"], sent.headers["coatcheck-client"]) == ("application/json", "a%20page")
    assert sent.headers.get("authorization") == (f"Bearer {TOKEN}" if mode == "header" else None)
    assert sent.headers.get("coatcheck-mode") == ("cookie" if mode == "cookie" else None)


async def test_other_origins_get_neither_token_nor_mode_nor_cookie(page: Page, server: FaultyServer) -> None:
    assert server.elsewhere is not None
    await page.evaluate("(url) => session.fetch(url)", f"{server.elsewhere.url}/api/notes")
    sent = server.elsewhere.requests
    assert [request.method for request in sent] == ["GET"]  # and no preflight: the request needs no permission
    assert not {"authorization", "coatcheck-mode", "cookie"} & sent[0].headers.keys()


async def test_a_server_of_another_origin_gets_the_session_and_the_page_s_own_does_not(
    context: BrowserContext, server: FaultyServer, mode: str
) -> None:
    async with FaultyServer() as api:
        await context.add_cookies([{"name": "sid", "value": "kept", "url": api.url}])
        page = await opened(context, server)
        await page.evaluate(START_ON, {"mode": mode, "base": f"{api.url}/session", "token": TOKEN})
        assert await page.evaluate("session.state.signedIn") is True
        await page.evaluate("(url) => session.fetch(url)", f"{api.url}/api/notes")
        sent = api.requests[-1]
        assert sent.path == "/api/notes"
        if mode == "header":
            assert sent.headers["authorization"] == f"Bearer {TOKEN}"
            assert "cookie" not in sent.headers
        else:
            assert (sent.headers["cookie"], sent.headers["coatcheck-mode"]) == ("sid=kept", "cookie")
        await page.evaluate("session.fetch('/api/notes')")
        assert not {"authorization", "coatcheck-mode"} & server.requests[-1].headers.keys()

        await server.fail(Fault.OURS_401)  # the server's own refusal, from the wrong origin
        await page.evaluate("session.fetch('/api/notes')")
        assert await page.evaluate("session.state.signedIn") is True
        await api.fail(Fault.OURS_401)
        await page.evaluate("(url) => session.fetch(url)", f"{api.url}/api/notes")
        assert await reasons(page) == ["revoked"]


async def test_the_token_is_in_no_url_no_message_and_no_console(context: BrowserContext, server: FaultyServer) -> None:
    said: list[str] = []
    here, there = await opened(context, server), await opened(context, server)
    for page in (here, there):
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
    await here.evaluate("""() => {
        window.posted = [];
        const post = BroadcastChannel.prototype.postMessage;
        BroadcastChannel.prototype.postMessage = function (message) {
            posted.push(`${this.name} ${JSON.stringify(message)}`);
            post.call(this, message);
        };
    }""")
    await started(there, "header")
    await started(here, "header", sign_in=True)
    await there.wait_for_function("session.state.signedIn")
    await here.evaluate("session.fetch('/api/notes')")
    await here.evaluate("session.signOut()")
    await there.wait_for_function("!session.state.signedIn")
    posted = await here.evaluate("posted")
    assert len(posted) >= 2, "it has told the other tab of both"
    addresses = [request.path for request in server.requests]
    assert not [text for text in [*said, *posted, *addresses, here.url, there.url] if TOKEN in text]


async def test_a_storage_of_the_page_s_own_is_the_only_place_for_the_token(
    context: BrowserContext, server: FaultyServer
) -> None:
    page = await opened(context, server)
    await page.evaluate(
        """async (token) => {
            window.session = createSessionClient({ mode: "header", storage: sessionStorage });
            await session.signedIn({ token, auth_user_id: "ada", scope_names: [] });
        }""",
        TOKEN,
    )
    assert await page.evaluate("[Object.values(sessionStorage), localStorage.length]") == [[TOKEN], 0]


async def test_a_listener_that_fails_does_not_stop_the_others_and_a_removed_one_is_not_called(
    page: Page, server: FaultyServer
) -> None:
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(error.message))
    await page.evaluate("""() => {
        window.heard = [];
        session.onAuthChange(() => { throw new Error("of the page's own"); });
        session.onAuthChange(({ reason }) => heard.push(`last: ${reason}`));
        session.onAuthChange(() => heard.push("left"))();
    }""")
    server.status = dict(SIGNED_OUT)
    assert await page.evaluate("session.check()") is False
    assert await page.evaluate("heard") == ["last: revoked"]
    assert failed == ["of the page's own"]
