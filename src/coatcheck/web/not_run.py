"""The mistake of an application whose requests do not come through `SessionMiddleware`, or are left alone by it."""

from __future__ import annotations

from coatcheck.errors import ConfigurationError


class LeftAlone:
    """Stands in the ASGI scope of a request whose path is among `except_paths`, in place of what is known of it.

    An outer middleware may have left something there, about its own sessions: it must not pass for ours.
    """

    __slots__ = ()


LEFT_ALONE = LeftAlone()


def middleware_did_not_run(found: object = None) -> ConfigurationError:
    """The error for a scope in which the middleware left nothing: the request must not be let through.

    `found` is what is there in place of what is looked for.
    """
    if isinstance(found, LeftAlone):
        return ConfigurationError(
            "who is calling is not known, because the path of this request is among the except_paths of "
            "SessionMiddleware; leave only paths there whose routes never ask who is calling, sign in or sign out"
        )
    return ConfigurationError(
        "who is calling is not known, because coatcheck.web.SessionMiddleware did not run for this request; "
        "serve the application inside of it, for example app = SessionMiddleware(api, auth=auth)"
    )
