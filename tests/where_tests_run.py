"""A pytest plugin that prints where the collected tests run: for each file and class its stores and its browsers.

python -m pytest --collect-only -q -p tests.where_tests_run tests/web
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

BEGINS_WITH = "where the tests run: "
ANYWHERE = "anywhere"

_MARKERS = {
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "valkey": "Valkey",
    "chromium": "Chromium",
    "chromedriver": "Chromium",
    "firefox": "Firefox",
    "webkit": "WebKit",
}
_PARAMETERS = {"sqlite": "SQLite", "redis_cluster": "a Redis Cluster"}
_FIXTURES = {
    "shared_redis_cluster": "a Redis Cluster",
    "redis_cluster": "a Redis Cluster",
    "shared_valkey_cluster": "a Valkey Cluster",
}
_SINGLE_SERVERS = {"a Redis Cluster": "Redis", "a Valkey Cluster": "Valkey"}


def places_of(item: pytest.Item) -> set[str]:
    """The stores and browsers of one test, by its markers, its fixtures and its parameters."""
    parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
    clusters = {_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in _FIXTURES}
    places = clusters | {_PARAMETERS[one] for one in parameters if isinstance(one, str) and one in _PARAMETERS}
    marked = {place for name, place in _MARKERS.items() if item.get_closest_marker(name) is not None}
    # A marker stands for the single server and for the Cluster.
    return places | (marked - {_SINGLE_SERVERS[place] for place in places if place in _SINGLE_SERVERS})


def pytest_collection_finish(session: pytest.Session) -> None:
    """Print all of them as one line of JSON, each place with whether `make test` runs tests there."""
    found: defaultdict[str, defaultdict[str, bool]] = defaultdict(lambda: defaultdict(bool))
    for item in session.items:
        file, *classes = item.nodeid.split("::")[:-1]
        for name in [file, *(f"{file}::{one}" for one in classes)]:
            for place in [ANYWHERE, *places_of(item)]:
                found[name][place] |= item.get_closest_marker("extended") is None
    print(BEGINS_WITH + json.dumps(found))  # noqa: T201 (its purpose)
