"""Full, forbidden, missing and deleted places: the application goes on, and what it loses is counted."""

import shutil
import subprocess
from pathlib import Path

import pytest
from journal_workers import Worker, drain, fields, open_descriptors, sessions

from session_exporter.journal import JournalLimits, JournalWriter

KIB = 1024


class Clock:
    def __init__(self, now_us=1_700_000_000_000_000):
        self.now_us = now_us

    def __call__(self):
        return self.now_us


def small(**limits):
    return JournalLimits(segment_bytes=4 * KIB, **limits)


def test_beyond_the_worker_limit_events_are_dropped_and_counted(make_writer, reader, directory):
    writer = make_writer(limits=small(worker_limit_bytes=16 * KIB))
    for number in range(1000):
        writer.append(fields(number))
    assert len(list(directory.glob("*.seg"))) == 4
    found = sessions(reader)
    assert found == [f"s{number}" for number in range(len(found))]
    assert reader.controls()[0].lost == {("worker_limit", "reused"): 1000 - len(found)}


def test_a_worker_may_always_own_one_segment(make_writer, reader):
    writer = make_writer(limits=small(worker_limit_bytes=1))
    writer.append(fields(1))
    assert sessions(reader) == ["s1"]


def test_a_worker_goes_on_when_its_segments_have_been_released(make_writer, reader):
    clock = Clock()
    writer = make_writer(limits=small(worker_limit_bytes=8 * KIB), clock_us=clock)
    while not writer.lost():
        writer.append(fields("before", clock.now_us))
    reader.lock()
    drain(reader)
    assert reader.release(reader.positions())
    writer.append(fields("too soon", clock.now_us))
    clock.now_us += 50_000
    writer.append(fields("after", clock.now_us))
    assert sessions(reader) == ["safter"]
    assert writer.lost() == {("worker_limit", "reused"): 2}


def test_beyond_the_directory_limit_events_are_dropped_and_counted(make_writer, reader, directory):
    limits = small(directory_limit_bytes=12 * KIB)
    first, second = make_writer(limits=limits), make_writer(limits=limits)
    for number in range(200):
        first.append(fields(number))
        second.append(fields(number))
    assert len(list(directory.glob("*.seg"))) == 3
    lost = sum(count for control in _scanned(reader).controls() for count in control.lost.values())
    assert {reason for control in reader.controls() for reason, _ in control.lost} == {"directory_limit"}
    assert len(drain(reader)) + lost == 400


def _scanned(reader):
    reader.scan()
    return reader


def test_segments_that_were_cut_short_count_with_what_they_take(make_writer, directory):
    for _ in range(10):
        writer = make_writer(limits=small(directory_limit_bytes=16 * KIB))
        writer.append(fields(1))
        assert writer.lost() == {}
        writer.close()


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a full disk needs a tmpfs of its own: run the tests as root (in a container: --cap-add SYS_ADMIN)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.integration
def test_on_a_full_disk_events_are_dropped_and_counted(tiny_disk, make_reader):
    from session_exporter.journal import JournalReader

    clock = Clock()
    writer = JournalWriter(tiny_disk, clock_us=clock)
    reader = JournalReader(tiny_disk, {})
    try:
        for number in range(20_000):
            writer.append(fields(number, clock.now_us))
        found = sessions(reader)
        assert found == [f"s{number}" for number in range(len(found))]
        assert writer.lost() == {("disk_full", "reused"): 20_000 - len(found)}
        assert reader.controls()[0].lost == writer.lost()
        reader.lock()
        assert reader.release(reader.positions())
        clock.now_us += 1_000_000
        writer.append(fields("room again", clock.now_us))
        assert sessions(reader) == ["sroom again"]
        assert not [path for path in tiny_disk.iterdir() if path.suffix == ".tmp"]
    finally:
        writer.close()
        reader.close()


@pytest.mark.integration
def test_a_disk_too_full_for_a_control_block_is_counted_in_memory_and_carried_over(tiny_disk):
    from session_exporter.journal import JournalReader

    clock = Clock()
    ballast = tiny_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2 * KIB * KIB))
    writer = JournalWriter(tiny_disk, clock_us=clock)
    reader = JournalReader(tiny_disk, {})
    try:
        writer.append(fields("lost", clock.now_us))
        assert writer.lost() == {("disk_full", "reused"): 1}
        ballast.unlink()
        clock.now_us += 1_000_000
        writer.append(fields("kept", clock.now_us))
        assert sessions(reader) == ["skept"]
        assert reader.controls()[0].lost == {("disk_full", "reused"): 1}
    finally:
        writer.close()
        reader.close()


def test_a_missing_directory_is_made(make_writer, reader, directory):
    assert not directory.parent.joinpath("journal").exists()
    make_writer().append(fields(1))
    assert sessions(reader) == ["s1"]


def test_a_file_in_place_of_the_directory_is_counted_and_retried(make_writer, reader, directory):
    clock = Clock()
    directory.write_text("in the way")
    writer = make_writer(clock_us=clock)
    for _ in range(3):
        writer.append(fields("lost", clock.now_us))
    directory.unlink()
    writer.append(fields("too soon", clock.now_us))
    assert writer.lost() == {("unavailable", "reused"): 4}
    clock.now_us += 1_000_000
    writer.append(fields("kept", clock.now_us))
    assert sessions(reader) == ["skept"]
    assert reader.controls()[0].lost == {("unavailable", "reused"): 4}


def test_a_clock_that_was_set_back_does_not_put_off_the_next_try(make_writer, reader, directory):
    clock = Clock()
    directory.write_text("in the way")
    writer = make_writer(clock_us=clock)
    writer.append(fields("lost", clock.now_us))
    directory.unlink()
    clock.now_us -= 3_600_000_000
    writer.append(fields("kept", clock.now_us))
    assert sessions(reader) == ["skept"]


@pytest.mark.integration
def test_a_directory_of_somebody_else_is_counted(tmp_path):
    place = tmp_path / "theirs"
    place.mkdir(mode=0o500)
    code = """
if os.geteuid() == 0:
    os.chown(directory, 0, 0)
    os.seteuid(65534)
writer = JournalWriter(directory)
writer.append(fields(1))
print(writer.lost())
"""
    with Worker(code, place) as worker:
        assert worker.finish() == "{('unavailable', 'reused'): 1}"


def test_a_directory_deleted_under_a_writer_costs_it_a_second(make_writer, reader, directory):
    clock = Clock()
    writer = make_writer(clock_us=clock)
    writer.register_hook("sqlalchemy", True)
    writer.append(fields("before", clock.now_us))
    first = writer.writer_id
    shutil.rmtree(directory)
    clock.now_us += 1_000_000
    writer.append(fields("after", clock.now_us))
    assert sessions(reader) == ["safter"]
    assert writer.writer_id != first
    (control,) = reader.controls()
    assert control.writer.id == writer.writer_id
    assert control.hooks == {"sqlalchemy": (True, 0)}


@pytest.mark.parametrize("suffix", ["*.ctl", "*.seg"])
def test_a_file_deleted_under_a_writer_makes_it_start_anew(make_writer, reader, directory, suffix):
    clock = Clock()
    writer = make_writer(clock_us=clock)
    writer.append(fields("before", clock.now_us))
    first = writer.writer_id
    (path,) = directory.glob(suffix)
    path.unlink()
    clock.now_us += 1_000_000
    writer.append(fields("after", clock.now_us))
    assert writer.writer_id != first
    assert "safter" in sessions(reader)


def test_a_deleted_directory_is_noticed_at_rotation_too(make_writer, reader, directory):
    writer = make_writer(limits=small(), clock_us=Clock())
    writer.append(fields("before"))
    shutil.rmtree(directory)
    for _ in range(200):
        writer.append(fields("after"))
    assert "safter" in sessions(reader)


def test_no_descriptor_is_left_open_by_failures(make_writer, directory):
    directory.mkdir()
    clock = Clock()
    writer = make_writer(clock_us=clock, limits=JournalLimits(segment_bytes=1 << 60, directory_limit_bytes=1 << 62))
    open_before = open_descriptors()
    for _ in range(10):
        clock.now_us += 1_000_000
        writer.append(fields("lost", clock.now_us))
    assert sum(writer.lost().values()) == 10
    # The control block, and the mapping's duplicate of its descriptor.
    assert open_descriptors() == open_before + 2
    assert [path.suffix for path in Path(directory).iterdir()] == [".ctl"]
