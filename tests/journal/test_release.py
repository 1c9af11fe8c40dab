"""Deleting what has been read: who may, what, and when."""

import os

import pytest
from journal_workers import Worker, drain, fields, sessions, until

from session_exporter.errors import JournalError, JournalUnavailable, StateLocked
from session_exporter.journal import JournalLimits

SMALL = JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)


@pytest.mark.integration
def test_newborn_files_are_never_judged_dead(directory, make_reader):
    """Writers that appear and go on while a reader releases and retires all it can."""
    code = """
for _ in range(300):
    writer = JournalWriter(directory, limits=JournalLimits(segment_bytes=4096))
    for number in range(30):
        writer.append(fields(number))
    writer.close()
    assert writer.lost() == {}, writer.lost()
"""
    reader = make_reader()
    reader.lock()
    found = 0
    with Worker(code, directory) as worker:

        def finished():
            nonlocal found
            ended = worker.process.poll() is not None
            found += len(drain(reader))
            reader.release(reader.positions())
            reader.retire([control.writer.id for control in reader.controls()])
            return ended

        until(finished, 60)
        assert worker.process.returncode == 0
    assert found == 300 * 30
    assert (reader.skipped_files, reader.malformed) == (0, 0)


@pytest.mark.integration
def test_a_newborn_that_is_not_locked_yet_is_left_alone(directory, reader, writer):
    writer.append(fields(1))
    reader.lock()
    newborn = directory / ".0-1-2.00000001.seg.tmp"
    newborn.touch()
    drain(reader)
    reader.release(reader.positions())
    assert newborn.exists()
    for _ in range(3):
        reader.scan()
    reader.release(reader.positions())
    assert not newborn.exists()


def test_only_segments_that_are_finished_and_covered_are_released(make_writer, reader, directory):
    writer = make_writer(limits=SMALL)
    for number in range(200):
        writer.append(fields(number))
    reader.lock()
    drain(reader)
    positions = reader.positions()
    names = sorted(path.name for path in directory.glob("*.seg"))
    assert reader.release({}) == []
    short = {key: offset - 1 for key, offset in positions.items()}
    assert reader.release(short) == []
    assert sorted(path.name for path in directory.glob("*.seg")) == names
    first = min(positions)
    assert reader.release({first: positions[first]}) == [first]
    # The newest one is still written to.
    assert len(reader.release(positions)) == len(names) - 2
    writer.append(fields("on"))
    assert sessions(reader) == ["son"]


def test_unread_segments_are_not_released_whatever_is_said_to_be_committed(make_writer, reader):
    writer = make_writer(limits=SMALL)
    for number in range(200):
        writer.append(fields(number))
    reader.lock()
    reader.scan()
    assert reader.release(dict.fromkeys(reader.positions(), 4096)) == []
    assert len(drain(reader)) == 200


def test_the_last_segment_of_a_dead_writer_is_released(writer, reader, directory):
    writer.append(fields(1))
    reader.lock()
    drain(reader)
    assert reader.release(reader.positions()) == []
    writer.append(fields(2))
    writer.close()
    # What it wrote after the last scan is not read yet, and so not released.
    assert reader.release(reader.positions()) == []
    assert sessions(reader) == ["s2"]
    assert len(reader.release(reader.positions())) == 1
    assert not list(directory.glob("*.seg"))


def test_counts_outlive_the_segments_until_they_are_retired(writer, reader, directory):
    writer.append((2, 1, "x" * 20_000))
    writer.append(fields(1))
    reader.lock()
    drain(reader)
    writer_id = writer.writer_id
    assert reader.retire([writer_id]) == []
    writer.close()
    (control,) = reader.controls()
    assert not control.alive
    assert reader.retire([writer_id]) == []
    reader.release(reader.positions())
    (control,) = reader.controls()
    assert control.lost == {("too_large", "reused"): 1}
    assert reader.retire([writer_id]) == [writer_id]
    assert reader.controls() == []
    assert reader.retire([writer_id]) == []
    assert [path.name for path in directory.iterdir()] == [".reader.lock"]


def test_a_writer_is_retired_only_after_it_was_reported_dead(writer, reader):
    writer.append(fields(1))
    writer_id = writer.writer_id
    reader.lock()
    drain(reader)
    assert reader.controls()[0].alive
    # It dies behind the counts that were just read: there may be newer ones.
    writer.close()
    reader.release(reader.positions())
    assert reader.retire([writer_id]) == []
    reader.controls()
    assert reader.retire([writer_id]) == [writer_id]


def test_deleting_needs_the_lock(reader):
    with pytest.raises(JournalError, match="needs the reader's lock"):
        reader.release({})
    with pytest.raises(JournalError, match="needs the reader's lock"):
        reader.retire([])


def test_a_second_reader_is_refused_naming_the_first(reader, make_reader):
    reader.lock()
    reader.lock()
    second = make_reader()
    with pytest.raises(StateLocked, match=rf"in use by process {os.getpid()} on .+ since 2"):
        second.lock()
    reader.close()
    second.lock()


def test_a_reader_without_the_lock_reads_beside_the_one_that_has_it(writer, reader, make_reader):
    reader.lock()
    writer.append(fields(1))
    assert sessions(make_reader()) == ["s1"]
    assert sessions(reader) == ["s1"]


def test_the_lock_follows_a_directory_that_was_made_anew(reader, make_reader, directory):
    reader.lock()
    directory.rename(directory.with_name("old"))
    (directory.with_name("old") / ".reader.lock").unlink()
    reader.scan()
    with pytest.raises(StateLocked):
        make_reader().lock()


def test_a_directory_that_cannot_be_locked_is_named(reader, directory):
    directory.write_text("in the way")
    with pytest.raises(JournalUnavailable, match=str(directory)):
        reader.lock()
