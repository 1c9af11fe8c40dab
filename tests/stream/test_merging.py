"""The entries of several streams come in one order, and for each writer in the order sent, however they are read."""

from collections import deque
from itertools import pairwise

import pytest
from consuming import Sending
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.stream.entries import ENTRY_BYTES_MAX, BadEntry, Entry
from session_exporter.stream.merging import CROWD, Arrived, Merger, next_group, read_entry

STREAMS = (0, 1, -1)
WRITERS = ("a", "b")


def sent(order: list[tuple[int, str, int]]) -> list[Arrived]:
    """Entries of one event in the order in which they were sent: to which stream, by whom, and how many ms later."""
    sending, counts, arrived = Sending(), dict.fromkeys(WRITERS, 0), []
    ms, ids = 1000, dict.fromkeys(STREAMS, (0, 0))
    for stream, writer, later in order:
        counts[writer] += 1
        ms += later
        # As Redis numbers them: each stream for itself.
        ids[stream] = (ms, ids[stream][1] + 1 if ids[stream][0] == ms else 0)
        arrived.append(Arrived(*ids[stream], stream, sending.entry(stream, [counts[writer]], writer)))
    return arrived


def read_all(merger: Merger, arrived: list[Arrived], lengths: list[int], count: int) -> list[tuple[Arrived, Entry]]:
    """What comes out when the streams grow to these lengths from one reading to the next, and then to their ends."""
    found = []
    for length in [*lengths, *[len(arrived)] * (len(arrived) + 2)]:
        there = arrived[:length]
        read = {
            stream: [each for each in there if each.stream == stream and each[:2] > cursor][:count]
            for stream, cursor in merger.wanted(count).items()
        }
        merger.arrive(read, count)
        taken = deque(merger.take())
        while taken:
            found += next_group(taken)
    return found


orders = st.lists(st.tuples(st.sampled_from(STREAMS), st.sampled_from(WRITERS), st.integers(0, 2)), max_size=40)


@given(orders, st.lists(st.integers(0, 40)).map(sorted), st.integers(1, 5))
def test_every_entry_comes_once_and_each_writers_in_the_order_sent(order, lengths, count) -> None:
    arrived = sent(order)
    found = read_all(Merger(STREAMS), arrived, lengths, count)
    assert sorted(each for each, _ in found) == sorted(arrived)
    for writer in WRITERS:
        ends = [entry.ends[0] for _, entry in found if entry.origin.id == writer]
        assert ends == sorted(ends)
    assert all(a.ms <= b.ms for (a, _), (b, _) in pairwise(found) if a.stream == b.stream)


@given(orders, st.integers(1, 5))
def test_what_was_there_at_once_comes_by_time(order, count) -> None:
    arrived = sent(order)
    found = read_all(Merger(STREAMS), arrived, [], count)
    assert [each.ms for each, _ in found] == sorted(each.ms for each in arrived)


def test_a_stream_that_is_far_ahead_is_not_read_on_until_the_others_have_caught_up() -> None:
    merger = Merger((0, 1))
    merger.arrive({0: sent([(0, "a", 100)] * 3), 1: sent([(1, "b", 1)] * 3)}, 3)
    assert len(merger.take()) == 2
    assert list(merger.wanted(3)) == [1]
    merger.arrive({1: ()}, 3)
    assert len(merger.take()) == 3, "the last of stream 1, and what stream 0 is known to have no other before"
    assert not merger.complete, "stream 0 was not read this time"


def test_a_millisecond_beyond_all_measure_is_passed_on_in_pieces() -> None:
    merger = Merger((0, 1))
    crowd = [Arrived(5, number, 0, None) for number in range(CROWD)]
    for at in range(0, CROWD - 10, 10):
        merger.arrive({0: crowd[at : at + 10], 1: ()}, 10)
        assert merger.take() == []
    merger.arrive({0: crowd[-10:], 1: ()}, 10)
    assert len(merger.take()) >= CROWD - 10


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "malformed"),
        (b"", "malformed"),
        (b"\xc1" * 100, "malformed"),
        (bytes(4 * ENTRY_BYTES_MAX + 1), "malformed"),
        (b"\x91" * 5000, "malformed"),
        (b"\x91\x02", "newer_version"),
        (Sending().entry(0, [1], version=7), "newer_version"),
        (Sending().entry(0, [2, 1]), "malformed"),
        (Sending().entry(0, []), "malformed"),
    ],
)
def test_what_is_no_entry_is_known_for_what_it_is(raw, reason) -> None:
    found = read_entry(raw)
    assert isinstance(found, BadEntry)
    assert found.reason == reason
