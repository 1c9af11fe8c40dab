"""Files in the directory that are none of ours, or were damaged: skipped, counted, and in nobody's way."""

import os

import pytest
from journal_workers import GOOD, STRANGER, Worker, fields, frame, put_segment, sessions

from session_exporter.core.events import Writer
from session_exporter.journal.control import CONTROL_BYTES, pack_control
from session_exporter.journal.frame import HEADER_BYTES, Header, pack_header


def _header(**changes):
    raw = bytearray(pack_header(Header(Writer(STRANGER), 1, 1)))
    for at, value in changes.items():
        raw[int(at[1:])] = value
    return bytes(raw)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        bytes(HEADER_BYTES),
        _header(_0=0),  # magic
        _header(_8=2),  # version
        _header(_24=9),  # the number, and so the checksum
        _header(_40=255),
        pack_header(Header(Writer("0-1-3"), 1, 1)),  # another writer's
        pack_header(Header(Writer(STRANGER), 2, 1)),  # another number
        os.urandom(4096),
    ],
)
def test_a_file_that_is_no_segment_is_skipped_and_counted_once(place, reader, writer, content):
    (place / f"{STRANGER}.00000001.seg").write_bytes(content)
    writer.append(fields("intact"))
    assert sessions(reader) == ["sintact"]
    reader.scan()
    assert reader.skipped_files == 1
    assert reader.workers() == 1


@pytest.mark.parametrize("suffix", ["00000001.seg", "ctl"])
@pytest.mark.parametrize("make", ["directory", "fifo", "symlink", "foreign", "unknown name"])
def test_what_is_no_plain_file_of_ours_is_skipped_and_counted(place, reader, writer, make, suffix):
    writer.append(fields("intact"))
    path = place / f"{STRANGER}.{suffix}"
    if make == "directory":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "symlink":
        path.symlink_to(next(place.glob(f"*.{suffix}")))
    elif make == "unknown name":
        path.with_name(f"ÜBER.{suffix}").touch()
    else:
        if os.geteuid():
            pytest.skip("a file of another user needs root to be made: run the tests as root")
        path.write_bytes(bytes(4096))
        os.chown(path, 12345, 12345)
    assert sessions(reader) == ["sintact"]
    assert [control.writer.id for control in reader.controls()] == [writer.writer_id]
    reader.scan()
    reader.controls()
    assert reader.skipped_files == 1


def test_files_of_users_that_are_named_are_believed(place, make_reader):
    path = put_segment(place, frame(GOOD))
    if os.geteuid():
        pytest.skip("a file of another user needs root to be made: run the tests as root")
    os.chown(path, 12345, 12345)
    assert sessions(make_reader()) == []
    assert sessions(make_reader(owners=[12345])) == ["sgood"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(CONTROL_BYTES),
        os.urandom(CONTROL_BYTES),
        pack_control(Writer(STRANGER), 1),
        pack_control(Writer("0-1-3"), 1).ljust(CONTROL_BYTES, b"\0"),
    ],
)
def test_a_control_block_that_is_none_is_skipped_and_its_segments_are_read(place, reader, content):
    put_segment(place, frame(GOOD))
    (place / f"{STRANGER}.ctl").write_bytes(content)
    assert sessions(reader) == ["sgood"]
    assert reader.controls() == []
    assert reader.controls() == []
    assert reader.skipped_files == 1
    assert reader.workers() == 0


def test_a_control_block_of_any_counts_and_names_is_read(place, reader):
    content = pack_control(Writer(STRANGER, "r"), 1) + b"\xff" * CONTROL_BYTES
    (place / f"{STRANGER}.ctl").write_bytes(content[:CONTROL_BYTES])
    reader.scan()
    (control,) = reader.controls()
    assert len(control.lost) == 7 * 14
    assert all(0 <= count < 1 << 63 for count in control.lost.values())
    assert all(0 <= errors < 1 << 63 for _, errors in control.hooks.values())


def test_a_segment_without_a_control_block_says_itself_whose_it_is_and_whether_it_lives(place, reader, writer):
    writer.append(fields(1))
    next(place.glob("*.ctl")).unlink()
    reader.scan()
    assert reader.workers() == 1
    assert reader.read().writer.replica == "pod-1"
    writer.close()
    assert reader.workers() == 0


@pytest.mark.integration
def test_a_reader_without_free_descriptors_waits_and_judges_nobody_dead(directory):
    code = """
import resource
writer = JournalWriter(directory)
writer.append(fields(1))
other = JournalWriter(directory, limits=JournalLimits(segment_bytes=4096))
for number in range(200):
    other.append(fields(number))
other.close()
def drained():
    found = 0
    reader.scan()
    while batch := reader.read():
        found += len(batch.events)
    return found
def starve(work):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free descriptor is the limit: none can be opened, those that are open can be used.
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        return work()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
def look():
    assert drained() == 0
    assert "Too many open files" in reader.problem, reader.problem
    return reader.workers(), reader.skipped_files
reader = JournalReader(directory, {})
assert starve(look) == (0, 0)
reader.lock()
reader.scan()
assert starve(lambda: (reader.workers(), reader.controls(), reader.skipped_files)) == (2, [], 0)
assert starve(lambda: reader.release(dict.fromkeys(reader.positions(), 1 << 40))) == []
found = starve(lambda: sum(len(batch.events) for batch in iter(reader.read, None)))
assert found + drained() == 201
assert reader.workers() == 1
assert reader.problem == ""
"""
    with Worker(code, directory) as worker:
        worker.finish()
