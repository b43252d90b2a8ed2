"""django-rest-knox: `TokenAuthentication().authenticate_credentials`, with its default settings.

A request reads the tokens whose first 15 characters are the credential's, with their users; then every token of the
user, to delete those that have expired; and compares the SHA-512 of the credential. Two statements in autocommit, and
no write: AUTO_REFRESH is off by default. Every user has one token, which is the best case: what a request costs grows
with the number of its user's tokens.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import django_project
from contract import ThreadedCandidate, serve
from shared import Database, rows

DATABASE = Database.from_environment()
django_project.set_up(DATABASE, ["rest_framework", "knox"])

# Django wants its settings before its models are imported.
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402
from knox.auth import TokenAuthentication  # noqa: E402
from knox.crypto import create_token_string, hash_token  # noqa: E402
from knox.settings import CONSTANTS  # noqa: E402
from rest_framework.exceptions import AuthenticationFailed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class DjangoRestKnox(ThreadedCandidate):
    """See the module."""

    packages = ("django-rest-knox", "djangorestframework", "django") + (("psycopg",) if DATABASE.postgres else ())

    def fill(self, sessions: int) -> tuple[list[str], dict[str, str]]:
        """One session of each user, and one more user whose session has expired."""
        django_project.make_tables()
        users = django_project.insert_users(DATABASE, sessions + 1)
        now, kept = timezone.now(), []
        later = now + timedelta(days=14)
        _insert(rows(sessions, create_token_string, lambda number, new: (new, users[number], now, later), kept))

        expired = create_token_string()
        _insert([(expired, users[-1], now - timedelta(days=1), now - timedelta(seconds=1))])
        DATABASE.settle()
        # The first 15 characters find the row, the others are the secret.
        key = kept[0][: CONSTANTS.TOKEN_KEY_LENGTH]
        wrong = key + create_token_string()[CONSTANTS.TOKEN_KEY_LENGTH :]
        return kept, {"expired": expired, "wrong secret": wrong, "unknown": create_token_string()}

    def validate(self, credential: str) -> bool:
        """Do the work of a view with this authentication on the token of a request."""
        try:
            user, _ = TokenAuthentication().authenticate_credentials(credential.encode())
        except AuthenticationFailed:
            return False
        return user.is_authenticated

    def leave_thread(self) -> None:
        """Close the thread's connection."""
        connections.close_all()

    def close(self) -> None:
        """Close the main thread's connection."""
        connections.close_all()


def _insert(tokens: Iterable[tuple[str, int, datetime, datetime]]) -> None:
    # SQLite: as Django keeps them there.
    moment = str if DATABASE.postgres else "{:%Y-%m-%d %H:%M:%S.%f}".format
    stored = (
        (hash_token(token), token[: CONSTANTS.TOKEN_KEY_LENGTH], user, moment(created), moment(expiry))
        for token, user, created, expiry in tokens
    )
    DATABASE.insert("knox_authtoken", ("digest", "token_key", "user_id", "created", "expiry"), stored)


if __name__ == "__main__":
    serve(DjangoRestKnox())
