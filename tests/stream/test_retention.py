"""What may be deleted, against a model that remembers every single event."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from session_exporter.journal import Retained
from session_exporter.stream.retention import OFFSET_MAX, Retention, Room, position_of

WRITERS = ["a", "b"]
STREAMS = [-1, 0, 1]
places = st.tuples(st.integers(1, 4), st.integers(512, 520))
sends = st.tuples(st.just("sent"), st.sampled_from(STREAMS), st.sampled_from(WRITERS), places)
commits = st.tuples(st.just("committed"), st.sampled_from(STREAMS), st.sampled_from(WRITERS), places)


@given(st.lists(sends | commits, max_size=40))
def test_a_segment_is_covered_when_every_event_of_it_is_committed_wherever_it_went(steps):
    retention = Retention()
    sent = defaultdict(set)
    committed = {}
    for kind, stream, writer, place in steps:
        flow = (stream, writer)
        if kind == "sent":
            # In the order written.
            newest = max((place, *sent[flow]))
            sent[flow].add(newest)
            retention.note_sent(stream, (writer, newest[0]), newest[1])
        else:
            committed[flow] = max(place, committed.get(flow, place))
            retention.note_committed({flow: place})
    open_ = {flow: {place for place in found if place > committed.get(flow, (0, 0))} for flow, found in sent.items()}
    for writer in WRITERS:
        for seq in range(1, 5):
            waiting = any(place[0] == seq for flow, found in open_.items() if flow[1] == writer for place in found)
            assert retention.is_covered((writer, seq)) == (not waiting)
            for stream in STREAMS:
                until = retention.committed_of((writer, seq)).get(stream, 0)
                for end in range(512, 521):
                    assert (end <= until) == ((seq, end) <= committed.get((stream, writer), (0, 0)))
    assert {
        (stream, writer)
        for stream, writers in retention.uncovered([(writer, seq) for writer in WRITERS for seq in range(1, 5)]).items()
        for writer in writers
    } == {flow for flow, found in open_.items() if found}


def test_what_has_left_the_journal_is_forgotten():
    retention = Retention()
    for writer in WRITERS:
        retention.note_sent(0, (writer, 1), 600)
        retention.note_sent(0, (writer, 2), 600)
        retention.note_committed({(1, writer): (2, 600)})
    retention.forget_others({("a", 2)})
    assert retention.uncovered([("a", 1), ("a", 2), ("b", 1)]) == {0: {"a"}}
    assert retention.is_covered(("a", 1))
    assert retention.committed_of(("a", 1)) == {1: OFFSET_MAX}
    assert retention.committed_of(("b", 1)) == {}


segments = st.lists(st.tuples(st.sampled_from(WRITERS), st.integers(1, 9), st.booleans()), max_size=20).map(
    lambda found: [Retained((writer, at), size, over) for at, (writer, size, over) in enumerate(found)]
)


@given(segments, st.integers(0, 40), st.integers(0, 60))
def test_without_room_the_oldest_go_and_no_more_than_have_to(retained, of_writer, of_directory):
    gone = Retention().excess(retained, Room(of_writer, of_directory))
    assert gone <= {segment.key for segment in retained if segment.is_over}
    left = [segment for segment in retained if segment.key not in gone]
    sizes = {writer: sum(each.size_bytes for each in left if each.key[0] == writer) for writer in WRITERS}
    if any(segment.is_over for segment in left):
        overdue = [writer for writer in WRITERS if sizes[writer] > of_writer]
        assert not any(segment.is_over for segment in left if segment.key[0] in overdue)
        assert sum(sizes.values()) <= of_directory
    # Had any one of them stayed, it would have been too much for its writer, or for the directory.
    for segment in retained:
        if segment.key in gone:
            writer = segment.key[0]
            before = sum(each.size_bytes for each in retained if each.key[0] == writer)
            assert before > of_writer or sum(each.size_bytes for each in retained) > of_directory
    # No older one stays for a newer one of the same writer.
    for writer in WRITERS:
        stays = [each.key not in gone for each in retained if each.key[0] == writer and each.is_over]
        assert stays == sorted(stays)


@given(st.binary(max_size=30) | st.from_regex(rb"[0-9]{1,25}:[0-9]{1,25}", fullmatch=True))
def test_a_position_is_read_or_is_before_everything(raw):
    seq, offset = position_of(raw)
    assert (seq, offset) == (0, 0) or (seq, offset) == tuple(int(part) for part in raw.split(b":"))
    assert max(seq, offset) < 10**19


def test_no_position_is_before_everything():
    assert position_of(None) == (0, 0)
    assert position_of(b"7:4711") == (7, 4711)
