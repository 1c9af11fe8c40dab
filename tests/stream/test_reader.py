"""A consumer gets every event of its partitions once, in the order written, whatever it and its Redis go through."""

import pytest
import redis as redis_library
from consuming import Consumer, Sending, numbers
from redis_server import RedisServer

from session_exporter.stream import keys

pytestmark = pytest.mark.integration


@pytest.fixture
def client(redis: RedisServer):
    redis.flush()
    with redis_library.Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture
def consumer(redis: RedisServer, client):
    with Consumer(redis) as consumer:
        yield consumer


def test_events_arrive_once_whether_they_were_committed_or_not(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2, 3])
    sending.send(keys.SHARED, [4])
    assert consumer.take() == [1, 2, 3, 4]
    sending.send(1, [5])
    assert consumer.take() == [5]
    assert consumer.take() == []


def test_what_was_not_committed_comes_again_after_a_restart(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2])
    assert consumer.take() == [1, 2]
    sending.send(0, [3])
    assert numbers(consumer.read()) == [3]
    consumer.restart()
    assert consumer.take() == [3]
    consumer.restart()
    assert consumer.take() == []


def test_events_that_are_sent_again_are_dropped_and_counted(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2, 3])
    consumer.take()
    sending.start_run()
    sending.send(0, [2, 3])
    sending.send(0, [4])
    assert consumer.take() == [4]
    assert consumer.reader.redelivered == 2


def test_of_an_entry_that_begins_with_known_events_the_rest_is_new(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2, 3])
    consumer.take()
    sending.start_run()
    sending.send(0, [2, 3, 4, 5])
    batches = consumer.read()
    assert numbers(batches) == [4, 5]
    assert [batch.cut for batch in batches] == [0]
