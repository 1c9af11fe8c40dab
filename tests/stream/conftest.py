"""Fixtures of the forwarder's tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from redis_server import RedisServer
from stations import Consumer, Station


@pytest.fixture
def clean(redis: RedisServer) -> RedisServer:
    """The Redis that all tests share, empty."""
    redis.flush()
    return redis


@pytest.fixture
def own_redis(require_server: Callable[[str], str]) -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis of this test's own."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(RedisServer(require_server("redis-server"), **more))


@pytest.fixture
def station(tmp_path, clean) -> Iterator[Station]:
    with Station(tmp_path, clean) as made:
        yield made


@pytest.fixture
def consumer(clean) -> Iterator[Consumer]:
    with Consumer(clean) as made:
        yield made
