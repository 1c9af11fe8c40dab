"""Fixtures of the forwarder's tests."""

from collections.abc import Iterator

import pytest
from redis_server import RedisServer
from stations import Consumer, Station


@pytest.fixture
def clean(redis: RedisServer) -> RedisServer:
    """The Redis that all tests share, empty."""
    redis.flush()
    return redis


@pytest.fixture
def station(tmp_path, clean) -> Iterator[Station]:
    with Station(tmp_path, clean) as made:
        yield made


@pytest.fixture
def consumer(clean) -> Iterator[Consumer]:
    with Consumer(clean) as made:
        yield made
