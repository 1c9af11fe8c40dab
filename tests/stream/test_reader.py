"""A consumer gets every event of its partitions once, in the order written, whatever is in its streams."""

import pytest
import redis as redis_library
from consuming import FRAME_BYTES, START_US, Consumer, Sending, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import RedisServer

from session_exporter.stream import keys
from session_exporter.stream.entries import ENTRY_BYTES_MAX, VERSION, Layout
from session_exporter.stream.horizon import ON_THE_WAY_US

pytestmark = pytest.mark.integration


@pytest.fixture
def client(redis: RedisServer):
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


def test_a_batch_says_who_wrote_it_and_where_it_came_by(client, consumer) -> None:
    Sending(client).send(keys.SHARED, [1], "somebody")
    [batch] = consumer.read()
    assert (batch.writer.id, batch.writer.replica, batch.writer.pid, batch.stream) == ("somebody", "pod", 1, -1)


def test_other_partitions_are_not_read(client, redis) -> None:
    sending = Sending(client)
    for partition in range(3):
        sending.send(partition, [partition + 1])
    with Consumer(redis, [0, 2], 3) as consumer:
        assert consumer.take() == [1, 3]


def test_a_stream_that_was_deleted_and_sent_again_is_read_again(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2], id="1000-0")
    consumer.take()
    client.delete(keys.stream(0))
    sending.start_run()
    sending.send(0, [2, 3], id="2000-0")
    assert consumer.take() == [3]


def test_a_stream_whose_ids_have_gone_back_is_read_from_its_beginning(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2], id="2000-0")
    sending.send(1, [3], id="2000-0")
    consumer.take()
    client.delete(keys.stream(0))
    sending.start_run()
    sending.send(0, [1, 2, 4], id="1000-0")
    consumer.reader._lease.expire()
    assert consumer.take() == [4]
    assert consumer.reader.redelivered == 3, "of both streams"


def test_nothing_is_trimmed_that_was_read_before_ids_went_back(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1], id="2000-0")
    numbers(consumer.read())
    positions = consumer.reader.positions()
    client.delete(keys.stream(0))
    sending.start_run()
    for number in range(1, 400):
        sending.send(0, [number], id=f"{1000 + number}-0")
    consumer.reader._lease.expire()
    consumer.reader.mark()
    consumer.reader.release(positions)
    assert client.xlen(keys.stream(0)) == 399
    assert consumer.take() == list(range(2, 400))


STRANGERS = [
    {b"a": b"1"},
    {keys.FIELD: b"garbage"},
    {keys.FIELD: b""},
    {keys.FIELD: b"\x9f" * 1000},
    {keys.FIELD: bytes(5 * ENTRY_BYTES_MAX)},
    {b"a": b"1", b"b": b"2", b"c": b"3"},
    {keys.FIELD: Sending().entry(0, [1]), b"b": b"2"},
    {keys.FIELD: Sending().entry(0, [])},
    {keys.FIELD: Sending().entry(0, [2, 1])},
]


def test_what_a_stranger_has_written_is_skipped_and_counted_once(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1])
    for fields in STRANGERS:
        client.xadd(keys.stream(0), fields)
    client.xadd(keys.stream(1), {keys.FIELD: sending.entry(1, [9], version=VERSION + 1)})
    sending.send(0, [2])
    assert consumer.take() == [1, 2]
    expected = {"malformed": len(STRANGERS), "newer_version": 1}
    assert consumer.reader.skipped == expected
    consumer.reader._begin_anew()
    assert consumer.take() == []
    assert consumer.reader.skipped == expected
    consumer.restart()
    assert consumer.take() == []
    assert set(consumer.reader.skipped.values()) == {0}


def test_events_that_were_cut_off_before_they_were_read_are_counted(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1, 2])
    consumer.take()
    consumer.reader.close()
    for number in range(3, 10):
        sending.send(0, [number])
    client.xtrim(keys.stream(0), maxlen=2, approximate=False)
    consumer.restart()
    batches = consumer.read()
    assert numbers(batches) == [8, 9]
    assert [batch.cut for batch in batches] == [5, 0]


def test_what_was_trimmed_because_it_was_committed_is_not_missed(client, redis) -> None:
    sending = Sending(client)
    client.config_set("stream-node-max-entries", 1)
    try:
        with Consumer(redis) as consumer:
            for number in range(1, 6):
                sending.send(0, [number], id=f"{1000 + number}-0")
            consumer.take()
            assert client.xlen(keys.stream(0)) == 1
            sending.send(0, [6])
            consumer.restart()
            batches = consumer.read()
    finally:
        client.config_set("stream-node-max-entries", 100)
    assert [(numbers([batch]), batch.cut) for batch in batches] == [([6], 0)]


def test_answers_stay_of_a_size_when_entries_are_large(client, redis) -> None:
    sending = Sending(client)
    for number in range(1, 130):
        client.xadd(keys.stream(0), {b"x": b"", keys.FIELD: bytes(ENTRY_BYTES_MAX)})
        sending.send(0, [number])
    with Consumer(redis, [0], 1) as consumer:
        reading = consumer.reader._reading
        most = reading._fetching.count
        for _ in range(130):
            client.xadd(keys.stream(0), {keys.FIELD: bytes(ENTRY_BYTES_MAX)})
        assert consumer.take() == list(range(1, 130))
        assert consumer.reader._reading._fetching.count < most


def test_what_comes_after_the_mark_may_wait_for_the_next(client, consumer) -> None:
    sending = Sending(client)
    sending.send(0, [1])
    mark = consumer.reader.mark()
    assert not consumer.reader.passed(mark)
    assert consumer.reader.has_more()
    sending.send(0, [2])
    assert numbers([consumer.reader.read()]) == [1]
    assert consumer.reader.read() is None
    assert consumer.reader.passed(mark)
    assert consumer.take() == [2]


def test_a_long_backlog_is_read_to_its_end_with_one_mark(client, consumer) -> None:
    sending = Sending(client)
    for number in range(1, 3001):
        sending.send((0, 1, keys.SHARED)[number % 3], [number])
    mark = consumer.reader.mark()
    found = []
    while (batch := consumer.reader.read()) is not None:
        found += numbers([batch])
        if len(found) == 1000:
            assert not consumer.reader.passed(mark)
            assert consumer.reader.has_more()
            behind_us = consumer.reader.behind_us()
            assert behind_us is not None
            consumer.commit()
    assert sorted(found) == list(range(1, 3001))
    assert consumer.reader.passed(mark)
    assert not consumer.reader.has_more()
    assert set(consumer.reader.lags().values()) == {0.0}


def test_the_lag_is_the_age_of_what_was_not_returned(client, consumer) -> None:
    now_us = consumer.reader.clock.now_us()
    sending = Sending(client)
    sending.send(0, [1], id=f"{now_us // 1000 - 5000}-0")
    sending.send(1, [2], id=f"{now_us // 1000 - 3000}-0")
    consumer.reader.mark()
    lags = consumer.reader.lags()
    assert 4.9 < lags[0] < 10
    assert 2.9 < lags[1] < 8
    assert lags[keys.SHARED] == 0
    consumer.take()
    assert set(consumer.reader.lags().values()) == {0.0}


def test_verdicts_wait_for_what_a_forwarder_has_still_to_send(client, consumer) -> None:
    now_us = consumer.reader.clock.now_us()
    sending = Sending(client)
    sending.announce(now_us, now_us - 60_000_000)
    consumer.read()
    assert consumer.reader.behind_us() == now_us - 60_000_000
    assert consumer.reader.forwarders() == 1
    sending.send(0, [1], behind_us=now_us - 30_000_000, sent_us=now_us)
    consumer.read()
    assert consumer.reader.behind_us() == now_us - 30_000_000
    sending.announce(now_us, now_us - 1)
    consumer.reader._horizon.roster._read_at_s = 0.0
    consumer.read()
    assert consumer.reader.behind_us() == now_us - 1
    assert consumer.reader.held_s() == 0
    client.delete(keys.FORWARDERS)
    consumer.reader._horizon.roster._read_at_s = 0.0
    consumer.read()
    assert consumer.reader.behind_us() is None


def test_what_is_in_the_streams_but_not_read_is_waited_for(client, consumer) -> None:
    sending = Sending(client)
    for number in range(1, 2000):
        sending.send(0, [number], id=f"{START_US // 1000 + number}-0")
    consumer.reader.mark()
    for _ in range(100):
        consumer.reader.read()
    behind_us = consumer.reader.behind_us()
    assert behind_us is not None
    assert behind_us <= START_US + 101_000 - ON_THE_WAY_US
    consumer.read()
    assert consumer.reader.behind_us() is None


def test_presences_of_strangers_and_of_the_dead_do_no_harm(client, consumer) -> None:
    now_us = consumer.reader.clock.now_us()
    client.hset(keys.FORWARDERS, mapping={b"\xff": b"\xff", b"x": b"", b"y": bytes(100_000)})
    Sending(client, "dead").announce(now_us - 3_700_000_000, 0)
    consumer.take()
    assert consumer.reader.forwarders() == 0
    assert consumer.reader.behind_us() is None
    assert not client.hexists(keys.FORWARDERS, "dead"), "the owner of partition 0 keeps house"


def test_writers_of_whom_nothing_was_heard_for_a_week_are_forgotten(client, consumer) -> None:
    Sending(client).send(0, [1])
    consumer.take()
    [(place, position)] = consumer.kept.items()
    consumer.kept[place] = position._replace(seen_us=1)
    client.delete(keys.stream(0))
    consumer.restart()
    consumer.take()
    assert consumer.kept == {}
    assert client.hgetall(keys.committed(0)) == {}


def test_the_fleets_layout_is_agreed_on(redis, client) -> None:
    with Consumer(redis, layout=Layout(VERSION, 2, "key")) as consumer:
        assert consumer.reader.up
    assert client.exists(keys.LAYOUT)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from((0, 1, keys.SHARED)), st.sampled_from("ab"), st.integers(1, 3)),
        st.tuples(st.just("reconnect")),
        st.tuples(st.just("take")),
        st.tuples(st.just("read")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("forget")),
    ),
    max_size=25,
)


class Course:
    """A forwarder of two writers and a consumer, to whom things happen."""

    def __init__(self, client, consumer: Consumer) -> None:
        self.client = client
        self.consumer = consumer
        self.sending = Sending(client)
        self.sent: dict[str, list[tuple[int, list[int]]]] = {"a": [], "b": []}
        self.counted: dict[str, list[int]] = {"a": [], "b": []}
        self.uncommitted: list[tuple[str, list[int]]] = []
        self.ms = 1000

    def add(self, stream: int, events: list[int], writer: str) -> None:
        self.ms += 1
        self.sending.send(stream, events, writer, id=f"{self.ms}-0")

    def send(self, stream: int, writer: str, count: int) -> None:
        sent = self.sent[writer]
        begin = sent[-1][1][-1] + 1 if sent else 1
        sent.append((stream, list(range(begin, begin + count))))
        self.add(*sent[-1], writer)

    def reconnect(self) -> None:
        """The forwarder goes back to what is committed, of the shared stream to its beginning."""
        self.sending.start_run()
        for writer, sent in self.sent.items():
            for stream, events in sent:
                raw = self.client.hget(keys.committed(stream), writer)
                until = int(raw.split(b":")[1]) // FRAME_BYTES if raw else 0
                if left := [number for number in events if number > until]:
                    self.add(stream, left, writer)

    def forget(self) -> None:
        self.client.delete(*(keys.stream(stream) for stream in (0, 1, keys.SHARED)))
        self.reconnect()

    def restart(self) -> None:
        self.uncommitted.clear()
        self.consumer.restart()

    def read(self) -> None:
        batches = self.consumer.read()
        assert [batch.cut for batch in batches] == [0] * len(batches)
        self.uncommitted += [(batch.writer.id, numbers([batch])) for batch in batches]

    def take(self) -> None:
        self.read()
        self.consumer.commit()
        for writer, found in self.uncommitted:
            self.counted[writer] += found
        self.uncommitted.clear()


@settings(max_examples=40)
@given(steps)
def test_each_event_counts_once_whatever_happens(shared_redis, steps) -> None:
    shared_redis.flush()
    with redis_library.Redis.from_url(shared_redis.url) as client, Consumer(shared_redis) as consumer:
        course = Course(client, consumer)
        for name, *how in steps:
            getattr(course, name)(*how)
        course.take()
    for writer, sent in course.sent.items():
        assert sorted(course.counted[writer]) == [number for _, events in sent for number in events]
