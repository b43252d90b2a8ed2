"""What is announced when authentication ends or shrinks, and who is told."""

from coatcheck.events.bus import EventBus, Subscriber
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
    "RevokedAuthenticationAuthId",
    "RevokedAuthenticationScope",
    "RevokedAuthenticationUser",
    "Subscriber",
]
