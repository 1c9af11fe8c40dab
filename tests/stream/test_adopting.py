"""A consumer whose state is new, or that gets a partition of another one, goes on from what that one has committed."""

import pytest
import redis as redis_library
from consuming import Consumer, Sending, numbers
from redis_server import RedisServer

from session_exporter.config import StreamSettings
from session_exporter.errors import StreamError
from session_exporter.stream import keys

pytestmark = pytest.mark.integration


@pytest.fixture
def client(redis: RedisServer):
    with redis_library.Redis.from_url(redis.url) as client:
        yield client


def seeds(consumer: Consumer) -> list[int]:
    return numbers(consumer.reader.seed_batches())


@pytest.fixture
def kept(redis) -> StreamSettings:
    """Settings under which entries stay for a while."""
    return StreamSettings(url=redis.url)


def test_without_anybody_before_there_is_nobody_to_learn_from(client, redis) -> None:
    Sending(client).send(0, [1])
    with Consumer(redis) as consumer:
        assert consumer.reader.predecessor() is None
        assert seeds(consumer) == []
        assert consumer.take() == [1]
        consumer.restart()
        assert consumer.reader.predecessor() is None


def test_a_new_state_learns_what_the_lost_one_had_committed_and_counts_the_rest(client, redis, kept) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2])
    sending.send(keys.SHARED, [3])
    with Consumer(redis, settings=kept, name="lost") as lost:
        assert lost.take() == [1, 2, 3]
        sending.send(0, [4])
        assert numbers(lost.read()) == [4]
    sending.start_run()
    sending.send(0, [2, 4, 5])
    sending.send(1, [6])
    with Consumer(redis, settings=kept, state="new") as new:
        predecessor = new.reader.predecessor()
        assert predecessor is not None
        assert predecessor.names == {0: "lost", 1: "lost"}
        assert seeds(new) == [1, 2, 3]
        assert seeds(new) == [1, 2, 3], "a seeding that was interrupted begins again"
        assert new.take() == [4, 5, 6]
        new.restart()
        assert new.reader.predecessor() is None
        assert new.take() == []


def test_a_new_state_that_was_killed_before_its_first_commit_learns_again(client, redis, kept) -> None:
    sending = Sending(client)
    sending.send(0, [1])
    with Consumer(redis, settings=kept) as lost:
        lost.take()
    sending.send(0, [2])
    for state in ("new-1", "new-2"):
        with Consumer(redis, settings=kept, state=state) as new:
            assert seeds(new) == [1]
            assert numbers(new.read()) == [2]
            assert new.reader.positions().moved[0, "writer"][:2] == (1, 20)


def test_what_is_not_in_the_streams_any_more_is_known_to_be_counted_all_the_same(client, redis) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2])
    with Consumer(redis) as lost:
        lost.take()
    client.delete(keys.stream(0))
    with Consumer(redis, state="new") as new:
        assert seeds(new) == []
        sending.start_run()
        sending.send(0, [1, 2, 3])
        assert new.take() == [3]


def test_a_partition_that_moves_is_counted_on_where_its_owner_left_it(client, redis, kept) -> None:
    sending = Sending(client)
    with (
        Consumer(redis, [0], state="a", name="consumer-a", settings=kept) as a,
        Consumer(redis, [1], state="b", settings=kept) as b,
    ):
        sending.send(0, [1])
        sending.send(1, [2])
        sending.send(keys.SHARED, [3])
        assert a.take() == [1, 3]
        assert b.take() == [2, 3]
        sending.send(keys.SHARED, [4])
        assert a.take() == [4]
        sending.send(0, [5])
        a.reader.close()
        b.reader.close()
        both = Consumer(redis, [0, 1], state="b", settings=kept)
        both.kept = b.kept
        both.restart()
        predecessor = both.reader.predecessor()
        assert predecessor is not None
        assert predecessor.names == {0: "consumer-a"}
        assert both.take() == [4, 5], "of the shared stream what this state has taken in counts"
        both.reader.close()


@pytest.mark.parametrize("ahead", [0, 1])
def test_of_several_who_went_before_the_shared_stream_counts_from_the_one_that_was_behind(
    client, redis, kept, ahead
) -> None:
    sending = Sending(client)
    sending.send(keys.SHARED, [1])
    with Consumer(redis, [0], state="a", settings=kept) as a, Consumer(redis, [1], state="b", settings=kept) as b:
        a.take()
        b.take()
        sending.send(keys.SHARED, [2])
        (a, b)[ahead].take()
    with Consumer(redis, [0, 1], state="new", settings=kept) as new:
        assert seeds(new) == [1]
        assert new.take() == [2]


def test_what_another_state_has_counted_meanwhile_is_not_counted_again(client, redis, kept) -> None:
    sending = Sending(client)
    with Consumer(redis, settings=kept) as consumer:
        sending.send(0, [1])
        consumer.take()
        client.delete(keys.owner(0), keys.owner(1))
        with Consumer(redis, state="other", settings=kept) as other:
            sending.send(0, [2, 3])
            assert other.take() == [2, 3]
        sending.send(0, [4])
        consumer.reader._lease.expire()
        assert consumer.take() == [4]
        assert client.hget(keys.status(0), "state") == b"state"


def test_learning_says_when_redis_is_away(client, redis, kept) -> None:
    Sending(client).send(0, [1])
    with Consumer(redis, settings=kept) as lost:
        lost.take()
    with Consumer(redis, state="new", settings=kept) as new:
        new.reader._server.close()
        with pytest.raises(StreamError):
            seeds(new)


def test_what_a_stranger_has_told_of_positions_is_ignored(client, redis) -> None:
    client.hset(keys.status(0), mapping={"state": "x", "name": b"\xff", "position": "?", "shared-position": b"\xff-1"})
    client.hset(keys.committed(0), mapping={"writer": "far", b"\xff": "1:1", "other": "9" * 100})
    Sending(client).send(0, [1])
    with Consumer(redis) as consumer:
        assert seeds(consumer) == []
        assert consumer.take() == [1]
