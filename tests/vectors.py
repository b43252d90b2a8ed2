"""The test vectors in `vectors.json`, which Serverpod has made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from coatcheck.identifiers import SessionId


@dataclass(frozen=True)
class Vector:
    """One token with all of its parts."""

    session_id: SessionId
    secret: bytes
    salt: bytes
    pepper: str
    token: str
    hash: bytes
    legacy_hash: bytes

    def __str__(self) -> str:
        return self.session_id


def _load() -> list[Vector]:
    content = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
    return [
        Vector(
            session_id=SessionId(vector["session_id"]),
            secret=bytes.fromhex(vector["secret"]),
            salt=bytes.fromhex(vector["salt"]),
            pepper=vector["pepper"],
            token=vector["token"],
            hash=bytes.fromhex(vector["hash"]),
            legacy_hash=bytes.fromhex(vector["legacy_hash"]),
        )
        for vector in content["vectors"]
    ]


VECTORS = _load()
