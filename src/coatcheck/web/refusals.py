"""From an error that escapes the application to the problem that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck import third_party_internals
from coatcheck.errors import AuthenticationRequiredError, StoreUnavailable, TooManyCookiesError
from coatcheck.web.http.problems import ANSWERABLE_ERRORS, jittered_retry_after_s, problem_of

if TYPE_CHECKING:
    from types import FrameType

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

    Task groups wrap it in a group of one. Starlette wraps it where an outer application has a handler for what a
    mounted one has met with a 500 already.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    handled_too_late = third_party_internals.error_handled_too_late(error)
    if handled_too_late is not None:
        return answerable_in(handled_too_late, failure)
    if error is failure:
        return failure
    return error if isinstance(error, ANSWERABLE_ERRORS) else None


def left_the_function_that_asked(error: AnswerableError) -> bool:
    """Whether an error was still on its way when it left the application's function that called us.

    Otherwise that function has caught it and may have dealt with it, so that it is not why the request has failed.
    """
    frames: list[FrameType] = []
    trace = error.__traceback__  # from the frame that caught it inwards
    while trace is not None and not trace.tb_frame.f_globals.get("__name__", "").startswith("coatcheck."):
        if not frames or frames[-1] is not trace.tb_frame:  # one that raises it again is there twice
            frames.append(trace.tb_frame)
        trace = trace.tb_next
    return len(frames) > 1
