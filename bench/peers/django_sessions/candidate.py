"""Django: `django.contrib.auth.get_user` over `django.contrib.sessions.backends.db.SessionStore`, its default.

A request reads the session's row, not past its `expire_date`; the user's row; and compares the HMAC of the user's
password with the session's. Two statements in autocommit, and no write. It is what `request.user` does.
The session key is stored as it is, so the wrong secret is another key.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

import django_project
from contract import ThreadedCandidate, serve
from shared import USERS, Database, rows

DATABASE = Database.from_environment()
django_project.set_up(DATABASE, ["django.contrib.sessions"])

# Django wants its settings before its models are imported.
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.db import connections  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.utils import timezone  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class DjangoSessions(ThreadedCandidate):
    """See the module."""

    packages = ("django", "psycopg") if DATABASE.postgres else ("django",)

    def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """Sessions of up to 1000 users; those of one user have the same data, as their keys are not in it."""
        django_project.make_tables()
        django_project.insert_users(DATABASE, min(sessions, USERS))
        data = [_signed_in(user, user.get_session_auth_hash()) for user in User.objects.all()]
        now, kept = timezone.now(), []
        later = now + timedelta(days=14)
        _insert(rows(sessions, _new_key, lambda number, new: (new, data[number % len(data)], later), kept))

        expired, earlier_password = _new_key(), _new_key()
        before = _signed_in(User.objects.all()[0], User(password="another").get_session_auth_hash())  # noqa: S106
        _insert([(expired, data[0], now - timedelta(seconds=1)), (earlier_password, before, later)])
        DATABASE.settle()
        return kept, {"expired": expired, "wrong secret": _new_key(), "password changed": earlier_password}

    def validate(self, credential: str) -> bool:
        """Do the work of `request.user.is_authenticated` on the cookie of a request."""
        request = HttpRequest()
        request.session = SessionStore(credential)
        return get_user(request).is_authenticated

    def leave_thread(self) -> None:
        """Close the thread's connection."""
        connections.close_all()

    def close(self) -> None:
        """Close the main thread's connection."""
        connections.close_all()


def _new_key() -> str:
    # As long as Django's, of 16 of its 36 characters: Django's own takes 20 microseconds, and asks whether it is taken.
    return secrets.token_hex(16)


def _signed_in(user: User, auth_hash: str) -> str:
    backend = "django.contrib.auth.backends.ModelBackend"
    return SessionStore().encode(
        {SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: backend, HASH_SESSION_KEY: auth_hash},
    )


def _insert(sessions: Iterable[tuple[str, str, datetime]]) -> None:
    if DATABASE.sqlite:
        # As Django keeps them there.
        stored = ((key, data, f"{expires:%Y-%m-%d %H:%M:%S.%f}") for key, data, expires in sessions)
    else:
        stored = sessions
    DATABASE.insert("django_session", ("session_key", "session_data", "expire_date"), stored)


if __name__ == "__main__":
    serve(DjangoSessions())
