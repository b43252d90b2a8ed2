"""The pod: passwords, store and auth services under one lifespan."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coatcheck.auth.limited_user_source import USER_SOURCE_TIMEOUT, LimitedUserSource
from coatcheck.auth.services import AuthServices
from coatcheck.background.guarantee_watch import GuaranteeWatch
from coatcheck.background.pruner import Pruner
from coatcheck.background.relay import Relay
from coatcheck.builders import BuildContext, UserSourceBuilder
from coatcheck.errors import ConfigurationError, OpenElsewhereError, StoreUnavailable
from coatcheck.events import EventBus
from coatcheck.hidden import Hidden, HiddenText, shown_when_made
from coatcheck.opening import Opening
from coatcheck.passwords import Passwords
from coatcheck.readiness import Readiness
from coatcheck.stores.guarantee import GuaranteeLevel
from coatcheck.stores.url_text import StoreUrl, store_url_text
from coatcheck.stores.urls import store_from_url
from coatcheck.to_its_end import to_its_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from coatcheck.auth.users import AfterUserCreated, BeforeUserCreated
    from coatcheck.builders import StartCheck, TokenManagerBuilder
    from coatcheck.clock import Clock
    from coatcheck.stores.store import Store
    from coatcheck.tokens import TokenManager
    from coatcheck.user_source import UserSource

STORE_VARIABLE = "COATCHECK_STORE"
_stores_in_use: set[int] = set()  # the ids of the store objects of all open pods
RUN_MODE_VARIABLES = ("COATCHECK_RUN_MODE", "SERVERPOD_RUN_MODE")


class Pod:
    """The host of an application's auth services.

    Use it as `async with pod:`, or as the lifespan of an ASGI application: `FastAPI(lifespan=pod.lifespan)`. While it
    is open, the store is open and expired sessions are pruned in the background. `events.subscribe` adds a subscriber,
    which is told of each session that ends or loses scopes, in this process or in another on the same store.

    A pod is open in one process and one event loop at a time. It can be closed and opened again, in the same loop or in
    another, and is then like new. A pod that was made before a fork is opened in each child.
    """

    def __init__(
        self,
        store: StoreUrl | Store | None = None,
        *,
        config_dir: str | os.PathLike[str] = "config",
        run_mode: str | None = None,
        environ: Mapping[str, str] | None = None,
        migrates: bool = True,
        prune_interval: timedelta | None = Pruner.DEFAULT_INTERVAL,
        require: GuaranteeLevel | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Read the passwords and choose the store; nothing is connected yet.

        Args:
            store: a URL (`sqlite:///coatcheck.db`, `postgresql://...`), as text, as SQLAlchemy's `URL` or as one of
                pydantic's, or a store. None: the variable COATCHECK_STORE, else the SQLite file `coatcheck.db` beside
                the folder `config_dir`.
            config_dir: the folder that may hold `passwords.yaml`.
            run_mode: development, test, staging or production. None: the variable COATCHECK_RUN_MODE or
                SERVERPOD_RUN_MODE, else development.
            environ: the environment variables; None: those of the process.
            migrates: whether opening the pod brings the tables up to date.
            prune_interval: about how often expired sessions are removed; None: never.
            require: the least guarantee that the store must give as it is configured (`Store.guarantee`); below it the
                pod does not start. None: the guarantee is logged, as a warning if it is less than STRICT.
            clock: for tests, the clock of a SQLite or Redis store that is given by URL. PostgreSQL has its own.

        Raises:
            ConfigurationError: a setting or the passwords file is wrong; the message says how.
        """
        # First of all: a traceback with local variables would show peppers and the store's password.
        variables: Hidden[Mapping[str, str]] = Hidden(os.environ if environ is None else environ)
        del environ
        if isinstance(store, StoreUrl):
            store = store_url_text(store)
        if require is not None and not isinstance(require, GuaranteeLevel):
            raise ConfigurationError("require must be None or a GuaranteeLevel, for example GuaranteeLevel.STRICT")
        folder = Path(config_dir)
        mode = run_mode or _run_mode_in(variables)
        self._passwords = Passwords.load(folder / "passwords.yaml", run_mode=mode, environ=variables.reveal())
        self.run_mode = mode
        if store is None:
            named = HiddenText(variables.reveal().get(STORE_VARIABLE, ""))
            store = named or f"sqlite:///{folder.absolute().parent / 'coatcheck.db'}"
        if clock is not None and not isinstance(store, str):
            raise ConfigurationError(
                f"clock is for a store that is given by its URL; give it to the store itself: "
                f"{type(store).__name__}(..., clock=clock)"
            )
        self.store: Store = store_from_url(store, clock=clock, migrates=migrates) if isinstance(store, str) else store
        self._watch = GuaranteeWatch(self.store, required=require)
        self._opening = Opening()
        self.events: EventBus = EventBus(self._opening)
        self._relay = Relay(self.store, self.events)
        self._auth_services: AuthServices | None = None
        self._start_checks: list[StartCheck] = []
        self._require = require
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._pruner = None if prune_interval is None else Pruner(self.store, self.events, interval=prune_interval)

    @shown_when_made
    def __repr__(self) -> str:
        """Show the store and the run mode."""
        return f"Pod({self.store!r}, run_mode={self.run_mode!r})"

    @property
    def is_open(self) -> bool:
        """Whether it is open, in whichever event loop, or is being opened or closed."""
        return self._opening.is_anywhere

    def get_password(self, key: str) -> str | None:
        """The password `key` of this run mode, or None."""
        return self._passwords.get(key)

    def get_password_or_raise(self, key: str) -> str:
        """The password `key` of this run mode.

        Raises:
            ConfigurationError: it is missing; the message names the key and the environment variable.
        """
        return self._passwords.get_or_raise(key)

    def initialize_auth_services(
        self,
        *,
        token_manager_builders: Sequence[TokenManagerBuilder | TokenManager],
        user_source: UserSource | UserSourceBuilder | None = None,
        user_source_timeout: timedelta = USER_SOURCE_TIMEOUT,
        before_user_created: BeforeUserCreated | None = None,
        after_user_created: AfterUserCreated | None = None,
    ) -> AuthServices:
        """Set up the auth services; doing it again replaces them.

        Args:
            token_manager_builders: configurations, or managers that are already built. The first is the primary: it
                issues tokens; all of them validate, list and revoke.
            user_source: the application's own users: a `SqlUserSource`, or an object of the application's. None: users
                live in the store.
            user_source_timeout: how long it may take for one user, 1 millisecond to 1 minute. A sign-in that would wait
                longer raises `UserSourceUnavailable` (HTTP 503).
            before_user_created: called inside the transaction that inserts a user; it may change the user.
            after_user_created: called inside the same transaction with the new user.

        Raises:
            ConfigurationError: a setting is wrong or a password is missing; the services stay as they were.
        """
        closing: list[Callable[[], Awaitable[None]]] = []
        start_checks: list[StartCheck] = []
        context = BuildContext(
            store=self.store,
            bus=self.events,
            user_source=None,
            get_password_or_raise=self.get_password_or_raise,
            at_shutdown=closing.append,
            at_start=start_checks.append,
        )
        if user_source is not None:
            source = user_source.build(context) if isinstance(user_source, UserSourceBuilder) else user_source
            context = replace(context, user_source=LimitedUserSource(source, user_source_timeout))
        self._auth_services = AuthServices(
            token_manager_builders,
            context,
            before_user_created=before_user_created,
            after_user_created=after_user_created,
            opening=self._opening,
        )
        self._closing += closing
        self._start_checks = start_checks
        return self._auth_services

    @property
    def auth_services(self) -> AuthServices:
        """The services that `initialize_auth_services` set up.

        Raises:
            ConfigurationError: it was not called yet.
        """
        if self._auth_services is None:
            raise ConfigurationError("the pod has no auth services yet; call pod.initialize_auth_services(...)")
        return self._auth_services

    async def __aenter__(self) -> Self:
        """Open the store, log what it promises, and start pruning.

        Raises:
            StoreUnavailable: the store cannot be reached.
            ConfigurationError: it promises less than `require`, or may not be used by this version or with these
                peppers; the message says why.
            OpenElsewhereError: the pod is open already, here, in another event loop or in a parent process.
        """
        self._opening.begin()
        try:
            await self._open()
        except BaseException:
            self._opening.stop()
            self._opening.end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop pruning, finish the revocations that have begun, and close the store.

        A cancellation waits until it is done: a pod that is half closed could not be opened again. In a forked
        child this does nothing: the connections are the parent's.

        Raises:
            OpenElsewhereError: the pod is open in another event loop.
        """
        if not self._opening.stop():
            return
        await to_its_end(self._close())

    async def readiness(self) -> Readiness:
        """Whether the store answers, and what is wrong: a pepper that the store does not know, too weak a guarantee.

        For health checks: each call costs a few small reads, and as long as the store's timeout while it is down.

        Raises:
            NotOpenError: the pod is not open here.
        """
        problems: list[str] = []
        try:
            guarantee = await self.store.guarantee()
            if self._require is not None and guarantee.level < self._require:
                problems.append(f"the store no longer promises {self._require.name}. It promises {guarantee}")
        except StoreUnavailable as error:
            return Readiness(store_answers=False, problems=(f"the store does not answer: {error}",))
        for check in self._start_checks:
            with suppress(StoreUnavailable):  # a part of it does answer, as above
                problem = await check.problem()
                if problem is not None:
                    problems.append(problem)
        return Readiness(store_answers=True, problems=tuple(problems))

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """The pod as the lifespan of a Starlette or FastAPI application."""
        async with self:
            yield

    async def _open(self) -> None:
        if id(self.store) in _stores_in_use:  # the first pod to close would close it for the other
            raise OpenElsewhereError("the store is in use by another open pod; give each pod a store of its own")
        _stores_in_use.add(id(self.store))
        try:
            await self._open_store()
        except BaseException:
            _stores_in_use.discard(id(self.store))
            raise

    async def _open_store(self) -> None:
        await self.store.open()
        try:
            await self._watch.start()
            for check in self._start_checks:
                await check.start()
            await self._relay.start()
        except BaseException:
            await to_its_end(self._close_what_is_open())
            raise
        if self._pruner is not None:
            self._pruner.start()

    async def _close(self) -> None:
        try:
            await self._close_what_is_open()
        finally:
            _stores_in_use.discard(id(self.store))
            self._opening.end()

    async def _close_what_is_open(self) -> None:
        """Close each part, whether or not it is open and whatever another part raises; the store last."""
        async with AsyncExitStack() as parts:  # they are closed in the reverse order
            parts.push_async_callback(self.store.close)
            for close in reversed(self._closing):
                parts.push_async_callback(close)
            if self._pruner is not None:
                parts.push_async_callback(self._pruner.stop)
            parts.push_async_callback(self._relay.stop)
            parts.push_async_callback(self._watch.stop)


def _run_mode_in(variables: Hidden[Mapping[str, str]]) -> str:
    named = [variables.reveal()[name] for name in RUN_MODE_VARIABLES if variables.reveal().get(name)]
    return named[0] if named else "development"
