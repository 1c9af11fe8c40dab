"""Forwarders and successors are told what is committed; streams lose what nobody needs any more, and nothing else."""

import pytest
import redis as redis_library
from consuming import START_US, Sending
from redis_server import RedisServer

from session_exporter.config import StreamSettings
from session_exporter.core.shares import Share
from session_exporter.errors import StreamUnavailable
from session_exporter.stream import keys
from session_exporter.stream.lease import Lease
from session_exporter.stream.positions import Position, StreamPositions
from session_exporter.stream.publishing import Publisher
from session_exporter.stream.server import StreamServer

pytestmark = pytest.mark.integration

MS = START_US // 1000
TAIL_US = 60_000_000


@pytest.fixture
def client(redis: RedisServer):
    with redis_library.Redis.from_url(redis.url) as client:
        # Streams lose whole nodes only; here each entry is one.
        client.config_set("stream-node-max-entries", 1)
        yield client
        client.config_set("stream-node-max-entries", 100)


class Owner:
    """A publisher with its lease.

    Args:
        url: Of the Redis.
        partitions: Its own, of three.
        tail_us: For how long entries are kept.
    """

    def __init__(self, url: str, partitions=(0, 1), tail_us: int = 0) -> None:
        settings = StreamSettings(url=url, tail_us=tail_us)
        self.server = StreamServer(settings)
        self.server.connect()
        self.lease = Lease(self.server, partitions, state_id=f"state-{partitions[0]}", name="consumer", lease_ms=60_000)
        self.lease.take()
        self.publisher = Publisher(
            self.server,
            settings,
            Share(partitions, 3),
            self.lease,
            state_id=f"state-{partitions[0]}",
            name="consumer",
        )

    def publish(self, moved=None, applied=None, now_us: int = START_US, **more) -> bool:
        self.publisher.note(StreamPositions(moved or {}, applied=applied or {}), **more)
        return self.publisher.publish(now_us, all_at_once=True)


@pytest.fixture
def make(redis: RedisServer, client):
    owners = []

    def make(*arguments, **options) -> Owner:
        owners.append(Owner(redis.url, *arguments, **options))
        return owners[-1]

    yield make
    for owner in owners:
        owner.server.close()


def fill(client, stream: int, count: int = 10) -> None:
    """Write entries at the milliseconds 1, 2 and so on."""
    sending = Sending(client)
    for ms in range(1, count + 1):
        sending.send(stream, [ms], id=f"{MS + ms}-0")


def left(client, stream: int) -> list[int]:
    """The milliseconds of the entries that are left."""
    return [int(identifier.split(b"-")[0]) - MS for identifier, _ in client.xrange(keys.stream(stream))]


def test_positions_stand_in_a_hash_of_each_partition_and_those_of_the_shared_stream_in_all(client, make) -> None:
    make().publish({(0, "a"): Position(1, 10), (1, "b"): Position(2, 20), (keys.SHARED, "c"): Position(3, 30)})
    assert client.hgetall(keys.committed(0)) == {b"a": b"1:10"}
    assert client.hgetall(keys.committed(1)) == {b"b": b"2:20"}
    assert client.hgetall(keys.shared_committed(0)) == client.hgetall(keys.shared_committed(1)) == {b"c": b"3:30"}
    assert client.hgetall(keys.shared_committed(2)) == {}


def test_the_status_says_who_has_committed_what(client, make) -> None:
    make().publish(applied={0: (MS + 1, 7), keys.SHARED: (MS + 2, 0)})
    assert client.hgetall(keys.status(0)) == {
        b"state": b"state-0",
        b"name": b"consumer",
        b"position": f"{MS + 1}-7".encode(),
        b"shared-position": f"{MS + 2}-0".encode(),
    }


def test_a_stream_is_trimmed_below_what_is_committed(client, make) -> None:
    for stream in (0, 1):
        fill(client, stream)
    make().publish(applied={0: (MS + 4, 0)}, now_us=START_US + 1_000_000_000)
    assert left(client, 0) == [4, 5, 6, 7, 8, 9, 10]
    assert left(client, 1) == list(range(1, 11)), "of which nothing was committed"


def test_what_is_committed_stays_for_a_while(client, make) -> None:
    fill(client, 0)
    owner = make(tail_us=TAIL_US)
    owner.publish(applied={0: (MS + 9, 0)}, now_us=START_US + TAIL_US + 3000)
    assert left(client, 0) == [3, 4, 5, 6, 7, 8, 9, 10]
    owner.publish(applied={0: (MS + 9, 0)}, now_us=START_US + TAIL_US + 6000)
    assert left(client, 0) == [6, 7, 8, 9, 10]


def test_nothing_is_trimmed_by_what_was_applied_before_the_streams_were_read_anew(client, make) -> None:
    fill(client, 0)
    owner = make()
    owner.publish(applied={0: (MS + 4, 0)}, is_current=False, now_us=START_US + 1_000_000_000)
    assert left(client, 0) == list(range(1, 11))
    owner.publisher.note(StreamPositions(applied={0: (MS + 4, 0)}))
    owner.publisher.forget_applied()
    owner.publisher.publish(START_US + 1_000_000_000, all_at_once=True)
    assert left(client, 0) == list(range(1, 11))


def test_the_shared_stream_is_trimmed_below_what_all_have_committed(client, make) -> None:
    fill(client, keys.SHARED)
    first, last = make(), make((2,))
    later_us = START_US + 1_000_000_000
    first.publish(applied={keys.SHARED: (MS + 8, 0)}, now_us=later_us)
    assert left(client, keys.SHARED) == list(range(1, 11)), "nobody knows of partition 2"
    last.publish(applied={keys.SHARED: (MS + 3, 0)}, now_us=later_us)
    assert left(client, keys.SHARED) == list(range(1, 11)), "it is for the owner of partition 0 to do"
    first.publish(applied={keys.SHARED: (MS + 8, 0)}, now_us=later_us)
    assert left(client, keys.SHARED) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_writers_that_are_forgotten_leave_only_the_hash_of_their_stream(client, make) -> None:
    owner = make()
    owner.publish({(0, "a"): Position(1, 1), (keys.SHARED, "a"): Position(1, 1), (0, "b"): Position(1, 1)})
    owner.publisher.note(StreamPositions(forgotten=((0, "a"),)))
    owner.publisher.publish(START_US, all_at_once=True)
    assert client.hgetall(keys.committed(0)) == {b"b": b"1:1"}
    assert client.hgetall(keys.shared_committed(0)) == {b"a": b"1:1"}
    owner.publisher.note(StreamPositions(forgotten=((keys.SHARED, "a"),)))
    owner.publisher.publish(START_US, all_at_once=True)
    assert client.hgetall(keys.shared_committed(1)) == {}


def test_more_positions_than_one_command_takes_are_told_with_several(client, make) -> None:
    moved = {(1, f"writer-{number}"): Position(1, number) for number in range(4500)}
    assert make().publish(moved)
    assert client.hlen(keys.committed(1)) == 4500


def test_what_cannot_be_told_now_is_told_later(client, make) -> None:
    owner = make()
    owner.server.close()
    with pytest.raises(StreamUnavailable):
        owner.publish({(0, "a"): Position(1, 1)})
    with pytest.raises(StreamUnavailable):
        owner.publish({(0, "a"): Position(1, 2), (1, "b"): Position(1, 1)})
    owner.server.connect()
    assert owner.publisher.publish(START_US)
    assert client.hgetall(keys.committed(0)) == {b"a": b"1:2"}
    assert client.hgetall(keys.committed(1)) == {b"b": b"1:1"}


def test_when_a_lease_ran_out_nothing_is_told_until_it_is_taken_again(client, make) -> None:
    owner = make()
    client.delete(keys.owner(1))
    assert owner.publish({(1, "a"): Position(1, 1)}) is False
    assert client.hgetall(keys.committed(1)) == {}
    owner.lease.keep()
    assert owner.publisher.publish(START_US)
    assert client.hgetall(keys.committed(1)) == {b"a": b"1:1"}


def test_positions_of_partitions_that_are_not_ours_any_more_are_not_told(client, make) -> None:
    assert make().publish({(2, "a"): Position(1, 1)})
    assert client.hgetall(keys.committed(2)) == {}


def test_a_redis_without_memory_is_relieved_first(client, make) -> None:
    fill(client, 0, 50)
    owner = make()
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis_library.OutOfMemoryError):
            client.set("any", "thing")
        assert owner.publish({(0, "a"): Position(1, 1)}, {0: (MS + 50, 0), 1: (MS + 1, 0)}, START_US * 2)
    finally:
        client.config_set("maxmemory", 0)
    assert left(client, 0) == [50]
    assert client.hgetall(keys.committed(0)) == {b"a": b"1:1"}
