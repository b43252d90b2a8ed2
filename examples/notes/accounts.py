"""Accounts: an e-mail and a password hash for each Coatcheck user, and the two ways to a session."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import Column, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from coatcheck import Scope, UserNotFoundError
from database import UtcDateTime, metadata, transaction

if TYPE_CHECKING:
    from coatcheck import AuthenticationInfo, AuthServices, AuthSuccess, ClientInfo
    from coatcheck.stores.store import Store

NEW_USER_SCOPES = frozenset({Scope("notes:read"), Scope("notes:write")})

MAX_EMAIL_LENGTH = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 10, 256
# Whether an address exists only a message to it can tell; this finds what was typed into the wrong field.
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+\.[^@\s\x00-\x1f\x7f]+")

_NOBODY = "nobody"  # an id no user has: theirs are UUIDs

accounts = Table(
    "notes_accounts",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


class WrongCredentialsError(Exception):
    """There is no such account, or this is not its password. Which of the two is nobody's business."""


@dataclass
class InvalidSignUpError(Exception):
    """Something in the sign-up form has to change; `errors` says what, by field."""

    errors: dict[str, str]


class Accounts:
    """Signs people up and in."""

    def __init__(self, store: Store, auth: AuthServices) -> None:
        """Keep accounts beside the users and sessions of `auth`, which live in `store`."""
        self._store = store
        self._auth = auth
        self._passwords = _Passwords()

    async def sign_up(
        self,
        email: str,
        password: str,
        *,
        client: ClientInfo | None = None,
        replacing: AuthenticationInfo | None = None,
    ) -> AuthSuccess:
        """Make an account and sign it in.

        Account, Coatcheck user and first session are one transaction: either all three exist afterwards, or none.
        `client` is what is kept of the browser, `replacing` the session it has been using, which ends with it.

        Raises:
            InvalidSignUpError: the form has to be changed.
            StoreUnavailable: the database cannot answer.
        """
        email = _normal(email)
        errors = _sign_up_errors(email, password)
        if errors:
            raise InvalidSignUpError(errors)
        password_hash = await self._passwords.hash(password)  # takes its time, so no transaction is open yet
        try:
            async with transaction(self._store) as tx:
                user = await self._auth.auth_users.create(scopes=NEW_USER_SCOPES, transaction=tx)
                success = await self._auth.token_manager.create_token(
                    auth_user_id=user.id, method="email", client=client, replacing=replacing, transaction=tx
                )
                await tx.execute(
                    insert(accounts).values(
                        user_id=user.id, email=email, password_hash=password_hash, created_at=datetime.now(UTC)
                    )
                )
        except IntegrityError:
            # The unique column decides, not a look beforehand: two people may be typing the same address.
            raise InvalidSignUpError({"email": "There is already an account with this e-mail."}) from None
        return success

    async def sign_in(
        self,
        email: str,
        password: str,
        *,
        client: ClientInfo | None = None,
        caller: AuthenticationInfo | None = None,
        replacing: AuthenticationInfo | None = None,
    ) -> AuthSuccess:
        """Check the credentials and make a session.

        A program passes its `caller`, who may only sign in as themself. A browser passes only the session it is
        `replacing`, anybody's: whoever sits down at it signs in. Either ends with the step that makes the new one.

        Raises:
            WrongCredentialsError: there is no such account, or the password is another.
            UserBlockedError: the user is blocked.
            SignInSupersededError: the user was signed out everywhere while we were checking.
            SignInWhileAuthenticatedError: `caller` is somebody else.
            StoreUnavailable: the database cannot answer.
        """
        async with transaction(self._store) as tx:
            found = await tx.scalar(select(accounts.c.user_id).where(accounts.c.email == _normal(email)))
            # For an unknown e-mail everything below is done as well, with a hash that no password has: how long the
            # answer takes must not say who has an account.
            user_id = found or _NOBODY
            # The attempt begins before the hash is read. "New password, sign out everywhere" in between then stops
            # a sign-in with the old one; in the other order it would slip through.
            attempt = await self._auth.token_manager.begin_sign_in(user_id, transaction=tx)
            known = await tx.scalar(select(accounts.c.password_hash).where(accounts.c.user_id == user_id))
        known_hash = known or self._passwords.nobodys_hash
        if not await self._passwords.is_correct(known_hash, password):
            raise WrongCredentialsError
        new_hash = await self._passwords.rehash_if_needed(known_hash, password)

        try:
            async with transaction(self._store) as tx:
                success = await self._auth.token_manager.issue_token(
                    auth_user_id=user_id,
                    method="email",
                    caller=caller,
                    attempt=attempt,
                    client=client,
                    replacing=replacing or caller,
                    transaction=tx,
                )
                if new_hash is not None:
                    still_known = (accounts.c.user_id == user_id) & (accounts.c.password_hash == known_hash)
                    await tx.execute(update(accounts).where(still_known).values(password_hash=new_hash))
        except UserNotFoundError:
            raise WrongCredentialsError from None
        return success

    async def email_of(self, user_id: str) -> str:
        """The e-mail a user signs in with."""
        async with transaction(self._store) as tx:
            email = await tx.scalar(select(accounts.c.email).where(accounts.c.user_id == user_id))
        return email or ""


class _Passwords:
    """argon2id with the parameters of RFC 9106's low-memory profile, which are argon2-cffi's defaults.

    Each hash takes 64 MiB and some 50 ms, so they are made in threads, and never more than four at a time.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._limiter = CapacityLimiter(4)
        self.nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def is_correct(self, known_hash: str, password: str) -> bool:
        try:
            return await to_thread.run_sync(self._hasher.verify, known_hash, password, limiter=self._limiter)
        except VerifyMismatchError:
            return False

    async def rehash_if_needed(self, known_hash: str, password: str) -> str | None:
        """A new hash where the parameters have been raised since the old one was made."""
        return await self.hash(password) if self._hasher.check_needs_rehash(known_hash) else None


def _normal(email: str) -> str:
    """The spelling under which an e-mail is kept, so that capitals on a phone do not matter; "" for what is none."""
    email = email.strip().lower()
    return email if len(email) <= MAX_EMAIL_LENGTH and _EMAIL.fullmatch(email) else ""


def _sign_up_errors(email: str, password: str) -> dict[str, str]:
    errors = {}
    if not email:
        errors["email"] = "This does not look like an e-mail address. It should be like name@example.org."
    if len(password) < MIN_PASSWORD_LENGTH:
        errors["password"] = f"Please take at least {MIN_PASSWORD_LENGTH} characters. A few words in a row do well."
    elif len(password) > MAX_PASSWORD_LENGTH:
        errors["password"] = f"Please take at most {MAX_PASSWORD_LENGTH} characters."
    return errors
