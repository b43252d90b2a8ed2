"""For the tests of applications and of stores. Needs the extra `coatcheck[testing]`.

An application tests itself on a `MemoryStore`, with a `ManualClock`: no file, no server, and deadlines come when the
test moves the clock.

    clock = ManualClock()
    pod = Pod(store=MemoryStore(clock=clock))

A store of your own is held to the conformance suite. Write a `StoreHarness` for it, then this is the whole test module:

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

from coatcheck.extras import missing_extra

try:
    import hypothesis  # noqa: F401 (imported below; missing it is said here)
    import pytest
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="testing") from _missing

pytest.register_assert_rewrite(
    "coatcheck.testing.conformance", "coatcheck.testing.samples", "coatcheck.testing.machine"
)

from coatcheck.testing.conformance import StoreConformance  # noqa: E402 (assertions are rewritten on import)
from coatcheck.testing.gates import Gate, PausingStore  # noqa: E402 (as above)
from coatcheck.testing.harness import StoreHarness  # noqa: E402 (as above)
from coatcheck.testing.machine import StoreMachine, check_store_against_model  # noqa: E402 (as above)
from coatcheck.testing.manual_clock import ManualClock  # noqa: E402 (as above)
from coatcheck.testing.memory.database import MemoryDatabase  # noqa: E402 (as above)
from coatcheck.testing.memory.store import MemoryStore  # noqa: E402 (as above)
from coatcheck.testing.transaction_kinds import TransactionKind, in_savepoint  # noqa: E402 (as above)

__all__ = [
    "Gate",
    "ManualClock",
    "MemoryDatabase",
    "MemoryStore",
    "PausingStore",
    "StoreConformance",
    "StoreHarness",
    "StoreMachine",
    "TransactionKind",
    "check_store_against_model",
    "in_savepoint",
]
