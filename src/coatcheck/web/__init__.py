"""Sessions on the web: the ASGI middleware and what it answers. FastAPI and Starlette have modules of their own."""

from coatcheck.web.challenges import Problem, problem_of
from coatcheck.web.lifespan import PodLifespan
from coatcheck.web.middleware import SessionMiddleware
from coatcheck.web.requirements import require
from coatcheck.web.state import SCOPE_KEY, RequestState, authentication_of, request_state

__all__ = [
    "SCOPE_KEY",
    "PodLifespan",
    "Problem",
    "RequestState",
    "SessionMiddleware",
    "authentication_of",
    "problem_of",
    "request_state",
    "require",
]
