"""A server of one version of Coatcheck, in a process of its own. It imports nothing of the tests: they are newer.

It reads commands from its input, one JSON array a line, and answers each with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import coatcheck
from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.events import RevokedAuthenticationAuthId

PEPPER = "a pepper of thirty-two bytes ok!"


class Server:
    """One open pod."""

    def __init__(self, url: str, *, migrates: bool) -> None:
        self.pod = Pod(url, environ={}, config_dir="no-such-folder", migrates=migrates, prune_interval=None)
        self.auth = self.pod.initialize_auth_services(
            token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)]
        )
        self.heard: dict[str, asyncio.Event] = {}
        self.pod.events.subscribe(self._hear)

    async def _hear(self, message: object) -> None:
        if isinstance(message, RevokedAuthenticationAuthId):
            self._event(message.auth_id).set()

    def _event(self, session_id: str) -> asyncio.Event:
        return self.heard.setdefault(session_id, asyncio.Event())

    async def where(self) -> str:
        return str(coatcheck.__file__)

    async def sign_in(self, number: int) -> list[list[str]]:
        """Sign in so many times at once, for users of their own."""

        async def one() -> list[str]:
            user = await self.auth.auth_users.create(scopes={"a"})
            success = await self.auth.token_manager.create_token(auth_user_id=user.id, method="email")
            return [success.token, success.server_side_session_id, user.id]

        return list(await asyncio.gather(*(one() for _ in range(number))))

    async def validate(self, tokens: list[str]) -> list[bool]:
        """Validate all at once."""
        found = await asyncio.gather(*(self.auth.token_manager.validate_token(token) for token in tokens))
        return [one is not None for one in found]

    async def revoke(self, session_ids: list[str]) -> list[bool]:
        """Revoke all at once."""
        calls = (self.auth.token_manager.revoke_token(token_id=session_id) for session_id in session_ids)
        return list(await asyncio.gather(*calls))

    async def hear(self, session_ids: list[str]) -> int:
        """Wait until the end of each was heard of."""
        async with asyncio.timeout(60):
            await asyncio.gather(*(self._event(session_id).wait() for session_id in session_ids))
        return len(session_ids)


async def main(url: str, migrates: str) -> None:
    lines: asyncio.StreamReader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    server = Server(url, migrates=migrates == "migrates")
    try:
        async with server.pod:
            _answer("open")
            while line := await lines.readline():
                name, *arguments = json.loads(line)
                _answer(await getattr(server, name)(*arguments))
    except coatcheck.ConfigurationError as refused:
        _answer({"refused": str(refused)})


def _answer(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
