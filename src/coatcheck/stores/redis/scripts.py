"""Loads the scripts. Each is sent to a server once and called by its digest from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib.resources import files

# On a server whose memory is full sign-ins fail, and these scripts still run: they end or shrink sessions, or write in
# place. A rehash makes a session longer at most once, by the few bytes that the superseded form did not have.
_ON_A_FULL_SERVER = frozenset(
    (
        *("delete_session", "delete_matching", "end_user_sessions", "set_session_scopes", "change_user", "delete_user"),
        *("touch_sessions", "rehash_sessions", "prune_expired", "prune_idle", "try_lock"),
        *("lacking_rights", "note_format", "register_peppers"),
    )
)


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its text, and the digest by which a server knows it."""

    name: str
    text: str = field(repr=False)
    digest: str = field(repr=False)


@cache
def script(name: str) -> Script:
    """The script in `scripts/<name>.lua`, behind the prelude.

    It does not have the flag `no-writes`, so that a replica refuses it, whatever it does.
    """
    folder = files("coatcheck.stores.redis") / "scripts"
    flags = "#!lua flags=allow-oom" if name in _ON_A_FULL_SERVER else "#!lua"
    parts = [flags, *((folder / f"{part}.lua").read_text("utf-8") for part in ("prelude", name))]
    text = "\n".join(parts)
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())
