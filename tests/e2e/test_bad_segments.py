"""A running sidecar among damaged and hostile files: it answers, counts what it skips, and misses nothing good."""

import os

import msgspec
import pytest
from journal_workers import GOOD, frame, put_segment
from sidecar_process import Sidecar

from session_exporter.core.events import Writer
from session_exporter.journal.control import CONTROL_BYTES, pack_control
from session_exporter.journal.frame import HEADER_BYTES, VERSION
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DEEP = b"\x91" * 16_000 + b"\xc0"
NO_UTF8 = b"\x93\x02\x01\xa2\xff\xfe"
ENDLESS_TEXT = b"\x93\x02\x01\xdb\xff\xff\xff\xff"
OF_A_LATER_VERSION = msgspec.msgpack.encode((99, 1, "conversation"))
FLIPPED = bytes([GOOD[0] ^ 0x04]) + GOOD[1:]
COMMITTED_BEYOND_ANYTHING = (1 << 64) - 1
# Frames, the committed length if it lies, then what must be counted: good events, malformed, of unknown kinds.
HOSTILE = {
    "cut off in a frame": ([frame(GOOD), frame(GOOD)[:-3]], HEADER_BYTES + 2 * len(frame(GOOD)), 1, 1, 0),
    "a flipped bit": ([frame(GOOD), frame(FLIPPED, checksum=1), frame(GOOD)], None, 2, 1, 0),
    "a giant length": ([frame(GOOD), frame(GOOD, size=(1 << 32) - 1), frame(GOOD)], None, 1, 1, 0),
    "a giant committed length": ([frame(GOOD)], COMMITTED_BEYOND_ANYTHING, 1, 1, 0),
    "deep nesting": ([frame(GOOD), frame(DEEP), frame(GOOD)], None, 2, 1, 0),
    "no UTF-8": ([frame(GOOD), frame(NO_UTF8), frame(GOOD)], None, 2, 1, 0),
    "an endless text": ([frame(ENDLESS_TEXT), frame(GOOD)], None, 1, 1, 0),
    "an unknown kind": ([frame(GOOD), frame(OF_A_LATER_VERSION)], None, 1, 0, 1),
}
CREATES = 500


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path) as running:
        running.start().scrape()
        yield running


@pytest.fixture
def put(sidecar, tmp_path):
    """Puts a segment into the journal at once: the sidecar must not meet half of it."""

    def put_at_once(*frames, change=None, **how):
        path = put_segment(tmp_path, *frames, **how)
        if change:
            path.write_bytes(change(path.read_bytes()))
        return path.rename(sidecar.journal / path.name)

    return put_at_once


def test_damaged_segments_cost_no_good_event_and_are_counted(sidecar, put):
    tracker = SessionTracker(sidecar.journal)
    for number in range(CREATES):
        tracker.created(f"user {number}", f"session {number}")
        if number < len(HOSTILE):
            frames, committed, *_ = list(HOSTILE.values())[number]
            put(*frames, committed=committed, writer_id=f"0-0-{number}")
    tracker.close()
    good, malformed, unknown = (sum(case[place] for case in HOSTILE.values()) for place in (2, 3, 4))
    scrape = sidecar.scrape_until(
        lambda scrape: scrape.value("session_exporter_journal_bytes") == 0, "the journal is read to its end"
    )
    assert scrape.lost() == {
        (("kind", "unknown"), ("reason", "malformed")): malformed,
        (("kind", "unknown"), ("reason", "unknown_kind")): unknown,
    }
    assert scrape.value("session_exporter_events_total", kind="created") == CREATES
    assert scrape.value("session_exporter_events_total", kind="reused") == good
    assert sidecar.stop() == 0
    final = sidecar.start().scrape()
    assert final.lost() == scrape.lost()
    assert final.total("session_creates_total") == CREATES


def of_another_version(raw):
    return raw[:8] + (VERSION + 1).to_bytes(2, "little") + raw[10:]


def test_files_that_are_no_segments_are_skipped_with_a_warning_each(sidecar, put, tmp_path):
    target = tmp_path / "somewhere else"
    target.write_bytes(b"")
    puts = [
        put(frame(GOOD), change=of_another_version, writer_id="1-0-0"),
        put(frame(GOOD), change=lambda raw: raw[:100], writer_id="1-0-1"),
        put(frame(GOOD), change=lambda _: b"", writer_id="1-0-2"),
        put(frame(GOOD), change=lambda raw: raw[:40] + b"\xff" + raw[41:], writer_id="1-0-3"),
        put(frame(GOOD), change=lambda _: os.urandom(4096), writer_id="1-0-4"),
    ]
    names = [f"1-1-{number}.00000001.seg" for number in range(3)] + ["1-2-0.ctl", "1-2-1.ctl", "a name of nobody's"]
    fifo, link, directory, control_fifo, rubbish, stranger = (sidecar.journal / name for name in names)
    os.mkfifo(fifo)
    link.symlink_to(target)
    directory.mkdir()
    os.mkfifo(control_fifo)
    rubbish.write_bytes(os.urandom(CONTROL_BYTES))
    stranger.write_text("hello", encoding="utf-8")
    for path in (*puts, fifo, link, directory, control_fifo, rubbish, stranger):
        sidecar.until_logged(rf"level=warning .*skipped .*{path.name}")
    tracker = SessionTracker(sidecar.journal)
    tracker.created("a user", "a session")
    tracker.close()
    scrape = sidecar.scrape_until(lambda scrape: scrape.total("session_creates_total"), "the good writer's event")
    assert scrape.total("session_exporter_events_total") == 1


def test_a_control_block_of_absurd_counts_does_not_break_a_scrape(sidecar):
    path = sidecar.journal / "1-0-0.ctl"
    absurd = pack_control(Writer("1-0-0"), 1)[:384].ljust(384, b"\0") + b"\xff" * (CONTROL_BYTES - 384)
    path.with_suffix(".new").write_bytes(absurd)
    path.with_suffix(".new").rename(path)
    sidecar.scrape_until(lambda scrape: scrape.lost(), "the absurd counts")
    tracker = SessionTracker(sidecar.journal)
    tracker.created("a user", "a session")
    tracker.close()
    sidecar.scrape_until(lambda scrape: scrape.total("session_creates_total"), "the good writer's event")
    assert sidecar.stop() == 0
    assert sidecar.start().scrape().total("session_creates_total") == 1
