"""From a token to who is calling: the path of every request, to be read in one sitting.

`token_format` takes the token apart, `key_hash` checks the secret, `stores/deadlines` judges the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.sessions import touch_timing
from coatcheck.sessions.key_hash import Match
from coatcheck.stores.deadlines import Deadline, deadline_reached, ends_in_us
from coatcheck.stores.records import Rehash, SessionUse
from coatcheck.token_format import parse_token
from coatcheck.tokens import AuthenticationInfo, TokenRefusal, TokenStanding

if TYPE_CHECKING:
    from coatcheck.sessions.key_hash import KeyHasher
    from coatcheck.sessions.ports import Touches
    from coatcheck.stores.records import SessionReading
    from coatcheck.stores.store import SessionReads
    from coatcheck.token_format import Secret

_REFUSALS = {Deadline.ABSOLUTE: TokenRefusal.EXPIRED, Deadline.IDLE: TokenRefusal.INACTIVE, None: None}


class Validator:
    """Answers every validation from a store read that starts after the call."""

    def __init__(self, store: SessionReads, hasher: KeyHasher, touches: Touches) -> None:
        """Read sessions from `store`; touches and rehashes that can wait go to `touches`."""
        self._store = store
        self._hasher = hasher
        self._touches = touches

    async def explain(self, token: str) -> AuthenticationInfo | TokenRefusal:
        """The caller that the token stands for, or the reason why there is none.

        A text that cannot be a token costs no read. The secret is checked before the deadlines, so that only the
        holder of the secret learns that a session has expired.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        parsed = parse_token(token)
        if parsed is None:
            return TokenRefusal.NOT_A_TOKEN
        reading = await self._store.read_session(parsed.session_id)
        if reading is None:
            return TokenRefusal.UNKNOWN
        verdict = self._judge(parsed.secret, reading)
        if isinstance(verdict, TokenRefusal):
            return verdict
        if touch_timing.is_touch_due(reading) and not await self._touch(reading):
            return TokenRefusal.UNKNOWN
        if verdict is not Match.CURRENT:
            self._touches.note_rehash(Rehash(reading.id, reading.key, self._hasher.rehash(parsed.secret, reading.key)))
        return AuthenticationInfo(reading.user_id, reading.scopes or frozenset(), reading.id)  # judged: it has scopes

    async def examine(self, token: str) -> TokenStanding:
        """The caller and the time until a deadline. Unlike `explain` this is no use of the session and writes nothing.

        Raises:
            StoreUnavailable: the store cannot answer.
        """
        parsed = parse_token(token)
        if parsed is None:
            return TokenStanding(TokenRefusal.NOT_A_TOKEN)
        reading = await self._store.read_session(parsed.session_id)
        if reading is None:
            return TokenStanding(TokenRefusal.UNKNOWN)
        verdict = self._judge(parsed.secret, reading)
        if isinstance(verdict, TokenRefusal):
            is_right = verdict not in {TokenRefusal.WRONG_SECRET, TokenRefusal.UNKNOWN_PEPPER}
            holder = AuthenticationInfo(reading.user_id, frozenset(), reading.id) if is_right else None
            return TokenStanding(verdict, holder=holder)
        caller = AuthenticationInfo(reading.user_id, reading.scopes or frozenset(), reading.id)
        return TokenStanding(caller, ends_in_us(reading, reading.now_us))

    def _judge(self, secret: Secret, reading: SessionReading) -> Match | TokenRefusal:
        match = self._hasher.check(secret, reading.key)
        if match is None:
            return TokenRefusal.WRONG_SECRET if self._hasher.can_check(reading.key) else TokenRefusal.UNKNOWN_PEPPER
        if reading.scopes is None:
            return TokenRefusal.CORRUPT
        return _REFUSALS[deadline_reached(reading, reading.now_us)] or match

    async def _touch(self, reading: SessionReading) -> bool:
        """Note the use. False where the session turned out to have been ended since it was read."""
        use = SessionUse(reading.id, reading.now_us)
        if touch_timing.is_touch_urgent(reading):
            # Waiting for the channel could let the session run out under an active user.
            return reading.id in await self._store.touch_sessions((use,))
        self._touches.note_use(use, delay_us=touch_timing.touch_delay_us(reading.expire_after_unused_for_us))
        return True
