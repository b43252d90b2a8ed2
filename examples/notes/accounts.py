"""Accounts: an e-mail and a password hash for each Coatcheck user, and signing up and in."""

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
# Only a message can tell whether an address exists; this finds texts that were typed into the wrong field.
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+\.[^@\s\x00-\x1f\x7f]+")

_NOBODY = "nobody"  # an id that no user has: users have UUIDs

accounts = Table(
    "notes_accounts",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


class WrongCredentialsError(Exception):
    """There is no such account, or this is not its password. The caller does not learn which of the two."""


@dataclass
class InvalidSignUpError(Exception):
    """The sign-up form has to be changed; `errors` has a message for each field."""

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
        `client` is the device. `replacing` is the browser's session until now, which ends in the same transaction.

        Raises:
            InvalidSignUpError: the form has to be changed.
            StoreUnavailable: the database cannot answer.
        """
        email = _normal(email)
        errors = _sign_up_errors(email, password)
        if errors:
            raise InvalidSignUpError(errors)
        password_hash = await self._passwords.hash(password)  # slow, so no transaction is open yet
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
            # The unique column decides, not a read beforehand: two people may be typing the same address.
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

        A program passes its `caller`, who may only sign in as the same user. A browser passes only the session that it
        is `replacing`, of any user: several people may use one browser. The replaced session ends in the step that
        makes the new one.

        Raises:
            WrongCredentialsError: there is no such account, or the password is wrong.
            UserBlockedError: the user is blocked.
            SignInSupersededError: the user was signed out everywhere while the password was checked.
            SignInWhileAuthenticatedError: `caller` is somebody else.
            StoreUnavailable: the database cannot answer.
        """
        async with transaction(self._store) as tx:
            found = await tx.scalar(select(accounts.c.user_id).where(accounts.c.email == _normal(email)))
            # For an unknown e-mail everything below is done too, with a hash that no password has: the time of the
            # answer must not show whether there is an account.
            user_id = found or _NOBODY
            # The attempt begins before the hash is read. A new password and "sign out everywhere" in between stop
            # a sign-in with the old password; in the other order the sign-in would succeed.
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
        """A new hash if the parameters have been raised since the old one was made."""
        return await self.hash(password) if self._hasher.check_needs_rehash(known_hash) else None


def _normal(email: str) -> str:
    """The spelling in which an e-mail is kept, so that capitals do not matter; "" for a text that is not an e-mail."""
    email = email.strip().lower()
    return email if len(email) <= MAX_EMAIL_LENGTH and _EMAIL.fullmatch(email) else ""


def _sign_up_errors(email: str, password: str) -> dict[str, str]:
    errors: dict[str, str] = {}
    if not email:
        errors["email"] = "This does not look like an e-mail address. It should be like name@example.org."
    if len(password) < MIN_PASSWORD_LENGTH:
        errors["password"] = f"Please take at least {MIN_PASSWORD_LENGTH} characters. A few words in a row do well."
    elif len(password) > MAX_PASSWORD_LENGTH:
        errors["password"] = f"Please take at most {MAX_PASSWORD_LENGTH} characters."
    return errors
