"""The browser client as it is served: one ES module, under two names.

`client.js` never changes its name and is asked for again each time; `client-<version>-<digest>.js` changes it with its
content and is kept by browsers for a year.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files

LASTING_NAME = "client.js"
"""The name of the newest module."""


@dataclass(frozen=True, slots=True)
class BrowserModule:
    """The module and what a browser needs to know of it."""

    content: bytes
    etag: str
    versioned_name: str

    def cache_control(self, name: str) -> str | None:
        """How long a browser may keep what is served under this name; None: nothing is served under it.

        An earlier version's name is none of ours any more: a page that was open before an update loads `client.js`.
        """
        if name == LASTING_NAME:
            return "no-cache"
        return "public, max-age=31536000, immutable" if name == self.versioned_name else None


@cache
def browser_module() -> BrowserModule:
    """The module that belongs to this version of the package."""
    content = files("coatcheck.web.browser").joinpath("coatcheck.min.js").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return BrowserModule(content, f'"{digest}"', f"client-{version('coatcheck')}-{digest}.js")


def browser_client_path(session_path: str = "/session") -> str:
    """Where the browser client is served for good: `<script type="module" src="...">`, or what a script imports.

    `session_path` is where the session routes are.
    """
    return f"{session_path.rstrip('/')}/{browser_module().versioned_name}"
