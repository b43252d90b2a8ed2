"""Notes at the command line: a program that signs in to examples/notes and carries its own token.

python notes_cli.py sign-in
python notes_cli.py add "the umbrella is at the bar"
python notes_cli.py list
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coatcheck import CoatcheckError
from coatcheck.client import ClientSessionManager, FileStorage, KeyringStorage, SessionStorage, SignOutReason
from coatcheck.wire import auth_success_of

# Tracebacks must not show local variables: a password may be among them.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Keep(StrEnum):
    """The place of the token."""

    KEYRING = "keyring"
    FILE = "file"


ServerOption = Annotated[str, typer.Option(envvar="NOTES_SERVER", help="Where the notes are.")]
KeepOption = Annotated[Keep, typer.Option(envvar="NOTES_KEEP", help="Where your token is kept.")]

WHY_IT_ENDED = {
    SignOutReason.EXPIRED: "Your session has run out.",
    SignOutReason.INACTIVE: "Your session has ended, as it was not used for too long.",
    SignOutReason.REVOKED: "This program was signed out from another of your devices.",
    SignOutReason.ELSEWHERE: "You have signed out in another terminal.",
}


class NotesError(Exception):
    """An error with a message for the person at the terminal."""


@dataclass
class Notes:
    """The notes of the signed-in user."""

    server: str
    sessions: ClientSessionManager
    http: httpx2.Client

    @classmethod
    def at(cls, server: str, keep: Keep) -> Notes:
        """Open the notes of a server, with the session that is kept for it."""
        sessions = ClientSessionManager(
            server,
            session_path="/api/session",
            storage=storage_for(server, keep),
            client_label=f"notes-cli on {platform.node()}"[:64],
        )
        sessions.listen(lambda change: explain(change.reason))
        return cls(server, sessions, httpx2.Client(base_url=server, auth=sessions.auth, timeout=10))

    def call(self, method: str, path: str, json: object = None) -> Any:  # noqa: ANN401 (JSON)
        """Call the server, and return its answer.

        Raises:
            NotesError: the server does not answer, or refuses.
        """
        try:
            answer = self.http.request(method, f"/api{path}", json=json)
        except httpx2.HTTPError:
            raise NotesError(f"{self.server} cannot be reached. You stay signed in; try again later.") from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise NotesError(_words_of(answer))


def storage_for(server: str, keep: Keep) -> SessionStorage:
    """The storage for one server. Each server has its own: a token must go only to the server that gave it."""
    host = httpx2.URL(server).netloc.decode()
    if keep is Keep.KEYRING:
        return KeyringStorage("coatcheck-notes", host)
    folder = Path(os.environ.get("NOTES_HOME") or typer.get_app_dir("coatcheck-notes"))
    return FileStorage(folder / f"{host.replace(':', '_')}.json")


def explain(reason: SignOutReason | None) -> None:
    """Say why the session has ended, unless the running command has ended it."""
    if reason in WHY_IT_ENDED:
        err.print(f"{WHY_IT_ENDED[reason]} Sign in again with: notes_cli.py sign-in")


@app.callback()
def connect(
    context: typer.Context,
    server: ServerOption = "http://127.0.0.1:8000",
    keep: KeepOption = Keep.FILE,
) -> None:
    """Your notes, from the command line."""
    context.obj = context.with_resource(_closing(Notes.at(server.rstrip("/"), keep)))


@app.command()
def sign_in(
    context: typer.Context,
    email: Annotated[str, typer.Option(prompt="E-mail", help="The e-mail you signed up with.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, envvar="NOTES_PASSWORD", help="Better typed than given here.")
    ],
) -> None:
    """Sign in. Your token is kept until you sign out or the session ends."""
    notes: Notes = context.obj
    answer = notes.call("POST", "/sign-in", {"email": email, "password": password})
    notes.sessions.update_signed_in_user(auth_success_of(answer))
    out.print("Signed in.")


@app.command()
def add(context: typer.Context, text: Annotated[str, typer.Argument(help="What should not be forgotten.")]) -> None:
    """Write a note."""
    note = context.obj.call("POST", "/notes", {"text": text})
    out.print(f"Note {note['id']} is kept.")


@app.command("list")
def list_notes(context: typer.Context) -> None:
    """Show my notes, the newest first."""
    page = context.obj.call("GET", "/notes")
    if not page["notes"]:
        out.print("Nothing hangs here yet.")
        return
    table = Table("No", "Written", "Note", box=None, header_style="dim")
    for note in page["notes"]:
        table.add_row(str(note["id"]), _minute(note["created_at"]), Text(note["text"]))
    out.print(table)


@app.command()
def devices(context: typer.Context) -> None:
    """Show my devices."""
    page = context.obj.call("GET", "/session/sessions")
    table = Table("Device", "Signed in", "Last used", "From", box=None, header_style="dim")
    for session in page["sessions"]:
        label = Text(session["label"] or "Unknown device", style="bold" if session["current"] else "")
        if session["current"]:
            label.append(" (this one)")
        times = _minute(session["created_at"]), _minute(session["last_used_at"])
        table.add_row(label, *times, session["ip_address"] or "")
    out.print(table)


@app.command()
def status(context: typer.Context) -> None:
    """Am I signed in?"""
    notes: Notes = context.obj
    if not notes.sessions.initialize():
        raise NotesError(f"{notes.server} cannot be asked right now. Nothing has changed here.")
    info = notes.sessions.auth_info
    out.print("You are not signed in." if info is None else f"You are signed in (user {info.auth_user_id}).")


@app.command()
def sign_out(
    context: typer.Context, *, everywhere: Annotated[bool, typer.Option(help="On all my devices.")] = False
) -> None:
    """Sign out, here or everywhere. The token is forgotten here in any case."""
    sessions = context.obj.sessions
    sessions.restore()
    if not sessions.is_authenticated:
        out.print("You are not signed in.")
        return
    confirmed = sessions.sign_out_all_devices() if everywhere else sessions.sign_out_device()
    if not confirmed:
        raise NotesError(
            "Signed out here, but the server could not be told: the session lives on there. "
            "End it on another device, under My devices."
        )
    out.print("Signed out on all your devices." if everywhere else "Signed out.")


def main() -> None:
    """Run, and print errors without a traceback."""
    try:
        app()
    except (NotesError, CoatcheckError) as error:
        err.print(str(error), style="red")
        raise SystemExit(1) from None


def _words_of(answer: httpx2.Response) -> str:
    try:
        problem = answer.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {answer.status_code}, which is none of its own answers. You stay signed in."
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        return "You are not signed in."
    if code == "insufficient_scope":
        return "This device may only read. You can change that on another device, under My devices."
    return detail


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


class _closing:  # noqa: N801 (as contextlib's)
    """Closes the open client when the command ends."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __enter__(self) -> Notes:
        return self._notes

    def __exit__(self, *_error: object) -> None:
        self._notes.http.close()
        self._notes.sessions.close()


if __name__ == "__main__":
    main()
