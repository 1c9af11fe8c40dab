"""Which events of a worker must not overtake each other on their way over several streams."""

from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core import events as wire
from session_exporter.stream.turns import turns

ONCE = [wire.Created, wire.LookedUp, wire.Observed]


def told(kind=wire.LookedUp, session="s", user="ann", request="r"):
    return kind(1, "chat", session, user, "", request)


def pieces(events, ends=None):
    return [events[turn] for turn in turns(events, ends or range(1, len(events) + 1))]


def test_a_batch_in_which_everybody_names_the_user_is_one_piece() -> None:
    events = [told(), told(session=""), told(session="", user=""), told(request="", user="")]
    assert pieces(events) == [events]


def test_a_request_that_tells_of_a_session_with_and_without_the_user_is_cut_between() -> None:
    events = [told(wire.Created, user=""), told(request="r2"), told(), told(user="")]
    assert pieces(events) == [events[:2], events[2:3], events[3:]]


def test_what_is_in_one_frame_stays_together() -> None:
    events = [told(user=""), told(), told(user="")]
    assert pieces(events, [5, 5, 9]) == [events[:2], events[2:]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*ONCE, wire.Reused, wire.Ended]),
            st.sampled_from(["", "s1", "s2"]),
            st.sampled_from(["", "ann"]),
            st.sampled_from(["", "r1", "r2"]),
        ),
        max_size=30,
    )
)
def test_in_each_piece_a_request_tells_of_a_session_by_one_stream_only(what) -> None:
    events = [told(*each) for each in what]
    found = pieces(events)
    assert [event for piece in found for event in piece] == events
    for piece in found:
        ways = {(event.request, event.session, bool(event.user)) for event in piece if type(event) in ONCE}
        pairs = [way[:2] for way in ways if all(way[:2])]
        assert len(pairs) == len(set(pairs))
