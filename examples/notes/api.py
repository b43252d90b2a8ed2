"""The routes for programs, in JSON: `/docs` shows them. The token goes into `Authorization: Bearer ...`."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from accounts import WrongCredentialsError
from coatcheck import AuthenticationInfo, SignInSupersededError, SignInWhileAuthenticatedError, UserBlockedError
from coatcheck.web import check_may_sign_in, client_of, hand_out
from coatcheck.web.fastapi import MaybeSignedIn, Requires, problem_responses
from notes import MAX_NOTE_ID, InvalidNoteError, Note, NotePage
from services import Cloakroom

router = APIRouter(prefix="/api")


class Credentials(BaseModel):
    """An e-mail and a password."""

    email: str = Field(max_length=254, examples=["ada@example.org"])
    password: str = Field(max_length=256)


class NewSession(BaseModel):
    """A session that was just made. The token is shown only once; a program that has it is signed in.

    The token is empty for a browser that asked for a cookie (`Coatcheck-Mode: cookie`).
    """

    model_config = ConfigDict(from_attributes=True)

    auth_strategy: str
    token: str
    token_expires_at: datetime | None
    auth_user_id: str
    scope_names: list[str]


class NewNote(BaseModel):
    """A note to be written."""

    text: str


@router.post("/sign-in", tags=["session"], responses=problem_responses(503))
async def sign_in(request: Request, credentials: Credentials, caller: MaybeSignedIn, services: Cloakroom) -> NewSession:
    """Sign in with e-mail and password."""
    check_may_sign_in(request)
    success = await services.accounts.sign_in(
        credentials.email, credentials.password, client=client_of(request), caller=caller
    )
    return NewSession.model_validate(hand_out(request, success))


@router.get("/notes", tags=["notes"], responses=problem_responses())
async def list_notes(
    caller: Annotated[AuthenticationInfo, Requires("notes:read")],
    services: Cloakroom,
    before: Annotated[int | None, Query(ge=1, le=MAX_NOTE_ID, description="`next_before` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> NotePage:
    """My notes, the newest first."""
    return await services.notes.page(caller.user_identifier, before=before, limit=limit)


@router.post("/notes", tags=["notes"], status_code=HTTPStatus.CREATED, responses=problem_responses())
async def add_note(
    caller: Annotated[AuthenticationInfo, Requires("notes:write")], services: Cloakroom, note: NewNote
) -> Note:
    """Write a note."""
    return await services.notes.add(caller.user_identifier, note.text)


@router.delete(
    "/notes/{note_id}",
    tags=["notes"],
    status_code=HTTPStatus.NO_CONTENT,
    response_model=None,
    responses=problem_responses(),
)
async def delete_note(
    caller: Annotated[AuthenticationInfo, Requires("notes:write")],
    services: Cloakroom,
    note_id: Annotated[int, Path(ge=1, le=MAX_NOTE_ID)],
) -> None:
    """Delete one of my notes."""
    if not await services.notes.delete(caller.user_identifier, note_id):
        raise NoSuchNoteError


class NoSuchNoteError(Exception):
    """The caller has no note with this id; another user may have one."""


_PROBLEMS: dict[type[Exception], tuple[HTTPStatus, str, str]] = {
    WrongCredentialsError: (HTTPStatus.FORBIDDEN, "wrong_credentials", "E-mail and password match no account."),
    UserBlockedError: (HTTPStatus.FORBIDDEN, "user_blocked", "This account is blocked."),
    SignInSupersededError: (
        HTTPStatus.CONFLICT,
        "sign_in_superseded",
        "The user was signed out everywhere during this sign-in. Repeat it.",
    ),
    SignInWhileAuthenticatedError: (
        HTTPStatus.CONFLICT,
        "signed_in_as_another_user",
        "The token that was sent is another user's. Sign out first, or leave it out.",
    ),
    NoSuchNoteError: (HTTPStatus.NOT_FOUND, "note_not_found", "You have no note with this id."),
}


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    status, code, detail = _PROBLEMS[type(error)]
    return _problem_response(status, code, detail)


async def _invalid_note(_request: Request, error: Exception) -> JSONResponse:
    return _problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_note", str(error))


def _problem_response(status: HTTPStatus, code: str, detail: str) -> JSONResponse:
    content = {"title": status.phrase, "status": status, "detail": detail, "code": code}
    return JSONResponse(content, status, media_type="application/problem+json")


handlers: dict[int | type[Exception], Callable[[Request, Exception], Coroutine[Any, Any, Response]]] = {
    **dict.fromkeys(_PROBLEMS, _problem),
    InvalidNoteError: _invalid_note,
}
