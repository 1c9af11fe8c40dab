"""Where in its segment each event ends, and reading everything once more."""

import msgspec
import pytest
from journal_workers import GOOD, batches, fields, frame, put_segment, sessions

from session_exporter.errors import StateLocked
from session_exporter.journal import JournalLimits
from session_exporter.journal.frame import FRAME_BYTES, HEADER_BYTES

SMALL = JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)
UNKNOWN = msgspec.msgpack.encode((99, 1, "c"))


def test_each_event_ends_where_its_frame_does(make_writer, make_reader):
    writer, reader = make_writer(limits=SMALL), make_reader(locating=True)
    for number in range(300):
        writer.append(fields(number))
    found = batches(reader)
    assert sum(len(batch.events) for batch in found) == 300
    for batch in found:
        sizes = [FRAME_BYTES + len(msgspec.msgpack.encode(fields(event.session[1:]))) for event in batch.events]
        assert batch.ends == [batch.start + sum(sizes[: count + 1]) for count in range(len(sizes))]
        assert batch.ends[-1] == batch.end


def test_what_is_skipped_ends_nowhere(place, make_reader):
    size = FRAME_BYTES + len(GOOD)
    put_segment(place, frame(GOOD), frame(UNKNOWN), frame(b"\xc1"), frame(GOOD))
    (batch,) = batches(make_reader(locating=True))
    assert batch.ends == [HEADER_BYTES + size, batch.end]
    assert (batch.unknown, batch.malformed) == (1, 1)


def test_who_does_not_ask_is_not_told(writer, reader):
    writer.append(fields(1))
    assert [batch.ends for batch in batches(reader)] == [[]]


def test_what_is_still_there_is_read_once_more(make_writer, make_reader):
    writer, reader = make_writer(limits=SMALL), make_reader()
    for number in range(200):
        writer.append(fields(number))
    first = sessions(reader)
    reader.start_over()
    assert reader.behind_us() is not None
    writer.append(fields("on"))
    assert sessions(reader) == [*first, "son"]
    reader.lock()
    gone = reader.release(reader.positions())
    assert gone
    reader.start_over()
    again = sessions(reader)
    assert again == [*first, "son"][-len(again) :]


def test_the_lock_is_kept_over_a_new_start(writer, make_reader):
    writer.append(fields(1))
    reader, other = make_reader(), make_reader()
    reader.lock()
    reader.start_over()
    with pytest.raises(StateLocked):
        other.lock()


def test_files_that_are_none_are_counted_once_however_often_one_starts_over(place, reader):
    (place / "0-1-2.00000001.seg").write_bytes(b"nothing")
    for _ in range(3):
        reader.start_over()
        reader.scan()
    assert reader.skipped_files == 1


def test_what_is_retained_says_whether_it_is_over(make_writer, reader):
    writer = make_writer(limits=SMALL)
    for number in range(200):
        writer.append(fields(number))
    reader.scan()
    assert {kept.is_over for kept in reader.retained()} == {False}
    sessions(reader)
    kept = reader.retained()
    assert [each.key for each in kept] == [(writer.writer_id, seq) for seq in range(1, len(kept) + 1)]
    assert [each.is_over for each in kept] == [True] * (len(kept) - 1) + [False]
    assert {each.size_bytes for each in kept} == {4096}
