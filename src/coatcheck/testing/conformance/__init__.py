"""The suite, one module a topic. `StoreConformance` is all of it."""

from __future__ import annotations

import inspect

from coatcheck.testing.conformance.announcing import AnnouncementPromises
from coatcheck.testing.conformance.damage import DamagePromises
from coatcheck.testing.conformance.deadlines import DeadlinePromises
from coatcheck.testing.conformance.ending import DeletingPromises, EndingPromises
from coatcheck.testing.conformance.isolation import IsolationPromises
from coatcheck.testing.conformance.listing import ListingPromises
from coatcheck.testing.conformance.outages import OutagePromises
from coatcheck.testing.conformance.peppers import PepperPromises
from coatcheck.testing.conformance.positions import PositionPromises
from coatcheck.testing.conformance.pruning import LockPromises, PruneRacePromises, PruningPromises
from coatcheck.testing.conformance.reading import GuaranteePromises, ReadingPromises, SharedDataPromises
from coatcheck.testing.conformance.replacing import ReplacingPromises
from coatcheck.testing.conformance.rescoping import SessionScopePromises, UserScopePromises
from coatcheck.testing.conformance.revocation_races import RevocationRacePromises, SignInRacePromises
from coatcheck.testing.conformance.signing_in import ApplicationUserPromises, SignInPromises
from coatcheck.testing.conformance.touching import RehashPromises, TouchPromises
from coatcheck.testing.conformance.transactions import TransactionPromises
from coatcheck.testing.conformance.user_races import UserRacePromises
from coatcheck.testing.conformance.users import UserPromises

__all__ = ["StoreConformance"]


class StoreConformance(
    GuaranteePromises,
    ReadingPromises,
    SharedDataPromises,
    TouchPromises,
    RehashPromises,
    DeadlinePromises,
    PruningPromises,
    LockPromises,
    PepperPromises,
    ListingPromises,
    SignInPromises,
    PositionPromises,
    ReplacingPromises,
    ApplicationUserPromises,
    DeletingPromises,
    EndingPromises,
    SessionScopePromises,
    UserScopePromises,
    UserPromises,
    TransactionPromises,
    IsolationPromises,
    RevocationRacePromises,
    SignInRacePromises,
    UserRacePromises,
    PruneRacePromises,
    AnnouncementPromises,
    DamagePromises,
    OutagePromises,
):
    """Every promise of the `Store` protocol. A subclass named `Test...` provides the `harness` fixture.

    `class TestMine(StoreConformance, has_transactions=False)` is for a store without transactions that span several
    calls: what is about those is not collected.
    """

    def __init_subclass__(cls, *, has_transactions: bool = True, **options: object) -> None:
        """Leave out what the store does not have."""
        super().__init_subclass__(**options)
        if not has_transactions:
            for name, test in inspect.getmembers(cls, inspect.isfunction):
                if name.startswith("test_") and "held" in inspect.signature(test).parameters:
                    setattr(cls, name, None)
