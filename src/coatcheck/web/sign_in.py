"""From checked credentials to a token in the client's hands, in header mode or in cookie mode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coatcheck.errors import CrossSiteRequestError, SignInError, StoreUnavailable
from coatcheck.tokens import Token
from coatcheck.web.asgi import facts_of
from coatcheck.web.exchanges.reply import reply_of
from coatcheck.web.http.cookie import form_origins
from coatcheck.web.settings import settings_of
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet
    from typing import Any
    from uuid import UUID

    from coatcheck.client_info import ClientInfo
    from coatcheck.tokens import AuthSuccess, SignInAttempt
    from coatcheck.web.auth_services import HasTokenManager
    from coatcheck.web.exchanges.reply import Mode


async def sign_in(
    auth: HasTokenManager,
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

        success = await sign_in(auth, request, auth_user_id=user.id, method="email", attempt=attempt)
        return auth_success_json(success)

    The session keeps what is known of the client. A session the client had until now ends in the same step, so that
    each sign-in has a fresh token and none is left over (ASVS 7.2.4). In cookie mode the token goes into the cookie,
    and the `token` of what is returned is empty. `mode` None does as the client asks for in `Coatcheck-Mode`; "cookie"
    is for forms in HTML, which send no such header.

    `from_origins` is for the callback of an identity provider whose page sends a form to it (OIDC `form_post`, SAML):
    `["https://appleid.apple.com"]` lets such a form set the cookie, in this call only. "null" among them is for
    providers that hide their origin. Check beforehand that this browser began the sign-in, by something that such a
    POST brings along: the session cookie and other Lax cookies do not come with it. Else anybody can sign a browser in
    to their own account. For the same reason a session that the browser had is not replaced: its cookie is.

    With a transaction of your own: `check_may_sign_in` first, then `issue_token` with `client=client_of(request)` and
    `replacing=`, and `hand_out` once it is committed.

    The errors may escape the application: the middleware answers each of them but `ConfigurationError`.

    Raises:
        SignInWhileAuthenticatedError: the client is signed in as somebody else; have it sign out first (HTTP 409).
        SignInSupersededError: all sessions of the user were ended meanwhile (HTTP 409).
        UserNotFoundError, UserBlockedError: see `TokenManager.create_token` (HTTP 403, the same for both).
        CrossSiteRequestError: cookie mode, and another site's page sent this (HTTP 403).
        ConfigurationError: cookie mode without a `SessionCookie`, over plain http, or over a WebSocket.
        StoreUnavailable: the store cannot answer (HTTP 503).
    """
    check_may_sign_in(request, mode, from_origins=from_origins)
    state = request_state(request)
    caller = state.authentication
    try:
        success = await auth.token_manager.issue_token(
            auth_user_id=auth_user_id,
            method=method,
            caller=caller,
            scopes=scopes,
            attempt=attempt,
            client=client_of(request),
            replacing=caller,
        )
    except (SignInError, StoreUnavailable) as error:
        state.note_failure(error)
        raise
    return hand_out(request, success, mode, from_origins=from_origins)


def check_may_sign_in(
    request: Mapping[str, Any], mode: Mode | None = None, *, from_origins: Collection[str] = ()
) -> None:
    """Check that `hand_out` will be able to give this client a token, before one is made.

    Raises:
        CrossSiteRequestError, ConfigurationError: as `sign_in`.
    """
    reply = reply_of(request)
    origins = form_origins(from_origins)
    try:
        reply.check_may_hand_out(reply.mode(facts_of(request), mode), origins)
    except CrossSiteRequestError as error:
        request_state(request).note_failure(error)
        raise


def client_of(request: Mapping[str, Any]) -> ClientInfo:
    """The facts to be kept of the client behind `request`, as `SessionMiddleware(clients=...)` says."""
    return settings_of(request).clients.of(facts_of(request))


def hand_out(
    request: Mapping[str, Any], success: AuthSuccess, mode: Mode | None = None, *, from_origins: Collection[str] = ()
) -> AuthSuccess:
    """Give the client its token: in cookie mode with the response, else in what this returns for the body.

    Call it when the session is committed. The cookie is sent with whatever response follows.

    Raises:
        CrossSiteRequestError, ConfigurationError: as `sign_in`.
    """
    reply = reply_of(request)
    mode = reply.mode(facts_of(request), mode)
    reply.hand_out(success, mode, form_origins(from_origins))
    return replace(success, token=Token("")) if mode == "cookie" else success


def forget_cookie(request: Mapping[str, Any]) -> None:
    """Have the browser forget the session cookie, whatever the response will be, an error included.

    Does nothing where the token did not come in the cookie, where the cookie may be another application's (its secret
    was wrong, or could not be checked), or where `hand_out` gives the browser a new one.

    Raises:
        ConfigurationError: `SessionMiddleware` did not run for this request.
    """
    reply_of(request).forget_cookie()
