"""Peppers, passwords and the environment are in no frame of ours that a tracer records."""

from __future__ import annotations

import asyncio
import importlib
import json
import pickle
import pkgutil
import sys
import traceback
import warnings
from dataclasses import is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

import coatcheck
from coatcheck import ConfigurationError, Pod, ServerSideSessionsConfig, ServerSideSessionsConfigFromPasswords, Token
from coatcheck.client import ClientSessionManager, FileStorage, KeyringStorage, KeyValueStorage
from coatcheck.errors import CoatcheckError, StorageError
from coatcheck.hidden import Hidden, HiddenText
from coatcheck.passwords import Passwords
from coatcheck.stores.redis.store import RedisStore
from coatcheck.stores.sql.postgresql.store import PostgresStore
from coatcheck.wire import auth_success_json, auth_success_of
from tests.client.programs import ada
from tests.servers.ports import free_port

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "GOODSECRET-0123456789-0123456789-0123456789"
VARIABLE = "SERVERPOD_PASSWORD_serverSideSessionKeyHashPepper"
ENVIRON = {VARIABLE: SECRET, "COATCHECK_STORE": f"postgresql://u:{SECRET}@h:1/d"}


class Recorder:
    """Records the local variables of our frames, as an error reporter does: where an error passes, and afterwards."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.frames = 0

    def watch(self, start: Callable[[], object]) -> BaseException:
        """Call `start`, which fails, and record."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            start()
        except Exception as error:  # noqa: BLE001 (each way of failing has its own)
            raised: BaseException = error
        else:
            pytest.fail("it did not fail")
        finally:
            sys.settrace(before)
        chain: BaseException | None = raised
        while chain is not None:
            for frame, _ in traceback.walk_tb(chain.__traceback__):
                self._record(frame)
            chain = chain.__cause__ or chain.__context__
        return raised

    def _trace(self, frame: types.FrameType, event: str, _argument: object) -> Any:
        if "/src/coatcheck/" not in frame.f_code.co_filename:
            return None
        if event == "exception":
            self._record(frame)
        return self._trace

    def _record(self, frame: types.FrameType) -> None:
        if "/src/coatcheck/" not in frame.f_code.co_filename:
            return
        self.frames += 1
        for name, value in frame.f_locals.items():
            try:
                self.seen[f"{frame.f_code.co_qualname}: {name}"] = repr(value)
            except AttributeError:
                continue  # an object that is only half made


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    assert recorder.frames, "no frame of ours was seen"
    shown = {where: what for where, what in recorder.seen.items() if SECRET in what or SECRET[:12] in what}
    assert shown == {}


def config(**options: Any) -> ServerSideSessionsConfig:
    return ServerSideSessionsConfig(**{"session_key_hash_pepper": SECRET, **options})


SETTINGS: dict[str, Callable[[], object]] = {
    "secret length": lambda: config(session_key_secret_length=3),
    "salt length": lambda: config(session_key_hash_salt_length=3),
    "lifetime": lambda: config(default_session_lifetime=5),
    "inactivity": lambda: config(default_session_inactivity_timeout=5),
    "hook": lambda: config(on_session_created=5),
    "fallback given twice": lambda: config(fallback_session_key_hash_peppers=[SECRET]),
    "fallbacks one text": lambda: config(fallback_session_key_hash_peppers=SECRET),
    "fallback too short": lambda: config(fallback_session_key_hash_peppers=[SECRET + "2", "short"]),
    "fallback no text": lambda: config(fallback_session_key_hash_peppers=[SECRET.encode()]),
    "pepper no text": lambda: config(session_key_hash_pepper=SECRET.encode()),
    "pepper not UTF-8": lambda: config(session_key_hash_pepper=SECRET + "\ud800"),
    "pepper from the passwords": lambda: _pod(store="sqlite:///unused.db").initialize_auth_services(
        token_manager_builders=[ServerSideSessionsConfigFromPasswords(session_key_secret_length=3)]
    ),
    "pod: run mode": lambda: _pod(run_mode="prod"),
    "pod: run mode in the environment": lambda: Pod(environ={**ENVIRON, "COATCHECK_RUN_MODE": "prod"}),
    "pod: guarantee": lambda: _pod(store=f"redis://:{SECRET}@h", require="STRICT"),
    "pod: store in the environment": lambda: Pod(environ={**ENVIRON, "COATCHECK_STORE": f"mysql://u:{SECRET}@h"}),
}


def _pod(**options: Any) -> Pod:
    return Pod(environ=ENVIRON, **options)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_beside_a_good_secret(name: str, recorder: Recorder) -> None:
    error = recorder.watch(SETTINGS[name])
    assert isinstance(error, ConfigurationError)
    assert SECRET not in str(error)


def test_a_pepper_that_is_short_where_warnings_are_errors(recorder: Recorder) -> None:
    def start() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ServerSideSessionsConfig(session_key_hash_pepper=SECRET[:20])

    recorder.watch(start)


URLS = [
    "mysql://u:{}@h/d",
    "{}@h/d",
    "sqlite:///x.db?password={}",
    "postgresql://u:{}@h:x/d",
    "postgresql://u:{}@h:99999/d",
    "postgresql://u:{}",
    "postgresql://u:{}/d",
    "postgresql://u:{}/@h/d",
    "postgresql://u:{}@@h/d",
    "postgresql://u@h:{}/d",
    "postgresql://u@[{}/d",
    "postgresql://u@h/d?password={}&port=x",
    "postgresql://u@h/d?host={} {}",
    "postgresql://u@h/d?port={}",
    "postgresql://u@h/d?password={}&x",
    "redis://u:{}@h:x/0",
    "redis://u:{}@h:99999",
    "redis://u:{}",
    "redis://u:{}@h/d",
    "redis://h/{}",
    "redis://u:#{}@h",
    "redis://u:{}@h,i",
    "redis://u:{}@[h",
    "redis://u:{}@h?{}=x",
    "redis://u:{}@h?prefix=!{}",
    "redis://u:{}@h?replicas={}",
    "redis://u:{}@h?ca_certs=x",
    "redis+cluster://u:{}@h/1",
    "redis+sentinel://u:{}@h,i",
    "redis+sentinel://u:{}@h/a/{}",
    "redis+sentinel://h/{}!",
    "redis+sentinel://h/a?sentinel_password={}&sentinels=x",
    "redis+sentinel://h/a?sentinel_password={}&socket_timeout=1",
    "redis://h?password={}&password={}x",
    "redis://u:{}@h?password=x",
    "rediss://u:{}@h?ssl_cert_reqs={}",
    "rediss://h?ssl_password={}",
    "unix://u:{}@h/run/redis.sock",
    "unix://{}",
]


@pytest.mark.parametrize("url", URLS)
def test_a_store_url_that_is_wrong(url: str, recorder: Recorder) -> None:
    error = recorder.watch(lambda: Pod(url.replace("{}", SECRET), environ=ENVIRON))
    assert isinstance(error, ConfigurationError)
    assert SECRET[:12] not in str(error)


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "rediss", "redis+cluster", "redis+sentinel"])
def test_a_store_that_cannot_be_reached(scheme: str, recorder: Recorder, tmp_path: Path) -> None:
    async def start() -> None:
        url = f"{scheme}://u:{SECRET}@127.0.0.1:{free_port()}"
        ends = {"postgresql": "/d", "redis+sentinel": f"/service?sentinel_password={SECRET}"}
        async with Pod(url + ends.get(scheme, ""), environ=ENVIRON, config_dir=tmp_path):
            pass

    error = recorder.watch(lambda: asyncio.run(start()))
    assert isinstance(error, CoatcheckError)
    assert SECRET not in str(error)


@pytest.mark.parametrize("store", [PostgresStore, RedisStore])
def test_a_store_that_is_made_without_a_pod(store: type, recorder: Recorder) -> None:
    scheme = "postgresql" if store is PostgresStore else "redis"
    recorder.watch(lambda: store(f"{scheme}://u:{SECRET}@h:x"))


FILES = {
    "no YAML": f"shared:\n  a: {SECRET}\n  b: '\n",
    "a text": SECRET,
    "a list": f"- {SECRET}",
    "an alias": f"shared:\n  a: *{SECRET}",
    "a tag": f"shared:\n  a: !{SECRET} x",
    "a date": f"shared:\n  a: {SECRET}\n  b: 2027-13-45\n",
    "a section of text": f"shared: {SECRET}",
    "a section beside": f"shared:\n  a: {SECRET}\ndevelopment: [x]",
    "a number": f"shared:\n  a: {SECRET}\n  b: 5\n",
    "no UTF-8": f"shared:\n  a: {SECRET}\n  b: '\udcff'\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_passwords_file_that_is_wrong(name: str, tmp_path: Path, recorder: Recorder) -> None:
    file = tmp_path / "passwords.yaml"
    file.write_bytes(FILES[name].encode(errors="surrogateescape"))
    error = recorder.watch(lambda: Pod(environ=ENVIRON, config_dir=tmp_path))
    assert isinstance(error, ConfigurationError)
    assert SECRET not in str(error)
    assert error.__cause__ is error.__context__ is None, "the parser's error quotes the file"


def test_a_password_that_is_missing_beside_others(recorder: Recorder) -> None:
    passwords = Passwords({"other": SECRET})
    recorder.watch(lambda: passwords.get_or_raise("pepper"))


def test_a_token_that_cannot_be_stored(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", refuse)
    recorder.watch(lambda: FileStorage(tmp_path / "session.json").write(ada(SECRET)))


def test_a_token_that_a_program_s_settings_do_not_take(recorder: Recorder) -> None:
    class Refusing(dict[str, str]):
        def set(self, key: str, value: str | None) -> None:
            raise LookupError(f"{key} {value}")

    recorder.watch(lambda: KeyValueStorage(Refusing()).write(ada(SECRET)))


def test_a_token_that_the_keyring_does_not_take(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise LookupError(str(arguments))

    monkeypatch.setattr("keyring.set_password", refuse)
    monkeypatch.setattr("keyring.get_keyring", object)
    recorder.watch(lambda: KeyringStorage("notes", "ada").write(ada(SECRET)))


GOOD = json.dumps(auth_success_json(ada(SECRET)))
DAMAGED: dict[str, str | bytes] = {
    "cut off": GOOD[:-5],
    "more than one": GOOD + GOOD,
    "no JSON": SECRET,
    "not UTF-8": GOOD.encode() + b"\xff",
    "a text": json.dumps(SECRET),
    "a list": json.dumps([SECRET]),
    "nested too deeply": f'{{"token": "{SECRET}", "a": {"[" * 100_000}',
    "a token that no header may have": json.dumps(auth_success_json(ada(SECRET + "\n"))),
    **{
        f"{name}: {wrong!r}": json.dumps({**auth_success_json(ada(SECRET)), name: wrong})
        for name in auth_success_json(ada(SECRET))
        for wrong in (5, {"a": SECRET})
    },
    **{
        f"the token as {name}": json.dumps({**auth_success_json(ada(SECRET)), name: SECRET})
        for name in ("token_expires_at", "scope_names")
    },
    "the token as user id": json.dumps({**auth_success_json(ada(SECRET)), "auth_user_id": SECRET * 100}),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("place", ["file", "settings", "keyring"])
def test_a_stored_session_that_is_damaged(
    place: str, name: str, tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = DAMAGED[name]
    file = tmp_path / "session.json"
    file.write_bytes(damaged.encode() if isinstance(damaged, str) else damaged)
    monkeypatch.setattr("keyring.get_keyring", object)
    text = damaged if isinstance(damaged, str) else damaged.decode("latin-1")
    monkeypatch.setattr("keyring.get_password", lambda *_: text)
    storages = {
        "file": FileStorage(file),
        "settings": KeyValueStorage(Settings({"coatcheck.session": text})),
        "keyring": KeyringStorage("notes", "ada"),
    }
    sessions = ClientSessionManager("https://notes.example", storage=storages[place])
    error = recorder.watch(sessions.restore)
    assert isinstance(error, StorageError)
    assert "does not hold a session" in str(error)
    assert error.__cause__ is error.__context__ is None, "the parser's error has the text"


def test_an_answer_to_a_sign_in_that_is_wrong(recorder: Recorder) -> None:
    """Only frames of ours are looked at: the answer itself is the program's."""
    recorder.watch(lambda: auth_success_of({"token": SECRET, "scope_names": []}))


class Settings(dict[str, str]):
    def set(self, key: str, value: str | None) -> None:
        raise AssertionError(key, value)


class TestHiddenText:
    @pytest.mark.parametrize("kind", [HiddenText, Token])
    def test_neither_the_text_nor_a_part_of_it_is_shown(self, kind: type[HiddenText]) -> None:
        text = kind(SECRET + ":" + SECRET)
        parts = [text, text[:30], text[3], text + "x", *text.partition(":"), *text.rpartition(":"), *text.split(":")]
        parts.append(text.removeprefix(SECRET[:3]))
        assert {repr(part) for part in parts} == {f"{kind.__name__}('...')"}

    def test_it_is_the_text_in_every_other_way(self) -> None:
        text = HiddenText("a:b")
        assert (text, str(text), f"{text}", text[0], text.split(":")) == ("a:b", "a:b", "a:b", "a", ["a", "b"])
        assert type(str(text)) is str
        assert hash(text) == hash("a:b")


class TestHidden:
    def test_it_is_shown_by_nothing_that_looks_into_a_value(self) -> None:
        box = Hidden({"a": SECRET})
        assert SECRET not in f"{box} {box!r}"
        assert not hasattr(box, "__iter__")
        assert not hasattr(box, "__dict__")
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(box)
        assert box.reveal() == {"a": SECRET}


def classes_with_a_repr() -> Iterator[type]:
    """Our classes that say how they are shown, but for those whose values are made by `__new__` alone."""
    for module in pkgutil.walk_packages(coatcheck.__path__, "coatcheck."):
        if ".migrations." in module.name:
            continue
        for one in vars(importlib.import_module(module.name)).values():
            is_ours = isinstance(one, type) and one.__module__ == module.name and not is_dataclass(one)
            if is_ours and isinstance(one.__dict__.get("__repr__"), FunctionType) and one.__new__ is object.__new__:
                yield one


@pytest.mark.parametrize("one", list(classes_with_a_repr()), ids=lambda one: one.__qualname__)
def test_an_object_that_is_half_made_is_shown(one: type) -> None:
    """An error reporter that shows local variables fails at it else, and what it was to report is lost."""
    assert one.__name__ in repr(object.__new__(one))


def test_the_error_of_a_pod_that_cannot_be_made_can_be_reported_with_its_local_variables() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Pod("mysql://u:p@h/d", environ={})
    reported = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert "Pod(...)" in "".join(reported.format())
