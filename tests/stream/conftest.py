"""Fixtures of the forwarder's tests."""

from collections.abc import Iterator

import pytest
from stations import Consumer, Station


@pytest.fixture
def station(tmp_path, redis) -> Iterator[Station]:
    with Station(tmp_path, redis) as made:
        yield made


@pytest.fixture
def consumer(redis) -> Iterator[Consumer]:
    with Consumer(redis) as made:
        yield made
