"""The notes example over HTTP: the answers that programs get, and those that nobody gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from coatcheck import ServerSideSessionsTokenManager
from coatcheck.token_format import session_id_in
from tests.examples.notes_server import COOKIE, PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coatcheck import AuthServices
    from tests.servers.app import AppServer


class Person:
    """A person with an account, and a signed-in program of that person."""

    def __init__(self, http: httpx.AsyncClient, email: str, session: dict[str, Any]) -> None:
        self._http = http
        self.email = email
        self.session_id: str = session_id_in(session["token"])
        self.token: str = session["token"]
        self.user_id: str = session["auth_user_id"]

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with the token."""
        return await self._http.request(method, path, headers={"Authorization": f"Bearer {self.token}"}, **options)

    async def submit(self, path: str, **fields: str) -> httpx.Response:
        """Send a form with the token in the cookie, as a browser does."""
        headers = {"Cookie": f"{COOKIE}={self.token}", "Sec-Fetch-Site": "same-origin"}
        return await self._http.post(path, data=fields, headers=headers)


@pytest.fixture
async def http(notes: AppServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=notes.url) as client:
        yield client


async def sign_up(http: httpx.AsyncClient, email: str) -> Person:
    answer = await http.post("/sign-up", data={"email": email, "password": PASSWORD})
    assert answer.status_code == 303
    await http.post("/sign-out")
    answer = await sign_in(http, email)
    assert answer.status_code == 200
    return Person(http, email, answer.json())


async def sign_in(
    http: httpx.AsyncClient, email: str, password: str = PASSWORD, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await http.post("/api/sign-in", json={"email": email, "password": password}, headers=headers)


@pytest.fixture
async def person(http: httpx.AsyncClient, ada: str) -> Person:
    return await sign_up(http, ada)


@pytest.fixture
async def other(http: httpx.AsyncClient, ada: str) -> Person:
    return await sign_up(http, f"other.{ada}")


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["code"], body["status"]) == (code, status)
    assert body["detail"]


class TestSigningIn:
    async def test_a_program_gets_the_session_as_json_that_is_not_stored_and_no_cookie(
        self, http: httpx.AsyncClient, person: Person
    ) -> None:
        answer = await sign_in(http, person.email)
        body = answer.json()
        assert body["auth_strategy"] == "session"
        assert body["auth_user_id"] == person.user_id
        assert sorted(body["scope_names"]) == ["notes:read", "notes:write"]
        assert body["token_expires_at"].endswith("Z")
        assert session_id_in(body["token"]) != person.session_id
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
        status = await http.get("/api/session/status", headers={"Authorization": f"Bearer {body['token']}"})
        assert status.json()["signed_in"] is True

    async def test_wrong_credentials_do_not_say_which_one_is_wrong(
        self, http: httpx.AsyncClient, person: Person
    ) -> None:
        wrong = await sign_in(http, person.email, "not the password")
        unknown = await sign_in(http, f"nobody.{person.email}")
        is_problem(wrong, 403, "wrong_credentials")
        assert wrong.content == unknown.content

    async def test_a_signed_in_program_cannot_sign_in_as_another_user(
        self, http: httpx.AsyncClient, person: Person, other: Person
    ) -> None:
        bearer = {"Authorization": f"Bearer {person.token}"}
        is_problem(await sign_in(http, other.email, headers=bearer), 409, "signed_in_as_another_user")
        assert (await sign_in(http, person.email, headers=bearer)).status_code == 200

    async def test_a_blocked_user_is_signed_out_and_cannot_sign_in(
        self, http: httpx.AsyncClient, person: Person, operator: AuthServices
    ) -> None:
        await operator.auth_users.update(person.user_id, blocked=True)
        is_problem(await person("GET", "/api/notes"), 401, "invalid_token")
        is_problem(await sign_in(http, person.email), 403, "user_blocked")
        page = await http.post("/sign-in", data={"email": person.email, "password": PASSWORD})
        assert page.status_code == 403
        assert "This account is blocked" in page.text


class TestNotes:
    async def test_notes_are_written_listed_page_by_page_and_deleted(self, person: Person) -> None:
        for text in ("one", "two", "three"):
            answer = await person("POST", "/api/notes", json={"text": f"  {text}\r\nline "})
            assert answer.status_code == 201
            assert answer.json()["text"] == f"{text}\nline"
            assert answer.json()["created_at"].endswith("Z")
        page = (await person("GET", "/api/notes", params={"limit": 2})).json()
        assert [note["text"] for note in page["notes"]] == ["three\nline", "two\nline"]
        page = (await person("GET", "/api/notes", params={"limit": 2, "before": page["next_before"]})).json()
        assert [note["text"] for note in page["notes"]] == ["one\nline"]
        assert page["next_before"] is None
        path = f"/api/notes/{page['notes'][0]['id']}"
        assert (await person("DELETE", path)).status_code == 204
        is_problem(await person("DELETE", path), 404, "note_not_found")

    async def test_notes_are_refused_without_a_token_and_with_a_wrong_one(self, http: httpx.AsyncClient) -> None:
        is_problem(await http.get("/api/notes"), 401, "authentication_required")
        wrong = await http.get("/api/notes", headers={"Authorization": "Bearer no-token"})
        is_problem(wrong, 401, "invalid_token")
        assert wrong.headers["www-authenticate"].startswith("Bearer ")

    async def test_scopes_are_live(self, person: Person, operator: AuthServices) -> None:
        written = (await person("POST", "/api/notes", json={"text": "kept"})).json()
        await operator.auth_users.update(person.user_id, scopes={"notes:read"})
        is_problem(await person("POST", "/api/notes", json={"text": "too late"}), 403, "insufficient_scope")
        is_problem(await person("DELETE", f"/api/notes/{written['id']}"), 403, "insufficient_scope")
        assert [note["text"] for note in (await person("GET", "/api/notes")).json()["notes"]] == ["kept"]
        await operator.auth_users.update(person.user_id, scopes=set())
        is_problem(await person("GET", "/api/notes"), 403, "insufficient_scope")

    @pytest.mark.parametrize("text", ["", " \r\n ", "x" * 2001, "a\x00b"])
    async def test_a_note_that_is_not_allowed_is_refused_with_the_reason(self, person: Person, text: str) -> None:
        is_problem(await person("POST", "/api/notes", json={"text": text}), 422, "invalid_note")
        page = await person.submit("/notes", text=text)
        assert page.status_code == 422
        assert 'aria-invalid="true"' in page.text

    @pytest.mark.parametrize("note_id", ["0", "-1", "x", str(2**31), str(2**70), "1.5", "%00"])
    async def test_an_id_that_is_not_a_notes_id_is_refused(self, person: Person, note_id: str) -> None:
        assert (await person("DELETE", f"/api/notes/{note_id}")).status_code in {404, 422}
        assert (await person.submit(f"/notes/{note_id}/delete")).status_code == 404

    async def test_a_lone_surrogate_is_refused(self, person: Person) -> None:
        assert (await person("POST", "/api/notes", content=b'{"text": "\\ud800"}')).status_code == 422


class TestOthers:
    async def test_nobody_sees_or_deletes_another_s_notes(self, person: Person, other: Person) -> None:
        note = (await person("POST", "/api/notes", json={"text": "mine"})).json()
        assert (await other("GET", "/api/notes")).json()["notes"] == []
        is_problem(await other("DELETE", f"/api/notes/{note['id']}"), 404, "note_not_found")
        assert (await other.submit(f"/notes/{note['id']}/delete")).status_code == 404
        assert len((await person("GET", "/api/notes")).json()["notes"]) == 1

    async def test_nobody_ends_or_restricts_another_s_devices(self, person: Person, other: Person) -> None:
        is_problem(await other("DELETE", f"/api/session/sessions/{person.session_id}"), 404, "session_not_found")
        ended = await other.submit(f"/devices/{person.session_id}/end")
        restricted = await other.submit(f"/devices/{person.session_id}/writing", allowed="no")
        assert {ended.headers["location"], restricted.headers["location"]} == {"/devices?done=already-ended"}
        answer = await person("POST", "/api/notes", json={"text": "still here, and still writing"})
        assert answer.status_code == 201
        assert person.session_id not in (await other("GET", "/api/session/sessions")).text

    @pytest.mark.parametrize("session_id", ["x", "%00", "00000000-0000-7000-8000-000000000000", "a" * 5000])
    async def test_ids_of_no_session_end_nothing(self, person: Person, session_id: str) -> None:
        for action in ("end", "writing"):
            answer = await person.submit(f"/devices/{session_id}/{action}")
            assert answer.headers["location"] == "/devices?done=already-ended"

    async def test_a_session_that_may_only_read_cannot_let_any_write(
        self, http: httpx.AsyncClient, person: Person, operator: AuthServices
    ) -> None:
        second = Person(http, person.email, (await sign_in(http, person.email)).json())
        await person.submit(f"/devices/{second.session_id}/writing", allowed="no")
        for session_id in (person.session_id, second.session_id):
            assert (await second.submit(f"/devices/{session_id}/writing", allowed="yes")).status_code == 403
        sessions = operator.get_token_manager(ServerSideSessionsTokenManager).server_side_sessions
        (restricted,) = [one for one in await sessions.list_sessions(person.user_id) if one.id == second.session_id]
        assert restricted.scopes == {"notes:read"}
        await person.submit(f"/devices/{second.session_id}/writing", allowed="yes")
        (again,) = [one for one in await sessions.list_sessions(person.user_id) if one.id == second.session_id]
        assert again.follows_user


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
        ],
    )
    async def test_forms_of_other_sites_are_refused(
        self, http: httpx.AsyncClient, person: Person, headers: dict[str, str]
    ) -> None:
        cookie = {"Cookie": f"{COOKIE}={person.token}"}
        for path in ("/notes", "/sign-out", "/sign-in", "/sign-up", "/devices/end-all", "/api/session/sign-out-all"):
            assert (await http.post(path, data={"text": "evil"}, headers=headers | cookie)).status_code == 403
        assert (await http.get("/notes", headers=headers | cookie)).status_code == 200
        assert (await person("GET", "/api/notes")).json()["notes"] == []

    async def test_forms_of_our_site_are_accepted_by_their_origin_alone(
        self, http: httpx.AsyncClient, person: Person, notes: AppServer
    ) -> None:
        headers = {"Origin": notes.url, "Cookie": f"{COOKIE}={person.token}"}
        assert (await http.post("/notes", data={"text": "ours"}, headers=headers)).status_code == 303


class TestPages:
    async def test_pages_load_only_our_own_files(self, http: httpx.AsyncClient) -> None:
        for path in ("/", "/sign-in", "/sign-up", "/nowhere"):
            answer = await http.get(path)
            assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
            assert re.findall("<script[^>]*>", answer.text) == ['<script type="module" src="/static/session.js">']
            assert not re.search(r"<script[^>]*>[^<]", answer.text)
            assert "http://" not in answer.text.replace("http://www.w3.org/", "")

    async def test_pages_of_a_signed_in_person_are_not_stored(self, http: httpx.AsyncClient, person: Person) -> None:
        answer = await http.get("/notes", headers={"Cookie": f"{COOKIE}={person.token}"})
        assert answer.headers["cache-control"] == "no-store"
        assert "Cookie" in answer.headers["vary"]

    async def test_a_form_with_missing_fields_is_answered_with_a_page(self, http: httpx.AsyncClient) -> None:
        for path in ("/sign-in", "/sign-up"):
            for content in (b"", b"email=%00&password=%ff", b"email[]=1", b"%"):
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                answer = await http.post(path, content=content, headers=headers)
                assert answer.status_code in {403, 422}
                assert "<form" in answer.text

    async def test_the_api_description_has_the_scopes(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/docs")).status_code == 200
        description = (await http.get("/openapi.json")).json()
        (scheme,) = description["components"]["securitySchemes"]
        assert description["paths"]["/api/notes"]["get"]["security"] == [{scheme: ["notes:read"]}]
        assert description["paths"]["/api/notes"]["post"]["security"] == [{scheme: ["notes:write"]}]
        assert not any(path in description["paths"] for path in ("/notes", "/sign-in", "/devices"))


async def test_a_sign_out_that_cannot_be_confirmed_says_so_to_people_and_to_programs(http: httpx.AsyncClient) -> None:
    """The cookie has the form of a ticket and is sealed under no pepper of this server."""
    headers = {"Cookie": f"{COOKIE}-ending={'A' * 107}", "Sec-Fetch-Site": "same-origin"}
    of_people = await http.post("/sign-out", headers=headers)
    assert of_people.status_code == 409
    assert "sign in and sign out everywhere" in of_people.text
    of_programs = await http.post("/api/session/sign-out", headers=headers)
    assert (of_programs.status_code, of_programs.json()["code"]) == (409, "sign_out_unconfirmed")
    assert [one.headers.get("set-cookie") for one in (of_people, of_programs)] == [None, None]
