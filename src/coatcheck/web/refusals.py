"""From an error that escapes the application to the problem that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck import third_party_internals
from coatcheck.errors import AuthenticationRequiredError, StoreUnavailable, TooManyCookiesError
from coatcheck.web.http.problems import ANSWERABLE_ERRORS, jittered_retry_after_s, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from coatcheck.web.exchanges.verdict import Begun500
    from coatcheck.web.http.problems import AnswerableError, Problem
    from coatcheck.web.state import RequestState


def answer_to(error: AnswerableError, state: RequestState | None) -> Problem:
    """The answer to a request that ended in `error`; `state` is None where the middleware did not run.

    While it cannot be said who is calling, nobody is told to sign in, whatever the application concluded.
    """
    refusal = None
    if state is not None and isinstance(error, AuthenticationRequiredError):
        try:
            refusal = state.refusal
        except (StoreUnavailable, TooManyCookiesError) as unknown:
            error = unknown.with_traceback(None)  # which leads to this frame, and so back to the error
    return problem_of(error, refusal=refusal, retry_after_s=jittered_retry_after_s())


def answerable_in(error: BaseException, failure: AnswerableError | None = None) -> AnswerableError | None:
    """The error that has an answer of its own, taken out of what wraps it on its way up; None if it is another.

    `failure` is the one with which this request's sign-in or requirement is known to have failed: it has an answer,
    also where an error of its class has none elsewhere.

    Task groups wrap it in a group. Of several in one group an outage is answered first, because it is not known then
    who is calling, and else the first; beside any other error they are not why the request has failed. Starlette wraps
    it where an outer application has a handler for what a mounted one has met with a 500 already.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [answerable_in(one, failure) for one in error.exceptions]
        answerable = [one for one in found if one is not None]
        outages = [one for one in answerable if isinstance(one, StoreUnavailable)]
        return (outages or answerable)[0] if len(answerable) == len(found) else None
    handled_too_late = third_party_internals.error_handled_too_late(error)
    if handled_too_late is not None:
        return answerable_in(handled_too_late, failure)
    if error is failure:
        return failure
    return error if isinstance(error, ANSWERABLE_ERRORS) else None


def is_behind_500(error: BaseException, begun: Begun500) -> bool:
    """Whether an error that escapes the application is the one of which the 500 was made that it has begun before.

    Any other has come after a response that was none to it, out of a background task for one.
    """
    if isinstance(error, BaseExceptionGroup) and any(is_behind_500(one, begun) for one in error.exceptions):
        return True
    handled_too_late = third_party_internals.error_handled_too_late(error)
    if handled_too_late is not None:
        return is_behind_500(handled_too_late, begun)
    if third_party_internals.was_answered_by_starlette(error):
        return True
    # The same object may have been raised anew since, and has another traceback then.
    return error is begun.handled and any(part is begun.trace for part in _parts_of(error.__traceback__))


def _parts_of(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def refusal_behind_500(begun: Begun500, failure: AnswerableError | None) -> AnswerableError | None:
    """The refusal of which a framework has made a 500; None where that is not certain.

    `failure` is the error with which the last requirement of the request has failed. It may have been dealt with.
    """
    if begun.handled is not None:
        # The application handles refusals too, and may send a 500 meanwhile that is no answer to them.
        is_certain = third_party_internals.answers_while_it_handles(begun.trace)
        return answerable_in(begun.handled, failure) if is_certain else None
    # The 500 was made before it was sent. It is that of the refusal only if a framework is known to have caught it.
    is_certain = failure is not None and third_party_internals.was_answered_by_its_framework(failure)
    return failure if is_certain else None
