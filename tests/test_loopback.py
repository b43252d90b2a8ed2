"""Which hosts are this very machine."""

from __future__ import annotations

import pytest

from coatcheck.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_names_and_addresses_of_this_machine_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "example.org", "localhost.example.org", "notlocalhost", "10.0.0.1", "128.0.0.1", "::2", "127.0.0.1:80"]
)
def test_no_other_host_is(host: str) -> None:
    assert not is_loopback(host)
