"""The way to the sign-in page and back, inside of the application: for requests that need a signed-in caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.web.asgi import facts_of
from coatcheck.web.http.redirects import inside, page_of, reason_of, safe_next, sign_in_target
from coatcheck.web.root import application_root, public_path
from coatcheck.web.state import request_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def sign_in_location(request: Mapping[str, Any], sign_in_path: str = "/sign-in", *, back_to: str | None = None) -> str:
    """The sign-in page with where to go back to (`next`) and why the session ended (`reason`), for a redirect.

        return RedirectResponse(sign_in_location(request), 303)

    Back to the page that was asked for; for a form that was sent, to `back_to` if it is given. Where the application is
    served below a prefix (`root_path`), `sign_in_path` and `back_to` get it, unless they have it already. `reason` is
    "expired", "inactive" or "revoked", and not there for somebody who was not signed in: it is for the page to say in
    words, and proves nothing, since anybody can write such a link.

    Raises:
        StoreUnavailable: the store could not say who is calling.
    """
    root = page_of(application_root(request), "")
    if back_to is not None:
        back_to = inside(root, back_to)
    elif facts_of(request).changes_nothing:
        back_to = page_of(public_path(request), request.get("query_string", b"").decode("latin-1"))
    reason = reason_of(request_state(request).refusal)
    return sign_in_target(inside(root, sign_in_path), back_to=back_to, reason=reason, home=inside(root, "/"))


def next_location(request: Mapping[str, Any], wanted: str | None, default: str = "/") -> str:
    """Where to go after signing in: `wanted` if it is a page of this application, else `default`.

        return RedirectResponse(next_location(request, next), 303)

    As `safe_next`, and below a prefix (`root_path`) only what is below it too; `default` gets the prefix unless it has
    it already.
    """
    root = page_of(application_root(request), "")
    return safe_next(wanted, inside(root, default), root=root)
