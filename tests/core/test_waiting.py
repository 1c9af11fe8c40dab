"""What waits for the watermark comes out in order, and completely."""

import math

from hypothesis import given
from hypothesis import strategies as st
from ledgers import at

from session_exporter.core.records import Report
from session_exporter.core.waiting import WaitingReports

reports = st.builds(
    Report,
    at_us=st.integers(0, 80).map(lambda step: at(step / 10)),
    session=st.sampled_from([b"s1", b"s2", b"s3"]),
    kind=st.sampled_from([1, 4, 5, 100]),
    scope=st.just(1),
)
steps = st.lists(st.one_of(reports, st.integers(0, 85).map(lambda step: at(step / 10))), max_size=40)


@given(steps)
def test_exactly_what_is_due_comes_out_in_the_order_of_judgement(arrivals: list[Report | int]) -> None:
    waiting, held = WaitingReports(), []
    for step in [*arrivals, math.inf]:
        if isinstance(step, Report):
            waiting.add(step)
            held.append(step)
        else:
            due = sorted((each for each in held if each.at_us < step), key=Report.order)
            assert [each.order() for each in waiting.before(step)] == [each.order() for each in due]
            held = [each for each in held if each.at_us >= step]
        assert len(waiting) == len(held)
        assert sorted(each.order() for each in waiting.all()) == sorted(each.order() for each in held)


@given(st.lists(reports, min_size=1, max_size=20), st.lists(reports, max_size=20))
def test_what_is_added_while_others_are_taken_out_comes_out_too(first: list[Report], added: list[Report]) -> None:
    waiting, more, taken = WaitingReports(), list(added), []
    for report in first:
        waiting.add(report)
    for report in waiting.before(math.inf):
        if more:
            waiting.add(more.pop())
        taken.append(report)
    assert len(taken) + len(more) == len(first) + len(added)
    assert len(waiting) == 0
    if not more:
        assert sorted(each.order() for each in taken) == sorted(each.order() for each in first + added)
