"""The mistake of an application whose requests do not come through `SessionMiddleware`."""

from __future__ import annotations

from coatcheck.errors import ConfigurationError


def middleware_did_not_run() -> ConfigurationError:
    """The error for a scope in which the middleware left nothing: the request must not be let through."""
    return ConfigurationError(
        "who is calling is not known, because coatcheck.web.SessionMiddleware did not run for this request; "
        "serve the application inside of it, for example app = SessionMiddleware(api, auth=auth)"
    )
