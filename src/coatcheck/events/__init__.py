"""The messages when sessions end or lose scopes, and the bus that gives them to subscribers."""

from coatcheck.events.bus import EventBus, Observer, Subscriber
from coatcheck.events.messages import (
    AnnouncementsMissed,
    Message,
    RevokedAuthenticationAuthId,
    RevokedAuthenticationScope,
    RevokedAuthenticationUser,
)

__all__ = [
    "AnnouncementsMissed",
    "EventBus",
    "Message",
    "Observer",
    "RevokedAuthenticationAuthId",
    "RevokedAuthenticationScope",
    "RevokedAuthenticationUser",
    "Subscriber",
]
