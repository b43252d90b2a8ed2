"""What the web tests share."""

from __future__ import annotations

import pytest

from tests.web.fakes import FakeAuth, FakeTokenManager


@pytest.fixture
def auth() -> FakeAuth:
    """Auth services with no sessions."""
    return FakeAuth()


@pytest.fixture
def manager(auth: FakeAuth) -> FakeTokenManager:
    """The token manager of `auth`."""
    return auth.token_manager
