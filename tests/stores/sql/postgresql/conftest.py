"""Each test of this folder runs on the machine's own PostgreSQL, and in `make test-all` on the newest version too.

Those of TLS do not, since the newest comes as a build without it, nor do those of PgBouncer alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kinds_of_store import ON_POSTGRESQL_18, ON_THE_POSTGRESQL_HERE

if TYPE_CHECKING:
    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres_version" in metafunc.fixturenames:
        needs_tls = "authority" in metafunc.fixturenames
        is_only_here = needs_tls or metafunc.definition.get_closest_marker("pgbouncer") is not None
        versions = [ON_THE_POSTGRESQL_HERE] if is_only_here else [ON_THE_POSTGRESQL_HERE, ON_POSTGRESQL_18]
        metafunc.parametrize("postgres_version", versions, indirect=True, scope="session")
