"""Notes: short texts that belong to one user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Column, Index, Integer, Row, Table, Text, delete, insert, select

from database import UtcDateTime, metadata, transaction

if TYPE_CHECKING:
    from coatcheck.stores.store import Store

MAX_NOTE_LENGTH = 2000
MAX_NOTE_ID = 2**31 - 1  # the largest INTEGER of every database

notes = Table(
    "notes_notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # an id is never used twice
)
Index("notes_notes_user_id", notes.c.user_id, notes.c.id)


@dataclass(frozen=True)
class Note:
    """One note. `created_at` is an aware UTC datetime."""

    id: int
    text: str
    created_at: datetime


@dataclass(frozen=True)
class NotePage:
    """Notes, the newest first. `next_before` is where the next page starts, None on the last."""

    notes: list[Note]
    next_before: int | None


class InvalidNoteError(ValueError):
    """The text cannot be kept as a note; the message says why."""


class Notes:
    """The notes of all users. Each statement names the user, so that nobody reaches another user's notes."""

    def __init__(self, store: Store) -> None:
        """Keep notes in the store's database."""
        self._store = store

    async def page(self, user_id: str, *, before: int | None = None, limit: int = 20) -> NotePage:
        """A user's notes, the newest first, at most `limit` older than the id `before`."""
        statement = select(notes).where(notes.c.user_id == user_id)
        if before is not None:
            statement = statement.where(notes.c.id < before)
        async with transaction(self._store) as tx:
            rows = (await tx.execute(statement.order_by(notes.c.id.desc()).limit(limit + 1))).all()
        found = [_note(row) for row in rows[:limit]]
        return NotePage(found, found[-1].id if len(rows) > limit else None)

    async def add(self, user_id: str, text: str) -> Note:
        """Write a note.

        Raises:
            InvalidNoteError: the text is empty, too long, or cannot be kept.
        """
        # Browsers send CRLF for every line end (HTML, "form submission"). PostgreSQL cannot keep NUL.
        text = text.replace("\r\n", "\n").strip()
        if not text:
            raise InvalidNoteError("Please write something first.")
        if len(text) > MAX_NOTE_LENGTH:
            raise InvalidNoteError(f"A note has at most {MAX_NOTE_LENGTH} characters; this one has {len(text)}.")
        if "\x00" in text:
            raise InvalidNoteError("The note holds a character that cannot be kept (NUL).")
        note = {"user_id": user_id, "text": text, "created_at": datetime.now(UTC)}
        async with transaction(self._store) as tx:
            return _note((await tx.execute(insert(notes).values(note).returning(*notes.c))).one())

    async def delete(self, user_id: str, note_id: int) -> bool:
        """Delete a note. False if the user has no such note."""
        mine = (notes.c.user_id == user_id) & (notes.c.id == note_id)
        async with transaction(self._store) as tx:
            return (await tx.execute(delete(notes).where(mine).returning(notes.c.id))).first() is not None


def _note(row: Row[tuple[object, ...]]) -> Note:
    return Note(row.id, row.text, row.created_at)
