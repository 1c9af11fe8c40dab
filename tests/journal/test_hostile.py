"""Whatever bytes lie in the directory: reading never raises, and intact writers are read in full."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_workers import GOOD, STRANGER, batches, drain, fields, frame, put_segment, sessions

from session_exporter.core.events import Writer
from session_exporter.journal import JournalLimits, JournalReader, JournalWriter
from session_exporter.journal.control import CONTROL_BYTES, pack_control
from session_exporter.journal.frame import HEADER_BYTES
from session_exporter.journal.reader import NOT_YET_MAX

DEEP = b"\x91" * 16_000 + b"\xc0"
REUSED_WITH_MORE = b"\x99\x02\x01\xa1c\xa1s\xa1u\xa0\xa0\xc4\x00"


@pytest.mark.parametrize(
    ("payload", "unknown", "malformed"),
    [
        (msgspec.msgpack.encode((99, 1, "c")), 1, 0),
        (msgspec.msgpack.encode((-5,)), 1, 0),
        (msgspec.msgpack.encode(("reused", 1, "c")), 0, 1),
        (msgspec.msgpack.encode((2, -1, "c")), 0, 1),
        (msgspec.msgpack.encode((2, 1 << 63, "c")), 0, 1),
        (msgspec.msgpack.encode((2, 1, "x" * 257)), 0, 1),
        (msgspec.msgpack.encode((2, 1)), 0, 1),
        (msgspec.msgpack.encode({"kind": 2}), 0, 1),
        (msgspec.msgpack.encode([]), 0, 1),
        (b"\x93\x02\x01\xa2\xff\xfe", 0, 1),  # no UTF-8
        (b"\xdd\xff\xff\xff\xff\x02", 0, 1),  # an array of 4,294,967,295
        (b"\x93\x02\x01\xdb\xff\xff\xff\xff", 0, 1),  # a text of 4 GiB
        (b"\xc1", 0, 1),  # a byte that MessagePack never uses
        (GOOD + b"\xc0", 0, 1),  # more than one value
        (GOOD[:-1], 0, 1),
        (DEEP, 0, 1),
        (b"\x81\x01" * 8000 + b"\xc0", 0, 1),
        (REUSED_WITH_MORE + DEEP[:15_000], 0, 1),
    ],
)
def test_a_hostile_payload_costs_itself_alone(place, reader, payload, unknown, malformed):
    put_segment(place, frame(GOOD), frame(payload), frame(GOOD))
    found = batches(reader)
    assert [event.session for batch in found for event in batch.events] == ["sgood", "sgood"]
    assert (reader.unknown, reader.malformed) == (unknown, malformed)
    assert (sum(b.unknown for b in found), sum(b.malformed for b in found)) == (unknown, malformed)


def test_fields_of_a_later_version_are_ignored(place, reader):
    put_segment(place, frame(REUSED_WITH_MORE + b"\xa3new"))
    assert sessions(reader) == ["s"]
    assert (reader.unknown, reader.malformed) == (0, 0)


def test_a_damaged_frame_between_good_ones_costs_itself_alone(place, reader):
    put_segment(place, frame(GOOD), frame(GOOD, checksum=1), frame(GOOD))
    assert sessions(reader) == ["sgood", "sgood"]
    assert reader.malformed == 1


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_that_cannot_be_believed_costs_the_rest_of_the_segment(place, reader, size):
    put_segment(place, frame(GOOD), frame(GOOD, size=size), frame(GOOD))
    put_segment(place, frame(GOOD), seq=2)
    assert sessions(reader) == ["sgood", "sgood"]
    assert reader.malformed == 1


def test_two_damaged_frames_at_the_end_are_two_or_one(place, reader):
    put_segment(place, frame(GOOD), frame(GOOD, checksum=1), frame(GOOD, checksum=1))
    assert sessions(reader) == ["sgood"]
    assert reader.malformed == 1


@pytest.mark.parametrize("committed", [HEADER_BYTES + 10_000, (1 << 64) - 1])
def test_a_committed_length_beyond_the_file_is_read_to_the_files_end(place, reader, committed):
    put_segment(place, frame(GOOD), committed=committed)
    assert sessions(reader) == ["sgood"]
    assert reader.malformed == 1
    assert reader.unread_bytes() == 0
    reader.lock()
    assert len(reader.release(reader.positions())) == 1


@pytest.mark.parametrize("committed", [0, 100, HEADER_BYTES])
def test_a_committed_length_inside_of_the_header_is_an_empty_segment(place, reader, committed):
    put_segment(place, frame(GOOD), committed=committed)
    assert drain(reader) == []
    assert reader.malformed == 0


def test_a_committed_length_in_the_middle_of_a_frame_reads_what_is_whole(place, reader):
    put_segment(place, frame(GOOD), frame(GOOD), committed=HEADER_BYTES + len(frame(GOOD)) + 5)
    assert sessions(reader) == ["sgood"]
    assert reader.malformed == 1


def test_a_position_beyond_the_end_reads_nothing(place, make_reader):
    put_segment(place, frame(GOOD))
    reader = make_reader({(STRANGER, 1): 1 << 40})
    assert drain(reader) == []
    assert reader.unread_bytes() == 0


def test_a_truncated_segment_is_read_as_far_as_it_goes(place, reader):
    path = put_segment(place, frame(GOOD), frame(GOOD))
    os.truncate(path, path.stat().st_size - 3)
    assert sessions(reader) == ["sgood"]
    assert reader.malformed == 1


def test_a_segment_cut_while_it_is_read_is_read_as_far_as_it_goes(place, reader):
    path = put_segment(place, frame(GOOD), frame(GOOD))
    reader.scan()
    os.truncate(path, HEADER_BYTES + len(frame(GOOD)))
    found = []
    while batch := reader.read():
        found += batch.events
    assert len(found) == 1
    assert reader.malformed == 1


def test_a_bad_checksum_at_the_tail_of_a_living_writer_is_not_there_yet(writer, reader):
    writer.append(fields("good"))
    drain(reader)
    _damage_next(writer)
    for _ in range(NOT_YET_MAX):
        reader.scan()
        assert reader.behind_us() is not None
        assert reader.read() is None
    assert reader.malformed == 0
    _repair(writer)
    assert sessions(reader) == ["sdamaged"]
    assert reader.malformed == 0


def test_a_bad_tail_that_stays_is_malformed_and_does_not_wedge_its_writer(writer, reader):
    _damage_next(writer)
    for _ in range(NOT_YET_MAX):
        assert batches(reader) == []
    (batch,) = batches(reader)
    assert (batch.events, batch.malformed) == ([], 1)
    writer.append(fields("later"))
    assert sessions(reader) == ["slater"]
    assert reader.malformed == 1


def test_a_bad_tail_of_a_writer_that_died_is_malformed_at_once(writer, reader):
    _damage_next(writer)
    assert batches(reader) == []
    writer.close()
    (batch,) = batches(reader)
    assert (batch.events, batch.malformed) == ([], 1)


def test_a_bad_tail_of_a_writer_that_went_on_to_the_next_segment_is_malformed_at_once(make_writer, reader):
    writer = make_writer(limits=JournalLimits(segment_bytes=4096))
    _damage_next(writer)
    writer.append((99, 1, "x" * 3520))
    writer.append(fields("next"))
    assert sessions(reader) == ["snext"]
    assert reader.malformed >= 1


def _damage_next(writer):
    start = writer._words[2] if writer._files else HEADER_BYTES
    writer.append(fields("damaged"))
    writer._map[start + 4] ^= 0xFF


def _repair(writer):
    start = writer._words[2] - len(frame(msgspec.msgpack.encode(fields("damaged"))))
    writer._map[start + 4] ^= 0xFF


damage = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 6000), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 6000), st.just(0)),
    st.tuples(st.just("write"), st.integers(0, 6000), st.binary(min_size=1, max_size=64)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(damage, min_size=1, max_size=6), st.booleans(), st.integers(1, 20_000))
def test_any_damage_is_survived_and_costs_intact_writers_nothing(tmp_path_factory, hurts, dead, max_bytes):
    directory = tmp_path_factory.mktemp("journal")
    victim, intact = JournalWriter(directory), JournalWriter(directory)
    for number in range(60):
        victim.append(fields(f"victim{number}"))
        intact.append(fields(number))
    path = directory / f"{victim.writer_id}.00000001.seg"
    if dead:
        victim.close()
    _hurt(path, hurts)
    reader = JournalReader(directory, {})
    found = []
    for _ in range(NOT_YET_MAX * 4):
        reader.scan()
        while batch := reader.read(max_bytes):
            assert batch.start <= batch.end
            found += [event.session for event in batch.events if batch.writer.id == intact.writer_id]
        reader.controls()
    assert found == [f"s{number}" for number in range(60)]
    assert reader.behind_us() is None
    assert reader.passed(reader.mark())
    # Cut under a living writer, it has to be made whole before that touches it again.
    os.truncate(path, 256 * 1024)
    for writer in (victim, intact):
        writer.close()
    reader.close()


def _hurt(path, hurts):
    with path.open("r+b") as file:
        for how, at, value in hurts:
            if how == "cut":
                file.truncate(at)
            else:
                file.seek(at)
                old = file.read(1) or b"\0"
                file.seek(at)
                file.write(bytes([old[0] ^ value]) if how == "flip" else value)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.binary(max_size=100))
def test_any_payloads_in_good_frames_are_survived(tmp_path_factory, payloads, tail):
    directory = tmp_path_factory.mktemp("journal")
    frames = [frame(payload) for payload in payloads]
    put_segment(directory, frame(GOOD), *frames, frame(GOOD), tail)
    reader = JournalReader(directory, {})
    found = batches(reader)
    assert sum(len(batch.events) + batch.unknown + batch.malformed for batch in found) >= 2 + len(payloads)
    assert found[0].events[0].session == "sgood"
    reader.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=CONTROL_BYTES), st.integers(0, CONTROL_BYTES))
def test_any_bytes_in_a_control_block_are_survived(tmp_path_factory, noise, at):
    directory = tmp_path_factory.mktemp("journal")
    content = bytearray(pack_control(Writer(STRANGER), 1).ljust(CONTROL_BYTES, b"\0"))
    content[at : at + len(noise)] = noise
    (directory / f"{STRANGER}.ctl").write_bytes(content)
    reader = JournalReader(directory, {})
    reader.scan()
    assert len(reader.controls()) + reader.skipped_files == 1
    msgspec.json.encode([(control.writer, control.hooks) for control in reader.controls()])
    reader.close()
