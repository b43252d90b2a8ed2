"""Lists are paged by key: filters before the limit, no gaps and no repeats while rows come and go."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coatcheck.identifiers import SessionId, UserId
from coatcheck.stores.records import SessionFilter
from coatcheck.testing.conformance.promises import Promises
from coatcheck.testing.samples import ADA, BOB, SECOND_US, numbered_id, register, sign_in

if TYPE_CHECKING:
    from coatcheck.pages import Page
    from coatcheck.stores.records import ListedSession
    from coatcheck.stores.store import Store
    from coatcheck.testing.harness import StoreHarness

EVERYTHING = SessionFilter()


class ListingPromises(Promises):
    """`list_sessions`: bounded pages in order of id, filtered before they are cut."""

    async def test_an_empty_store_has_one_empty_page(self, store: Store) -> None:
        page = await store.list_sessions(EVERYTHING)
        assert (list(page), page.next_after) == ([], None)

    async def test_sessions_are_listed_in_order_of_id_whatever_the_order_of_sign_in(self, store: Store) -> None:
        for number in (300, 2, 255, 1, 256, 0, 65_536):
            await sign_in(store, id=numbered_id(number))
        assert _ids(await store.list_sessions(EVERYTHING)) == [
            numbered_id(number) for number in (0, 1, 2, 255, 256, 300, 65_536)
        ]

    @pytest.mark.parametrize("by_method", [False, True], ids=["any method", "one method"])
    @pytest.mark.parametrize("by_user", [False, True], ids=["any user", "one user"])
    @pytest.mark.parametrize("by_id", [False, True], ids=["any id", "one id"])
    @pytest.mark.parametrize("expired", [None, True, False], ids=["expired or not", "expired", "live"])
    async def test_exactly_what_matches_every_filter_is_listed(
        self,
        harness: StoreHarness,
        store: Store,
        *,
        by_id: bool,
        by_user: bool,
        by_method: bool,
        expired: bool | None,
    ) -> None:
        """Filters by user, method and expired (True, False, None) combine; without a user everybody is listed."""
        kinds = list(itertools.product((ADA, BOB), ("email", "sms"), (True, False)))
        sessions = [
            await sign_in(
                store,
                user_id,
                id=numbered_id(number, user_id),
                method=method,
                lifetime_us=SECOND_US if is_expired else None,
            )
            for number, (user_id, method, is_expired) in enumerate(kinds)
        ]
        await harness.advance(timedelta(seconds=1))
        which = SessionFilter(
            user_id=ADA if by_user else None,
            session_id=sessions[0].id if by_id else None,
            method="email" if by_method else None,
        )
        assert _ids(await store.list_sessions(which, expired=expired)) == [
            session.id
            for session, (user_id, method, is_expired) in zip(sessions, kinds, strict=True)
            if (not by_user or user_id == ADA)
            and (not by_id or session.id == sessions[0].id)
            and (not by_method or method == "email")
            and (expired is None or is_expired == expired)
        ]

    async def test_filters_come_before_the_limit(self, harness: StoreHarness, store: Store) -> None:
        """A filter after the limit would hand out short or empty pages."""
        for number in range(6):
            await sign_in(store, ADA, id=numbered_id(number), lifetime_us=SECOND_US)
        for number in range(6, 9):
            await sign_in(store, BOB, id=numbered_id(number, BOB), method="sms")
        await harness.advance(timedelta(seconds=1))
        for which, expired in (
            (EVERYTHING, False),
            (SessionFilter(user_id=BOB), None),
            (SessionFilter(method="sms"), None),
        ):
            page = await store.list_sessions(which, expired=expired, limit=2)
            assert _ids(page) == [numbered_id(6, BOB), numbered_id(7, BOB)]
            assert page.next_after == numbered_id(7, BOB)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 7, 8])
    async def test_pages_cover_everything_once(self, store: Store, limit: int) -> None:
        """The next page starts after the last id of this one."""
        expected = [(await sign_in(store, id=numbered_id(number))).id for number in range(7)]
        pages = await self._pages(store, EVERYTHING, limit)
        assert list(itertools.chain(*pages)) == expected
        assert all(len(page) == limit for page in pages[:-1])
        assert 0 < len(pages[-1]) <= limit

    async def test_pages_of_a_filter_cover_what_matches_once(self, harness: StoreHarness, store: Store) -> None:
        for number in range(20):
            await sign_in(
                store,
                (ADA, BOB)[number % 2],
                id=numbered_id(number, (ADA, BOB)[number % 2]),
                method="email" if number % 4 < 2 else "sms",
                expire_after_unused_for_us=SECOND_US if number % 5 == 0 else None,
            )
        await harness.advance(timedelta(seconds=1))
        pages = await self._pages(store, SessionFilter(user_id=ADA, method="email"), 2, expired=False)
        assert pages == [[numbered_id(4), numbered_id(8)], [numbered_id(12), numbered_id(16)]]

    async def test_sessions_that_come_and_go_between_pages_cause_no_gaps_and_no_repeats(
        self, store: Store, other: Store
    ) -> None:
        """A page starts behind an id, not at a number of rows."""
        for number in range(10, 100, 10):
            await sign_in(store, id=numbered_id(number))

        first = await store.list_sessions(EVERYTHING, limit=3)
        assert _ids(first) == [numbered_id(number) for number in (10, 20, 30)]
        for number in (10, 30, 40):  # one before, the one the next page starts behind, and one in it
            await other.delete_sessions(SessionFilter(session_id=numbered_id(number)))
        for number in (5, 35):
            await sign_in(other, id=numbered_id(number))

        second = await store.list_sessions(EVERYTHING, after=_next(first), limit=3)
        assert _ids(second) == [numbered_id(number) for number in (35, 50, 60)]
        for number in (60, 70, 80, 90):
            await other.delete_sessions(SessionFilter(session_id=numbered_id(number)))

        third = await store.list_sessions(EVERYTHING, after=_next(second), limit=3)
        assert (_ids(third), third.next_after) == ([], None)

    async def test_a_page_may_start_behind_an_id_that_never_was(self, store: Store) -> None:
        for number in (1, 3):
            await sign_in(store, id=numbered_id(number))
        assert _ids(await store.list_sessions(EVERYTHING, after=numbered_id(2))) == [numbered_id(3)]
        assert _ids(await store.list_sessions(EVERYTHING, after=numbered_id(0))) == [numbered_id(1), numbered_id(3)]
        assert _ids(await store.list_sessions(EVERYTHING, after=numbered_id(3))) == []

    async def test_a_page_holds_a_hundred_unless_said_otherwise(self, store: Store) -> None:
        for number in range(101):
            await sign_in(store, id=numbered_id(number))
        page = await store.list_sessions(EVERYTHING)
        assert (len(page), page.next_after) == (100, numbered_id(99))

    async def test_a_page_of_users_holds_a_hundred_unless_said_otherwise(self, store: Store) -> None:
        for number in range(101):
            await register(store, UserId(f"user {number:03}"))
        page = await store.list_users()
        assert (len(page), page.next_after) == (100, "user 099")

    async def _pages(
        self, store: Store, which: SessionFilter, limit: int, *, expired: bool | None = None
    ) -> list[list[SessionId]]:
        pages: list[list[SessionId]] = []
        after: SessionId | None = None
        while len(pages) < 100:
            page = await store.list_sessions(which, expired=expired, after=after, limit=limit)
            pages.append(_ids(page))
            if page.next_after is None:
                return pages
            after = _next(page)
        raise AssertionError("the pages do not come to an end")


def _ids(page: Page[ListedSession]) -> list[SessionId]:
    return [reading.session.id for reading in page]


def _next(page: Page[ListedSession]) -> SessionId:
    assert page.next_after is not None, "a page follows"
    return SessionId(page.next_after)
