"""What is announced when authentication ends or shrinks, and who is told."""

from coatcheck.events.bus import EventBus, Subscriber
from coatcheck.events.messages import (
    Message,
    RevokedAuthenticationAuthId,
    RevokedAuthenticationScope,
    RevokedAuthenticationUser,
)

__all__ = [
    "EventBus",
    "Message",
    "RevokedAuthenticationAuthId",
    "RevokedAuthenticationScope",
    "RevokedAuthenticationUser",
    "Subscriber",
]
