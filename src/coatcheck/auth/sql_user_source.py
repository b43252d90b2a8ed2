"""A user source over a table of the application's, in the database that the sessions are in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from uuid import UUID

from sqlalchemy import BigInteger, Column, Integer, Row, Table, inspect, literal, select
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ColumnProperty, Mapper, QueryableAttribute, Session

from coatcheck.errors import ConfigurationError, InvalidArgumentError, UserNotFoundError
from coatcheck.scope import scope_set
from coatcheck.stores.sql.statement_mistakes import mistake_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Select

    from coatcheck.builders import BuildContext
    from coatcheck.identifiers import UserId
    from coatcheck.scope import Scope
    from coatcheck.stores.store import Store, Transaction
    from coatcheck.user_source import UserSource

R = TypeVar("R")

_MAX_WHOLE_NUMBER = 2**63 - 1


class SqlUserSource(Generic[R]):
    """The application's users, in a table of SQLAlchemy's or SQLModel's.

        pod.initialize_auth_services(
            token_manager_builders=[...],
            user_source=SqlUserSource(
                User,
                scopes=lambda user: {"admin"} if user.is_superuser else set(),
                blocked=lambda user: not user.is_active,
            ),
        )

    It reads on a connection of the store, inside the transaction of the sign-in if there is one. `scopes` and `blocked`
    get the user as the ORM has it, freshly read, and may follow its relationships; they must be quick and change
    nothing. Of a `Table` they get the row.
    """

    @overload
    def __init__(
        self: SqlUserSource[Row[Any]],
        table: Table,
        *,
        id: str | Column[Any] | None = None,
        scopes: Callable[[Row[Any]], Collection[str]] = ...,
        blocked: Callable[[Row[Any]], bool] = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        table: type[R],
        *,
        id: str | QueryableAttribute[Any] | Column[Any] | None = None,
        scopes: Callable[[R], Collection[str]] = ...,
        blocked: Callable[[R], bool] = ...,
    ) -> None: ...

    def __init__(
        self,
        table: type[Any] | Table,
        *,
        id: str | QueryableAttribute[Any] | Column[Any] | None = None,  # noqa: A002 (the name the field has everywhere)
        scopes: Callable[[Any], Collection[str]] = lambda _user: (),
        blocked: Callable[[Any], bool] = lambda _user: False,
    ) -> None:
        """Read users from `table`, a mapped class or a `Table`.

        Args:
            table: the class or the table.
            id: the column with the user's id, or its name; None: the primary key. It is of texts, whole numbers or
                UUIDs, and unique. A user's id of Coatcheck is `str()` of it.
            scopes: gives the scopes of a user; by default none.
            blocked: whether a user may not sign in; by default every user may.

        Raises:
            ConfigurationError: `table` is neither of both, or it has no such column.
        """
        self._columns = _Columns.of(table, id)
        self._scopes = scopes
        self._blocked = blocked

    def build(self, context: BuildContext) -> UserSource:
        """Make the user source (the pod calls this). The pod checks, when it opens, that the table can be read.

        Raises:
            ConfigurationError: the store is no database that holds tables of an application.
        """
        source = _UsersInTable(context.store, self._columns, self._access)
        context.at_start(source)
        return source

    def _access(self, user: R) -> _Access:
        scopes: object = self._scopes(user)
        try:
            if not isinstance(scopes, Collection):
                raise InvalidArgumentError(f"scopes must be a collection of scopes, not {type(scopes).__name__}")
            return _Access(scope_set(scopes), bool(self._blocked(user)))
        except InvalidArgumentError as error:
            raise ConfigurationError(
                f"scopes of {self._columns.table} {self._columns.id_of(user)!r}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class _Access:
    """See `UserAccess`."""

    scopes: frozenset[Scope]
    blocked: bool


class _UsersInTable:
    """The user source that is asked, and the check of its table when the pod opens."""

    def __init__(self, store: Store, columns: _Columns, access: Callable[[Any], _Access]) -> None:
        try:
            store.read_tables()  # nothing is read yet
        except ConfigurationError as refused:
            raise ConfigurationError(
                f"SqlUserSource reads the table {columns.table} on the store, and {refused}; give the pod the URL of "
                "the database with that table, or a user source of your own (docs/how-to/own-users.md)"
            ) from refused
        self._store = store
        self._columns = columns
        self._access = access

    async def get(self, user_id: UserId, *, transaction: Transaction | None = None) -> _Access:
        statement = self._columns.statement_for(user_id)
        if isinstance(transaction, AsyncSession) and transaction.sync_session.autoflush:
            await transaction.flush()  # a user that was just added or changed, as the session's own queries would see
        async with self._store.read_tables(transaction) as connection:
            try:
                return await connection.run_sync(self._read, user_id, statement)
            except DBAPIError as error:
                mistake = mistake_in(error)
                if mistake is None:
                    raise
                raise self._cannot_be_read(mistake) from error

    async def start(self) -> None:
        """See `StartCheck`."""
        async with self._store.read_tables() as connection:
            try:
                await connection.execute(self._columns.select().limit(0))
            except DBAPIError as error:
                mistake = mistake_in(error)
                if mistake is None:
                    raise
                raise self._cannot_be_read(mistake) from error

    async def problem(self) -> str | None:
        """See `StartCheck`."""
        try:
            await self.start()
        except ConfigurationError as wrong:
            return str(wrong)
        return None

    def _read(self, connection: Connection, user_id: UserId, statement: Select[Any]) -> _Access:
        # A session of its own: one of the application's could answer with what it has read before. Its end leaves the
        # caller's transaction as it is.
        with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
            try:
                row = session.execute(statement).unique().one_or_none()
            except MultipleResultsFound as error:
                raise ConfigurationError(
                    f"SqlUserSource: {self._columns.name} is not unique, and several rows have the id {user_id!r}"
                ) from error
            user = None if row is None else self._columns.user_in(row)
            # The database may find "Ann" for "ann"; two ids of one user would have two lists of sessions.
            if user is None or self._columns.id_of(user) != user_id:
                raise UserNotFoundError(user_id)
            return self._access(user)

    def _cannot_be_read(self, mistake: str) -> ConfigurationError:
        return ConfigurationError(
            f"SqlUserSource cannot read the table {self._columns.table} on {self._store!r}: {mistake}. The pod's store "
            "must be the database with that table, and the table must be there before the pod opens"
        )


class _Columns:
    """The table, and the column by which a user is found."""

    def __init__(self, source: type[Any] | Table, key: str, column: Column[Any]) -> None:
        self._source = source
        self._key = key
        self._column = column
        try:
            self._type = column.type.python_type
        except NotImplementedError:
            self._type = object
        if not issubclass(self._type, str | int | UUID) or issubclass(self._type, bool):
            raise ConfigurationError(
                f"id: {self.name} is a column of {column.type!r}; it must be one of texts, whole numbers or UUIDs"
            )

    @classmethod
    def of(cls, source: type[Any] | Table, id_: str | QueryableAttribute[Any] | Column[Any] | None) -> _Columns:
        """Find the column `id_` of a mapped class or a table; None: its primary key."""
        if isinstance(source, Table):
            named = {key: column for key, column in source.c.items() if isinstance(column, Column)}
            primary = list(source.primary_key.columns)
            name = source.name
        else:
            mapper = _mapper_of(source)
            named = {one.key: one.columns[0] for one in mapper.column_attrs if isinstance(one.columns[0], Column)}
            primary = [column for column in mapper.primary_key if isinstance(column, Column)]
            name = source.__name__
        if isinstance(id_, QueryableAttribute):
            meant = id_.property
            id_ = meant.columns[0] if isinstance(meant, ColumnProperty) and isinstance(meant.columns[0], Column) else ""
        for key, column in named.items():
            is_meant = (
                len(primary) == 1 and column is primary[0]
                if id_ is None
                else key == id_
                if isinstance(id_, str)
                else column is id_
            )
            if is_meant:
                return cls(source, key, column)
        raise ConfigurationError(
            f"id must be a column of {name}, or its name: {', '.join(named)}"
            + ("; it has no primary key of one column, which would be taken without id" if id_ is None else "")
        )

    @property
    def table(self) -> str:
        """The name of the table, for messages."""
        table = self._column.table
        return table.fullname if isinstance(table, Table) else str(table)

    @property
    def name(self) -> str:
        """The name of the column, for messages."""
        return f"{self.table}.{self._column.name}"

    def select(self) -> Select[Any]:
        """The statement for all users."""
        return select(self._source)

    def statement_for(self, user_id: UserId) -> Select[Any]:
        """The statement for one user.

        Raises:
            UserNotFoundError: no user can have this id, because the column is of another type.
        """
        return self.select().where(self._column == self._value_of(user_id))

    def user_in(self, row: Row[Any]) -> Any:  # noqa: ANN401 (a user of the application's)
        """The user as `scopes` and `blocked` get it."""
        return row if isinstance(self._source, Table) else row[0]

    def id_of(self, user: Any) -> str:  # noqa: ANN401 (a user of the application's)
        """The id that Coatcheck knows this user by."""
        if isinstance(self._source, Table):
            return str(user._mapping[self._column])  # noqa: SLF001 (SQLAlchemy's documented name)
        return str(getattr(user, self._key))

    def _value_of(self, user_id: UserId) -> Any:  # noqa: ANN401 (of the column's type)
        try:
            value = user_id if issubclass(self._type, str) else self._type(user_id)
        except ValueError:
            raise UserNotFoundError(user_id) from None
        # One user has one id: "7", and not "07" as well.
        if str(value) != user_id or (isinstance(value, int) and abs(value) > _MAX_WHOLE_NUMBER):
            raise UserNotFoundError(user_id)
        if isinstance(self._column.type, Integer):
            return literal(value, BigInteger)  # a number too large for the column is the id of nobody, and no error
        return value


def _mapper_of(source: type[Any]) -> Mapper[Any]:
    try:
        found = inspect(source)
    except NoInspectionAvailable:
        found = None
    if not isinstance(found, Mapper):
        raise ConfigurationError(
            f"SqlUserSource takes a mapped class (with SQLModel: table=True) or a Table, not {source!r}"
        )
    return found
