"""From a journal to Redis: everything arrives in order, and stays on disk until it is committed."""

import pytest
from stations import PARTITIONS, STREAMS, Station

from session_exporter.config import JournalSettings
from session_exporter.core import events as wire
from session_exporter.stream import keys
from session_exporter.stream.sending import PAYLOAD_BYTES

pytestmark = pytest.mark.integration


def test_everything_arrives_once_and_in_order(station, consumer):
    for worker in ("w", "x", "y"):
        station.tell(400, worker)
    station.cycle()
    station.tell(50, "x")
    station.tell(5, "w", kind=wire.Ended, users=0)
    forwarder = station.cycle()
    assert forwarder.is_drained
    consumer.read()
    for worker, told in station.told.items():
        assert consumer.of(station, worker) == told
    assert consumer.dropped == 0
    assert station.tallies.forwarded == 1255
    assert station.tallies.resent == 0
    assert {entry.run for entries in consumer.entries.values() for entry in entries} != {0}
    # Whose user is not known is for everybody.
    assert [len(entry.events) for entry in consumer.entries[keys.SHARED]] == [5]


@pytest.mark.slow
def test_entries_are_cut_between_frames(station, consumer):
    site = "x" * 200
    station.tell(3000, users=1, kind=wire.LookedUp, sites=(site,) * 4)
    station.cycle()
    consumer.read()
    assert consumer.of(station) == station.told["w"]
    sizes = [len(values[keys.FIELD]) for stream in STREAMS for _, values in consumer.client.xrange(keys.stream(stream))]
    assert max(sizes) <= PAYLOAD_BYTES


def test_segments_stay_until_they_are_committed(station, consumer):
    station.tell(400)
    station.cycle(2)
    segments = station.segments()
    assert segments > 3
    consumer.read()
    station.cycle(2)
    assert station.segments() == segments
    consumer.commit()
    forwarder = station.cycle(2)
    # The worker still writes to the newest one.
    assert station.segments() == 1
    assert forwarder.uncommitted_bytes() == 0
    station.tell(1)
    station.cycle()
    assert forwarder.uncommitted_bytes() == 4096
    station.end_worker()
    consumer.read().commit()
    station.cycle(2)
    assert station.segments() == 0


def test_what_everybody_reads_stays_until_everybody_has_committed_it(station, consumer):
    station.tell(300, users=0, kind=wire.Ended)
    station.cycle()
    segments = station.segments()
    consumer.read().commit(range(PARTITIONS - 1))
    station.cycle(2)
    assert station.segments() == segments
    consumer.commit()
    station.cycle(2)
    assert station.segments() == 1


@pytest.mark.parametrize("rubbish", [b"", b"no position", b"1:-1", b"9" * 30 + b":1", "٣:٤".encode()])
def test_what_is_no_position_commits_nothing(station, consumer, rubbish):
    station.tell(300)
    station.cycle()
    segments = station.segments()
    for partition in range(PARTITIONS):
        consumer.client.hset(keys.committed(partition), station.worker().writer_id, rubbish)
    assert station.cycle(2).up
    assert station.segments() == segments


def test_without_room_what_was_sent_is_given_up_and_counted(tmp_path, redis, consumer):
    room = JournalSettings(worker_limit_bytes=8 * 4096, directory_limit_bytes=12 * 4096)
    with Station(tmp_path, redis, journal=room) as station:
        station.tell(600, "w")
        made = station.segments()
        station.cycle(2)
        assert station.segments() == 4
        first = station.tallies.released_early
        assert first == made - 4
        station.tell(600, "x")
        station.cycle(2)
        assert station.segments() == 6
        assert station.tallies.released_early > first
        consumer.read()
        for worker, told in station.told.items():
            assert consumer.of(station, worker) == told


@pytest.mark.slow
def test_the_newest_entries_are_kept_when_streams_get_too_long(tmp_path, redis, consumer):
    with Station(tmp_path, redis, max_entries=1) as station:
        for _ in range(300):
            station.tell(1, users=1)
            station.cycle()
        lengths = [consumer.client.xlen(keys.stream(stream)) for stream in STREAMS]
        # Redis cuts whole nodes only, of a hundred entries.
        assert 1 <= max(lengths) < 250


def test_a_forwarder_says_how_far_it_is(station, consumer):
    begin_us = station.now_us()
    forwarder = station.start()
    (presence,) = consumer.presences().values()
    assert presence.replica == "pod"
    assert abs(presence.at_us - begin_us) < 5_000_000
    station.tell(400)
    station.cycle()
    later = consumer.presences()[forwarder.id]
    assert later.complete_us > station.told["w"][-1] - 1_000_000
    assert later.complete_us > presence.complete_us
    consumer.read()
    entries = [entry for found in consumer.entries.values() for entry in found]
    assert {entry.forwarder for entry in entries} == {forwarder.id}
    assert {entry.behind_us for entry in entries if entry.sent_us == max(each.sent_us for each in entries)} == {0}
    forwarder.leave()
    assert consumer.presences() == {}


@pytest.mark.slow
def test_what_is_still_to_come_is_said_in_every_entry(station, consumer):
    station.tell(40_000)
    station.cycle()
    station.tell(1)
    station.cycle()
    consumer.read()
    entries = [entry for found in consumer.entries.values() for entry in found]
    rounds = sorted({(entry.sent_us, entry.behind_us) for entry in entries})
    assert len(rounds) > 2
    # Whether the last of the many was all, is not said of a journal that was looked at too long ago.
    assert all(behind_us for _, behind_us in rounds[:-2])
    assert rounds[-1][1] == 0
    for sent_us, behind_us in rounds[:-1]:
        to_come = [event.at_us for entry in entries if entry.sent_us > sent_us for event in entry.events]
        assert behind_us <= min(to_come)


def test_damage_is_counted_once_however_often_it_is_read(station, consumer, redis):
    station.tell(3)
    station.worker().append((99, 1, "of a kind to come"))
    station.tell(3)
    station.cycle()
    redis.flush()
    station.cycle(3)
    consumer.read()
    assert consumer.of(station) == station.told["w"]
    assert (station.tallies.unknown_kinds, station.tallies.malformed) == (1, 0)
    station.kill()
    station.cycle(2)
    assert station.tallies.unknown_kinds == 1


def test_one_event_that_cannot_be_sent_stops_no_other(station, consumer, monkeypatch):
    station.tell(10)
    bad = station.told["w"][4]
    forwarder = station.start()
    route = forwarder._collector._router.route

    def stumble(events, *more):
        if any(event.at_us == bad for event in events):
            raise ArithmeticError
        return route(events, *more)

    monkeypatch.setattr(forwarder._collector._router, "route", stumble)
    station.cycle()
    assert consumer.read().of(station) == [at_us for at_us in station.told["w"] if at_us != bad]
    assert station.tallies.malformed == 1
