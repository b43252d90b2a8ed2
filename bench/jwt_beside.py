"""Measures a validation of a session beside the decoding of a JWT with the same claims.

`make bench-jwt`, or `python bench/jwt_beside.py --help`. One caller, one process: PyJWT and joserfc check the signature
and the expiry of a token; Coatcheck reads the session's row, compares the secret and judges both deadlines. Each round
measures every candidate once, in another order, and medians are shown. All servers are on this machine. Behind a
network a store costs a round trip for each validation, which a JWT does not, and a JWT stays valid until it expires.
"""

from __future__ import annotations

import json
import platform
import random
import secrets
import sys
import time
import uuid
from contextlib import AsyncExitStack, ExitStack, suppress
from importlib.metadata import version
from itertools import cycle
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import jwt as pyjwt
import typer
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt as joserfc_jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry
from rich.progress import track

import markdown
from coatcheck import Pod, ServerSideSessionsConfig
from coatcheck.bench.filling import Population, fill
from stage import console, new_store, show
from tests.servers import signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

PEPPER = "a pepper of the benchmark, 32 bytes"
STORES = ("sqlite", "postgresql", "redis")
ALGORITHMS = ("HS256", "RS256", "ES256")
BATCH = 100
"""So many calls between two looks at the clock, as the fastest take a few microseconds."""

USERS = tuple(str(uuid.UUID(int=number)) for number in range(200))


def main(
    stores: Annotated[str, typer.Option(help=f"{', '.join(STORES)}, with commas")] = ",".join(STORES),
    sessions: Annotated[int, typer.Option(min=1, help="how many are stored")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="how often each candidate is measured")] = 9,
    seconds: Annotated[float, typer.Option(min=0.01, help="how long each time")] = 1.0,
    results: Annotated[Path | None, typer.Option(help="write everything that was measured here, as JSON")] = None,
) -> None:
    """Measure validations beside the decoding of JWTs."""
    if unknown := set(stores.split(",")) - set(STORES):
        raise typer.BadParameter(f"{' '.join(sorted(unknown))} is no store; there are {', '.join(STORES)}")
    with ExitStack() as stack:
        urls = {store: new_store(store, stack) for store in stores.split(",")}
        measured = uvloop.run(_measured(urls, rounds, seconds, sessions))
    packages = ("coatcheck", "pyjwt", "joserfc", "cryptography", "sqlalchemy", "asyncpg", "redis")
    document: dict[str, Any] = {
        "machine": {"system": platform.platform(), "python": sys.version.split()[0]},
        "versions": {name: version(name) for name in packages},
        "sessions": sessions,
        "jwt": measured,
    }
    show("one at a time", markdown.JWT_COLUMNS, markdown.jwt_rows(document))
    if results is not None:
        results.write_text(json.dumps(document, indent=1) + "\n")


async def _measured(urls: Mapping[str, str], rounds: int, seconds: float, sessions: int) -> dict[str, list[float]]:
    """The microseconds for one call of each candidate, in each round."""
    async with AsyncExitStack() as stack:
        candidates: dict[str, Callable[[float], Awaitable[float]]] = {}
        for store, url in urls.items():
            candidates[f"Coatcheck, {store}"] = await _validations(url, sessions, stack)
        for algorithm in ALGORITHMS:
            for library, make in (("PyJWT", _pyjwt), ("joserfc", _joserfc)):
                candidates[f"{library}, {algorithm}"] = _decodings(*make(algorithm, _key(algorithm)))
        measured: dict[str, list[float]] = {name: [] for name in candidates}
        names = list(candidates)
        for number in track(range(rounds), "measuring", console=console):
            turn = number % len(names)  # no candidate is always the first
            for name in names[turn:] + names[:turn]:
                measured[name].append(await candidates[name](seconds))
        return measured


async def _validations(url: str, sessions: int, stack: AsyncExitStack) -> Callable[[float], Awaitable[float]]:
    """Validations of random sessions out of so many, one after the other."""
    config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
    pod = Pod(url, environ={}, config_dir="no-such-folder", prune_interval=None)
    auth = pod.initialize_auth_services(token_manager_builders=[config])
    population = Population(sessions, config.key_hasher())
    await stack.enter_async_context(pod)
    await fill(url, population, lambda _: None)
    chooser = random.Random(0)  # noqa: S311 (the same choice each time, and no secret)
    tokens = cycle([str(population.token(chooser.randrange(sessions))) for _ in range(10_000)])
    validate = auth.token_manager.validate_token

    async def timed(seconds: float) -> float:
        calls, clock = 0, time.perf_counter
        start = now = clock()
        while now < start + seconds:
            for _ in range(BATCH):
                if await validate(next(tokens)) is None:
                    raise AssertionError("a live session is refused")
            calls += BATCH
            now = clock()
        return (now - start) / calls * 1e6

    return timed


def _decodings(tokens: list[str], decode: Callable[[str], str]) -> Callable[[float], Awaitable[float]]:
    """Decodings of these tokens, one after the other. They are no coroutines, and nothing is awaited."""
    following = cycle(tokens)
    head, _, signature = tokens[0].rpartition(".")
    with suppress(pyjwt.InvalidSignatureError, BadSignatureError):
        decode(f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")
        raise AssertionError("a wrong signature is accepted")

    async def timed(seconds: float) -> float:
        calls, clock = 0, time.perf_counter
        start = now = clock()
        while now < start + seconds:
            for _ in range(BATCH):
                if decode(next(following)) not in USERS:
                    raise AssertionError("the claims of a token are others")
            calls += BATCH
            now = clock()
        return (now - start) / calls * 1e6

    return timed


def _claims(user_id: str) -> dict[str, Any]:
    """The facts that a validation answers with, and the deadline that it judges."""
    now = int(time.time())
    scopes = "notes:read notes:write"
    return {"sub": user_id, "sid": str(uuid.uuid4()), "scope": scopes, "iat": now, "exp": now + 86_400}


def _key(algorithm: str) -> str:
    """A new key; that of RS256 and ES256 as PEM."""
    if algorithm == "HS256":
        return secrets.token_urlsafe(32)
    private = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return private.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()


def _public(key: str) -> str:
    private = serialization.load_pem_private_key(key.encode(), None)
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(pem, form).decode()


def _pyjwt(algorithm: str, key: str) -> tuple[list[str], Callable[[str], str]]:
    prepare = pyjwt.get_algorithm_by_name(algorithm).prepare_key  # to read a key from its PEM takes long
    signing = prepare(key)
    checking = signing if algorithm == "HS256" else prepare(_public(key))
    tokens = [pyjwt.encode(_claims(user), signing, algorithm) for user in USERS]

    def decode(token: str) -> str:
        claims = pyjwt.decode(token, checking, algorithms=[algorithm], options={"require": ["exp", "sub"]})
        user: str = claims["sub"]
        return user

    return tokens, decode


def _joserfc(algorithm: str, key: str) -> tuple[list[str], Callable[[str], str]]:
    kinds: dict[str, type[OctKey | RSAKey | ECKey]] = {"HS256": OctKey, "RS256": RSAKey, "ES256": ECKey}
    kind = kinds[algorithm]
    signing = kind.import_key(key)
    checking = signing if algorithm == "HS256" else kind.import_key(_public(key))
    tokens = [joserfc_jwt.encode({"alg": algorithm}, _claims(user), signing) for user in USERS]
    registry = JWTClaimsRegistry(exp={"essential": True}, sub={"essential": True})

    def decode(token: str) -> str:
        claims = joserfc_jwt.decode(token, checking, algorithms=[algorithm]).claims
        registry.validate(claims)
        user: str = claims["sub"]
        return user

    return tokens, decode


if __name__ == "__main__":
    signals.end_in_order()
    typer.run(main)
