"""A real Redis, seen through clients of both kinds, and what the hook makes of it."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from recorder import Recorder
from session_stores import Told, tell

from session_exporter import SessionTracker
from session_exporter.hooks.stores import install_stores
from session_exporter.mappings import StoreMapping

MAPPING = StoreMapping("session:*", scope="web", user_path="user.id", empty_is_end=True)


class Client:
    """A client of redis-py: its methods by name, whether they are to be awaited or not."""

    def __init__(self, url: str, *, asynchronous: bool, decoded: bool) -> None:
        self._runner = asyncio.Runner() if asynchronous else None
        if asynchronous:
            from redis.asyncio import Redis
        else:
            from redis import Redis
        self.plain: Any = Redis.from_url(url, decode_responses=decoded)

    def do(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method; a name in capitals is a command's, for which the client may have a deprecated method."""
        if name.isupper():
            return self.do("execute_command", name, *arguments)
        return self._result(lambda: getattr(self.plain, name)(*arguments, **options))

    def together(self, *commands: tuple[Any, ...], transaction: bool = True, raise_on_error: bool = True) -> Any:
        """Execute several commands as one pipeline."""
        pipeline = self.plain.pipeline(transaction=transaction)
        for name, *arguments in commands:
            getattr(pipeline, name)(*arguments)
        return self._result(lambda: pipeline.execute(raise_on_error=raise_on_error))

    def close(self) -> None:
        if self._runner is None:
            self.plain.close()
        else:
            self._runner.run(self.plain.aclose())
            self._runner.close()

    def _result(self, call: Callable[[], Any]) -> Any:
        if self._runner is None:
            return call()

        async def awaited() -> Any:
            return await call()

        # A runner has a context of its own, and the request is in this one.
        return self._runner.run(awaited(), context=copy_context())


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracker(recorder: Recorder) -> SessionTracker:
    return SessionTracker(journal=recorder)


@pytest.fixture(params=["sync", "async", "sync decoded", "async decoded"])
def client(request: pytest.FixtureRequest, redis: Any) -> Iterator[Client]:
    made = Client(redis.url, asynchronous="async" in request.param, decoded="decoded" in request.param)
    yield made
    made.close()


@pytest.fixture
def install(tracker: SessionTracker) -> Iterator[Callable[..., Callable[[], None]]]:
    """Installs the hook until the test ends; without mappings that of the keys `session:*`."""
    installed = []

    def install_some(*mappings: StoreMapping) -> Callable[[], None]:
        installed.append(install_stores(mappings or [MAPPING], tracker))
        return installed[-1]

    yield install_some
    for uninstall in reversed(installed):
        uninstall()


@pytest.fixture
def told(recorder: Recorder) -> Callable[[], list[Told]]:
    """What was reported since it was last asked for; a failure of the hook fails the test."""

    def tell_new() -> list[Told]:
        assert not recorder.errors
        events, recorder.events = recorder.events, []
        return [tell(event) for event in events]

    return tell_new
