import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_workers import Worker, batches, drain, fields, open_descriptors, sessions, until

from session_exporter.journal import JournalLimits, JournalReader, JournalWriter

SMALL = JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)


def test_a_missing_directory_reads_as_empty(reader):
    reader.scan()
    assert reader.read() is None
    assert reader.behind_us() is None
    assert reader.workers() == 0
    assert reader.controls() == []
    assert "No such file" in reader.problem


def test_a_read_covers_what_the_last_scan_saw(writer, reader):
    writer.append(fields(1))
    reader.scan()
    writer.append(fields(2))
    assert [event.session for event in reader.read().events] == ["s1"]
    assert reader.read() is None
    assert sessions(reader) == ["s2"]


def test_a_batch_says_where_it_comes_from(writer, reader):
    writer.append(fields(1))
    first = batches(reader)
    writer.append(fields(2))
    (one,), (two,) = first, batches(reader)
    assert (one.writer.id, one.writer.replica, one.writer.pid) == (writer.writer_id, "pod-1", os.getpid())
    assert (one.seq, one.start) == (1, 512)
    assert (two.seq, two.start) == (1, one.end)


def test_reads_are_bounded(make_writer, reader):
    writer = make_writer()
    for number in range(3000):
        writer.append(fields(number))
    found = batches(reader)
    assert len(found) == 1
    reader2 = JournalReader(reader.directory, {})
    reader2.scan()
    sizes = []
    while batch := reader2.read(max_bytes=1):
        sizes.append(batch.end - batch.start)
    assert len(sizes) > 3
    assert max(sizes) <= 16 * 1024 + 8


@pytest.mark.integration
def test_the_tail_of_a_living_writer_is_read_as_it_grows(directory, reader):
    code = """
writer = JournalWriter(directory, limits=JournalLimits(segment_bytes=8192, worker_limit_bytes=1 << 30))
for number in range(20_000):
    writer.append(fields(number))
ready("done")
wait()
"""
    found = []
    with Worker(code, directory) as worker:
        until(lambda: found.extend(sessions(reader)) or len(found) == 20_000, 60)
        assert worker.hear() == "done"
    assert found == [f"s{number}" for number in range(20_000)]
    assert (reader.malformed, reader.unknown, reader.skipped_files) == (0, 0, 0)


def test_a_killed_workers_events_are_all_read(directory, reader):
    code = """
writer = JournalWriter(directory)
for number in range(1000):
    writer.append(fields(number))
ready()
wait()
"""
    with Worker(code, directory) as worker:
        worker.hear()
    assert len(drain(reader)) == 1000
    assert reader.workers() == 0


def test_resuming_from_positions_reads_every_event_exactly_once(make_writer, make_reader):
    writer = make_writer(limits=SMALL)
    found, positions = [], {}
    for turn in range(20):
        for number in range(50):
            writer.append(fields(turn * 50 + number))
        reader = make_reader(positions)
        reader.scan()
        for _ in range(turn % 4):
            if batch := reader.read(max_bytes=1):
                found += [event.session for event in batch.events]
        positions = reader.positions()
        reader.close()
    found += sessions(make_reader(positions))
    assert found == [f"s{number}" for number in range(1000)]


def test_positions_cover_every_segment_that_exists_and_no_other(make_writer, make_reader):
    writer = make_writer(limits=SMALL)
    for number in range(200):
        writer.append(fields(number))
    reader = make_reader({("gone", 1): 700, (writer.writer_id or "", 99): 600})
    drain(reader)
    reader.lock()
    positions = reader.positions()
    assert {writer_id for writer_id, _ in positions} == {writer.writer_id}
    released = reader.release(positions)
    assert sorted(set(positions) - set(released)) == [max(positions)]
    assert set(reader.positions()) == {max(positions)}


def test_before_the_first_scan_positions_are_those_given(make_reader):
    assert make_reader({("w", 1): 700}).positions() == {("w", 1): 700}


def test_a_directory_that_cannot_be_listed_costs_no_positions(writer, make_reader, directory):
    writer.append(fields(1))
    positions = {(writer.writer_id, 1): 600}
    hidden = directory.with_name("hidden")
    directory.rename(hidden)
    reader = make_reader(positions)
    reader.scan()
    assert reader.problem
    assert reader.positions() == positions
    hidden.rename(directory)
    reader.scan()
    assert reader.problem == ""


def test_the_writer_furthest_behind_in_event_time_is_read_first(directory, reader):
    clock = iter(range(10**15, 10**15 + 10**10, 10**6)).__next__
    writers = [JournalWriter(directory, limits=SMALL, clock_us=lambda: at[0]) for _ in range(5)]
    at = [0]
    for turn in range(300):
        for number, writer in enumerate(writers):
            at[0] = clock()
            writer.append(fields(f"{number}.{turn}", at[0]))
    reader.scan()
    done = dict.fromkeys([writer.writer_id for writer in writers], 0)
    while True:
        behind = reader.behind_us()
        batch = reader.read(max_bytes=1)
        if batch is None:
            break
        assert behind <= batch.events[0].at_us
        others = [until_us for writer_id, until_us in done.items() if writer_id != batch.writer.id]
        # Nobody else has been read further back, save those that are read to their end.
        assert done[batch.writer.id] <= min(others)
        done[batch.writer.id] = batch.events[-1].at_us
        if batch.events[-1].session.endswith(".299"):
            done[batch.writer.id] = 10**18
    assert set(done.values()) == {10**18}
    assert behind is None
    for writer in writers:
        writer.close()


def test_nothing_unread_lies_before_the_time_that_is_behind(make_writer, reader):
    writer = make_writer(clock_us=lambda: 500, limits=SMALL)
    writer.append(fields(1, 500))
    reader.scan()
    assert reader.behind_us() == 500
    reader.read()
    assert reader.behind_us() is None
    writer.append(fields(2, 900))
    reader.scan()
    assert reader.behind_us() == 500
    reader.read()
    assert reader.behind_us() is None


def test_a_mark_is_passed_when_what_it_saw_has_been_read(make_writer, reader):
    one, two = make_writer(), make_writer()
    one.append(fields(1))
    two.append(fields(2))
    mark = reader.mark()
    one.append(fields(3))
    assert not reader.passed(mark)
    reader.read()
    assert not reader.passed(mark)
    reader.read()
    assert reader.passed(mark)
    assert reader.read() is None
    assert reader.passed(reader.mark()) is False


def test_a_mark_is_passed_when_what_it_saw_is_gone(writer, reader, directory):
    writer.append(fields(1))
    mark = reader.mark()
    for path in directory.iterdir():
        path.unlink()
    reader.scan()
    assert reader.read() is None
    assert reader.passed(mark)


def test_unread_bytes_and_sizes_are_known(writer, reader):
    writer.append(fields(1))
    reader.scan()
    assert 0 < reader.unread_bytes() < 100
    assert reader.size_bytes() == 256 * 1024
    reader.read()
    assert reader.unread_bytes() == 0


def test_no_descriptor_is_left_open(make_writer, make_reader, directory):
    open_before = open_descriptors()
    writers = [JournalWriter(directory, limits=SMALL) for _ in range(10)]
    for writer in writers:
        for number in range(200):
            writer.append(fields(number))
        writer.close()
    reader = make_reader()
    reader.lock()
    drain(reader)
    reader.controls()
    reader.release(reader.positions())
    reader.close()
    assert open_descriptors() == open_before


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_interleaving_of_writing_reading_and_restarting_reads_exactly_once(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("journal")
    writers = [JournalWriter(directory, limits=SMALL) for _ in range(3)]
    reader, positions = JournalReader(directory, {}), {}
    written, committed, pending = 0, [], []
    steps = st.lists(st.sampled_from(["write", "write", "read", "commit", "restart", "crash", "die"]), max_size=60)
    for step in data.draw(steps):
        if step == "write":
            for _ in range(data.draw(st.integers(1, 80))):
                writers[written % 3].append(fields(written))
                written += 1
        elif step == "die":
            writers[0].close()
            writers[0] = JournalWriter(directory, limits=SMALL)
        elif step == "read":
            reader.scan()
            if batch := reader.read(max_bytes=1):
                pending += [event.session for event in batch.events]
        elif step == "commit":
            reader.lock()
            committed, pending, positions = committed + pending, [], reader.positions()
            reader.release(positions)
            reader.retire([control.writer.id for control in reader.controls()])
        else:
            if step == "restart":
                committed, positions = committed + pending, reader.positions()
            pending = []
            reader.close()
            reader = JournalReader(directory, positions)
    committed += pending + sessions(reader)
    assert sorted(committed) == sorted(f"s{number}" for number in range(written))
    reader.close()
    for writer in writers:
        writer.close()
