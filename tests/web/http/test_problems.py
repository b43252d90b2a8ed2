"""The answers to refused requests, as clients see them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coatcheck.errors import (
    AuthenticationRequiredError,
    InsufficientScopeError,
    RevocationIndeterminate,
    SignInSupersededError,
    SignInWhileAuthenticatedError,
    StoreUnavailable,
    TooManyCookiesError,
    UserBlockedError,
    UserNotFoundError,
    UserSourceUnavailable,
)
from coatcheck.tokens import TokenRefusal
from coatcheck.web.http import problems
from coatcheck.web.http.problems import Problem, jittered_retry_after_s, problem_of

if TYPE_CHECKING:
    from coatcheck.web.http.problems import AnswerableError


def header(problem: Problem, name: bytes) -> bytes | None:
    values = [value for found, value in problem.headers if found == name]
    assert len(values) <= 1
    return values[0] if values else None


def test_the_reference_lists_the_answers_that_the_module_lists() -> None:
    reference = (Path(__file__).parents[3] / "docs/reference/http.md").read_text(encoding="utf-8")
    in_module = re.findall(r"^\| `(\w+)` \| (\d+) \|", problems.__doc__ or "", flags=re.MULTILINE)
    in_reference = re.findall(r"^\| (\d+) \| `(\w+)` \|", reference, flags=re.MULTILINE)
    assert sorted(in_reference) == sorted((status, code) for code, status in in_module)


def test_without_a_token_the_challenge_names_no_error() -> None:
    """RFC 6750 section 3.1: a request without authentication information gets no error code."""
    problem = problem_of(AuthenticationRequiredError())
    assert problem.status == 401
    assert header(problem, b"www-authenticate") == b'Bearer realm="session"'
    assert json.loads(problem.body) == {
        "title": "Unauthorized",
        "status": 401,
        "detail": "This needs a signed-in caller.",
        "code": "authentication_required",
    }


def test_a_refused_token_is_an_invalid_token() -> None:
    problem = problem_of(AuthenticationRequiredError(), refusal=TokenRefusal.UNKNOWN)
    assert problem.status == 401
    assert header(problem, b"www-authenticate") == b'Bearer realm="session", error="invalid_token"'
    assert json.loads(problem.body)["code"] == "invalid_token"


def test_unknown_wrong_corrupt_and_malformed_tokens_get_one_and_the_same_answer() -> None:
    kinds = [TokenRefusal.UNKNOWN, TokenRefusal.WRONG_SECRET, TokenRefusal.CORRUPT, TokenRefusal.NOT_A_TOKEN]
    answers = {problem_of(AuthenticationRequiredError(), refusal=kind) for kind in kinds}
    assert len(answers) == 1
    assert "reason" not in json.loads(answers.pop().body)


@pytest.mark.parametrize("refusal", [TokenRefusal.EXPIRED, TokenRefusal.INACTIVE])
def test_the_holder_of_the_secret_is_told_why_the_session_ended(refusal: TokenRefusal) -> None:
    problem = problem_of(AuthenticationRequiredError(), refusal=refusal)
    assert json.loads(problem.body)["reason"] == refusal.value
    assert header(problem, b"www-authenticate") == b'Bearer realm="session", error="invalid_token"'


def test_a_missing_scope_is_named_in_the_challenge() -> None:
    problem = problem_of(InsufficientScopeError(["notes:write", "admin"]))
    assert problem.status == 403
    assert header(problem, b"www-authenticate") == (
        b'Bearer realm="session", error="insufficient_scope", scope="admin notes:write"'
    )
    assert json.loads(problem.body)["missing_scopes"] == ["admin", "notes:write"]


@pytest.mark.parametrize("text", ['a" , error="x', "a\r\nSet-Cookie: x=y", "a\\", "a b", "é", "", "\x00", "a" * 300])
def test_text_that_is_no_scope_does_not_get_into_a_header(text: str) -> None:
    problem = problem_of(InsufficientScopeError([text, "ok"]))
    assert header(problem, b"www-authenticate") == (b'Bearer realm="session", error="insufficient_scope", scope="ok"')
    alone = problem_of(InsufficientScopeError([text]))
    assert header(alone, b"www-authenticate") == b'Bearer realm="session", error="insufficient_scope"'


def test_an_outage_is_a_503_that_says_when_to_come_back_and_nothing_of_signing_in() -> None:
    problem = problem_of(StoreUnavailable("postgresql://user:pw@db.internal is down"), retry_after_s=7)
    assert problem.status == 503
    assert header(problem, b"retry-after") == b"7"
    assert header(problem, b"www-authenticate") is None
    assert json.loads(problem.body)["code"] == "store_unavailable"
    assert b"db.internal" not in problem.body


def test_an_unconfirmed_revocation_says_so() -> None:
    problem = problem_of(RevocationIndeterminate("no answer"))
    assert problem.status == 503
    assert json.loads(problem.body)["code"] == "revocation_indeterminate"
    assert header(problem, b"retry-after") is not None


@pytest.mark.parametrize(
    "error", [AuthenticationRequiredError(), InsufficientScopeError(["a"]), StoreUnavailable("down")]
)
def test_every_answer_is_a_problem_that_no_cache_keeps(
    error: AuthenticationRequiredError | InsufficientScopeError | StoreUnavailable,
) -> None:
    problem = problem_of(error)
    assert header(problem, b"content-type") == b"application/problem+json"
    assert header(problem, b"cache-control") == b"no-store"
    assert header(problem, b"content-length") == str(len(problem.body)).encode()
    assert json.loads(problem.body)["status"] == problem.status


def test_clients_that_failed_together_come_back_apart() -> None:
    waits = [jittered_retry_after_s() for _ in range(10_000)]
    assert set(waits) == set(range(1, 11))
    assert max(waits.count(second) for second in set(waits)) < 2 * len(waits) / 10


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AuthenticationRequiredError(), 4401),
        (InsufficientScopeError(["a"]), 4403),
        (StoreUnavailable("down"), 1013),
    ],
)
def test_every_answer_has_a_websocket_close_code(
    error: AuthenticationRequiredError | InsufficientScopeError | StoreUnavailable, code: int
) -> None:
    assert problem_of(error).close_code == code


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SignInWhileAuthenticatedError(), 409, "sign_in_while_authenticated"),
        (SignInSupersededError("ann@example.org"), 409, "sign_in_superseded"),
        (UserBlockedError("ann@example.org"), 403, "sign_in_refused"),
        (UserNotFoundError("ann@example.org"), 403, "sign_in_refused"),
        (TooManyCookiesError(), 431, "too_many_cookies"),
        (UserSourceUnavailable("db.internal"), 503, "user_source_unavailable"),
    ],
)
def test_refusals_name_no_user_and_no_token(error: AnswerableError, status: int, code: str) -> None:
    """A client gives up its token on 401 with `invalid_token` and on nothing else."""
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert header(problem, b"www-authenticate") is None
    assert b"example.org" not in problem.body
    assert b"internal" not in problem.body


def test_a_blocked_user_and_an_unknown_one_get_one_and_the_same_answer() -> None:
    assert problem_of(UserBlockedError("ann")) == problem_of(UserNotFoundError("bob"))
