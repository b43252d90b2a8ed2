"""A User-Agent in words: "Firefox on Linux"."""

from __future__ import annotations

import re

_PRODUCT = re.compile(r"[\w.-]{1,40}(?=/)")  # of "python-httpx/0.28.1", the name (RFC 9110 section 10.1.5)
_NICER = {"Mac OS X": "macOS", "HeadlessChrome": "Chrome", "Mobile Safari": "Safari", "Chrome Mobile": "Chrome"}


def label_of(user_agent: str) -> str | None:
    """A label for people, or None. A client says it about itself, so it is never more than a label.

    Browsers are recognised with the `ua-parser` package (`coatcheck[devices]`). Without it, and for programs, the label
    is the name of the product the header starts with; every browser's is "Mozilla", which says nothing and is left out.
    """
    product = _PRODUCT.match(user_agent)
    name = product[0] if product else None
    try:
        from ua_parser import parse  # noqa: PLC0415 (optional, and it compiles a thousand patterns)
    except ImportError:
        return None if name == "Mozilla" else name
    parsed = parse(user_agent)
    client = parsed.user_agent.family if parsed.user_agent else name
    system = parsed.os.family if parsed.os else None
    client, system = _NICER.get(client or "", client), _NICER.get(system or "", system)
    return " on ".join(word for word in (client, system) if word) or None
