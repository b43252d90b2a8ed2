"""The application's own table of users, read on the store's connection."""

from __future__ import annotations

import typing
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlmodel
from sqlalchemy import JSON, Column, ForeignKey, Integer, MetaData, Table, Text, delete, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

import coatcheck
from coatcheck import (
    ConfigurationError,
    Pod,
    ServerSideSessionsConfig,
    SqlUserSource,
    Transaction,
    UserBlockedError,
    UserNotFoundError,
)
from coatcheck.testing import MemoryStore
from tests.kinds_of_store import WITH_TRANSACTIONS_BY_URL
from tests.worlds import PEPPER

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from coatcheck import AuthServices
    from coatcheck.stores.store import Store
    from tests.servers.pgbouncer import PgBouncer

ANN = uuid.UUID("0192c6a5-0000-7000-8000-00000000000a")


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=lambda: ANN)
    number: Mapped[int] = mapped_column(Integer, unique=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    disabled: Mapped[bool] = mapped_column(default=False)
    roles: Mapped[list[Role]] = relationship()


class Role(Base):
    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]


class Member(sqlmodel.SQLModel, table=True):
    id: uuid.UUID = sqlmodel.Field(primary_key=True)
    is_active: bool = True
    is_superuser: bool = False


PEOPLE = Table("people", MetaData(), Column("name", Text), Column("scopes", JSON(none_as_null=True)))


def roles_of(account: Account) -> set[str]:
    """By a relationship that is loaded when it is asked for."""
    return {role.name for role in account.roles}


def services(pod: Pod, source: SqlUserSource[Any]) -> AuthServices:
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    return pod.initialize_auth_services(token_manager_builders=[config], user_source=source)


def a_pod(store: str | Store) -> Pod:
    return Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)


@pytest.fixture
async def pod(store_url: str) -> Pod:
    """Closed, on a database with the application's tables and Ann."""
    tables = a_pod(store_url)
    async with tables, tables.store.transaction() as tx:
        for metadata in (Base.metadata, Member.metadata, PEOPLE.metadata):
            await tx.run_sync(metadata.create_all)
        await tx.execute(insert(Account).values(id=ANN, number=7, email="ann@example.org", disabled=False))
        await tx.execute(insert(Role).values(id=1, account=ANN, name="notes:read"))
        await tx.execute(insert(Member).values(id=ANN, is_active=True, is_superuser=True))
        await tx.execute(insert(PEOPLE).values(name="ann", scopes=["notes:read"]))
    return a_pod(store_url)


async def scopes_at_sign_in(auth: AuthServices, user_id: str, transaction: Transaction | None = None) -> set[str]:
    success = await auth.token_manager.create_token(auth_user_id=user_id, method="email", transaction=transaction)
    return set(success.scope_names)


@WITH_TRANSACTIONS_BY_URL
@pytest.mark.parametrize(
    ("id_", "user_id"),
    [(None, str(ANN)), ("id", str(ANN)), (Account.id, str(ANN)), (Account.number, "7"), ("email", "ann@example.org")],
    ids=str,
)
async def test_a_user_is_found_by_a_column_and_their_scopes_by_a_relationship(pod: Pod, id_: Any, user_id: str) -> None:
    auth = services(pod, SqlUserSource(Account, id=id_, scopes=roles_of))
    async with pod:
        assert await scopes_at_sign_in(auth, user_id) == {"notes:read"}


@WITH_TRANSACTIONS_BY_URL
async def test_a_table_of_sqlmodel_s_and_one_without_a_class_are_read_too(pod: Pod) -> None:
    for source, user_id in (
        (SqlUserSource(Member, scopes=lambda one: {"notes:read"} if one.is_superuser else set()), str(ANN)),
        (SqlUserSource(PEOPLE, id=PEOPLE.c.name, scopes=lambda row: row.scopes), "ann"),
    ):
        auth = services(pod, source)
        async with pod:
            assert await scopes_at_sign_in(auth, user_id) == {"notes:read"}


async def test_users_are_read_through_a_pooler_with_the_settings_of_each_transaction(
    pgbouncer: PgBouncer, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_pod(postgres_dsn) as direct, direct.store.transaction() as tx:
        await tx.run_sync(PEOPLE.metadata.create_all)
        await tx.execute(insert(PEOPLE).values(name="ann", scopes=["notes:read"]))
    pod = a_pod(pgbouncer.through(postgres_dsn))
    auth = services(pod, SqlUserSource(PEOPLE, id="name", scopes=lambda row: row.scopes))
    async with pod:
        assert await scopes_at_sign_in(auth, "ann") == {"notes:read"}
        begun: list[AsyncConnection] = []

        async def note(connection: AsyncConnection) -> None:
            begun.append(connection)

        monkeypatch.setattr(vars(pod.store)["_transactions"], "_begun", note)
        async with pod.store.read_tables() as connection:
            assert begun == [connection]


@WITH_TRANSACTIONS_BY_URL
async def test_without_scopes_and_blocked_every_user_may_sign_in_and_has_none(pod: Pod) -> None:
    auth = services(pod, SqlUserSource(Account))
    async with pod:
        assert await scopes_at_sign_in(auth, str(ANN)) == set()


@WITH_TRANSACTIONS_BY_URL
async def test_a_blocked_user_may_not_sign_in(pod: Pod) -> None:
    auth = services(pod, SqlUserSource(Account, blocked=lambda one: one.disabled))
    async with pod:
        async with pod.store.transaction() as tx:
            await tx.execute(update(Account).values(disabled=True))
        with pytest.raises(UserBlockedError):
            await scopes_at_sign_in(auth, str(ANN))


@WITH_TRANSACTIONS_BY_URL
@pytest.mark.parametrize(
    ("id_", "user_id"),
    [
        ("id", "0192c6a5-0000-7000-8000-00000000000b"),
        ("id", "0192c6a5000070008000000000000a0a"),
        ("id", "ann"),
        ("number", "07"),
        ("number", "8"),
        ("number", "99999999999"),
        ("number", "99999999999999999999999999"),
        ("number", "1_0"),
        ("number", "ann"),
        ("email", "ANN@example.org"),
    ],
)
async def test_an_id_that_is_no_user_s_or_is_spelt_otherwise_is_not_found(pod: Pod, id_: str, user_id: str) -> None:
    auth = services(pod, SqlUserSource(Account, id=id_))
    async with pod:
        with pytest.raises(UserNotFoundError):
            await scopes_at_sign_in(auth, user_id)


async def test_a_user_has_one_id_where_the_database_compares_without_case(tmp_path: Any) -> None:
    """Else "sign out everywhere" for one of them would leave the sessions of the other."""
    loose = Table("loose", MetaData(), Column("name", Text(collation="NOCASE"), primary_key=True))
    pod = a_pod(f"sqlite:///{tmp_path}/sessions.db")
    async with pod, pod.store.transaction() as tx:
        await tx.run_sync(loose.metadata.create_all)
        await tx.execute(insert(loose).values(name="ann"))
    auth = services(pod, SqlUserSource(loose))
    async with pod:
        assert await scopes_at_sign_in(auth, "ann") == set()
        with pytest.raises(UserNotFoundError):
            await scopes_at_sign_in(auth, "Ann")


@WITH_TRANSACTIONS_BY_URL
async def test_it_reads_inside_the_transaction_of_the_sign_in(pod: Pod) -> None:
    """And leaves it open: what is done in it afterwards is part of it."""
    auth = services(pod, SqlUserSource(Account, scopes=roles_of))
    async with pod:
        async with pod.store.transaction() as tx:
            await tx.execute(insert(Role).values(id=2, account=ANN, name="notes:write"))
            assert await scopes_at_sign_in(auth, str(ANN), tx) == {"notes:read", "notes:write"}
            await tx.execute(insert(Role).values(id=3, account=ANN, name="admin"))
        assert await scopes_at_sign_in(auth, str(ANN)) == {"notes:read", "notes:write", "admin"}
        assert len(await auth.token_manager.list_tokens(auth_user_id=ANN)) == 2


@WITH_TRANSACTIONS_BY_URL
async def test_it_sees_what_the_application_s_session_has_not_sent_yet_and_no_memory_of_it(pod: Pod) -> None:
    auth = services(pod, SqlUserSource(Account, scopes=roles_of))
    async with pod, pod.store.transaction() as tx, AsyncSession(bind=tx) as session:
        remembered = await session.get_one(Account, ANN)
        await session.refresh(remembered, ["roles"])
        session.add(Role(id=2, account=ANN, name="notes:write"))
        assert await scopes_at_sign_in(auth, str(ANN), session) == {"notes:read", "notes:write"}
        assert roles_of(remembered) == {"notes:read"}


@WITH_TRANSACTIONS_BY_URL
async def test_an_error_of_the_database_inside_reading_is_the_application_s(pod: Pod) -> None:
    async with pod, pod.store.transaction() as tx:
        with pytest.raises(IntegrityError):
            async with pod.store.read_tables(tx) as connection:
                await connection.execute(insert(Account).values(id=ANN, number=8, email="b@example.org"))
        await tx.rollback()


@WITH_TRANSACTIONS_BY_URL
async def test_reading_gives_a_connection_without_a_transaction_and_the_transaction_s_own_with_one(pod: Pod) -> None:
    async with pod:
        async with pod.store.read_tables() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        async with pod.store.transaction() as tx, pod.store.read_tables(tx) as connection:
            assert connection is tx


@pytest.mark.parametrize("store", ["redis://localhost:6379", MemoryStore()], ids=repr)
def test_a_store_that_is_no_database_with_tables_is_refused_when_the_services_are_set_up(store: str | Store) -> None:
    pod = a_pod(store)
    with pytest.raises(ConfigurationError, match=r"SqlUserSource reads the table accounts on the store"):
        services(pod, SqlUserSource(Account))
    with pytest.raises(ConfigurationError, match=r"has no auth services"):
        _ = pod.auth_services


@WITH_TRANSACTIONS_BY_URL
async def test_a_database_without_the_table_or_a_column_is_refused_when_the_pod_opens(store_url: str) -> None:
    pod = a_pod(store_url)
    services(pod, SqlUserSource(Account))
    with pytest.raises(ConfigurationError, match=r"cannot read the table accounts on \w+.*accounts") as refused:
        await pod.__aenter__()
    assert "must be the database with that table" in str(refused.value)
    async with a_pod(store_url) as other, other.store.transaction() as tx:
        await tx.execute(text("CREATE TABLE accounts (id TEXT, number INTEGER)"))
    with pytest.raises(ConfigurationError, match="email"):
        await pod.__aenter__()


@WITH_TRANSACTIONS_BY_URL
async def test_a_table_that_goes_while_the_pod_is_open_is_named(pod: Pod) -> None:
    auth = services(pod, SqlUserSource(Account))
    async with pod:
        assert (await pod.readiness()).is_ready
        async with pod.store.transaction() as tx:
            await tx.execute(text("DROP TABLE roles"))
            await tx.execute(text("DROP TABLE accounts"))
        with pytest.raises(ConfigurationError, match="cannot read the table accounts"):
            await scopes_at_sign_in(auth, str(ANN))
        (problem,) = (await pod.readiness()).problems
        assert "cannot read the table accounts" in problem


@WITH_TRANSACTIONS_BY_URL
async def test_two_users_with_one_id_are_none(pod: Pod) -> None:
    auth = services(pod, SqlUserSource(PEOPLE, id="name"))
    async with pod:
        async with pod.store.transaction() as tx:
            await tx.execute(insert(PEOPLE).values(name="ann", scopes=[]))
        with pytest.raises(ConfigurationError, match=r"people\.name is not unique"):
            await scopes_at_sign_in(auth, "ann")
        async with pod.store.transaction() as tx:
            await tx.execute(delete(PEOPLE))
        with pytest.raises(UserNotFoundError):
            await scopes_at_sign_in(auth, "ann")


@pytest.mark.parametrize(
    ("table", "id_", "sentence"),
    [
        (Account, "nothing", r"id must be a column of Account, or its name: id, number, email, disabled"),
        (Account, Member.id, r"id must be a column of Account"),
        (Account, "roles", r"id must be a column of Account"),
        (PEOPLE, None, r"id must be a column of people, or its name: name, scopes; it has no primary key"),
        (
            PEOPLE,
            "scopes",
            r"people\.scopes is a column of JSON\(.*\); it must be one of texts, whole numbers or UUIDs",
        ),
        (Account, "disabled", r"accounts\.disabled is a column of Boolean\(.*\); it must be one of texts"),
        (Pod, None, r"takes a mapped class \(with SQLModel: table=True\) or a Table, not <class 'coatcheck.pod.Pod'>"),
    ],
)
def test_a_table_or_a_column_that_cannot_be_meant_is_refused(table: Any, id_: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        SqlUserSource(table, id=id_)


@pytest.mark.parametrize("scopes", ["notes:read", None], ids=str)
async def test_one_text_in_the_place_of_scopes_is_refused(tmp_path: Any, scopes: Any) -> None:
    pod = a_pod(f"sqlite:///{tmp_path}/sessions.db")
    async with pod, pod.store.transaction() as tx:
        await tx.run_sync(PEOPLE.metadata.create_all)
        await tx.execute(insert(PEOPLE).values(name="ann", scopes=scopes))
    auth = services(pod, SqlUserSource(PEOPLE, id="name", scopes=lambda row: row.scopes))
    async with pod:
        with pytest.raises(ConfigurationError, match=r"scopes of people 'ann': "):
            await scopes_at_sign_in(auth, "ann")


def test_transaction_can_be_imported_and_used_at_run_time() -> None:
    def get(*, transaction: Transaction | None = None) -> None:
        """As a user source has it."""

    assert typing.get_type_hints(get)["transaction"] == coatcheck.Transaction | None
    assert isinstance(object.__new__(AsyncSession), coatcheck.Transaction)
