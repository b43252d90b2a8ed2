"""For the tests of applications and of stores.

An application tests itself with its pod in memory: no file, no server, and deadlines come when the test moves the
clock. Nothing is to be installed but what its tests use anyway, pytest and a client.

    with AppTester(app, pod) as tester:                     # `async with AsyncAppTester(app, pod, httpx.AsyncClient)`
        phone, laptop = tester.device(), tester.device()
        ann = tester.signed_in(phone, scopes={"notes:read"})

`in_memory(pod)` is that without an application, `acting_as(api, {"notes:read"})` calls routes of FastAPI without a pod,
and `coatcheck.testing.plugin` has fixtures for pytest.

A store of your own is held to the conformance suite, which needs the extra `coatcheck[testing]`. Write a `StoreHarness`
for it, then this is the whole test module:

    import pytest
    from coatcheck.testing import StoreConformance, StoreHarness, check_store_against_model

    class MyHarness(StoreHarness):
        def make_store(self): ...             # a store on this harness's data, not opened
        async def now_us(self): ...           # the store's clock, which stands still
        async def set_clock_us(self, now_us): ...
        async def reset(self): ...            # remove everything
        def outage(self): ...                 # async with: the store cannot answer

    class TestMyStore(StoreConformance):      # some 400 tests, each named for the promise it holds
        @pytest.fixture
        async def harness(self, tmp_path):
            async with MyHarness(tmp_path) as harness:
                yield harness

    def test_my_store_does_as_the_model_does(tmp_path):  # random histories, shrunk to the shortest that fails
        check_store_against_model(lambda: MyHarness(tmp_path))

`PausingStore` is for tests above a store: it stops calls by name, so that a test chooses which call overtakes which.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from coatcheck.extras import missing_extra
from coatcheck.testing.applications.async_app_tester import AsyncAppTester
from coatcheck.testing.applications.other_store import in_memory, on_store
from coatcheck.testing.applications.tester import AppTesterOptions
from coatcheck.testing.gates import Gate, PausingStore
from coatcheck.testing.manual_clock import ManualClock
from coatcheck.testing.memory.database import MemoryDatabase
from coatcheck.testing.memory.store import MemoryStore

if TYPE_CHECKING:
    from coatcheck.testing.applications.app_tester import AppTester
    from coatcheck.testing.applications.fake_callers import acting_as
    from coatcheck.testing.conformance import StoreConformance
    from coatcheck.testing.harness import StoreHarness
    from coatcheck.testing.machine import StoreMachine, check_store_against_model
    from coatcheck.testing.transaction_kinds import TransactionKind, in_savepoint

__all__ = [
    "AppTester",
    "AppTesterOptions",
    "AsyncAppTester",
    "Gate",
    "ManualClock",
    "MemoryDatabase",
    "MemoryStore",
    "PausingStore",
    "StoreConformance",
    "StoreHarness",
    "StoreMachine",
    "TransactionKind",
    "acting_as",
    "check_store_against_model",
    "in_memory",
    "in_savepoint",
    "on_store",
]

# The modules of names that need a package which not every test has, each with the extra that brings it.
_IMPORTED_WHEN_USED = {
    "AppTester": ("applications.app_tester", "starlette"),
    "acting_as": ("applications.fake_callers", "fastapi"),
    "StoreConformance": ("conformance", "testing"),
    "StoreHarness": ("harness", "testing"),
    "StoreMachine": ("machine", "testing"),
    "check_store_against_model": ("machine", "testing"),
    "TransactionKind": ("transaction_kinds", "testing"),
    "in_savepoint": ("transaction_kinds", "testing"),
}

if "pytest" in sys.modules:  # assertions are rewritten on import, and pytest has to know before
    import pytest

    pytest.register_assert_rewrite(
        "coatcheck.testing.conformance", "coatcheck.testing.samples", "coatcheck.testing.machine"
    )


def __getattr__(name: str) -> Any:  # noqa: ANN401 (each has its type above)
    if name not in _IMPORTED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, extra = _IMPORTED_WHEN_USED[name]
    try:
        found = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as missing:
        raise missing_extra(missing, module=f"{__name__}.{name}", extra=extra) from missing
    globals()[name] = found  # asked for once
    return found
