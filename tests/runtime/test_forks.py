"""A fork: siblings are processes of their own, and a child of an open pod touches nothing of the parent's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis import Redis

from tests.kinds_of_store import POSTGRES, REDIS, SQLITE
from tests.runtime.calls import STORE_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT_SECONDS = 60


async def run(program: str, store_url: str) -> object:
    """What a program prints, in a process of its own: this one has threads and must not fork."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", program),
        env=os.environ | {STORE_VARIABLE: store_url, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return json.loads(printed)


SIBLINGS = """
import asyncio, json, os, socket
from tests.runtime.application import auth, pod

here, there = socket.socketpair()
is_first = os.fork() != 0
line = (here if is_first else there).makefile("rw")

def tell(value):
    line.write(json.dumps(value) + "\\n")
    line.flush()

async def told():
    return json.loads(await asyncio.to_thread(line.readline))

async def hears(message):
    heard.set_result(type(message).__name__)

async def first():
    global heard
    heard = asyncio.get_running_loop().create_future()
    pod.events.subscribe(hears)
    async with pod:
        user = (await auth.auth_users.create()).id
        has_lock = await pod._pruner.prune() is not None
        tell(user)
        sibling = await told()
        what = await asyncio.wait_for(heard, 30)
        print(json.dumps({"pruned": [has_lock, sibling], "heard": what}))

async def second():
    user = await told()
    async with pod:
        has_lock = await pod._pruner.prune() is not None
        await auth.token_manager.revoke_all_tokens(auth_user_id=user)
        tell(has_lock)
    os._exit(0)

asyncio.run(first() if is_first else second())
os.wait()
"""


@pytest.mark.parametrize("store_url", [SQLITE, POSTGRES, REDIS], indirect=True)
async def test_workers_of_one_imported_application_hear_of_each_other_and_one_of_them_prunes(store_url: str) -> None:
    assert await run(SIBLINGS, store_url) == {"pruned": [True, False], "heard": "RevokedAuthenticationUser"}


CLOSED_IN_THE_CHILD = """
import asyncio, json, os, sys
from tests.runtime.application import auth, pod
from tests.runtime.calls import Calls, outcomes, summary
from tests.runtime.places import in_child

async def nobody(message):
    pass

async def work(calls):
    return summary(await outcomes(calls))

def talk(value):
    print(json.dumps(value), flush=True)
    sys.stdin.readline()

async def leave():
    await pod.__aexit__(None, None, None)
    await pod.store.close()

async def main():
    pod.events.subscribe(nobody)
    async with pod:
        calls = Calls(pod, auth)
        await calls.sign_in()
        before = {name: call for name, call in calls.all().items() if name in ("validate", "list", "guarantee")}
        await work(before)
        talk("before")
        in_child(lambda: asyncio.run(leave()))
        talk(await work(before))

asyncio.run(main())
"""


async def _connections(store_url: str) -> set[int]:
    """Every connection to the server, by its number there."""
    if store_url.startswith("redis"):
        with Redis.from_url(store_url) as redis:
            return {int(one["id"]) for one in redis.client_list() if one["cmd"] != "client|list"}
    admin = await asyncpg.connect(store_url)
    try:
        rows = await admin.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'coatcheck'"
        )
    finally:
        await admin.close()
    return {row[0] for row in rows}


@pytest.mark.parametrize("store_url", [POSTGRES, REDIS], indirect=True)
async def test_closing_in_a_forked_child_leaves_every_connection_of_the_parent_as_it_was(store_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", CLOSED_IN_THE_CHILD),
        env=os.environ | {STORE_VARIABLE: store_url, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            assert json.loads(await process.stdout.readline()) == "before"
            before = await _connections(store_url)
            assert before
            process.stdin.write(b"\n")
            assert json.loads(await process.stdout.readline()) == "works"
            assert await _connections(store_url) == before
            process.stdin.write(b"\n")
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


A_POD_OF_ITS_OWN = """
import asyncio, json, os
from coatcheck import Pod
from tests.runtime.application import pod
from tests.runtime.calls import STORE_VARIABLE, outcomes
from tests.runtime.places import in_child

async def own():
    url = os.environ[STORE_VARIABLE]
    found = {}
    for name, path in {"the same": url, "by a link": url.replace("sessions", "link"), "another": url + "2"}.items():
        found[name] = (await outcomes({"open": Pod(path, environ={}, config_dir="no-such-folder").__aenter__}))["open"]
    return found

async def main():
    async with pod:
        found = in_child(lambda: asyncio.run(own()))
    found["after it was closed"] = in_child(lambda: asyncio.run(own()))["the same"]
    print(json.dumps(found))

asyncio.run(main())
"""


async def test_a_child_opens_no_sqlite_file_that_the_parent_had_open_when_it_forked(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "sessions.db")
    found = await run(A_POD_OF_ITS_OWN, f"sqlite:///{tmp_path}/sessions.db")
    assert isinstance(found, dict)
    for name in ("the same", "by a link"):
        assert "SQLite cannot share a file with a forked child; fork before the pod is opened" in found[name]
    assert (found["another"], found["after it was closed"]) == ("works", "works")
