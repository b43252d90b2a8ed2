"""The prefix under which the application is served, as the browser sees it: `root_path` of ASGI.

Servers, FastAPI and Starlette's `Mount` each have a part in it. A `Mount` that only groups routes adds its own path for
the routes below it, which is not the application's prefix. So the prefix is what stood there before any `Mount`
(Starlette keeps it as `app_root_path`), or, where the application is itself mounted in another, what stood there when
the middleware ran, which the application brought along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ROOT_KEY = "coatcheck.root_path"
"""The key of the ASGI scope under which the middleware leaves the `root_path` that it has seen."""


def path_below(root: str, path: str) -> str:
    """A path of the ASGI scope without the prefix, whether the server keeps the prefix in the path or not."""
    root = root.rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def public_path(connection: Mapping[str, Any]) -> str:
    """The path of this request as the browser sees it, decoded."""
    root = _root_before_mounts(connection)
    path: str = connection["path"]
    if path == root:
        return path
    return root + path_below(root, path)


def application_root(connection: Mapping[str, Any]) -> str:
    """The prefix of the application, decoded and without a slash at its end; "" where it has the whole site."""
    seen = str(connection.get(ROOT_KEY, "")).rstrip("/")
    return max(_root_before_mounts(connection), seen, key=len)


def _root_before_mounts(connection: Mapping[str, Any]) -> str:
    return str(connection.get("app_root_path", connection.get("root_path", ""))).rstrip("/")
