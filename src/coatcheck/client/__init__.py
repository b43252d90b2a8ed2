"""Sessions in client programs: the session is kept here, and its token goes out with every request.

    sessions = ClientSessionManager("https://notes.example.org", storage=FileStorage("~/.config/notes/session.json"))
    http = httpx2.Client(base_url="https://notes.example.org", auth=sessions.auth)

`AsyncClientSessionManager` is the same with `await`. Needs `coatcheck[client]`; nothing of the server is imported, and
httpx2, or httpx in its place, when the first manager is made.
"""

from coatcheck.extras import missing_extra

try:
    from coatcheck.client.async_manager import AsyncClientSessionManager
    from coatcheck.client.changes import AuthChange, SignInRequired, SignOutReason, open_login_page
    from coatcheck.client.file_storage import FileStorage
    from coatcheck.client.httpx_auth import ANONYMOUS, SessionAuth
    from coatcheck.client.keyring_storage import KeyringStorage
    from coatcheck.client.manager import ClientSessionManager
    from coatcheck.client.storage import CachedStorage, MemoryStorage, SessionStorage
    from coatcheck.client.text_storage import KeyValueStorage, TextStorage
except ModuleNotFoundError as _missing:
    raise missing_extra(_missing, module=__name__, extra="client") from _missing

__all__ = [
    "ANONYMOUS",
    "AsyncClientSessionManager",
    "AuthChange",
    "CachedStorage",
    "ClientSessionManager",
    "FileStorage",
    "KeyValueStorage",
    "KeyringStorage",
    "MemoryStorage",
    "SessionAuth",
    "SessionStorage",
    "SignInRequired",
    "SignOutReason",
    "TextStorage",
    "open_login_page",
]
