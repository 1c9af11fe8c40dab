"""A partition has one owner: a second one is refused, one that is back goes on, one that lost it changes nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis as redis_library
from consuming import LEASE_MS, START_US, Sending
from redis_server import RedisServer

from session_exporter.config import StreamSettings
from session_exporter.core.shares import Share
from session_exporter.errors import PartitionTaken, StreamUnavailable
from session_exporter.stream import keys
from session_exporter.stream.lease import Lease
from session_exporter.stream.positions import Position, StreamPositions
from session_exporter.stream.publishing import Publisher
from session_exporter.stream.server import StreamServer

pytestmark = pytest.mark.integration
PLACE = (1, "writer")


@pytest.fixture
def client(redis: RedisServer):
    with redis_library.Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture
def make(redis: RedisServer, client):
    """Makes a lease on a connection of its own."""
    servers = []

    def make(state="state", name="consumer", partitions=(0, 1), lease_ms=LEASE_MS) -> Lease:
        server = StreamServer(StreamSettings(url=redis.url))
        servers.append(server)
        server.connect()
        lease = Lease(server, partitions, state_id=state, name=name, lease_ms=lease_ms)
        lease.server = server
        return lease

    yield make
    for server in servers:
        server.close()


def expire(client, partition: int) -> None:
    """Let a lease run out."""
    client.delete(keys.owner(partition))


@contextmanager
def renewing(lease: Lease) -> Iterator[None]:
    """Somewhere else, its owner lives."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(0.02):
            lease.keep()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_lease_is_a_key_that_names_its_owner_and_runs_out(client, make) -> None:
    make("state-1", "consumer-1").take()
    for partition in (0, 1):
        assert client.get(keys.owner(partition)) == b"1:state-1:consumer-1"
        assert 0 < client.pttl(keys.owner(partition)) <= LEASE_MS


def test_a_partition_that_its_owner_keeps_is_refused_and_both_are_named(client, make) -> None:
    first, second = make("state-1", "consumer-1"), make("state-2", "consumer-2", (1, 2))
    first.take()
    with renewing(first), pytest.raises(PartitionTaken) as refused:
        second.take()
    message = str(refused.value)
    assert "partition 1 is owned by consumer-1 (state state-1), so not by consumer-2 (state state-2)" in message
    assert client.get(keys.owner(2)) is None, "what it had is given back"


def test_a_lease_of_a_process_that_was_killed_is_waited_for(make, caplog) -> None:
    make("state-1").take()
    second = make("state-2", "consumer-2")
    with caplog.at_level("INFO"):
        second.take()
    assert caplog.text.count("waiting for a lease to run out") == 1
    assert second.tokens == {0: "2:state-2:consumer-2", 1: "2:state-2:consumer-2"}


def test_the_same_state_goes_on_at_once(client, make) -> None:
    first = make(lease_ms=60_000)
    first.take()
    second = make(lease_ms=60_000)
    second.take()
    assert client.get(keys.owner(0)) == b"2:state:consumer"


def test_a_lease_that_never_runs_out_is_not_waited_for(client, make) -> None:
    client.set(keys.owner(0), "somebody")
    with pytest.raises(PartitionTaken):
        make().take()


def test_renewing_keeps_it_and_its_token(client, make) -> None:
    lease = make()
    lease.take()
    client.pexpire(keys.owner(0), 50)
    assert lease.keep() is False
    assert client.pttl(keys.owner(0)) > 50
    assert client.get(keys.owner(0)) == b"1:state:consumer"


def test_one_that_ran_out_is_taken_again(client, make) -> None:
    lease = make()
    lease.take()
    expire(client, 1)
    assert lease.keep() is False
    assert lease.tokens[1] == "2:state:consumer"


def test_one_that_another_had_meanwhile_is_noticed(client, make) -> None:
    lease, other = make(), make("state-2")
    lease.take()
    expire(client, 0)
    expire(client, 1)
    other.take()
    other.give_up()
    assert lease.keep() is True


def test_a_redis_that_forgot_everything_is_noticed(client, make) -> None:
    lease = make()
    for _ in range(2):
        lease.take()
        lease.give_up()
    lease.take()
    client.flushall()
    assert lease.keep() is True


def test_one_that_another_has_is_lost(client, make) -> None:
    lease, other = make(), make("state-2", "other")
    lease.take()
    expire(client, 0)
    expire(client, 1)
    other.take()
    with pytest.raises(PartitionTaken, match="owned by other"):
        lease.keep()


def test_giving_up_takes_nothing_from_anybody_else(client, make) -> None:
    lease, other = make(), make("state-2", "other")
    lease.take()
    expire(client, 0)
    client.set(keys.owner(0), "2:state-2:other")
    lease.give_up()
    assert client.get(keys.owner(0)) == b"2:state-2:other"
    assert client.get(keys.owner(1)) is None
    other.take()


def test_it_is_due_a_few_times_before_it_runs_out(make) -> None:
    lease = make(lease_ms=60_000)
    assert lease.is_due
    lease.take()
    assert not lease.is_due
    lease.expire()
    assert lease.is_due


def test_without_redis_nothing_is_known(make) -> None:
    lease = make()
    lease.server.close()
    with pytest.raises(StreamUnavailable):
        lease.keep()


def test_whoever_lost_its_lease_can_neither_publish_nor_trim(client, make) -> None:
    lease, other = make(), make("state-2", "other")
    publisher = Publisher(
        lease.server, StreamSettings(tail_us=0), Share((0, 1), 2), lease, state_id="state", name="consumer"
    )
    lease.take()
    newest = Sending(client).send(1, [1])
    expire(client, 1)
    client.set(keys.owner(1), "2:state-2:other")
    applied = tuple(int(part) for part in newest.split(b"-"))
    publisher.note(StreamPositions({PLACE: Position(1, 10)}, applied={1: (applied[0] + 5, 0)}))
    with pytest.raises(PartitionTaken, match="owned by other"):
        publisher.publish(START_US * 2)
    assert client.hgetall(keys.committed(1)) == {}
    assert client.hgetall(keys.status(1)) == {}
    assert client.xlen(keys.stream(1)) == 1
    assert other.tokens == {}
