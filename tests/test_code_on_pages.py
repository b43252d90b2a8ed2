"""The code on the pages of `docs/` runs as it stands, with what a page says is the reader's own."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import pytest
import sqlmodel
from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import Depends, FastAPI, Request
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import BaseModel
from sqlalchemy import JSON, Boolean, Column, MetaData, Table, Text, func, insert, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from coatcheck import (
    AuthUsers,
    ConfigurationError,
    InvalidArgumentError,
    IssuesEndingTickets,
    Pod,
    ServerSideSessions,
    StoreUnavailable,
    TokenManager,
    UserBlockedError,
)
from coatcheck.sessions.admin import ServerSideSessionsAdmin
from coatcheck.testing import AppTester, ManualClock
from coatcheck.web import SessionMiddleware
from tests.pages import ROOT, blocks_of, run, run_async
from tests.servers import chromium
from tests.servers.app import AppServer
from tests.web.asgi_calls import bearer, request, websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthServices, Token, UserId
    from coatcheck.web.asgi import AsgiApp, AsgiScope, Receive, Send
    from tests.pages import Names

VARIABLE = "SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper"
PEPPER = {VARIABLE: "a pepper of thirty-two bytes ok!"}
PATIENCE_SECONDS = 20

TABLES = MetaData()
ACCOUNTS = Table(
    "accounts",
    TABLES,
    Column("id", Text, primary_key=True),
    Column("scopes", JSON),
    Column("disabled", Boolean),
)
PASSWORDS = Table(
    "passwords",
    TABLES,
    Column("user_id", Text, primary_key=True),
    Column("email", Text),
    Column("password_hash", Text),
)
DEVICES = Table("devices", TABLES, Column("session_id", Text, primary_key=True), Column("label", Text))


class Credentials(BaseModel):
    email: str
    password: str


class NewPassword(BaseModel):
    old: str
    new: str


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]


class TemplateUser(sqlmodel.SQLModel, table=True):
    """The `User` of FastAPI's full-stack template."""

    id: uuid.UUID = sqlmodel.Field(default_factory=uuid.uuid4, primary_key=True)
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False


class WrongPassword(Exception):  # noqa: N818 (its name on the page)
    pass


@dataclass
class Account:
    email: str


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """The names of the README's application, in a folder of its own: `pod`, `auth`, `api`, `app`."""
    monkeypatch.chdir(tmp_path)
    for name, value in PEPPER.items():
        monkeypatch.setenv(name, value)
    return run("README.md", {}, slice(1))


async def sign_in(auth: AuthServices, *scopes: str) -> tuple[str, Token]:
    user = await auth.auth_users.create(scopes=set(scopes))
    return user.id, (await auth.token_manager.create_token(auth_user_id=user.id, method="email")).token


async def request_through(auth: AuthServices) -> Request:
    """A request as a route behind the middleware has it."""
    scopes: list[AsgiScope] = []

    async def app(scope: AsgiScope, _receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    await request(SessionMiddleware(app, auth=auth))
    return Request(scopes[0])


def asking(app: AsgiApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def pages_with_code() -> list[str]:
    pages = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if blocks_of(page)]


def test_every_page_with_code_is_run_here_or_as_a_test() -> None:
    tests = "".join(
        (ROOT / "tests" / name).read_text(encoding="utf-8") for name in (Path(__file__).name, "test_how_to.py")
    )
    assert [page for page in pages_with_code() if f'"{page}"' not in tests] == []


async def test_signing_in_with_a_password(readme: Names) -> None:
    pod, auth, api = readme["pod"], readme["auth"], readme["api"]

    async def check_password(_user_id: str, password: str) -> bool:
        return password == "right"

    async def id_of(_email: str) -> UserId:
        user_id: UserId = user.id
        return user_id

    async def load_account(email: str = "ann@example.org") -> Account:
        return Account(email)

    async with pod:
        user = await auth.auth_users.create(scopes={"notes:read"})
        own = {
            "request": await request_through(auth),
            "user_id": user.id,
            "email": "ann@example.org",
            "password": "right",
        }
        theirs = [check_password, id_of, load_account, Account, Credentials, WrongPassword]
        names = await run_async(
            "docs/how-to/sign-in.md",
            readme | own | {one.__name__: one for one in theirs},  # type: ignore[attr-defined]  # all have one
        )
        assert await auth.token_manager.validate_token(names["success"].token) is not None
        assert names["account"] == Account("ann@example.org")
        async with asking(SessionMiddleware(api, auth=auth)) as http:
            answer = await http.post("/api/sign-in", json={"email": "ann@example.org", "password": "right"})
            assert await auth.token_manager.validate_token(answer.json()["token"]) is not None
            with pytest.raises(WrongPassword):
                await http.post("/api/sign-in", json={"email": "ann@example.org", "password": "wrong"})
            assert (await http.post("/sign-in")).status_code == 200


async def test_hearing_of_revocations(readme: Names, caplog: pytest.LogCaptureFixture) -> None:
    pod, auth = readme["pod"], readme["auth"]
    heard: asyncio.Queue[tuple[str, dict[str, str | None]]] = asyncio.Queue()

    async def close_connections_of(**whose: str | None) -> None:
        heard.put_nowait(("close", whose))

    async def check_again(**whose: str | None) -> None:
        heard.put_nowait(("check", whose))

    caplog.set_level("INFO")
    async with pod, asyncio.timeout(PATIENCE_SECONDS):
        given = {"close_connections_of": close_connections_of, "check_again": check_again}
        await run_async("docs/how-to/announcements.md", readme | given)
        assert await heard.get() == ("check", {"user": None}), "the pod was open, so something may have been missed"
        user_id, token = await sign_in(auth)
        info = await auth.token_manager.validate_token(token)
        await auth.token_manager.revoke_token(token_id=info.auth_id)
        assert await heard.get() == ("close", {"session": info.auth_id})
        assert f"session {info.auth_id} of {user_id} ended" in caplog.messages
        user_id, _ = await sign_in(auth)
        await auth.token_manager.revoke_all_tokens(auth_user_id=user_id)
        assert await heard.get() == ("close", {"user": user_id, "spare": None})


async def test_ending_what_is_open(readme: Names) -> None:
    pod, auth = readme["pod"], readme["auth"]
    saved: list[str] = []

    @asynccontextmanager
    async def subscription(_user: object) -> AsyncIterator[AsyncIterator[str]]:
        async def changes() -> AsyncIterator[str]:
            yield "a change"

        yield changes()

    async def save(text: str) -> None:
        saved.append(text)

    names = run("docs/how-to/live-connections.md", readme | {"subscription": subscription, "save": save})
    async with pod:
        _, token = await sign_in(auth, "notes:read", "notes:write")
        read = await websocket(names["app"], "/notes/live", headers=bearer(token))
        assert [one.get("text") for one in read.sent[:2]] == [None, '"a change"']
        await websocket(names["app"], "/notes/edit", headers=bearer(token), texts=("a note",))
        assert saved == ["a note"]
        assert len(names["live"]) == 0
        async with asking(names["app"]) as http:
            assert (await http.get("/session/status")).json()["signed_in"] is False


def test_every_call_that_takes_no_transaction_is_a_validation_or_on_the_page() -> None:
    classes = [TokenManager, IssuesEndingTickets, ServerSideSessions, ServerSideSessionsAdmin, AuthUsers]
    calls = {name: call for one in classes for name, call in inspect.getmembers(one, inspect.isfunction)}
    without = {name for name, call in calls.items() if "transaction" not in inspect.signature(call).parameters}
    validations = {"validate_token", "explain_token", "examine_token", "explain", "examine"}
    not_of_the_store = {"ending_ticket", "flush", "close"}
    page = (ROOT / "docs/how-to/transactions.md").read_text(encoding="utf-8")
    public = {name for name in without if not name.startswith("_")} - validations - not_of_the_store
    assert public == {"end_by_ticket", "delete_expired_sessions", "pepper_usage"}
    assert all(f"{name}`" in page for name in public)


async def test_passing_a_transaction_on_sqlite(readme: Names, tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/coatcheck.db")
    given = {"engine": engine, "accounts": PASSWORDS, "devices": DEVICES, "email": "ann@example.org", "hashed": "..."}
    page = "docs/how-to/transactions.md"
    async with readme["pod"] as pod:
        async with pod.store.transaction() as tx:
            await tx.run_sync(TABLES.create_all)
        names = await run_async(page, readme | given, slice(0, 1))
        assert await names["auth"].token_manager.validate_token(names["success"].token) is not None
        run(page, names, slice(2, 3))
        async with engine.begin() as tx:  # by the page's listeners
            await names["auth"].token_manager.revoke_all_tokens(auth_user_id=names["user"].id, transaction=tx)
        assert await names["auth"].token_manager.validate_token(names["success"].token) is None
    names = run(page, names | {"pod": Pod("sqlite:///coatcheck.db")}, slice(3, None))
    async with names["pod"] as pod:
        await sign_in(names["auth"])
        async with engine.connect() as connection:
            assert await connection.scalar(select(func.count()).select_from(DEVICES)) == 1
    await engine.dispose()


async def test_passing_a_stricter_transaction_on_postgresql(readme: Names, postgres_dsn: str) -> None:
    pod = Pod(postgres_dsn)
    auth = pod.initialize_auth_services(token_manager_builders=[readme["ServerSideSessionsConfigFromPasswords"]()])
    engine = create_async_engine(
        postgres_dsn.replace("postgresql:", "postgresql+asyncpg:"), isolation_level="SERIALIZABLE"
    )
    async with pod:
        async with engine.begin() as tx:
            await tx.run_sync(TABLES.create_all)
        user_id, token = await sign_in(auth)
        async with engine.begin() as tx:
            with pytest.raises(InvalidArgumentError):
                await auth.token_manager.revoke_all_tokens(auth_user_id=user_id, transaction=tx)
        given = {"engine": engine, "auth": auth, "accounts": PASSWORDS, "user_id": user_id, "hashed": "..."}
        await run_async("docs/how-to/transactions.md", given, slice(1, 2))
        assert await auth.token_manager.validate_token(token) is None
    await engine.dispose()


async def test_users_of_ones_own(readme: Names) -> None:
    del readme["auth"], readme["pod"]  # the page makes its own

    async def my_lookup(connection: AsyncConnection, user_id: str) -> object:
        return (await connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == user_id))).first()

    def blocking_lookup(_user_id: str) -> object:
        return SimpleNamespace(scopes=["notes:read"], disabled=False)

    given = {"my_lookup": my_lookup, "blocking_lookup": blocking_lookup, "accounts": ACCOUNTS, "user_id": "ann"}
    names = run("docs/how-to/own-users.md", given, slice(0, 1))
    ann, bob = names["User"](email="ann@example.org", is_superuser=True), names["User"](email="bob", is_active=False)
    async with Pod() as pod, pod.store.transaction() as tx:
        await tx.run_sync(names["User"].metadata.create_all)
        await tx.run_sync(lambda connection: Session(connection).bulk_save_objects([ann, bob]))
    async with names["pod"]:
        success = await names["auth"].token_manager.create_token(auth_user_id=ann.id, method="email")
        assert success.scope_names == {"admin"}
        with pytest.raises(UserBlockedError):
            await names["auth"].token_manager.create_token(auth_user_id=bob.id, method="email")
    names = run("docs/how-to/own-users.md", names, slice(1, 3))
    async with names["pod"] as pod:
        async with pod.store.transaction() as tx:
            await tx.run_sync(TABLES.create_all)
            await tx.execute(insert(ACCOUNTS).values(id="ann", scopes=["notes:read"], disabled=False))
        tokens = names["auth"].token_manager
        success = await tokens.create_token(auth_user_id="ann", method="email")
        assert (await tokens.validate_token(success.token)).scopes == {"notes:read"}
        assert (await names["BlockingAccounts"]().get("ann")).scopes == {"notes:read"}
        await run_async("docs/how-to/own-users.md", names, slice(3, None))
        assert await tokens.validate_token(success.token) is None


def alembic(*command: str) -> None:
    """Alembic's command, as a reader calls it. The folder is the test's own."""
    subprocess.run(
        [sys.executable, "-m", "alembic", *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def alembic_commands() -> list[list[str]]:
    """The commands within the sentences of the page."""
    text = (ROOT / "docs/how-to/own-alembic.md").read_text(encoding="utf-8")
    return [shlex.split(command)[1:] for command in re.findall(r"`(alembic [^`]+)`", text)]


async def test_ones_own_alembic_makes_the_tables_of_the_application_and_ours(
    readme: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page's lines in alembic.ini and by its commands, in a folder that `alembic init` has made."""
    (lines,) = blocks_of("docs/how-to/own-alembic.md", "ini")
    alembic("init", "migrations")
    made = (tmp_path / "alembic.ini").read_text(encoding="utf-8")
    made = re.sub("^path_separator = os$", "", made, flags=re.MULTILINE).replace("[alembic]", f"[alembic]\n{lines}", 1)
    made = re.sub("^sqlalchemy.url = .*$", "sqlalchemy.url = sqlite:///coatcheck.db", made, flags=re.MULTILINE)
    (tmp_path / "alembic.ini").write_text(made, encoding="utf-8")
    commands = {tuple(one) for one in alembic_commands()}
    (first,) = [one for one in commands if one[:2] == ("revision", "--head")]
    alembic(*first)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        alembic("upgrade", "head")
    assert "Multiple head revisions are present" in refused.value.stderr
    upgrades = {one for one in commands if one[0] == "upgrade" and len(one) > 1}
    assert upgrades == {("upgrade", "heads"), ("upgrade", "coatcheck@head")}
    for upgrade in sorted(upgrades):
        alembic(*upgrade)
    assert [file.name for file in (tmp_path / "migrations/versions").glob("*_first.py")] != []
    monkeypatch.setenv("COATCHECK_STORE", "sqlite:///coatcheck.db")
    config = Config()
    config.set_main_option("script_location", "migrations")
    names = run("docs/how-to/own-alembic.md", readme | {"config": config}, slice(1, None))
    auth = names["pod"].initialize_auth_services(
        token_manager_builders=[readme["ServerSideSessionsConfigFromPasswords"]()]
    )
    async with names["pod"]:  # which does not migrate
        _, token = await sign_in(auth)
        assert await auth.token_manager.validate_token(token) is not None
    assert len(ScriptDirectory.from_config(config).get_heads()) == 2


async def test_ones_own_autogenerate_leaves_our_tables_alone(readme: Names, tmp_path: Path) -> None:
    """By the page's env.py. Without its filter Alembic proposes to drop each of them."""
    async with readme["pod"]:  # which makes its tables
        pass
    alembic("init", "migrations")
    file = tmp_path / "alembic.ini"
    made = re.sub(
        "^sqlalchemy.url = .*$", "sqlalchemy.url = sqlite:///coatcheck.db", file.read_text(), flags=re.MULTILINE
    )
    file.write_text(made, encoding="utf-8")
    (block,) = [one for one in blocks_of("docs/how-to/own-alembic.md") if one.startswith("# in env.py")]
    env = f"""
from sqlalchemy import create_engine
from tests.test_code_on_pages import TABLES as target_metadata
{block}
with create_engine("sqlite:///coatcheck.db").connect() as connection:
    run_migrations_on(connection)
"""
    ours = set()
    for name, text in (("with", env), ("without", env.replace(", include_name=include_name", ""))):
        (tmp_path / "migrations/env.py").write_text(text, encoding="utf-8")
        alembic(
            "revision",
            "--autogenerate",
            "--version-path",
            "migrations/versions",
            "-m",
            name,
            "--splice",
            "--head",
            "base",
        )
        (revision,) = (tmp_path / "migrations/versions").glob(f"*_{name}.py")
        upgrade = revision.read_text(encoding="utf-8").partition("def downgrade")[0]
        dropped = set(re.findall(r"drop_table\('(\w+)'\)", upgrade))
        assert set(re.findall(r"create_table\('(\w+)'", upgrade)) == {"accounts", "passwords", "devices"}
        if name == "with":
            assert dropped == set()
        else:
            ours = dropped
        revision.unlink()
    assert {"coatcheck_sessions", "coatcheck_alembic_version"} <= ours


def template_session() -> Iterator[sqlmodel.Session]:
    engine = sqlmodel.create_engine("sqlite:///app.db")
    with sqlmodel.Session(engine) as session:
        yield session
    engine.dispose()


def authenticate(session: sqlmodel.Session, email: str, password: str) -> TemplateUser | None:
    user = session.exec(sqlmodel.select(TemplateUser).where(TemplateUser.email == email)).first()
    return user if user is not None and user.hashed_password == hash_in_template(password) else None


def hash_in_template(password: str) -> str:
    return f"hash of {password}"


@pytest.fixture
def without_jwts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """The application of the page on JWTs, with ann and bob, who is blocked, in its table."""
    page = "docs/how-to/replace-jwts.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_PEPPER", "a pepper of thirty-two bytes ok!")
    given: Names = {"User": TemplateUser, "authenticate": authenticate, "hash_of": hash_in_template}
    given["SessionDep"] = Annotated[sqlmodel.Session, Depends(template_session)]
    names = run(page, given, slice(1))
    names = run(page, names | {"settings": names["Settings"]()}, slice(1, None))
    for session in template_session():
        TemplateUser.metadata.create_all(session.get_bind(), tables=[TemplateUser.__table__])  # type: ignore[attr-defined]  # SQLModel's types lack it
        session.add(TemplateUser(email="ann", hashed_password="hash of old", is_superuser=True))
        session.add(TemplateUser(email="bob", hashed_password="hash of old", is_active=False))
        session.commit()
    return names


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_replacing_jwts(without_jwts: Names) -> None:
    """By the calls that the template's own tests make."""
    from fastapi.testclient import TestClient  # noqa: PLC0415 (warns where there is no httpx2)

    def log_in(email: str, password: str) -> Any:
        return client.post("/login/access-token", data={"username": email, "password": password})

    with TestClient(without_jwts["api"]) as client:
        assert client.get("/users/me").status_code == 401
        assert log_in("ann", "wrong").status_code == 400
        assert (log_in("bob", "old").status_code, log_in("bob", "old").json()["detail"]) == (400, "Inactive user")
        thief, ann = [{"Authorization": f"Bearer {log_in('ann', 'old').json()['access_token']}"} for _ in range(2)]
        assert client.get("/users/me", headers=ann).json() == {"email": "ann"}
        assert client.get("/users", headers=ann).status_code == 200
        assert client.patch("/users/me/password?new_password=new", headers=ann).status_code == 200
        assert client.get("/users/me", headers=thief).status_code == 401
        assert client.get("/users/me", headers=ann).status_code == 200
        assert (log_in("ann", "old").status_code, log_in("ann", "new").status_code) == (400, 200)
        client.post("/logout", headers=ann)
        assert client.get("/users/me", headers=ann).status_code == 401
        flows = client.get("/openapi.json").json()["components"]["securitySchemes"]["session"]["flows"]
        assert flows["password"]["tokenUrl"] == "/login/access-token"


def test_replacing_jwts_with_the_old_answers_and_testing_it_on_its_own_database(without_jwts: Names) -> None:
    api, pod = without_jwts["api"], without_jwts["pod"]
    user_of = Depends(without_jwts["get_user_with_old_answers"])

    @api.get("/old")  # type: ignore[untyped-decorator]  # a page's name
    def old(user: Any = user_of) -> str:
        return str(user.email)

    with pytest.raises(ConfigurationError, match="by store= of the tester"), AppTester(api, pod):
        pytest.fail("it was opened on a store without tables")
    with AppTester(api, pod, store=without_jwts["settings"].database_url, clock=ManualClock()) as tester:
        phone = tester.device()
        refused = phone.get("/old")
        assert (refused.status_code, refused.json()["detail"]) == (401, "Not authenticated")
        assert phone.get("/old", headers={"Authorization": "Bearer nonsense"}).status_code == 403
        for session in template_session():
            ann = session.exec(sqlmodel.select(TemplateUser).where(TemplateUser.email == "ann")).one()
            tester.signed_in(phone, user_id=str(ann.id))
            assert phone.get("/old").json() == "ann"
            with tester.outage():
                assert phone.get("/old").status_code == 503
            ann.is_active = False
            session.commit()
        inactive = phone.get("/users/me")
        assert (inactive.status_code, inactive.json()["detail"]) == (400, "Inactive user")
        tester.advance(timedelta(days=8))
        assert (phone.get("/users/me").status_code, phone.get("/old").status_code) == (401, 403)


class GoogleStandIn:
    """A provider of OpenID Connect, in this process."""

    def __init__(self) -> None:
        self.key = OctKey.generate_key()
        self.nonce = ""
        self.app = FastAPI()
        root = "https://accounts.google.com"
        self.app.get("/.well-known/openid-configuration")(
            lambda: {
                "issuer": root,
                "authorization_endpoint": f"{root}/authorize",
                "token_endpoint": f"{root}/token",
                "jwks_uri": f"{root}/keys",
                "id_token_signing_alg_values_supported": ["HS256"],
            }
        )
        self.app.get("/keys")(lambda: {"keys": [self.key.as_dict(private=True)]})
        self.app.post("/token")(self.token)

    def token(self) -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": "https://accounts.google.com", "aud": "an id", "sub": "ann of google", "nonce": self.nonce}
        id_token = jwt.encode({"alg": "HS256"}, claims | {"iat": now, "exp": now + 60}, self.key)
        return {"access_token": "the provider's", "token_type": "Bearer", "id_token": id_token}


async def test_signing_in_with_authlib(readme: Names) -> None:
    async def user_of(provider: str, subject: str) -> UserId:
        assert (provider, subject) == ("google", "ann of google")
        return (await readme["auth"].auth_users.create(scopes={"notes:read"})).id  # type: ignore[no-any-return]  # a page's name

    google = GoogleStandIn()
    settings = SimpleNamespace(google_client_id="an id", google_client_secret="s", oauth_state_secret="of the state")
    names = run("docs/how-to/oauth-with-authlib.md", readme | {"settings": settings, "user_of": user_of})
    names["oauth"].google.client_kwargs["transport"] = httpx2.ASGITransport(google.app)
    async with names["pod"], asking(names["app"]) as http:
        redirect = await http.get("/login/google")
        query = parse_qs(urlsplit(redirect.headers["location"]).query)
        google.nonce = query["nonce"][0]
        forged = await http.get("/login/google/callback?state=forged&code=x")
        assert forged.status_code == 400
        answer = await http.get("/login/google/callback", params={"state": query["state"][0], "code": "x"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert list((await http.get("/notes")).json()) == ["notes_of"]


async def test_synchronous_routes(readme: Names) -> None:
    def user_with(_email: str, password: str) -> UserId:
        if hash_of(password) != stored():
            raise WrongPassword
        return ann

    def check_password(_user_id: uuid.UUID, password: str) -> None:
        user_with("", password)

    def hash_of(password: str) -> str:
        return f"hash of {password}"

    def stored() -> str:
        with sqlite3.connect("coatcheck.db") as connection:
            ((found,),) = connection.execute("SELECT hashed_password FROM users")
        connection.close()
        return str(found)

    pod, auth = readme["pod"], readme["auth"]
    own = {"User": User, "NewPassword": NewPassword, "Credentials": Credentials, "uuid": uuid}
    own |= {one.__name__: one for one in (user_with, check_password, hash_of)}
    names = run("docs/how-to/synchronous-applications.md", readme | own)
    async with pod, asking(readme["app"]) as http:
        ann: UserId = (await auth.auth_users.create(scopes={"admin"})).id
        async with pod.store.transaction() as tx:
            await tx.run_sync(User.metadata.create_all)
            await tx.execute(insert(User).values(id=uuid.UUID(ann), hashed_password="hash of old"))
        credentials = {"email": "ann@example.org", "password": "old"}
        thief, own_device = [(await http.post("/login", json=credentials)).json()["token"] for _ in range(2)]
        headers = {"Authorization": f"Bearer {own_device}"}
        assert (await http.post("/sign-out-others", headers=headers)).json() == 1
        assert await auth.token_manager.validate_token(thief) is None
        await asyncio.to_thread(names["take_admin_away"], uuid.UUID(ann))
        assert (await auth.token_manager.validate_token(own_device)).scopes == set()
        with sqlite3.connect("coatcheck.db") as broken:  # the second step fails, so that the first is undone
            broken.execute("ALTER TABLE coatcheck_sessions RENAME TO gone")
        with pytest.raises(StoreUnavailable):
            await names["change_password"](uuid.UUID(ann), "hash of new")
        assert stored() == "hash of old"
        broken.execute("ALTER TABLE gone RENAME TO coatcheck_sessions")
        broken.close()
        assert (await http.post("/password", json={"old": "old", "new": "new"}, headers=headers)).status_code == 200
        assert stored() == "hash of new"
        assert await auth.token_manager.validate_token(own_device) is None


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # the page says so
def test_processes_and_loops(readme: Names, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/how-to/processes-and-loops.md", readme)
    assert "STRICT" in capsys.readouterr().out
    names["test_notes"]()
    with names["TestClient"](names["app"]) as client:
        token = client.post("/demo-sign-in").json()["token"]
        assert client.get("/report", headers={"Authorization": f"Bearer {token}"}).json() == ["demo"]


async def test_rotating_the_pepper(
    readme: Names, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVERPOD_PASSWORD_newPepper", "another pepper, as long as it ought to be")
    pod = Pod("sqlite:///coatcheck.db")
    names = run("docs/how-to/rotate-the-pepper.md", readme | {"pod": pod}, slice(1))
    auth = pod.initialize_auth_services(token_manager_builders=[names["config"]])
    async with pod:
        await sign_in(auth)
        await run_async("docs/how-to/rotate-the-pepper.md", names | {"auth": auth}, slice(1, None))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["primary", "fallback"]


def test_pods_on_redis() -> None:
    names = run("docs/how-to/redis.md", {})
    assert "RedisStore" in repr(names["pod"].store)


def test_a_pod_on_redis_with_sentinels() -> None:
    assert "RedisStore" in repr(run("docs/how-to/redis-sentinel.md", {})["pod"].store)


async def test_an_application_behind_a_proxy(readme: Names) -> None:
    auth = readme["auth"]

    async def checked(_request: Request) -> UserId:
        user = await auth.auth_users.create()
        user_id: UserId = user.id
        return user_id

    names = run("docs/how-to/behind-a-proxy.md", {**readme, "checked": checked})
    async with names["pod"]:
        async with asking(names["site"]) as http:
            assert (await http.get("/app/nothing")).status_code == 404
        app = SessionMiddleware(names["api"], auth=auth, cookie=names["cookie"], except_paths=["/static/", "/healthz"])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://notes.example") as http:
            for origin, status in (("https://appleid.apple.com", 303), ("https://evil.example", 403)):
                answer = await http.post("/callback", headers={"Origin": origin, "Coatcheck-Mode": "cookie"})
                assert (answer.status_code, "set-cookie" in answer.headers) == (status, status == 303)
                http.cookies.clear()


async def test_the_middleware_around_an_application_and_inside_of_one(readme: Names) -> None:
    names = run("docs/reference/http.md", readme)
    async with names["pod"]:
        for app in (names["app"], names["Api"]()):
            assert isinstance(app, FastAPI | SessionMiddleware)
            async with asking(app) as http:
                assert (await http.get("/nothing")).status_code == 404


SERVER = """
from fastapi.responses import HTMLResponse
from pydantic import BaseModel


class Credentials(BaseModel):
    email: str
    password: str


async def check(credentials: Credentials) -> str:
    return (await auth.auth_users.create(scopes={{"notes:read"}})).id

{page}

api.get("/api/notes")(notes)


@api.get("/app")
async def application() -> HTMLResponse:
    return HTMLResponse({application!r})


@api.get("/sign-in")
async def sign_in_page() -> HTMLResponse:
    return HTMLResponse({sign_in!r})
"""


@pytest.fixture
def server_of_the_clients(tmp_path: Path) -> AppServer:
    """The README's application with what the pages on clients expect: sign-in, notes and two pages."""
    application, sign_in_page = blocks_of("docs/how-to/browser-client.md", "html")
    server = SERVER.format(
        page="\n".join(blocks_of("docs/how-to/browser-client.md")),
        application=application.replace("</script>", "window.notes = await notes.json();</script>"),
        sign_in=sign_in_page.replace("import", 'const body = JSON.stringify({email: "ann", password: "x"}); import', 1),
    )
    (tmp_path / "app.py").write_text(blocks_of("README.md")[0] + server, encoding="utf-8")
    return AppServer.uvicorn("app:app", cwd=tmp_path, env=PEPPER)


def test_a_program_signs_in(server_of_the_clients: AppServer, tmp_path: Path) -> None:
    own = 'email, password = "ann@example.org", "right"\ndef run_the_program(): print("running")\n'
    program = own + "\n".join(blocks_of("docs/how-to/python-client.md"))
    with server_of_the_clients as server:
        done = subprocess.run(
            [sys.executable, "-c", program.replace("https://notes.example.org", server.url) + "\nprint(notes)"],
            cwd=tmp_path,
            env={"HOME": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.startswith("running\n{'notes_of': ")
    assert (tmp_path / ".config/notes/session.json").is_file()


async def test_a_page_signs_in_by_a_cookie(browser: Browser, server_of_the_clients: AppServer) -> None:
    context = await browser.new_context()
    with server_of_the_clients as server:
        page = await context.new_page()
        await page.goto(f"{server.url}/sign-in?next=/app")
        await page.wait_for_url(f"{server.url}/app")
        await page.wait_for_function("window.notes")
        assert list(await page.evaluate("notes")) == ["notes_of"]
    await chromium.close(context)
