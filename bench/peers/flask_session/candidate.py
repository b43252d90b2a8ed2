"""Flask-Session: `session_interface.open_session` of its SQLAlchemy interface, with psycopg or SQLite.

A request reads the session's row by its id, and refuses it past its `expiry` (and deletes it then): one statement in
a transaction. It writes nothing here; by default (SESSION_REFRESH_EACH_REQUEST) its `save_session` also reads and
writes the row with each response, which is not measured. There is no user to read. An application context is made for
each request, which is what returns the connection, and the plainest request that has a cookie.
The session id is stored as it is, so the wrong secret is another id.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from contract import ThreadedCandidate, serve
from flask_session import Session
from shared import USERS, Database, rows

if TYPE_CHECKING:
    from collections.abc import Iterable


class FlaskSession(ThreadedCandidate):
    """See the module."""

    def __init__(self) -> None:
        """Make the application, and with it the table."""
        self._database = Database.from_environment()
        driver = ("psycopg",) if self._database.postgres else ()
        self.packages = ("flask-session", "flask", "flask-sqlalchemy", "sqlalchemy", *driver)
        self._app = Flask("bench")
        database = SQLAlchemy()
        self._app.config.update(
            SQLALCHEMY_DATABASE_URI=self._database.url(postgres="postgresql+psycopg", sqlite="sqlite"),
            # A connection for each of 64 callers: none waits for another's.
            SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 64, "max_overflow": 0},
            SESSION_TYPE="sqlalchemy",
            SESSION_SQLALCHEMY=database,
        )
        database.init_app(self._app)
        Session(self._app)
        self._db = database

    def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """Sessions of up to 1000 users."""
        now, kept = datetime.now(UTC).replace(tzinfo=None), []
        later = now + self._app.permanent_session_lifetime
        self._insert(rows(sessions, _new_id, lambda number, new: (new, number % USERS, later), kept))
        expired = _new_id()
        self._insert([(expired, 0, now - timedelta(seconds=1))])
        self._database.settle()
        return kept, {"expired": expired, "wrong secret": _new_id()}

    def _insert(self, sessions: Iterable[tuple[str, int, datetime]]) -> None:
        interface = self._app.session_interface
        # SQLite: as SQLAlchemy keeps them there.
        moment = str if self._database.postgres else "{:%Y-%m-%d %H:%M:%S.%f}".format
        stored = (
            (
                interface.key_prefix + session_id,
                interface.serializer.encode({"_permanent": True, "user_id": user}),
                moment(expiry),
            )
            for session_id, user, expiry in sessions
        )
        self._database.insert("sessions", ("session_id", "data", "expiry"), stored)

    def validate(self, credential: str) -> bool:
        """Do Flask's work on a request before the view is called."""
        with self._app.app_context():
            request = self._app.request_class({"HTTP_COOKIE": f"session={credential}"})
            return "user_id" in self._app.session_interface.open_session(self._app, request)

    def close(self) -> None:
        """Close the pool."""
        with self._app.app_context():
            self._db.engine.dispose()


def _new_id() -> str:
    return secrets.token_urlsafe(32)


if __name__ == "__main__":
    serve(FlaskSession())
