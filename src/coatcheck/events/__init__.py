"""What is announced when authentication ends or shrinks, and who is told."""

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
