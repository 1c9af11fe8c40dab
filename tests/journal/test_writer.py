import os
import stat

import pytest
from journal_workers import Worker, drain, fields, sessions, until

from session_exporter.core.events import Created, LookedUp
from session_exporter.journal import LOST_KINDS, LOST_REASONS, JournalLimits
from session_exporter.journal.frame import PAYLOAD_BYTES_MAX


def test_what_is_appended_is_read_in_order(writer, reader):
    for number in range(100):
        writer.append(fields(number))
    assert sessions(reader) == [f"s{number}" for number in range(100)]
    assert writer.lost() == {}


def test_every_field_of_an_event_arrives(writer, reader):
    trace = bytes(range(16))
    writer.append((1, 7, "web", "s", "u", "key", "request", trace, ("app.py:1:f",)))
    writer.append((3, 8, "web", "", "u", "", "", b"", (), 250))
    assert drain(reader) == [
        Created(7, "web", "s", "u", "key", "request", trace, ("app.py:1:f",)),
        LookedUp(8, "web", "", "u", duration_us=250),
    ]


def test_nothing_is_made_before_the_first_event(writer, directory):
    assert not directory.exists()
    assert writer.writer_id == ""


def test_open_makes_a_worker_visible_before_its_first_event(writer, reader):
    writer.register_hook("sqlalchemy", True)
    writer.open()
    reader.scan()
    (control,) = reader.controls()
    assert control.writer.replica == "pod-1"
    assert control.writer.pid == os.getpid()
    assert control.hooks == {"sqlalchemy": (True, 0)}
    assert reader.workers() == 1


def test_files_are_for_their_owner_only(writer, directory):
    writer.append(fields(1))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_space_is_reserved_when_a_segment_is_made(writer, directory):
    writer.append(fields(1))
    (segment,) = directory.glob("*.seg")
    assert segment.stat().st_size == 256 * 1024
    assert segment.stat().st_blocks * 512 >= 256 * 1024


def test_full_segments_are_followed_by_new_ones(make_writer, reader, directory):
    writer = make_writer(limits=JournalLimits(segment_bytes=4096))
    for number in range(1000):
        writer.append(fields(number))
    assert len(list(directory.glob("*.seg"))) > 5
    assert sessions(reader) == [f"s{number}" for number in range(1000)]


def test_payloads_of_every_size_arrive(writer, reader):
    for size in (1, 400, 500, 512, 513, 600, 5000, PAYLOAD_BYTES_MAX - 30):
        writer.append((99, 1, "x" * size))
    writer.append(fields("last"))
    assert sessions(reader) == ["slast"]
    assert (reader.unknown, reader.malformed) == (8, 0)
    assert writer.lost() == {}


@pytest.mark.parametrize(
    ("bad", "reason", "kind"),
    [
        ((2, 1, "c", object()), "encoding", "reused"),
        ((1, 1, "c", "\ud800"), "encoding", "created"),
        ((2, "yesterday", "c"), "encoding", "reused"),
        ((5,), "encoding", "ended"),
        ((99, 1, "x" * PAYLOAD_BYTES_MAX), "too_large", "unknown"),
        ((3, 1, "x" * PAYLOAD_BYTES_MAX), "too_large", "looked_up"),
    ],
)
def test_what_cannot_be_written_is_counted_by_reason_and_kind(writer, reader, bad, reason, kind):
    writer.append(bad)
    writer.append(fields(1))
    assert writer.lost() == {(reason, kind): 1}
    assert sessions(reader) == ["s1"]
    assert reader.controls()[0].lost == {(reason, kind): 1}


@pytest.mark.parametrize("bad", [(), ([],), ({},), None])
def test_what_is_no_event_at_all_is_counted_without_a_kind(writer, bad):
    writer.append(bad)
    writer.append(fields(1))
    assert sum(writer.lost().values()) == 1


def test_reasons_and_kinds_are_closed_sets():
    assert set(LOST_REASONS) == {
        "worker_limit",
        "directory_limit",
        "disk_full",
        "unavailable",
        "too_large",
        "spill_overflow",
        "encoding",
    }
    assert LOST_KINDS == (
        "unknown",
        "created",
        "reused",
        "looked_up",
        "observed",
        "ended",
        "attributed",
        "context_lost",
        "conflicted",
        "create_failed",
        "violated",
        "db_session",
        "unmet",
        "identified",
    )


def test_at_the_recursion_limit_nothing_is_raised_and_nothing_lost_uncounted(writer, reader):
    writer.append(fields("first"))
    tried = 0

    def descend() -> None:
        nonlocal tried
        tried += 1
        writer.append(fields("deep"))
        descend()

    with pytest.raises(RecursionError):
        descend()
    writer.append((2,))
    found = sessions(reader)
    lost = sum(writer.lost().values())
    # A count may be one short where `fields()` itself was what no frame was left for.
    assert found.count("sdeep") + lost - 1 in {tried, tried - 1}


def test_close_gives_back_space_and_lock(writer, reader, directory):
    writer.append(fields(1))
    writer.close()
    writer.close()
    (segment,) = directory.glob("*.seg")
    assert segment.stat().st_size < 1024
    assert sessions(reader) == ["s1"]
    assert reader.workers() == 0


def test_events_after_close_are_counted(writer, reader):
    writer.append(fields(1))
    writer.close()
    writer.append(fields(2))
    writer.open()
    assert writer.lost() == {("unavailable", "reused"): 1}
    assert sessions(reader) == ["s1"]


def test_a_writer_that_is_dropped_does_not_seem_alive(make_writer, reader, directory):
    from session_exporter.journal import JournalWriter

    JournalWriter(directory).append(fields(1))
    reader.scan()
    until(lambda: reader.workers() == 0)


def test_hooks_and_their_errors_are_carried_into_the_control_block(writer, reader):
    writer.register_hook("sqlalchemy", True)
    writer.count_hook_error("sqlalchemy")
    writer.count_hook_error("never-declared")
    writer.append(fields(1))
    writer.count_hook_error("sqlalchemy")
    writer.register_hook("otel", True)
    writer.register_hook("otel", False)
    reader.scan()
    expected = {"sqlalchemy": (True, 2), "never-declared": (False, 1), "otel": (False, 0)}
    assert reader.controls()[0].hooks == expected


def test_the_table_of_hooks_is_bounded(writer):
    assert all(writer.register_hook(f"hook-{number}", True) for number in range(32))
    assert not writer.register_hook("one-too-many", True)
    writer.count_hook_error("one-too-many")


def test_names_and_replicas_of_any_length_fit(make_writer, reader):
    writer = make_writer(replica="ü" * 300)
    writer.register_hook("ü" * 40, True)
    writer.append(fields(1))
    reader.scan()
    (control,) = reader.controls()
    assert control.writer.replica == "ü" * 127
    assert control.hooks == {"ü" * 15: (True, 0)}
    assert reader.read().writer == control.writer


def test_the_replica_is_the_host_name_by_default(make_writer, reader, monkeypatch):
    monkeypatch.setenv("HOSTNAME", "pod-7")
    make_writer().append(fields(1))
    reader.scan()
    assert reader.read().writer.replica == "pod-7"


@pytest.mark.integration
@pytest.mark.parametrize("ending", ["", "cycle = [writer]; cycle.append(cycle); del writer", "sys.exit(0)"])
def test_an_application_that_never_closes_its_writer_exits_in_silence(directory, reader, ending):
    with Worker(f"writer = JournalWriter(directory)\nwriter.append(fields(1))\n{ending}\n", directory) as worker:
        assert worker.finish() == ""
    assert sessions(reader) == ["s1"]
    assert reader.workers() == 0


@pytest.mark.integration
def test_nothing_is_imported_while_an_event_is_recorded(directory):
    code = """
writer = JournalWriter(directory, limits=JournalLimits(segment_bytes=4096))
before = set(sys.modules)
for number in range(200):
    writer.append(fields(number))
print(set(sys.modules) - before)
"""
    with Worker(code, directory) as worker:
        assert worker.finish() == "set()"
