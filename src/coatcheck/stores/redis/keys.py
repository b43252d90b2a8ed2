"""The names of keys and channels. `scripts/prelude.lua` has the same names and describes what each key holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coatcheck.identifiers import shard_of_session, shard_of_user

if TYPE_CHECKING:
    from coatcheck.identifiers import SessionId, UserId


class Keys:
    """The keys of one application's data in one database."""

    def __init__(self, prefix: str, database: int) -> None:
        """All begin with `prefix`."""
        self.prefix: str = prefix
        # Each database of a server has its own keys, but all databases share the server's channels.
        self.channel: str = f"{prefix}:{database}:announcements" if database else f"{prefix}:announcements"

    def root(self, shard: str) -> str:
        """The beginning of every key of a shard. A Cluster hashes only the part in braces, so they share a slot."""
        return f"{self.prefix}:{{{shard}}}"

    def session(self, session_id: SessionId) -> str:
        """A session."""
        return f"{self.prefix}:{{{shard_of_session(session_id)}}}:session:{session_id}"  # `root`, on the hot path

    def user(self, user_id: UserId) -> str:
        """A user."""
        return f"{self.root(shard_of_user(user_id))}:user:{user_id}"

    def lock(self, shard: str, name: str) -> str:
        """A lock."""
        return f"{self.root(shard)}:lease:{name}"

    def sessions(self, shard: str) -> str:
        """The ids of all sessions of a shard."""
        return f"{self.root(shard)}:sessions"

    def sessions_of(self, user_id: UserId) -> str:
        """The ids of a user's sessions."""
        return f"{self.root(shard_of_user(user_id))}:of:{user_id}"

    def expiring(self, shard: str) -> str:
        """The ids of sessions that have an absolute deadline, by that."""
        return f"{self.root(shard)}:expiring"

    def users(self, shard: str) -> str:
        """The ids of all registered users of a shard."""
        return f"{self.root(shard)}:users"

    def format(self, shard: str) -> str:
        """The version of the stored format, and the lowest version that code must know to use it."""
        return f"{self.root(shard)}:format"

    def peppers(self, shard: str) -> str:
        """The peppers that sessions are hashed with, as text."""
        return f"{self.root(shard)}:peppers"
