"""Coming and going: clients made before, several installations, others that wrap, and a hook that fails."""

import functools
import logging
import os
import subprocess
import sys
from types import ModuleType

import pytest
import redis.asyncio.client
import redis.client

from session_exporter import SessionTracker
from session_exporter.hooks.stores import install_stores
from session_exporter.hooks.stores.clients import wrap_clients
from session_exporter.hooks.stores.memory import TRUSTED_US, KnownSession, StoreMemory
from session_exporter.mappings import StoreMapping

pytestmark = pytest.mark.integration

OTHER = StoreMapping("other:*", scope="web")
CREATED = ("created", "a", "")
METHODS = [
    (owner, name)
    for module in (redis.client, redis.asyncio.client)
    for owner, names in (
        (module.Redis, ["execute_command"]),
        (module.Pipeline, ["execute", "immediate_execute_command", "raise_first_error"]),
    )
    for name in names
]
ORIGINALS = [vars(owner)[name] for owner, name in METHODS]


def test_a_client_made_before_is_seen_and_no_more_after(client, install, told) -> None:
    client.do("SETNX", "session:before", "1")
    uninstall = install()
    client.do("SETNX", "session:a", "1")
    assert told() == [CREATED]
    uninstall()
    client.do("SETNX", "session:after", "1")
    client.together(("set", "session:after", "1"))
    assert told() == []
    assert [vars(owner)[name] for owner, name in METHODS] == ORIGINALS


def test_what_is_installed_twice_is_told_once(client, install, told, recorder) -> None:
    first, second = install(), install()
    second()
    client.do("SETNX", "session:a", "1")
    assert (told(), recorder.hooks) == ([CREATED], {"redis": True})
    first()
    first()
    assert recorder.hooks == {"redis": False}
    install()
    client.do("SETNX", "session:b", "1")
    assert told() == [("created", "b", "")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_installations_go_in_any_order(client, install, told, recorder, order) -> None:
    both = install(), install(OTHER)
    for name in ("session:a", "other:b"):
        client.do("SETNX", name, "1")
    assert told() == [CREATED, ("created", "b", "")]
    both[order[0]]()
    assert recorder.hooks == {"redis": True}
    for name in ("session:c", "other:d"):
        client.do("SETNX", name, "1")
    assert told() == [("created", "d" if order[0] == 0 else "c", "")]
    both[order[1]]()
    assert [vars(owner)[name] for owner, name in METHODS] == ORIGINALS


def test_who_wraps_the_client_in_turn_stays_and_the_hook_lets_everything_pass(
    client, install, told, monkeypatch
) -> None:
    uninstall = install()
    seen = []
    for owner in (redis.client.Redis, redis.asyncio.client.Redis):
        inner = owner.execute_command

        @functools.wraps(inner)
        def outer(self, *args, _inner=inner, **options):
            seen.append(args)
            return _inner(self, *args, **options)

        monkeypatch.setattr(owner, "execute_command", outer)
    uninstall()
    client.do("SETNX", "session:a", "1")
    assert (len(seen), told()) == (1, [])
    install()
    client.do("SETNX", "session:b", "1")
    assert (len(seen), told()) == (2, [("created", "b", "")])


IMPORTING = """
import sys
from session_exporter.hooks.stores import install_stores
from session_exporter.mappings import StoreMapping
from session_exporter import SessionTracker
from recorder import Recorder

recorder = Recorder()
uninstall = install_stores([StoreMapping("session:*", scope="web")], SessionTracker(journal=recorder))
assert "redis" not in sys.modules
import redis
client = redis.Redis.from_url(sys.argv[1])
client.set("session:imported-later", "1", nx=True)
client.close()
import asyncio, redis.asyncio
async def main():
    async with redis.asyncio.Redis.from_url(sys.argv[1]) as client:
        await client.set("session:asynchronous", "1", nx=True)
asyncio.run(main())
uninstall()
print(*[event.session for event in recorder.events], dict(recorder.errors))
"""


def test_a_library_that_is_imported_later_is_hooked_then(request) -> None:
    server = request.getfixturevalue("redis")
    server.flush()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", IMPORTING, server.url]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.stdout == "imported-later asynchronous {}\n", done.stderr


def test_a_version_that_is_not_supported_is_said_and_shown(caplog, recorder, tracker, monkeypatch) -> None:
    strange = ModuleType("redis.client")
    strange.Redis, strange.WatchError = type("Redis", (), {}), ValueError
    monkeypatch.setitem(sys.modules, "redis.client", strange)
    with caplog.at_level(logging.WARNING, "session_exporter"):
        install_stores([OTHER], tracker)()
    tracker.open()
    assert (recorder.hooks, recorder.errors) == ({"redis": False}, {})
    assert caplog.text.count("redis.client is of a version that is not supported") == 1


def test_nothing_is_wrapped_where_something_is_missing() -> None:
    module = ModuleType("redis.client")

    class Redis:
        def execute_command(self):
            """As every version has it."""

    module.Redis, module.Pipeline, module.WatchError = Redis, type("Pipeline", (), {}), ValueError
    before = Redis.execute_command
    with pytest.raises(AttributeError):
        wrap_clients(module, None, asynchronous=False)
    assert Redis.execute_command is before


def _program(client):
    """What an application gets to see: results, and errors by class and text."""
    results = []

    def attempt(*command, together=False):
        try:
            results.append(client.together(*command) if together else client.do(*command))
        except Exception as error:  # noqa: BLE001 - compared
            results.append((type(error), str(error)))

    for command in (
        *[("get", "session:a"), ("set", "session:a", '{"user": {"id": "ann"}}'), ("get", "session:a")],
        *[("HSET", "session:a", "field", "1"), ("hgetall", "session:a"), ("expire", "session:a", 60)],
        *[("mget", ["session:a", "session:b"]), ("exists", "session:a"), ("delete", "session:a", "session:b")],
        *[("SET", "session:c", "1", "BAD"), ("set", "session:d", object()), ("set", "session:d", "{}")],
    ):
        attempt(*command)
    attempt(("set", "session:e", "1"), ("get", "session:e"), together=True)
    attempt(("set", "session:e", "1"), ("incr", "session:d"), together=True)
    attempt(("set", "session:e", "1"), ("execute_command", "GET"), together=True)
    return [str(result) if "object at" in str(result) else result for result in results]


def _fail(*_, **__):
    raise RuntimeError("the hook is broken")


@pytest.mark.parametrize(
    "broken",
    [
        *["session_exporter.hooks.stores.keys.Finder.find", "session_exporter.hooks.stores.keys.Store.session_of"],
        *["session_exporter.hooks.stores.uses.user_in", "session_exporter.hooks.stores.keys.is_empty"],
        *[
            "session_exporter.hooks.stores.memory.StoreMemory.get",
            "session_exporter.hooks.stores.memory.StoreMemory.put",
        ],
        *["session_exporter.reporter.Reporter.surroundings", "session_exporter.hooks.stores.uses.call_of"],
        *["session_exporter.hooks.stores.watcher.may_create", "session_exporter.hooks.stores.watcher.create_failure"],
        *["session_exporter.hooks.stores.clients.Pipelines.keep", "recorder.Recorder.append"],
    ],
)
def test_the_application_never_notices_that_the_hook_fails(client, install, recorder, monkeypatch, broken) -> None:
    expected = _program(client)
    client.do("flushall")
    install()
    monkeypatch.setattr(broken, _fail)
    assert _program(client) == expected
    assert set(recorder.errors) <= {"redis", "tracker"}
    assert recorder.errors.total() > 0


def test_the_application_never_notices_the_hook(client, install, recorder) -> None:
    expected = _program(client)
    client.do("flushall")
    install()
    assert _program(client) == expected
    assert not recorder.errors


def test_a_dead_server_is_a_failed_create_and_the_applications_own_error(recorder, tracker, install, told) -> None:
    install()
    import socket

    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = redis.client.Redis(port=taken.getsockname()[1], retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.client.ConnectionError, match="refused"):
            client.set("session:a", '{"user": {"id": "ann"}}')
        pipeline = client.pipeline().set("session:b", "1").set("session:c", "1")
        with pytest.raises(redis.client.ConnectionError, match="refused"):
            pipeline.execute()
        with pytest.raises(redis.client.ConnectionError, match="refused"):
            client.get("session:a")
        client.close()
    assert told() == [("failed", "connection", "ann"), ("failed", "connection", ""), ("failed", "connection", "")]


def test_an_exhausted_pool_is_a_failed_create_by_that_name(request, install, told) -> None:
    server = request.getfixturevalue("redis")
    install()
    pool = redis.BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=0)
    client = redis.Redis(connection_pool=pool)
    with client.pipeline() as holding:
        holding.watch("anything")
        with pytest.raises(redis.ConnectionError):
            client.set("session:a", "1")
    pool.disconnect()
    assert told() == [("failed", "pool_timeout", "")]


def test_what_is_remembered_is_bounded_and_the_oldest_leaves() -> None:
    memory = StoreMemory(size=3)
    for session in "abcad":
        memory.put("web", session, KnownSession(alive=True, user="", at_us=1))
    assert len(memory) == 3
    assert [session for session in "abcd" if memory.get("web", session)] == ["a", "c", "d"]


def test_what_is_known_is_trusted_for_a_while_only(request, recorder) -> None:
    server, now_us = request.getfixturevalue("redis"), [1_000_000]
    server.flush()
    uninstall = install_stores([OTHER], SessionTracker(journal=recorder, clock_ns=lambda: now_us[0] * 1000))
    with redis.Redis.from_url(server.url) as client:
        for _ in range(3):
            client.set("other:a", "1")
            now_us[0] += TRUSTED_US // 2
    uninstall()
    assert [type(event).__name__ for event in recorder.events] == ["Observed", "Observed"]
