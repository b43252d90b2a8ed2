"""The way to the sign-in page, for a request that needs a signed-in caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.web.asgi import facts_of
from coatcheck.web.http.redirects import page_of, reason_of, sign_in_target
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def sign_in_location(request: Mapping[str, Any], sign_in_path: str = "/sign-in", *, back_to: str | None = None) -> str:
    """The sign-in page with where to go back to (`next`) and why the session ended (`reason`), for a redirect.

        return RedirectResponse(sign_in_location(request), 303)

    Back to the page that was asked for; for a form that was sent, to `back_to` if it is given. `reason` is "expired",
    "inactive" or "revoked", and not there for somebody who was not signed in: it is for the page to say in words, and
    proves nothing, since anybody can write such a link.

    Raises:
        StoreUnavailable: the store could not say who is calling.
    """
    if back_to is None and facts_of(request).changes_nothing:
        back_to = page_of(request["path"], request.get("query_string", b"").decode("latin-1"))
    return sign_in_target(sign_in_path, back_to=back_to, reason=reason_of(request_state(request).refusal))
