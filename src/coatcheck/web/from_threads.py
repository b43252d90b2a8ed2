"""`sign_in` and `sign_out` of `coatcheck.web` as they block, for `def` routes and other threads.

Made by `make format` (scripts/blocking-api) from the asynchronous functions; change it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.web.sign_in import sign_in as _sign_in
from coatcheck.web.sign_out import sign_out as _sign_out

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet
    from typing import Any
    from uuid import UUID

    from coatcheck.auth import AuthServices
    from coatcheck.tokens import AuthSuccess, SignInAttempt
    from coatcheck.web.exchanges.reply import Mode
    from coatcheck.web.sign_out import SignedOut

__all__ = [
    "sign_in",
    "sign_out",
]


def sign_in(
    auth: AuthServices,
    request: Mapping[str, Any],
    *,
    auth_user_id: str | UUID,
    method: str,
    scopes: AbstractSet[str] | None = None,
    attempt: SignInAttempt | None = None,
    mode: Mode | None = None,
    from_origins: Collection[str] = (),
) -> AuthSuccess:
    """Sign in the client behind `request`, whose credentials you have checked, and give it its token.

    See `coatcheck.web.sign_in`.
    """
    return auth.from_threads.call(
        _sign_in,
        auth,
        request,
        auth_user_id=auth_user_id,
        method=method,
        scopes=scopes,
        attempt=attempt,
        mode=mode,
        from_origins=from_origins,
    )


def sign_out(auth: AuthServices, request: Mapping[str, Any]) -> SignedOut:
    """End the session that was presented, also one past a deadline. Where there is none, that is no error.

    See `coatcheck.web.sign_out`.
    """
    return auth.from_threads.call(_sign_out, auth, request)
