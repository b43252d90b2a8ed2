"""A process with other peppers than the store's sessions says so, instead of refusing every token in silence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from coatcheck import (
    ConfigurationError,
    Guarantee,
    GuaranteeLevel,
    NotOpenError,
    PepperNewlineWarning,
    Pod,
    Readiness,
    ServerSideSessionsConfig,
    ServerSideSessionsTokenManager,
)
from coatcheck.sessions.key_hash import Pepper
from coatcheck.stores.records import PepperRecord
from coatcheck.testing import MemoryDatabase, MemoryStore
from tests.kinds_of_store import WITH_TRANSACTIONS_BY_URL
from tests.worlds import OTHER_PEPPER, PEPPER

if TYPE_CHECKING:
    from coatcheck import AuthServices
    from coatcheck.stores.store import Store

OURS, OTHERS = Pepper(PEPPER).record(), Pepper(OTHER_PEPPER).record()
THIRD_PEPPER = "a third pepper that is also long enough"


def pod_on(store: Store | str, pepper: str, *fallbacks: str) -> Pod:
    pod = Pod(store, environ={}, config_dir="no-such-folder", prune_interval=None)
    config = ServerSideSessionsConfig(session_key_hash_pepper=pepper, fallback_session_key_hash_peppers=fallbacks)
    pod.initialize_auth_services(token_manager_builders=[config])
    return pod


async def sign_in(auth: AuthServices) -> str:
    user = await auth.auth_users.create()
    return (await auth.token_manager.create_token(auth_user_id=user.id, method="email")).token


async def registered(pod: Pod) -> set[str]:
    return {one.id for one in await pod.store.read_peppers()}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.levelno >= logging.ERROR]


async def test_the_first_process_registers_its_peppers_and_all_that_know_one_are_ready(store_url: str) -> None:
    async with pod_on(store_url, PEPPER) as pod:
        assert list(await pod.store.read_peppers()) == [OURS]
        await sign_in(pod.auth_services)
        assert await pod.readiness() == Readiness(store_answers=True)
    async with pod_on(store_url, OTHER_PEPPER, PEPPER) as pod:  # a rotation
        assert await registered(pod) == {OURS.id, OTHERS.id}
        assert (await pod.readiness()).is_ready


async def test_a_process_whose_peppers_the_store_does_not_know_says_so_at_the_start_and_in_readiness(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with pod_on(store_url, PEPPER) as pod:
        token = await sign_in(pod.auth_services)
    async with pod_on(store_url, OTHER_PEPPER) as pod:
        assert await pod.auth_services.token_manager.validate_token(token) is None
        readiness = await pod.readiness()
        assert not readiness.is_ready
        assert readiness.store_answers
        assert [list(readiness.problems)] == [errors(caplog)]
        assert f"other peppers ({OURS.id}) than this process has ({OTHERS.id})" in readiness.problems[0]
        assert await registered(pod) == {OURS.id}
    assert PEPPER not in caplog.text
    assert OTHER_PEPPER not in caplog.text


async def test_a_pepper_that_replaces_another_is_registered_when_no_session_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = MemoryDatabase()
    async with pod_on(MemoryStore(database=database), PEPPER) as pod:
        await sign_in(pod.auth_services)
    async with pod_on(MemoryStore(database=database), OTHER_PEPPER) as pod:
        assert not (await pod.readiness()).is_ready
        manager = pod.auth_services.get_token_manager(ServerSideSessionsTokenManager)
        await manager.server_side_sessions.admin.delete_sessions(method="email")
        assert (await pod.readiness()).is_ready
        assert await registered(pod) == {OURS.id, OTHERS.id}
    assert len(errors(caplog)) == 1


async def test_an_unknown_pepper_is_registered_with_the_first_session_that_is_hashed_with_it() -> None:
    database = MemoryDatabase()
    async with pod_on(MemoryStore(database=database), PEPPER) as pod:
        await sign_in(pod.auth_services)
    async with pod_on(MemoryStore(database=database), OTHER_PEPPER, THIRD_PEPPER) as pod:
        await sign_in(pod.auth_services)
        assert await registered(pod) == {OURS.id, OTHERS.id}


@WITH_TRANSACTIONS_BY_URL
async def test_a_sign_in_inside_the_applications_transaction_registers_no_pepper(store_url: str) -> None:
    """The registry would wait for the lock that the transaction has."""
    async with pod_on(store_url, PEPPER) as pod:
        user = await pod.auth_services.auth_users.create()
        token = await sign_in(pod.auth_services)
    async with pod_on(store_url, OTHER_PEPPER) as pod:
        tokens = pod.auth_services.token_manager
        async with pod.store.transaction() as transaction:
            success = await tokens.create_token(auth_user_id=user.id, method="email", transaction=transaction)
        assert await tokens.validate_token(success.token) is not None
        assert await tokens.validate_token(token) is None
        assert await registered(pod) == {OURS.id}


async def test_auth_services_that_are_set_up_in_an_open_pod_register_with_the_first_sign_in() -> None:
    async with Pod(MemoryStore(), environ={}, config_dir="no-such-folder", prune_interval=None) as pod:
        config = ServerSideSessionsConfig(session_key_hash_pepper=PEPPER)
        auth = pod.initialize_auth_services(token_manager_builders=[config])
        assert await registered(pod) == set()
        await sign_in(auth)
        assert await registered(pod) == {OURS.id}


async def test_a_pepper_with_the_id_of_another_is_refused_at_the_start_by_its_id(store_url: str) -> None:
    async with pod_on(store_url, OTHER_PEPPER) as pod:
        await pod.store.register_peppers([PepperRecord(OURS.id, OTHERS.check_value)])
    with pytest.raises(ConfigurationError, match=f"the pepper {OURS.id} is another one") as refused:
        async with pod_on(store_url, PEPPER):
            pass
    assert PEPPER not in str(refused.value)
    assert OURS.check_value.hex() not in str(refused.value)


async def test_a_check_value_that_is_changed_meanwhile_shows_in_readiness() -> None:
    database = MemoryDatabase()
    async with pod_on(MemoryStore(database=database), PEPPER) as pod:
        database.tables.peppers[OURS.id] = PepperRecord(OURS.id, bytes(32))
        readiness = await pod.readiness()
    assert not readiness.is_ready
    assert f"the pepper {OURS.id} is another one" in readiness.problems[0]


async def test_a_store_that_does_not_answer_is_not_ready_and_is_again_afterwards() -> None:
    database = MemoryDatabase()
    async with pod_on(MemoryStore(database=database), PEPPER) as pod:
        with database.outage():
            readiness = await pod.readiness()
        assert not readiness.store_answers
        assert not readiness.is_ready
        assert readiness.problems[0].startswith("the store does not answer")
        assert (await pod.readiness()).is_ready
    with pytest.raises(NotOpenError):
        await pod.readiness()


async def test_a_guarantee_below_what_is_required_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    weaker = Guarantee(GuaranteeLevel.BEST_EFFORT, ("a reason",), (), {})

    async def guarantee() -> Guarantee:
        return weaker

    async with Pod(store, environ={}, config_dir="no-such-folder", require=GuaranteeLevel.STRICT) as pod:
        assert (await pod.readiness()).is_ready
        monkeypatch.setattr(store, "guarantee", guarantee)
        readiness = await pod.readiness()
    assert not readiness.is_ready
    assert "no longer promises STRICT" in readiness.problems[0]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_pepper_with_a_newline_at_its_end_warns_and_is_not_shown(ending: str) -> None:
    with pytest.warns(PepperNewlineWarning, match="session_key_hash_pepper ends with a newline") as warned:
        ServerSideSessionsConfig(session_key_hash_pepper=PEPPER + ending)
    with pytest.warns(PepperNewlineWarning, match=r"fallback_session_key_hash_peppers\[0\] ends with a newline"):
        ServerSideSessionsConfig(
            session_key_hash_pepper=PEPPER, fallback_session_key_hash_peppers=[OTHER_PEPPER + ending]
        )
    assert PEPPER not in "".join(str(one.message) for one in warned)


def test_the_record_of_a_pepper_tells_peppers_apart_and_shows_no_pepper() -> None:
    assert Pepper(PEPPER).record() == OURS
    assert OURS.check_value != OTHERS.check_value
    assert len(OURS.check_value) == 32
    assert OURS.check_value.hex() not in repr(OURS)
    assert repr(OURS) == f"PepperRecord(id={OURS.id!r})"
