"""The settings of the middleware, for functions that are called with the request alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coatcheck.web.not_run import middleware_did_not_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from coatcheck.web.http.devices import ClientCapture

SETTINGS_KEY = "coatcheck.settings"
"""The key of the ASGI scope under which the middleware leaves `WebSettings`."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of one `SessionMiddleware`.

    `clients` says what is kept of a client that signs in. `ends_with_session` says that something watches over
    connections that stay open, and ends them with the caller's session.
    """

    clients: ClientCapture
    ends_with_session: bool


def settings_of(connection: Mapping[str, Any]) -> WebSettings:
    """The settings of the middleware that this request came through.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    settings = connection.get(SETTINGS_KEY)
    if not isinstance(settings, WebSettings):
        raise middleware_did_not_run(settings)
    return settings
