"""Of what is sent again and again each event counts once, and what was cut out before it was read is counted as cut."""

from consuming import FRAME_BYTES, Sending
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.stream.entries import Entry, decode
from session_exporter.stream.positions import (
    FORGOTTEN_AFTER_US,
    SEEN_STEP_US,
    Position,
    Progress,
    StreamPositions,
    id_of,
)

PLACE = (0, "writer")
HOUR_US = SEEN_STEP_US


def entry(sending: Sending, *events: int, **says: object) -> Entry:
    return decode(sending.entry(0, events, **says))


class Stream:
    """One stream with the events of one writer, as forwarders of all kinds leave it."""

    def __init__(self, draw) -> None:
        self.entries: list[Entry] = []
        self.total = 0
        late: list[Entry] = []
        for run in range(1, draw(st.integers(1, 4)) + 1):
            sending = Sending(forwarder=f"forwarder-{draw(st.integers(0, 1))}", run=run)
            # A forwarder goes back to what is committed, of what has arrived.
            first = draw(st.integers(1, self.total - sum(len(each.events) for each in late) + 1))
            made, at, last = [], first, max(self.total, first - 1) + draw(st.integers(0, 6))
            while at <= last:
                size = draw(st.integers(1, 3))
                made.append(entry(sending, *range(at, min(at + size, last + 1))))
                at += size
            self.total = max(self.total, last)
            # The last entries over the connection before may come behind the first of this one.
            begun = draw(st.integers(0, len(made)))
            self.entries += [*made[:begun], *late, *made[begun:]]
            late = []
            held_back = draw(st.integers(0, 2))
            if held_back and begun < len(made) - held_back:
                self.entries, late = self.entries[:-held_back], self.entries[-held_back:]
        self.entries += late


@given(st.data())
def test_each_event_counts_once_over_runs_and_restarts(data) -> None:
    stream = Stream(data.draw)
    kept: dict = {}
    counted: list[int] = []
    restarts = data.draw(st.integers(0, 3))
    for start in range(restarts + 1):
        there = len(stream.entries) if start == restarts else data.draw(st.integers(0, len(stream.entries)))
        progress, seen = Progress(kept), []
        for at, each in enumerate(stream.entries[:there], 1):
            known, cut = progress.take(0, each, 0)
            assert cut == 0
            seen += [end // FRAME_BYTES for end in each.ends[known:]]
            if at == len(stream.entries) or data.draw(st.booleans()):
                positions = StreamPositions(progress.moved())
                progress.settle(positions)
                kept.update(positions.moved)
                counted, seen = counted + seen, []
    assert counted == list(range(1, stream.total + 1))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_what_was_cut_out_before_it_was_read_is_counted(sizes, data) -> None:
    sending, at = Sending(), 1
    entries = []
    for size in sizes:
        entries.append(entry(sending, *range(at, at + size)))
        at += size
    read = data.draw(st.integers(0, len(entries)))
    gone = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    # Entries behind the last that is left are missed when the next one comes.
    progress, cut, counted = Progress({}), 0, 0
    for each in entries[:read]:
        known, missing = progress.take(0, each, 0)
        counted += len(each.events) - known
    progress = Progress(progress.moved())
    for number, each in enumerate([*entries, entry(sending, at)]):
        if number not in gone:
            known, missing = progress.take(0, each, 0)
            cut += missing
            counted += len(each.events) - known
    assert counted + cut == sum(sizes) + 1
    assert cut == sum(size for number, size in enumerate(sizes) if number in gone and number >= read)


def test_the_beginning_of_a_writer_that_was_cut_off_is_counted() -> None:
    sending = Sending()
    sending.entry(0, [1, 2, 3])
    assert Progress({}).take(0, entry(sending, 4), 0).cut == 3


def test_what_was_cut_off_before_events_that_are_known_is_known_as_well() -> None:
    progress = Progress({})
    progress.take(0, entry(Sending(), 1, 2, 3, 4, 5), 0)
    sending = Sending(run=2)
    sending.entry(0, [2, 3])
    assert progress.take(0, entry(sending, 4, 5, 6), 0) == (2, 0)


def test_nothing_is_counted_as_cut_when_the_run_is_not_known() -> None:
    sending = Sending()
    sending.entry(0, [1, 2, 3])
    assert Progress({PLACE: (1, 20)}).take(0, entry(sending, 4), 0).cut == 0


def test_a_new_segment_begins_behind_all_of_the_one_before() -> None:
    progress = Progress({PLACE: (1, 500)})
    sending = Sending()
    assert progress.take(0, entry(sending, 1, segment=2), 0).known == 0
    assert progress.take(0, entry(sending, 2, 3, segment=1), 0).known == 2
    assert progress.of(PLACE)[:2] == (2, 10)


def test_only_what_has_moved_is_to_be_kept_and_each_hour_that_a_writer_was_seen() -> None:
    progress = Progress({})
    first = entry(Sending(), 1)
    progress.take(0, first, 5 * HOUR_US)
    moved = progress.moved()
    assert moved == {PLACE: Position(1, 10, "forwarder/1", 1, 5 * HOUR_US)}
    progress.settle(StreamPositions(moved))
    progress.take(0, first, 5 * HOUR_US + HOUR_US - 1)
    assert not progress.moved()
    progress.take(0, first, 6 * HOUR_US)
    assert progress.moved()[PLACE].seen_us == 6 * HOUR_US


def test_a_writer_that_was_silent_for_a_week_is_forgotten() -> None:
    progress = Progress({})
    progress.take(0, entry(Sending(), 1), 5 * HOUR_US)
    progress.settle(StreamPositions(progress.moved()))
    week_later = 5 * HOUR_US + FORGOTTEN_AFTER_US
    assert progress.silent(week_later) == ()
    assert progress.silent(week_later + 1) == (PLACE,)
    progress.settle(StreamPositions(forgotten=(PLACE,)))
    assert progress.of(PLACE) is None
    assert progress.take(0, entry(Sending(), 1), week_later).known == 0


def test_a_writer_that_came_back_just_now_is_not_forgotten() -> None:
    progress = Progress({})
    progress.take(0, entry(Sending(), 1), 5 * HOUR_US)
    progress.settle(StreamPositions(progress.moved()))
    progress.take(0, entry(Sending(), 2), 6 * HOUR_US + FORGOTTEN_AFTER_US)
    assert progress.silent(6 * HOUR_US + FORGOTTEN_AFTER_US) == ()


def test_positions_of_somebody_else_count_where_they_are_further() -> None:
    progress = Progress({(0, "a"): (3, 5), (0, "b"): (1, 1)})
    for writer in "abc":
        progress.adopt((0, writer), Position(2, 7), HOUR_US)
    assert [progress.of((0, writer))[:2] for writer in "abc"] == [(3, 5), (2, 7), (2, 7)]
    assert set(progress.moved()) == {(0, "b"), (0, "c")}


def test_an_id_that_is_none_is_before_all() -> None:
    assert id_of(b"12-3") == (12, 3)
    assert [id_of(raw) for raw in (None, b"", b"-", b"1", b"a-b", b"1-2-3", b"9" * 30 + b"-1")] == [(0, 0)] * 7
