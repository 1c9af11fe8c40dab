"""A consumer whose Redis goes away, forgets or fills up raises nothing, counts nothing twice, and owns what it owns."""

import logging
import time

import pytest
import redis as redis_library
from consuming import LEASE_MS, Consumer, Sending, numbers
from redis_server import RedisServer

from session_exporter.errors import PartitionTaken, StreamRefused, StreamUnavailable
from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION, Layout

pytestmark = pytest.mark.integration
DEADLINE_S = 20.0


@pytest.fixture
def client(redis: RedisServer):
    with redis_library.Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture
def consumer(redis: RedisServer, client):
    with Consumer(redis) as consumer:
        yield consumer


@pytest.fixture
def server(require_server):
    """A Redis of its own, which keeps what it is told."""
    with RedisServer(require_server("redis-server"), keeps=True) as server:
        yield server


def come_back(consumer: Consumer) -> None:
    """Let the consumer try again until Redis is there."""
    deadline = time.monotonic() + DEADLINE_S
    consumer.reader.mark()
    while not consumer.reader.up:
        assert time.monotonic() < deadline
        consumer.reader.mark()


def test_while_redis_is_away_nothing_raises_and_nothing_is_to_be_read(server, caplog) -> None:
    with redis_library.Redis.from_url(server.url) as client, Consumer(server) as consumer:
        sending = Sending(client)
        sending.send(0, [1])
        assert consumer.take() == [1]
        sending.send(0, [2])
        assert numbers(consumer.read()) == [2]
        before_us = consumer.reader.clock.now_us()
        server.kill()
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                consumer.commit()
                assert consumer.read() == []
                assert not consumer.reader.has_more()
                consumer.reader._link._backoff.succeed()  # no waiting here
        assert not consumer.reader.up
        assert min(consumer.reader.lags().values()) > 0
        held_us = consumer.reader.behind_us()
        assert held_us is not None
        assert held_us <= before_us
        assert len([record for record in caplog.records if "until Redis is there again" in record.message]) == 1
        server.restart()
        with caplog.at_level(logging.INFO):
            come_back(consumer)
            assert consumer.take() == []
        assert "Redis is there again" in caplog.text
        assert client.hgetall(keys.committed(0)) == {b"writer": b"1:20"}, "told as soon as it could be"
        assert consumer.reader.behind_us() is None


def test_what_a_killed_redis_forgot_is_taken_when_it_is_sent_again(server) -> None:
    with redis_library.Redis.from_url(server.url) as client, Consumer(server) as consumer:
        sending = Sending(client)
        sending.send(0, [1])
        consumer.take()
        kept = server.kept_bytes()
        sending.send(0, [2])
        sending.send(keys.SHARED, [3])
        consumer.take()
        server.kill()
        server.forget_after(kept)
        server.restart()
        sending.start_run()
        sending.send(0, [2, 4])
        sending.send(keys.SHARED, [3])
        come_back(consumer)
        assert consumer.take() == [4]
        assert client.hgetall(keys.committed(0)) == {b"writer": b"1:40"}
        assert client.hgetall(keys.shared_committed(1)) == {b"writer": b"1:30"}


def test_a_redis_that_forgot_everything_is_told_everything_again(client, redis, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2])
    consumer.take()
    redis.flush()
    assert consumer.take() == []
    consumer.reader._lease.expire()
    consumer.take()
    assert client.hgetall(keys.committed(0)) == {b"writer": b"1:20"}
    assert client.hget(keys.status(0), "state") == b"state"
    assert client.get(keys.owner(0)) == b"1:state:consumer-0"


def test_verdicts_wait_for_forwarders_that_have_not_come_back_yet(server) -> None:
    with redis_library.Redis.from_url(server.url) as client, Consumer(server) as consumer:
        now_us = consumer.reader.clock.now_us()
        Sending(client).announce(now_us, now_us)
        consumer.take()
        server.kill()
        server.forget_after(0)
        server.restart()
        come_back(consumer)
        consumer.take()
        assert client.exists(keys.FORWARDERS) == 0
        behind_us = consumer.reader.behind_us()
        assert behind_us is not None
        assert behind_us < now_us


def test_a_redis_that_is_not_there_at_the_start_is_waited_for_and_then_reported(server) -> None:
    consumer = Consumer(server, start_s=0.3)
    server.kill()
    with pytest.raises(StreamUnavailable, match=str(server.port)):
        consumer.reader.lock()
    assert consumer.read() == []
    server.restart()
    come_back(consumer)
    assert consumer.take() == []
    consumer.reader.close()


def test_a_second_consumer_of_a_partition_is_refused(client, redis, consumer) -> None:
    consumer.reader.mark()
    client.persist(keys.owner(1))
    second = Consumer(redis, [1], state="other-state", name="consumer-1")
    with pytest.raises(PartitionTaken, match=r"partition 1 is owned by consumer-0 \(state state\)"):
        second.reader.lock()
    assert not second.reader.up


def test_the_same_state_takes_over_from_a_process_that_was_killed(client, redis, consumer) -> None:
    Sending(client).send(0, [1])
    assert numbers(consumer.read()) == [1]
    with Consumer(redis) as second:
        assert client.get(keys.owner(0)) == b"2:state:consumer-0"
        assert second.take() == [1]


def test_whoever_lost_its_partition_says_so_until_it_has_it_again(client, redis, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1])
    numbers(consumer.read())
    client.set(keys.owner(0), "9:other:thief")
    consumer.reader._lease.expire()
    with pytest.raises(PartitionTaken, match="thief"):
        consumer.commit()
    assert not consumer.reader.up
    for _ in range(2):
        with pytest.raises(PartitionTaken):
            consumer.reader.mark()
        with pytest.raises(PartitionTaken):
            consumer.reader.release(consumer.reader.positions())
    assert client.hgetall(keys.committed(0)) == {}
    client.delete(keys.owner(0))
    consumer.reader.lock()
    assert consumer.take() == []
    assert client.hgetall(keys.committed(0)) == {b"writer": b"1:10"}


def test_a_lease_that_is_lost_in_the_middle_of_a_backlog_ends_the_reading(client, redis, consumer) -> None:
    sending = Sending(client)
    for number in range(1, 2000):
        sending.send(0, [number])
    consumer.reader.mark()
    client.set(keys.owner(0), "9:other:thief")
    consumer.reader._lease.expire()
    found = 0
    while consumer.reader.read() is not None:
        found += 1
    assert found < 1000
    with pytest.raises(PartitionTaken):
        consumer.reader.mark()


def test_a_lease_that_ran_out_in_the_middle_of_a_backlog_does_not_begin_it_anew(client, redis, consumer) -> None:
    sending = Sending(client)
    for number in range(1, 2000):
        sending.send(0, [number])
    consumer.reader.mark()
    client.delete(keys.owner(0), keys.owner(1))
    consumer.reader._lease.expire()
    assert consumer.take() == list(range(1, 2000))
    assert consumer.reader.redelivered == 0
    token = client.get(keys.owner(0))
    # It may run out again, on a machine that is slow.
    assert int(token.partition(b":")[0]) > 1
    assert token.endswith(b":state:consumer-0")


def test_closing_gives_the_partitions_back(client, consumer) -> None:
    consumer.reader.close()
    assert client.get(keys.owner(0)) is None
    consumer.reader.close()


def test_closing_gives_back_what_is_left_when_a_partition_is_lost(client, consumer) -> None:
    client.set(keys.owner(0), "9:other:thief")
    consumer.reader._lease.expire()
    with pytest.raises(PartitionTaken):
        consumer.reader.mark()
    assert client.exists(keys.owner(1))
    consumer.reader.close()
    assert client.get(keys.owner(0)) == b"9:other:thief"
    assert not client.exists(keys.owner(1))


def test_a_password_that_is_wrong_is_an_error_at_the_start(require_server) -> None:
    with RedisServer(require_server("redis-server"), password="secret") as server:
        consumer = Consumer(server)
        consumer.reader._server.client.connection_pool.connection_kwargs["password"] = "wrong"
        with pytest.raises(StreamRefused) as refused:
            consumer.reader.lock()
        assert "wrong" not in str(refused.value)
        assert "secret" not in str(refused.value)


def test_a_fleet_of_another_layout_is_an_error_at_the_start(client, redis) -> None:
    with Consumer(redis, layout=Layout(VERSION, 2, "key")):
        pass
    with pytest.raises(StreamRefused, match="partitions"):
        Consumer(redis, layout=Layout(VERSION, 3, "key")).reader.lock()


def test_a_stream_that_is_something_else_keeps_the_consumer_down_and_is_logged_once(client, consumer, caplog) -> None:
    client.set(keys.stream(1), "mine")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            consumer.read()
            consumer.reader._link._backoff.succeed()
    assert not consumer.reader.up
    assert [record.message for record in caplog.records if "WRONGTYPE" in record.message]
    assert len(caplog.records) == 1
    client.delete(keys.stream(1))
    Sending(client).send(1, [1])
    come_back(consumer)
    assert consumer.take() == [1]


def test_a_redis_without_memory_is_read_and_relieved(client, redis) -> None:
    layout = Layout(VERSION, 2, "key")
    with Consumer(redis, layout=layout):
        pass
    sending = Sending(client)
    client.config_set("stream-node-max-entries", 1)
    for number in range(1, 100):
        sending.send(0, [number], id=f"{number}-0")
    client.config_set("maxmemory", 1)
    try:
        with Consumer(redis, layout=layout) as consumer:
            assert consumer.take() == list(range(1, 100))
            assert consumer.reader.up
            assert client.xlen(keys.stream(0)) == 1
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("stream-node-max-entries", 100)


def test_a_consumer_that_takes_long_to_commit_keeps_its_partitions(client, redis, consumer) -> None:
    consumer.take()
    deadline = time.monotonic() + 2 * LEASE_MS / 1000
    while time.monotonic() < deadline:
        consumer.commit()
    assert client.get(keys.owner(0)) == b"1:state:consumer-0"
