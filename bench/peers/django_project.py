"""A Django project without files: settings for the given applications, and their tables by Django's own migrations."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import django
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared import Database


def set_up(database: Database, applications: Iterable[str]) -> None:
    """Configure Django; its models can be imported from here on.

    Connections stay open (CONN_MAX_AGE), one a thread, as its documentation advises. Everything else is the default.
    """
    settings.configure(
        SECRET_KEY=secrets.token_urlsafe(50),
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", *applications],
        DATABASES={"default": {**_address(database), "CONN_MAX_AGE": None}},
    )
    django.setup()


def make_tables() -> None:
    """Run every migration."""
    from django.core.management import call_command  # noqa: PLC0415 (wants settings)

    call_command("migrate", verbosity=0, interactive=False)


def insert_users(database: Database, count: int) -> list[int]:
    """Add so many active users with a password that nobody has; returns their ids."""
    from django.contrib.auth.hashers import make_password  # noqa: PLC0415 (wants settings)
    from django.contrib.auth.models import User  # noqa: PLC0415 (wants settings)
    from django.utils import timezone  # noqa: PLC0415 (wants settings)

    columns = ("username", "password", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")
    password, now = make_password(None), timezone.now()
    moment = now if database.postgres else f"{now:%Y-%m-%d %H:%M:%S.%f}"
    values = (
        (f"user{number}", password, f"user{number}@example.org", "", "", True, False, False, moment)
        for number in range(count)
    )
    database.insert("auth_user", (*columns, "date_joined"), values)
    return list(User.objects.order_by("id").values_list("id", flat=True))


def _address(database: Database) -> dict[str, Any]:
    if database.sqlite:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database.sqlite)}
    parts = urlsplit(database.postgres or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }
