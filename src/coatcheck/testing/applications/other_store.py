"""A pod on another store for the time of a test. The store that it was made with is not touched.

All parts of a pod, and what an application took from it when it was imported, hold one object: the store. While it is
replaced, this object has another class, which asks the other store for everything. So an application need not be
written for its tests, and in production nothing of this is on the path of a request.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.hidden import HiddenText, shown_when_made
from coatcheck.stores.store import Store
from coatcheck.stores.urls import store_from_url
from coatcheck.testing.manual_clock import ManualClock
from coatcheck.testing.memory.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from coatcheck.clock import Clock
    from coatcheck.pod import Pod


@contextmanager
def in_memory(pod: Pod, *, clock: Clock | None = None) -> Iterator[MemoryStore]:
    """Inside this block the pod keeps its sessions in memory; its own store is neither opened nor read nor written.

        with in_memory(pod):
            async with pod:
                ...

    For a pod that a module has made: `pod = Pod(store="sqlite:///coatcheck.db")`. Each block has a new, empty
    `MemoryStore`; afterwards the pod has its own store again.

    Args:
        pod: the pod, which is not open.
        clock: the clock of the store; None: a `ManualClock`, which is `store.database.clock`.

    Raises:
        ConfigurationError: the pod is open, or is still open when the block ends.
    """
    store = MemoryStore(clock=ManualClock() if clock is None else clock)
    with on_store(pod, store):
        yield store


@contextmanager
def on_store(pod: Pod, store: str | Store, *, clock: Clock | None = None) -> Iterator[Store]:
    """Inside this block every call of the pod's store goes to another one: `on_store(pod, f"sqlite:///{tmp_path}/t.db")`.

    For an application whose hooks or queries run SQL in the transactions of Coatcheck, which no store in memory can do.

    Args:
        pod: the pod, which is not open.
        store: a URL, or a store that is not open.
        clock: the clock of a store that is given by its URL; None: the clock of this machine. PostgreSQL has its own.

    Raises:
        ConfigurationError: the pod is open, or is still open when the block ends; the URL names no store; or `clock` is
            given beside a store that is made already.
    """
    if isinstance(store, str):
        store = HiddenText(store)  # pytest shows arguments in tracebacks
    elif clock is not None:
        raise ConfigurationError(
            f"clock is for a store that is given by its URL; give it to the store itself: "
            f"{type(store).__name__}(..., clock=clock)"
        )
    other = store_from_url(store, clock=clock) if isinstance(store, str) else store
    if pod.is_open:
        raise ConfigurationError(
            "the pod is open; replace its store before it is opened, and close it inside the block"
        )
    replaced: Any = pod.store
    own_class, outer = type(replaced), _replacements.get(id(replaced))
    _replacements[id(replaced)] = other
    replaced.__class__ = _handing_on(own_class)
    try:
        yield other
        if pod.is_open:
            raise ConfigurationError(
                "the pod is still open; close it before the block ends in which its store is replaced"
            )
    finally:
        replaced.__class__ = own_class
        if outer is None:
            del _replacements[id(replaced)]
        else:
            _replacements[id(replaced)] = outer


@contextmanager
def outage_of(pod: Pod) -> Iterator[None]:
    """Inside this block the store that replaces the pod's own cannot answer; afterwards all is as it was."""
    store = _replacements[id(pod.store)]
    if isinstance(store, MemoryStore):
        with store.database.outage():
            yield
        return
    down: Any = _Down(store)
    _replacements[id(pod.store)] = down
    try:
        yield
    finally:
        _replacements[id(pod.store)] = store


class _Down:
    """A store that answers no call. It may be closed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @shown_when_made
    def __repr__(self) -> str:
        return repr(self._store)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the store has)
        if name == "_store":  # half made
            raise AttributeError(name)
        if name in {"read_session", "transaction"} or inspect.iscoroutinefunction(getattr(Store, name, None)):
            return getattr(self._store, name) if name == "close" else _Unanswered
        return getattr(self._store, name)


class _Unanswered:
    """A call that fails, whether it is awaited or entered."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Take whatever the call takes."""

    def __await__(self) -> Generator[None, None, NoReturn]:
        raise StoreUnavailable("the store cannot answer: a test simulates an outage")
        yield

    async def __aenter__(self) -> NoReturn:
        await self

    async def __aexit__(self, *_ending: object) -> None:
        pass


_replacements: dict[int, Store] = {}
"""By the id of each store that is replaced at the moment."""


_classes: dict[type[Any], type[Any]] = {}
"""What `_handing_on` has made: making a class takes longer than all else."""


def _handing_on(own_class: type[Any]) -> type[Any]:
    """A class whose objects answer as their replacements do, for objects of `own_class`: both are laid out alike."""
    if own_class in _classes:
        return _classes[own_class]

    class HandsOn(own_class):  # type: ignore[misc]  # its base is known at run time only
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 (whatever the store has)
            return getattr(_replacements[id(self)], name)

        def __setattr__(self, name: str, value: object) -> None:
            if name == "__class__":
                super().__setattr__(name, value)
            else:
                setattr(_replacements[id(self)], name, value)

        def __repr__(self) -> str:
            return repr(_replacements[id(self)])

    return _classes.setdefault(own_class, HandsOn)
