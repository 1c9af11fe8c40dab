"""Redis that goes, comes back, forgets, refuses and fills up: nothing is lost, and nothing arrives in another order."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stations import LAYOUT, PARTITIONS, STREAMS, Consumer, Station

from session_exporter.core import events as wire
from session_exporter.errors import StreamRefused
from session_exporter.stream import fitness, keys
from session_exporter.stream.entries import Layout, encode

pytestmark = pytest.mark.integration


def kick_out(consumer):
    """Close all connections but the consumer's."""
    consumer.client.client_kill_filter(_type="normal", skipme=True)


def test_a_redis_that_forgot_everything_is_told_again_what_nobody_has_committed(tmp_path, own_redis):
    server = own_redis()
    with Station(tmp_path, server) as station, Consumer(server) as consumer:
        station.tell(300)
        station.cycle()
        consumer.read().commit()
        station.cycle()
        station.tell(300)
        station.cycle()
        server.kill()
        station.tell(100)
        forwarder = station.cycle(3)
        assert not forwarder.up
        assert forwarder.lag_us() > 0
        assert station.tallies.errors["connection"] > 1
        server.restart()
        # Nothing is known to be committed now, so that all that is still on disk comes again.
        forwarder = station.cycle()
        assert forwarder.up
        assert forwarder.is_drained
        consumer.read()
        assert consumer.of(station) == station.told["w"]
        assert consumer.dropped > 0
        assert 300 <= station.tallies.resent < 600
        assert station.tallies.forwarded == 700


def test_what_is_committed_is_not_sent_again(station, consumer):
    station.tell(300)
    station.cycle()
    consumer.read().commit()
    station.tell(100)
    station.cycle()
    kick_out(consumer)
    station.cycle(2)
    assert station.forwarder.up
    # And, of sessions that were in use before, whose they are.
    assert 100 <= station.tallies.resent <= 120
    assert station.tallies.forwarded == 400
    consumer.read()
    assert consumer.of(station) == station.told["w"]
    runs = {entry.run for entries in consumer.entries.values() for entry in entries}
    assert len(runs) == 2


@pytest.mark.parametrize("forgetting", ["everything", "a stream"])
def test_what_is_deleted_over_a_connection_that_stays_is_noticed(station, consumer, redis, forgetting):
    station.tell(300)
    station.cycle()
    if forgetting == "everything":
        redis.flush()
    else:
        consumer.client.delete(*(keys.stream(stream) for stream in STREAMS))
    station.tell(100)
    station.cycle(2)
    assert station.forwarder.up
    assert station.tallies.errors == {"other": 1}
    consumer.read()
    assert consumer.of(station) == station.told["w"]


def test_a_forwarder_that_was_killed_is_followed_by_one_that_goes_on(station, consumer):
    station.tell(300)
    station.cycle()
    consumer.read().commit()
    station.tell(100)
    first = station.cycle()
    station.kill()
    # What it had sent, and what it knew of that, may be older than what Redis has.
    station.tallies.sent_until.clear()
    station.tell(50)
    second = station.start(predecessor=first.id)
    assert set(consumer.presences()) == {second.id}
    station.cycle()
    consumer.read()
    assert consumer.of(station) == station.told["w"]
    assert consumer.dropped == 100
    consumer.commit()
    station.cycle(2)
    assert station.segments() == 1


def test_who_comes_to_what_another_has_sent_says_that_all_may_come_again(station, consumer):
    station.tell(300)
    station.cycle()
    station.kill()
    forwarder = station.start()
    begun_us = consumer.presences()[forwarder.id].complete_us
    assert begun_us < station.told["w"][0]
    station.cycle()
    assert consumer.presences()[forwarder.id].complete_us > begun_us


def test_without_redis_everything_waits_on_disk(tmp_path, own_redis):
    server = own_redis()
    server.kill()
    with Station(tmp_path, server) as station:
        station.tell(500)
        forwarder = station.cycle(3)
        made = station.segments()
        assert (forwarder.up, forwarder.is_drained, station.tallies.forwarded) == (False, False, 0)
        assert forwarder.uncommitted_bytes() == made * 4096
        server.restart()
        station.cycle()
        with Consumer(server) as consumer:
            assert consumer.read().of(station) == station.told["w"]
        assert station.tallies.resent == 0


def test_attempts_to_connect_come_at_ever_longer_intervals(tmp_path, own_redis):
    server = own_redis()
    server.kill()
    with Station(tmp_path, server) as station:
        forwarder = station.start()
        attempts = []
        while station.now_s < 60.0:
            before = station.tallies.errors["connection"]
            forwarder.cycle(0.0)
            if station.tallies.errors["connection"] > before:
                attempts.append(station.now_s)
            station.now_s += 0.1
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    assert all(later > earlier - 0.15 for earlier, later in pairwise(gaps))
    assert 5.0 <= gaps[-1] < 5.15


def test_a_wrong_password_is_refused_without_being_told(tmp_path, own_redis):
    server = own_redis(password="right-and-secret")
    right = server.url
    server._password = "wrong-and-secret"
    with Station(tmp_path, server) as station:
        with pytest.raises(StreamRefused) as refused:
            station.start()
        assert "secret" not in str(refused.value)
        assert station.tallies.errors == {"refused": 1}
    server._password = "right-and-secret"
    assert server.url == right


def test_a_password_that_was_changed_back_lets_it_in_again(tmp_path, own_redis):
    server = own_redis()
    with Station(tmp_path, server) as station, Consumer(server) as consumer:
        station.tell(100)
        station.cycle()
        consumer.client.config_set("requirepass", "another")
        consumer.client.execute_command("AUTH", "another")
        kick_out(consumer)
        station.tell(100)
        station.cycle(3)
        assert station.tallies.errors["refused"] >= 1
        consumer.client.config_set("requirepass", "")
        station.cycle()
        assert consumer.read().of(station) == station.told["w"]


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (Layout(LAYOUT.version, PARTITIONS + 1, LAYOUT.ids), "partitions"),
        (Layout(LAYOUT.version, PARTITIONS, "another"), "another key"),
    ],
)
def test_a_fleet_of_another_layout_is_refused(station, consumer, theirs, told):
    consumer.client.set(keys.LAYOUT, encode(theirs))
    with pytest.raises(StreamRefused, match=told):
        station.start()


def test_a_stream_that_is_none_is_refused_before_anything_is_sent(station, consumer):
    consumer.client.set(keys.stream(1), "a stranger's")
    station.tell(100)
    with pytest.raises(StreamRefused, match=r"session-exporter:\{1\} is a string; expected a stream"):
        station.start()
    assert consumer.client.exists(keys.stream(0)) == 0


def test_a_redis_that_is_too_old_is_refused(station, monkeypatch):
    monkeypatch.setattr(fitness, "VERSION_MIN", (99, 1))
    with pytest.raises(StreamRefused, match=r"is version [0-9.]+; expected 99\.1 or newer"):
        station.start()


def test_a_redis_that_evicts_streams_is_warned_of(tmp_path, own_redis, caplog):
    server = own_redis(settings=("--maxmemory-policy", "allkeys-lru"))
    with Station(tmp_path, server) as station:
        station.start()
    assert "expected the maxmemory-policy noeviction" in caplog.text


def test_the_permissions_that_the_guide_gives_a_forwarder_are_enough(tmp_path, own_redis):
    server = own_redis()
    guide = Path(__file__).parents[2] / "docs/howto/run-a-fleet.md"
    rules = next(line.split() for line in guide.read_text().splitlines() if line.startswith("user forwarder "))
    with Consumer(server) as consumer:
        consumer.client.execute_command("ACL", "SETUSER", "forwarder", "on", ">open sesame", *rules[4:])
        url = server.url.replace("//", "//forwarder:open%20sesame@")
        with Station(tmp_path, server, url=url) as station:
            station.tell(100)
            forwarder = station.cycle(2)
            assert (forwarder.up, station.tallies.errors) == (True, {})
            assert consumer.read().of(station) == station.told["w"]
            consumer.client.acl_setuser("forwarder", commands=["-xadd"])
            station.tell(100)
            station.cycle()
            assert station.tallies.errors == {"refused": 1}


def test_a_redis_without_memory_gets_each_round_once_it_has_some(tmp_path, own_redis):
    server = own_redis(settings=("--maxmemory-policy", "noeviction"))
    with Station(tmp_path, server) as station, Consumer(server) as consumer:
        station.tell(200)
        forwarder = station.cycle()
        consumer.client.config_set("maxmemory", 1)
        station.tell(200)
        station.cycle(3)
        assert (forwarder.up, station.tallies.errors) == (False, {"out_of_memory": 3})
        assert forwarder.lag_us() > 0
        # What was committed meanwhile is deleted all the same.
        kept = station.segments()
        consumer.read()
        consumer.client.config_set("maxmemory", 0)
        consumer.commit()
        consumer.client.config_set("maxmemory", 1)
        station.cycle()
        assert station.segments() < kept
        consumer.client.config_set("maxmemory", 0)
        station.cycle()
        assert forwarder.up
        consumer.read()
        assert consumer.of(station) == station.told["w"]
        assert (consumer.dropped, station.tallies.resent) == (0, 0)


def test_times_are_corrected_when_the_clock_is_wrong(station, consumer):
    station.ahead_us = 5_000_000
    station.tell(100)
    forwarder = station.cycle()
    assert abs(forwarder.clock.skew_us + 5_000_000) < 1_000_000
    consumer.read()
    wrong = station.told["w"]
    shift_us = forwarder.clock.correction_us
    assert consumer.of(station) == [at_us + shift_us for at_us in wrong]
    (presence,) = consumer.presences().values()
    real_us = station.now_us() - 5_000_000
    assert abs(presence.at_us - real_us) < 2_000_000
    assert presence.complete_us < real_us


def tell_some(station, _, number):
    worker = "wx"[number % 2]
    station.tell(40, worker)
    station.tell(3, worker, users=0, kind=wire.Ended)


def lose_all(station, consumer, _):
    station.server.flush()
    consumer.commit()


STEPS = {
    "tell": tell_some,
    "cycle": lambda station, _, __: station.cycle(),
    "read": lambda _, consumer, __: consumer.read(),
    "commit": lambda _, consumer, __: consumer.commit(),
    "kick": lambda _, consumer, __: kick_out(consumer),
    "kill": lambda station, _, __: station.kill(),
    "lose all": lose_all,
    "lose a stream": lambda _, consumer, number: consumer.client.delete(keys.stream(number % PARTITIONS)),
}


@pytest.mark.slow
@settings(max_examples=40)
@given(steps=st.lists(st.sampled_from([*STEPS, "tell"]), max_size=25))
def test_whatever_happens_in_which_order_everything_arrives(tmp_path_factory, shared_redis, steps):
    shared_redis.flush()
    with Station(tmp_path_factory.mktemp("station"), shared_redis) as station, Consumer(shared_redis) as consumer:
        station.tell(40)
        for number, step in enumerate(steps):
            STEPS[step](station, consumer, number)
        # A stream that was deleted is missed when something is to be sent to it.
        station.tell(40)
        station.cycle(4)
        consumer.read()
        for worker, told in station.told.items():
            assert consumer.of(station, worker) == told
        consumer.commit()
        station.cycle(2)
        assert station.segments() == len(station.told)
