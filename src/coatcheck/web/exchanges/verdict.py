"""The verdict on the caller of one request, and what the application has asked of it so far.

The middleware makes it, `RequestState` shows it to the application, and what stays open renews it. It refers to neither
of them: requests are freed by counting references, without waiting for the garbage collector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from coatcheck.errors import StoreUnavailable, TooManyCookiesError
from coatcheck.tokens import AuthenticationInfo, TokenRefusal

if TYPE_CHECKING:
    from types import TracebackType
    from weakref import ReferenceType

    from coatcheck.web.exchanges.open_connection import OpenConnection
    from coatcheck.web.http.problems import AnswerableError

Answer: TypeAlias = AuthenticationInfo | TokenRefusal | StoreUnavailable | TooManyCookiesError | None

_NO_SCOPES: frozenset[str] = frozenset()


class Begun500(NamedTuple):
    """What the application was doing when it began to send a 500."""

    handled: BaseException | None
    """The exception that it was handling, None if none."""

    trace: TracebackType | None
    """That of the exception at this moment, from the frame that handled it inwards."""


class Verdict:
    """One of: nobody (no token was sent), a refusal, an `AuthenticationInfo`, or an error: it cannot be said.

    The last is raised when the application asks, so that what does not depend on the caller keeps working while the
    store is down, and what does is neither refused nor served as to a stranger.

    `failure` is the error with which a requirement of the application has failed last, or a sign-in or sign-out; it may
    have been dealt with. `begun_500` says of a 500 that the application has begun what it was handling then; None if it
    has begun none. Both lead to frames that lead back here, so the middleware takes them away when the request is over.

    `required_scopes` are all that the application has required of the caller so far. `connection` is told of the first
    question, if it is open by then.
    """

    __slots__ = ("answer", "begun_500", "connection", "failure", "required_scopes", "was_asked")

    def __init__(self, answer: Answer) -> None:
        """Begin with the `answer` to the token that was sent; None if none was."""
        self.answer: Answer = answer
        self.was_asked: bool = False
        self.failure: AnswerableError | None = None
        self.begun_500: Begun500 | None = None
        self.required_scopes: frozenset[str] = _NO_SCOPES
        self.connection: ReferenceType[OpenConnection] | None = None

    def ask(self) -> AuthenticationInfo | TokenRefusal | None:
        """The answer, for the application: its response may depend on it from now on.

        Raises:
            StoreUnavailable: a token was sent and the store could not say whether it is valid.
            TooManyCookiesError: whether a token was sent is not known.
        """
        if not self.was_asked:
            self.was_asked = True  # before the look: a connection that opens meanwhile, in another thread, sees it
            connection = None if self.connection is None else self.connection()
            if connection is not None:
                connection.note_asked()
        answer = self.answer
        if isinstance(answer, (StoreUnavailable, TooManyCookiesError)):
            self.failure = answer
            raise answer.with_traceback(None)  # that of an earlier question
        return answer
