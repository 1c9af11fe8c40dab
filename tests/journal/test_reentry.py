"""Threads, signal handlers and finalizers that come while the writer is busy."""

import gc
import signal
import sys
import threading
import time
from itertools import count

import pytest
from journal_workers import Worker, fields, sessions

from session_exporter.journal import JournalLimits
from session_exporter.journal.writer import SPILL_MAX


class Finalized:
    """Appends when it is collected."""

    def __init__(self, writer, name):
        self.append, self.name = writer.append, name

    def __del__(self):
        self.append(fields(self.name))


@pytest.fixture
def storm():
    """Starts a timer signal that calls `handler` over and over; stopped at the end."""
    previous = signal.getsignal(signal.SIGALRM)

    def start(handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def test_a_finalizer_that_runs_inside_of_an_append_is_recorded_after_it(make_writer, reader):
    def clock_us():
        # Called while the writer makes its files and holds its lock.
        Finalized(writer, "finalizer")
        return 1

    writer = make_writer(clock_us=clock_us)
    writer._guard[0] = 10
    writer.append(fields("outer"))
    found = sessions(reader)
    assert found[0] == "souter"
    assert set(found) == {"souter", "sfinalizer"}
    assert writer.lost() == {}


def test_a_finalizer_that_the_garbage_collector_runs_is_recorded(writer, reader):
    cycle = Finalized(writer, "cycle")
    cycle.itself = cycle
    del cycle
    writer.append(fields("outer"))
    gc.collect()
    assert sorted(sessions(reader)) == ["scycle", "souter"]


def test_a_signal_handler_that_runs_inside_of_an_append_is_recorded_after_it(make_writer, reader):
    def clock_us():
        signal.raise_signal(signal.SIGALRM)
        return 1

    writer = make_writer(clock_us=clock_us)
    writer._guard[0] = 10
    previous = signal.signal(signal.SIGALRM, lambda *_: writer.append(fields("handler")))
    try:
        writer.append(fields("outer"))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert sessions(reader) == ["souter", "shandler"]


@pytest.mark.parametrize("rotating", [False, True])
def test_an_append_that_interrupts_another_at_any_instruction_is_recorded(make_writer, reader, rotating):
    """Every instruction of the writer in turn; real signals and finalizers can only come at some of them."""
    writer = make_writer(limits=JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30))
    writer.append(fields("first"))
    expected = ["sfirst"]
    for instruction in range(10_000):
        if rotating:
            writer.append((99, 1, "x" * 3400))
        interrupted = _append_interrupted(writer, instruction)
        expected += [f"souter{instruction}"] + [f"sinner{instruction}"] * interrupted
        assert not writer._spill
        if not interrupted:
            break
    assert instruction > 50
    assert sorted(sessions(reader)) == sorted(expected)
    assert reader.malformed == 0
    assert writer.lost() == {}


def _append_interrupted(writer, instruction):
    instructions = count()
    interrupted = False

    def trace(frame, event, _):
        nonlocal interrupted
        if not frame.f_code.co_filename.endswith("journal/writer.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(instructions) == instruction:
            interrupted = True
            writer.append(fields(f"inner{instruction}"))
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        writer.append(fields(f"outer{instruction}"))
    finally:
        sys.settrace(previous)
    return interrupted


def test_more_events_than_can_be_set_aside_are_counted(make_writer, reader):
    surplus = 5

    def clock_us():
        while calls:
            calls.pop()
            writer.append(fields("inner"))
        return 1

    calls = [None] * (SPILL_MAX + surplus)
    writer = make_writer(clock_us=clock_us)
    writer._guard[0] = 10
    writer.append(fields("outer"))
    assert len(sessions(reader)) == 1 + SPILL_MAX
    assert reader.controls()[0].lost == {("spill_overflow", "reused"): surplus}


@pytest.mark.integration
def test_a_storm_of_signals_neither_deadlocks_nor_loses(make_writer, reader, storm):
    writer = make_writer(
        limits=JournalLimits(segment_bytes=8192, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)
    )
    handled = 0

    def handler(*_):
        nonlocal handled
        handled += 1
        writer.append(fields("handler"))

    storm(handler)
    appended, end = 0, time.monotonic() + 60
    while handled < 2000 and time.monotonic() < end:
        writer.append(fields("main"))
        appended += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = sessions(reader)
    assert found.count("smain") == appended
    assert found.count("shandler") + writer.lost().get(("spill_overflow", "reused"), 0) == handled
    assert reader.malformed == 0


@pytest.mark.integration
def test_an_exception_from_a_signal_handler_leaves_lock_and_segment_whole(directory, reader):
    code = """
import threading
sys.unraisablehook = lambda _: None  # of interrupted finalizers
limits = JournalLimits(segment_bytes=8192, worker_limit_bytes=1 << 30, directory_limit_bytes=1 << 30)
writer = JournalWriter(directory, limits=limits)
def handler(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)
returned = raised = 0
while raised < 500:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + raised * 0.000002)
        # The one signal may come inside of a finalizer, from where nothing is raised.
        for _ in range(2000):
            writer.append(fields("main"))
            returned += 1
    except KeyboardInterrupt:
        raised += 1
other = threading.Thread(target=writer.append, args=(fields("other thread"),), daemon=True)
other.start()
other.join(20)
assert not other.is_alive(), "the lock was left behind"
print(returned, raised, sum(writer.lost().values()))
"""
    with Worker(code, directory) as worker:
        returned, raised, lost = map(int, worker.finish().split())
    found = sessions(reader)
    assert returned <= found.count("smain") + lost <= returned + raised
    assert found.count("sother thread") == 1
    assert reader.malformed == 0
    assert reader.workers() == 0


def test_a_close_by_a_signal_handler_inside_of_an_append_waits_for_it(make_writer, reader):
    writer = make_writer(clock_us=lambda: writer.close() or 1)
    writer._guard[0] = 10
    writer.append(fields("outer"))
    assert sessions(reader) == ["souter"]
    assert reader.workers() == 0


def test_eight_threads_lose_nothing(make_writer, reader):
    writer = make_writer(limits=JournalLimits(segment_bytes=16384))
    each = 2000

    def work(name):
        for _ in range(each):
            writer.append(fields(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sessions(reader)
    assert {name: found.count(f"s{name}") for name in range(8)} == dict.fromkeys(range(8), each)
    assert reader.malformed == 0
