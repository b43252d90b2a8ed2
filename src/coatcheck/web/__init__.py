"""Sessions on the web: the ASGI middleware and what it answers. FastAPI and Starlette have modules of their own."""

from coatcheck.web.asgi import client_address, is_cross_site
from coatcheck.web.exchanges.reply import Mode
from coatcheck.web.http.cookie import SessionCookie
from coatcheck.web.http.devices import ClientCapture
from coatcheck.web.http.problems import Problem, problem_of
from coatcheck.web.http.redirects import reason_of, safe_next
from coatcheck.web.lifespan import PodLifespan
from coatcheck.web.live.connection import traffic_is_use
from coatcheck.web.live.revalidation import LiveConnections
from coatcheck.web.middleware import SessionMiddleware
from coatcheck.web.requirements import require
from coatcheck.web.routes.browser_client import browser_client_path
from coatcheck.web.sign_in import check_may_sign_in, client_of, forget_cookie, hand_out, sign_in
from coatcheck.web.sign_in_page import next_location, sign_in_location
from coatcheck.web.sign_out import SignedOut, sign_out
from coatcheck.web.state import SCOPE_KEY, RequestState, authentication_of, request_state

__all__ = [
    "SCOPE_KEY",
    "ClientCapture",
    "LiveConnections",
    "Mode",
    "PodLifespan",
    "Problem",
    "RequestState",
    "SessionCookie",
    "SessionMiddleware",
    "SignedOut",
    "authentication_of",
    "browser_client_path",
    "check_may_sign_in",
    "client_address",
    "client_of",
    "forget_cookie",
    "hand_out",
    "is_cross_site",
    "next_location",
    "problem_of",
    "reason_of",
    "request_state",
    "require",
    "safe_next",
    "sign_in",
    "sign_in_location",
    "sign_out",
    "traffic_is_use",
]
