"""The kinds of store that tests above the stores are run on, each test on each unless it says otherwise."""

from __future__ import annotations

import pytest

SQLITE = "sqlite"
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)
REDIS = pytest.param("redis", marks=pytest.mark.redis)
REDIS_CLUSTER = pytest.param("redis_cluster", marks=pytest.mark.redis)

WITH_TRANSACTIONS = pytest.mark.parametrize("closed_harness", [SQLITE, POSTGRES], indirect=True)
"""For tests of what happens inside a transaction of the application's, or in a hook, which runs inside one."""

WITH_TRANSACTIONS_BY_URL = pytest.mark.parametrize("store_url", [SQLITE, POSTGRES], indirect=True)
"""The same, for tests that take `store_url`."""

ON_THE_POSTGRESQL_HERE = pytest.param(None, id=pytest.HIDDEN_PARAM)
ON_POSTGRESQL_18 = pytest.param("18", marks=[pytest.mark.postgres18, pytest.mark.extended])
"""Values of the fixture `postgres_version`."""
