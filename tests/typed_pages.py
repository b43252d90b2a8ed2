"""Writes the code of the README and of `docs/` into a folder, for mypy and pyright: a reader's editor checks it, too.

    python -m tests.typed_pages build/pages

Each block of the README is a program of its own. The blocks of another page follow each other in one module, after the
names that the page takes as given: those of the README's application, and what the page calls the reader's own. A block
that begins with the name of a file is that file. Excerpts of our own files are checked where they stand.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import textwrap
from pathlib import Path

from tests.pages import ROOT, blocks_of

RULES = "# pyright: strict, reportUnusedVariable=false"  # a block shows what one gets, and goes no further
UNTYPED = {
    "docs/how-to/oauth-with-authlib.md": ", reportUnknownMemberType=false, reportUnknownVariableType=false"
    ", reportUnknownArgumentType=false",  # Authlib has no types
    # Starlette types its TestClient by httpx2.
    "docs/how-to/processes-and-loops.md": ", reportUnknownMemberType=false",
    "docs/how-to/test-your-application.md": ", reportUnknownMemberType=false",
}
GIVEN_NAMES = """
from typing import Any

from readme_1 import *

def given() -> Any:
    raise NotImplementedError
"""

GIVEN = {
    "docs/how-to/announcements.md": """
async def close_connections_of(**whose: str | None) -> None: ...
async def check_again(*, user: str | None, session: str | None = None) -> None: ...
""",
    "docs/how-to/browser-client.md": """
from dataclasses import dataclass

from coatcheck import UserId

@dataclass
class Credentials:
    email: str
    password: str

async def check(credentials: Credentials) -> UserId:
    raise NotImplementedError
""",
    "docs/how-to/live-connections.md": """
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from coatcheck import AuthenticationInfo

def subscription(user: AuthenticationInfo) -> AbstractAsyncContextManager[AsyncIterator[str]]:
    raise NotImplementedError
async def save(text: str) -> None: ...
""",
    "docs/how-to/own-alembic.md": """
from alembic.config import Config
from sqlalchemy import MetaData

config: Config = given()
target_metadata: MetaData = given()
""",
    "docs/how-to/own-users.md": """
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

class Row(Protocol):
    scopes: Sequence[str]
    disabled: bool

async def my_lookup(connection: AsyncConnection, user_id: str) -> Row | None:
    raise NotImplementedError
def blocking_lookup(user_id: str) -> Row:
    raise NotImplementedError
accounts: Table = given()
user_id: str = given()
""",
    "docs/how-to/python-client.md": """
email: str = given()
password: str = given()
def run_the_program() -> None: ...
""",
    "docs/how-to/sign-in.md": """
from dataclasses import dataclass

from fastapi import Request

from coatcheck import UserId

@dataclass
class Credentials:
    email: str
    password: str
class Account: ...
class WrongPassword(Exception): ...

async def check_password(user_id: UserId, password: str) -> bool:
    raise NotImplementedError
async def id_of(email: str) -> UserId:
    raise NotImplementedError
async def load_account(email: str) -> Account:
    raise NotImplementedError
request: Request = given()
user_id: UserId = given()
email: str = given()
password: str = given()
""",
    "docs/how-to/behind-a-proxy.md": """
from fastapi import Request as Asked

from coatcheck import UserId

async def checked(request: Asked) -> UserId:
    raise NotImplementedError
""",
    "docs/how-to/oauth-with-authlib.md": """
class Settings:
    google_client_id: str
    google_client_secret: str
    oauth_state_secret: str

settings: Settings = given()

async def user_of(provider: str, subject: str) -> str:
    raise NotImplementedError
""",
    "docs/how-to/replace-jwts.md": """
import uuid
from typing import Annotated as An

from fastapi import Depends as From
from pydantic import SecretStr as Secret
from sqlmodel import Field, Session as SqlSession, SQLModel

class User(SQLModel, table=True):
    id: uuid.UUID = Field(primary_key=True)
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
class GivenSettings:
    database_url: str
    session_pepper: Secret

settings: GivenSettings = given()

def get_db() -> SqlSession:
    raise NotImplementedError
SessionDep = An[SqlSession, From(get_db)]
def authenticate(session: SqlSession, email: str, password: str) -> User | None: ...
def hash_of(password: str) -> str:
    raise NotImplementedError
""",
    "docs/how-to/synchronous-applications.md": """
import uuid

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from coatcheck import UserId

class Base(DeclarativeBase): ...
class User(Base):
    __tablename__ = "users"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
class Credentials(BaseModel):
    email: str
    password: str
class NewPassword(BaseModel):
    old: str
    new: str

def user_with(email: str, password: str) -> UserId:
    raise NotImplementedError
def check_password(user_id: uuid.UUID, password: str) -> None: ...
def hash_of(password: str) -> str:
    raise NotImplementedError
""",
    "docs/how-to/transactions.md": """
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

accounts: Table = given()
devices: Table = given()
engine: AsyncEngine = given()
email: str = given()
hashed: str = given()
user_id: str = given()
""",
}
"""The names that each page takes as given, with their types."""


def module_of(page: str, blocks: list[str]) -> str:
    """The blocks one after the other. One with an `await` outside of any function becomes a function."""
    parts = [RULES + UNTYPED.get(page, ""), GIVEN_NAMES, GIVEN.get(page, "")]
    for number, block in enumerate(blocks, start=1):
        parts.append(
            f"async def block_{number}() -> None:\n{textwrap.indent(block, '    ')}" if awaits(block) else block
        )
    return "\n\n".join(parts)


def awaits(block: str) -> bool:
    """Whether a block has an `await` outside of any function."""
    try:
        compile(block, "a page", "exec", dont_inherit=True)
    except SyntaxError:
        compile(block, "a page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return True
    return False


def modules() -> dict[str, str]:
    """The text of each module, by the path of its file."""
    made = {f"readme_{n}.py": f"{RULES}\n{block}" for n, block in enumerate(blocks_of("README.md"), start=1)}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name, blocks = str(page.relative_to(ROOT)), blocks_of(str(page.relative_to(ROOT)))
        named = [(re.match(r"# (\w+\.py)\n", block), block) for block in blocks]
        files = {found[1]: block for found, block in named if found is not None}
        folder = f"page_{page.stem}".replace("-", "_")
        if files:
            rules = RULES + UNTYPED.get(name, "")
            made |= {f"{folder}/{file}": f"{rules}\n{block}" for file, block in files.items()}
        elif blocks:
            made[f"{folder}.py"] = module_of(name, blocks)
    return made


def main(folder: Path) -> None:
    """Write them, and nothing else, into the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, text in modules().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
