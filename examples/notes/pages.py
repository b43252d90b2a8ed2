"""The pages and their forms, in plain HTML. The one script is for the end of a session."""

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from accounts import InvalidSignUpError, WrongCredentialsError
from coatcheck import AuthenticationInfo, AuthSuccess, SignInSupersededError, UserBlockedError
from coatcheck.web import check_may_sign_in, client_of, forget_cookie, hand_out, safe_next, sign_out
from coatcheck.web.fastapi import MaybeSignedIn, Requires, SignedIn
from notes import MAX_NOTE_ID, InvalidNoteError
from refusals import WHY_IT_ENDED
from rendering import page
from services import Cloakroom

HOME = "/notes"
"""The page after a sign-in that has no page to go back to."""

# Fields may be missing, so that a half-filled form is answered with the form and not with a 422.
Field = Annotated[str, Form()]

_DONE = {
    "signed-out": "You are signed out on this device.",
    "elsewhere": "You have signed out in another tab.",
    "signed-out-everywhere": "You are signed out on all your devices.",
    "ended": "That device is signed out.",
    "already-ended": "That device was signed out already.",
    "others-ended": "All your other devices are signed out.",
    "may-read": "That device may only read from now on.",
    "may-write": "That device may write again.",
}

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.get("/")
async def welcome(request: Request, done: str = "") -> Response:
    """The front page."""
    return page(request, "welcome.html", done=_DONE.get(done))


# --- signing up, in and out ---


@router.get("/sign-up")
async def sign_up_page(request: Request, next: str = "") -> Response:  # noqa: A002 (the name of the query's field)
    """The form for a new account."""
    return page(request, "sign_up.html", next=safe_next(next, HOME), email="", errors={})


@router.post("/sign-up")
async def sign_up(
    request: Request,
    services: Cloakroom,
    old_session: MaybeSignedIn,
    email: Field = "",
    password: Field = "",
    next: Field = "",  # noqa: A002 (the name of the form's field)
) -> Response:
    """Make an account and sign in."""
    check_may_sign_in(request, "cookie")
    try:
        success = await services.accounts.sign_up(email, password, client=client_of(request), replacing=old_session)
    except InvalidSignUpError as invalid:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return page(
            request, "sign_up.html", status=status, next=safe_next(next, HOME), email=email, errors=invalid.errors
        )
    return _signed_in(request, success, next)


@router.get("/sign-in")
async def sign_in_page(
    request: Request,
    next: str = "",  # noqa: A002 (the name of the query's field)
    reason: str = "",
) -> Response:
    """The form to sign in. It says why the session has ended, if it has."""
    return page(
        request,
        "sign_in.html",
        reason=WHY_IT_ENDED.get(reason),
        done=_DONE.get(reason),
        next=safe_next(next, HOME),
        email="",
        unsaved=None,
        problem=None,
    )


@router.post("/sign-in")
async def sign_in(
    request: Request,
    services: Cloakroom,
    old_session: MaybeSignedIn,
    email: Field = "",
    password: Field = "",
    next: Field = "",  # noqa: A002 (the name of the form's field)
    unsaved: Field = "",
) -> Response:
    """Sign in, and end the session that this browser had. A note that could not be saved before is saved now."""
    check_may_sign_in(request, "cookie")
    try:
        success = await services.accounts.sign_in(email, password, client=client_of(request), replacing=old_session)
    except (WrongCredentialsError, SignInSupersededError, UserBlockedError) as refusal:
        return page(
            request,
            "sign_in.html",
            status=HTTPStatus.FORBIDDEN,
            problem=_WHY_REFUSED[type(refusal)],
            reason=None,
            done=None,
            next=safe_next(next, HOME),
            email=email,
            unsaved=unsaved or None,
        )
    if unsaved and "notes:write" in success.scope_names:
        with suppress(InvalidNoteError):  # only if the form was tampered with: it checks the text itself
            await services.notes.add(success.auth_user_id, unsaved)
    return _signed_in(request, success, next)


@router.post("/sign-out")
async def sign_out_here(request: Request, services: Cloakroom) -> Response:
    """Sign out on this device. Where that cannot be confirmed, the browser can send the form again."""
    await sign_out(services.auth, request)
    return _see("/?done=signed-out")


_WHY_REFUSED: dict[type[Exception], str] = {
    WrongCredentialsError: "E-mail and password do not match an account.",
    SignInSupersededError: "You were signed out everywhere while you were signing in. Please sign in once more.",
    UserBlockedError: "This account is blocked, so it cannot be signed in.",
}


def _signed_in(request: Request, success: AuthSuccess, next_path: str) -> Response:
    hand_out(request, success, "cookie")
    return _see(safe_next(next_path, HOME))


# --- notes ---


@router.get("/notes")
async def notes_page(
    request: Request,
    caller: Annotated[AuthenticationInfo, Requires("notes:read")],
    services: Cloakroom,
    before: Annotated[int | None, Query(ge=1, le=MAX_NOTE_ID)] = None,
) -> Response:
    """My notes, and the form for a new one."""
    found = await services.notes.page(caller.user_identifier, before=before)
    return page(request, "notes.html", notes=found, is_first_page=before is None, text="", problem=None)


@router.post("/notes")
async def add_note(
    request: Request,
    caller: Annotated[AuthenticationInfo, Requires("notes:write")],
    services: Cloakroom,
    text: Field = "",
) -> Response:
    """Write a note."""
    try:
        await services.notes.add(caller.user_identifier, text)
    except InvalidNoteError as invalid:
        found = await services.notes.page(caller.user_identifier)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return page(
            request, "notes.html", status=status, notes=found, is_first_page=True, text=text, problem=str(invalid)
        )
    return _see("/notes")


@router.post("/notes/{note_id}/delete")
async def delete_note(
    caller: Annotated[AuthenticationInfo, Requires("notes:write")],
    services: Cloakroom,
    note_id: Annotated[int, Path(ge=1, le=MAX_NOTE_ID)],
) -> Response:
    """Delete one of my notes."""
    if not await services.notes.delete(caller.user_identifier, note_id):
        raise HTTPException(HTTPStatus.NOT_FOUND, "You have no such note, or it is deleted already.")
    return _see("/notes")


# --- devices ---


@router.get("/devices")
async def devices_page(request: Request, caller: SignedIn, services: Cloakroom, done: str = "") -> Response:
    """The list of my devices."""
    found = await services.devices.of(caller)
    email = await services.accounts.email_of(caller.user_identifier)
    return page(request, "devices.html", devices=found, email=email, done=_DONE.get(done))


@router.post("/devices/end-others")
async def end_other_devices(caller: SignedIn, services: Cloakroom) -> Response:
    """Sign out everywhere else."""
    await services.devices.end_others(caller)
    return _see("/devices?done=others-ended")


@router.post("/devices/end-all")
async def end_all_devices(request: Request, caller: SignedIn, services: Cloakroom) -> Response:
    """Sign out everywhere."""
    await services.devices.end_all(caller)
    forget_cookie(request)
    return _see("/?done=signed-out-everywhere")


@router.post("/devices/{session_id}/end")
async def end_device(request: Request, caller: SignedIn, services: Cloakroom, session_id: str) -> Response:
    """Sign out on one of my devices."""
    ended = await services.devices.end(caller, session_id)
    if session_id == caller.auth_id:
        forget_cookie(request)
        return _see("/?done=signed-out")
    return _see("/devices?done=ended" if ended else "/devices?done=already-ended")


@router.post("/devices/{session_id}/writing")
async def switch_writing(
    # Otherwise a restricted device could lift its own restriction.
    caller: Annotated[AuthenticationInfo, Requires("notes:write")],
    services: Cloakroom,
    session_id: str,
    allowed: Field = "",
) -> Response:
    """Let one of my devices only read, or write again."""
    may_write = allowed == "yes"
    if not await services.devices.set_may_write(caller, session_id, may_write=may_write):
        return _see("/devices?done=already-ended")
    return _see("/devices?done=may-write" if may_write else "/devices?done=may-read")


def _see(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
