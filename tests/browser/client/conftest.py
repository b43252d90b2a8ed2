"""The pages, servers and modes of the fault table, for the tests of this folder."""

from __future__ import annotations

from tests.browser.test_client_in_browser import context, mode, page, server

__all__ = ["context", "mode", "page", "server"]
