"""Sessions in FastAPI: what a route requires is written in its signature.

    api = FastAPI(lifespan=pod.lifespan)
    app = SessionMiddleware(api, auth=auth)
    api.include_router(session_router(auth), prefix="/session")

    @api.post("/notes")
    async def add_note(user: Annotated[AuthenticationInfo, Requires("notes:write")]) -> None: ...

    @api.get("/profile")
    async def profile(user: SignedIn) -> None: ...          # signed in, whatever the scopes

    @api.get("/")
    async def front_page(user: MaybeSignedIn) -> None: ...  # None for those who are not

The same on WebSocket routes. Refusals are RFC 9457 problems (see `http/problems.py`).
"""

# Annotations here are read by FastAPI when routes are defined, so their names are imported for real.

from collections.abc import Callable, Coroutine
from datetime import timedelta
from inspect import Signature
from typing import Annotated, Any, NoReturn, TypeAlias

from coatcheck.errors import ConfigurationError
from coatcheck.extras import missing_extra

try:
    from fastapi import APIRouter, FastAPI, Path, Query, Request, Response, Security
    from fastapi.openapi.models import HTTPBearer, OAuth2, OAuthFlowPassword, OAuthFlows
    from fastapi.params import Depends as DependsParameter
    from fastapi.params import Security as SecurityParameter
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.requests import HTTPConnection
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="fastapi") from _missing

from coatcheck.pages import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from coatcheck.tokens import AuthenticationInfo, SignInAttempt
from coatcheck.web.auth_services import HasTokenManager
from coatcheck.web.http.problems import Problem
from coatcheck.web.requirements import require, required_scopes
from coatcheck.web.routes import sessions as routes
from coatcheck.web.routes.events import EVENTS_PATH, HEARTBEAT_INTERVAL, SessionEvents
from coatcheck.web.sign_out import SignedOut
from coatcheck.web.sign_out import sign_out as sign_out_here
from coatcheck.web.sign_out import sign_out_all as sign_out_all_here
from coatcheck.web.starlette import browser_client_response, problem_response, session_events_response
from coatcheck.web.starlette import exception_handlers as _starlette_handlers
from coatcheck.web.state import authentication_of

exception_handlers: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = (
    _starlette_handlers
)
"""Handlers to give to an application: `FastAPI(exception_handlers=exception_handlers)`.

They are not needed for correct answers, in mounted applications neither. With them a refusal is answered inside of
the application's own middleware instead of outside of it, so that what those add (CORS headers, a request id) is on
refusals too.
"""

__all__ = [
    "BeginsSignIn",
    "MaybeSignedIn",
    "Requires",
    "SignedIn",
    "describe_password_flow",
    "exception_handlers",
    "possible_caller",
    "problem_responses",
    "required_caller",
    "session_router",
]


class _SessionScheme(SecurityBase):
    """The OpenAPI security scheme of our tokens. It reads nothing itself: `SessionMiddleware` has done so."""

    scheme_name = "session"

    def __init__(self) -> None:
        self.model: HTTPBearer = HTTPBearer(
            bearerFormat="opaque",
            description="The token of a server-side session, as a sign-in hands it out.",
        )


class _RequiredCaller(_SessionScheme):
    """Requires a caller with the scopes of the route."""

    async def __call__(self, connection: HTTPConnection, scopes: SecurityScopes) -> AuthenticationInfo:
        return require(connection, *scopes.scopes)


class _PossibleCaller(_SessionScheme):
    """Gives the caller, or None."""

    async def __call__(self, connection: HTTPConnection) -> AuthenticationInfo | None:
        return authentication_of(connection)


required_caller: _RequiredCaller = _RequiredCaller()
"""The dependency behind `Requires` and `SignedIn`, for `app.dependency_overrides` in an application's own tests."""

possible_caller: _PossibleCaller = _PossibleCaller()
"""The dependency behind `MaybeSignedIn`, for the same."""


class _Requirement(SecurityParameter):
    """The parameter that `Requires` returns: FastAPI's own, and an error inside of another `Depends`."""

    def __call__(self) -> NoReturn:
        raise _inside_depends("Requires(...)", "Annotated[AuthenticationInfo, Requires(...)]")

    @property
    def __signature__(self) -> Signature:
        self()


def Requires(*scopes: str) -> Any:  # noqa: N802, ANN401 (as FastAPI's own, and typed as they are: a default of any type)
    """The caller, who is signed in and has all of `scopes`.

        user: Annotated[AuthenticationInfo, Requires("notes:write")]
        user: AuthenticationInfo = Requires("notes:write")              # the same

    Without scopes, being signed in is enough. Also usable in `dependencies=[Requires("admin")]` of a route, a router
    or an application. A caller who is not signed in gets 401, one who lacks a scope 403, and all get 503 while
    the store is down.

    Raises:
        InvalidArgumentError: a scope is misspelt. Raised where the route is defined.
    """
    return _Requirement(required_caller, scopes=required_scopes(scopes))


SignedIn: TypeAlias = Annotated[AuthenticationInfo, Requires()]
"""The caller, who is signed in, whatever their scopes: `user: SignedIn`."""

MaybeSignedIn: TypeAlias = Annotated[AuthenticationInfo | None, Security(possible_caller)]
"""The caller, or None where nobody is signed in: `user: MaybeSignedIn`. While the store is down, 503 and not None."""


class _SignInBegins(DependsParameter):
    """The parameter that `BeginsSignIn` returns, for the same reason."""

    def __call__(self) -> NoReturn:
        raise _inside_depends("BeginsSignIn(...)", "Annotated[SignInAttempt, BeginsSignIn(auth)]")

    @property
    def __signature__(self) -> Signature:
        self()


def BeginsSignIn(auth: HasTokenManager) -> Any:  # noqa: N802, ANN401 (as `Requires`)
    """The sign-in that begins with this request, before anything of its user is read.

        async def sign_in_route(
            attempt: Annotated[SignInAttempt, BeginsSignIn(auth)],
            account: Annotated[Account, Depends(load_account)],
        ) -> ...

    FastAPI calls dependencies in the order of the parameters: put it before those that read the user. Give the attempt
    to `sign_in` or to the call that issues the token.
    """

    async def begin() -> SignInAttempt:
        return await auth.token_manager.begin_sign_in()

    return _SignInBegins(begin)


def describe_password_flow(api: FastAPI, *, token_url: str) -> None:
    """Say in the OpenAPI document that a token is had from `token_url` for a name and a password (OAuth 2).

        describe_password_flow(api, token_url="/login/access-token")

    "Authorize" in the documentation then asks for both, and sends them with what is tried out. The route is yours: it
    takes FastAPI's `OAuth2PasswordRequestForm` and answers `{"access_token": success.token, "token_type": "bearer"}`.
    Without this call "Authorize" asks for a token.
    """
    describe = api.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if _SessionScheme.scheme_name in schemes:
            flow = OAuthFlowPassword(tokenUrl=token_url)
            scheme = OAuth2(flows=OAuthFlows(password=flow), description=required_caller.model.description)
            schemes[_SessionScheme.scheme_name] = scheme.model_dump(mode="json", by_alias=True, exclude_none=True)
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # https://fastapi.tiangolo.com/how-to/extending-openapi/


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of our refusals, for `responses=` of a route, a router or an application.

    Without `statuses`: 401, 403 and 503.
    """
    described = {status: _DESCRIPTIONS[status] for status in statuses or (401, 403, 503)}
    return {
        status: {"description": text, "content": {"application/problem+json": {"schema": _PROBLEM_SCHEMA}}}
        for status, text in described.items()
    }


def session_router(auth: HasTokenManager, *, heartbeat_interval: timedelta = HEARTBEAT_INTERVAL) -> APIRouter:
    """The routes by which people look after their sessions; `app.include_router(session_router(auth), prefix=...)`.

    | | |
    |---|---|
    | `GET /status` | am I signed in? works for everybody |
    | `POST /sign-out` | end the session that is presented; no error if there is none |
    | `POST /sign-out-all` | end all of mine |
    | `GET /sessions?after=&limit=` | my sessions, a page at a time; ids, never tokens |
    | `DELETE /sessions/{session_id}` | end one of mine; 404 for any other |
    | `GET /events` | server-sent events: hear at once when this session ends |
    | `GET /client.js` | the browser client; `browser_client_path()` has the name that browsers may keep |

    `heartbeat_interval` is the time between two signs of life on `/events`, 30 seconds at most.

    Raises:
        ConfigurationError: `heartbeat_interval` is longer, or not above zero.
    """
    streams = SessionEvents(heartbeat_interval)
    router = APIRouter(tags=["session"])

    @router.get("/status", dependencies=[Security(_described_caller)], responses=problem_responses(503))
    async def status(request: Request) -> routes.Status:
        """Am I signed in?"""
        return await routes.status(request)

    @router.post("/sign-out", dependencies=[Security(_described_caller)], responses=problem_responses(409, 503))
    async def sign_out(request: Request) -> SignedOut:
        """Sign out on this device."""
        return await sign_out_here(auth, request)

    @router.post(
        "/sign-out-all", dependencies=[Security(_described_caller)], responses=problem_responses(401, 409, 503)
    )
    async def sign_out_all(request: Request) -> SignedOut:
        """Sign out on all devices."""
        return await sign_out_all_here(auth, request)

    @router.get(
        "/sessions",
        dependencies=[Requires()],
        response_model=routes.SessionPage,
        responses=problem_responses(400, 401, 503),
    )
    async def my_sessions(
        request: Request,
        after: Annotated[str | None, Query(description="`next_after` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
    ) -> routes.SessionPage | Response:
        """My sessions."""
        answer = await routes.my_sessions(auth, request, after=after, limit=limit)
        return problem_response(answer) if isinstance(answer, Problem) else answer

    @router.delete(
        "/sessions/{session_id}",
        dependencies=[Requires()],
        status_code=204,
        response_model=None,
        responses=problem_responses(401, 404, 503),
    )
    async def end_session(
        request: Request, session_id: Annotated[str, Path(description="`id` as my sessions show it")]
    ) -> Response | None:
        """End one of my sessions."""
        problem = await routes.end_session(auth, request, session_id)
        return None if problem is None else problem_response(problem)

    @router.get(
        EVENTS_PATH,
        dependencies=[Requires()],
        response_class=_EventStream,
        responses={200: {"description": _EVENTS}, **problem_responses(401, 406, 503)},
    )
    async def events(request: Request) -> Response:
        """Hear at once when this session ends."""
        return session_events_response(streams, request)

    @router.get("/client.js", include_in_schema=False)
    @router.get("/client-{tag}.js", include_in_schema=False)
    async def browser_client(request: Request) -> Response:
        """The browser client."""
        return browser_client_response(request, request.url.path.rpartition("/")[2])

    return router


def _inside_depends(given: str, written: str) -> ConfigurationError:
    return ConfigurationError(
        f"{given} stands inside of Depends(...) or Security(...), and is a dependency already; write {written}, or "
        "dependencies=[Requires(...)] of a route, without Depends"
    )


class _EventStream(Response):
    """Says in the OpenAPI document what `/events` answers with."""

    media_type = "text/event-stream"


class _DescribedCaller(_SessionScheme):
    """Says in the OpenAPI document that a token is of use, and leaves it to the route to ask for the caller."""

    async def __call__(self) -> None:
        return None


_described_caller = _DescribedCaller()

_EVENTS = (
    "Server-sent events: `session_live` at once, a comment now and then, and at last `session_ended`, whose data "
    "is the problem. A stream that ends without it says nothing about the session: open it again."
)

_DESCRIPTIONS = {
    400: "A parameter is wrong (`invalid_request`).",
    401: "Nobody is signed in (`authentication_required`), or the token is not valid (`invalid_token`).",
    403: "The session lacks a scope (`insufficient_scope`), or a sign-in is refused (`sign_in_refused`).",
    404: "The caller has no such session (`session_not_found`).",
    409: "Another user is signed in here (`sign_in_while_authenticated`), or the user's sessions were ended during the "
    "sign-in (`sign_in_superseded`), or not all that was sent for a sign-out can be read (`sign_out_unconfirmed`).",
    406: "The client did not ask for the event stream that there is (`not_acceptable`).",
    503: "Sessions cannot be looked up right now (`store_unavailable`). Nobody is signed out by this.",
}

_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable, for programs."},
    },
    "required": ["title", "status", "detail", "code"],
}
