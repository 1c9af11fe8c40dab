"""Every event goes where whoever counts it looks for it, and the keeper of a session is told whose it is."""

import happenings
import pytest
from happenings import SECOND, START, WRITER
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.fleet import is_shared
from session_exporter.core.ids import IdFormat
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.reports import Reports
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.shares import partition_of
from session_exporter.core.travelling import TravelledNames, text_of
from session_exporter.stream import claiming
from session_exporter.stream.claiming import CLAIMING
from session_exporter.stream.keys import SHARED
from session_exporter.stream.rewriting import Rewriter
from session_exporter.stream.routing import SHARED_KINDS, Router

KEY = b"k" * 32
PARTITIONS = 16
IDLE = 1800 * SECOND
DECLARED = {"default", "other", "chat"}
FORMATS = {
    "session": IdFormat("^s-[0-9]+$"),
    "user": IdFormat("^u-[0-9]+$", legacy="^old-"),
    "thread": IdFormat("unified"),
}


def router(partitions=PARTITIONS, **rules):
    return Router(Pseudonyms(KEY), {"chat": ScopeRules("chat", **rules)}, partitions)


def routed(ours, *events, sent=None):
    """What goes where, as (stream, event), stream by stream."""
    ends = [100 * (number + 1) for number in range(len(events))]
    found = ours.route(events, ends, WRITER, sent or {})
    return [(stream, event) for stream, each in found.items() for event in each.events]


def partition(text, partitions=PARTITIONS):
    return partition_of(Pseudonyms(KEY)[text], partitions)


def text(identifier):
    return text_of(Pseudonyms(KEY)[identifier])


def claims(ours, *events):
    return [event.at_us for _, event in routed(ours, *events) if isinstance(event, wire.Claimed)]


def is_arranged(event):
    """Whether it is for a keeper alone, besides the event that it is about."""
    if isinstance(event, wire.Ended):
        return event.halved and not event.user
    return isinstance(event, wire.Claimed | wire.Checked) or (isinstance(event, wire.Unmet) and event.kept)


def at(seconds):
    return START + seconds * SECOND


def report_of(event):
    """What a consumer makes of an event that has travelled."""
    place = "" if event.scope in DECLARED else f"{event.scope}/"
    return Reports(TravelledNames(KEY)).of(event, 0, 1, place, WRITER)


# Where events go.


@given(happenings.events)
def test_an_event_goes_to_its_user_or_to_all_or_to_its_request(event) -> None:
    told = Rewriter(Pseudonyms(KEY)).rewrite(event)
    if isinstance(event, wire.Ended) and event.session and event.user:
        told = structs.replace(told, halved=True)
    report = report_of(told)
    if told.user:
        expected = partition_of(report.user, PARTITIONS)
    elif event.session and type(event) in SHARED_KINDS:
        expected = SHARED
    else:
        expected = partition_of(report.evidence.request or Pseudonyms(KEY)[WRITER.id], PARTITIONS)
    assert [each for each in routed(router(), event) if not is_arranged(each[1])] == [(expected, told)]


@given(happenings.events)
def test_a_claim_goes_to_where_a_consumer_keeps_the_session(event) -> None:
    claimed = [(stream, each) for stream, each in routed(router(), event) if isinstance(each, wire.Claimed)]
    if not event.user or not event.session or type(event) not in CLAIMING:
        assert claimed == []
        return
    ((stream, claim),) = claimed
    told = Rewriter(Pseudonyms(KEY)).rewrite(event)
    assert stream == partition_of(report_of(claim).session, PARTITIONS)
    assert claim.of == type(event).__struct_config__.tag
    for name in set(wire.Claimed.__struct_fields__) - {"of"}:
        assert getattr(claim, name) == getattr(told, name, ())


@given(happenings.of(wire.Unmet))
def test_a_request_that_did_not_get_a_session_is_told_to_its_user_and_to_the_keeper_of_the_session(event) -> None:
    kept = [(stream, each) for stream, each in routed(router(), event) if is_arranged(each)]
    if not event.user or not event.session:
        assert kept == []
        return
    told = structs.replace(Rewriter(Pseudonyms(KEY)).rewrite(event), kept=True)
    assert kept == [(partition_of(report_of(told).session, PARTITIONS), told)]


def test_an_end_is_judged_by_all_unless_its_user_was_seen_with_the_session() -> None:
    ours = router()
    used, ended = wire.Reused(at(0), "chat", "s-1", "ann"), wire.Ended(at(1), "chat", "s-1", "ann", "phone")
    assert routed(ours, ended) == [
        (SHARED, wire.Ended(at(1), "chat", text("s-1"), halved=True)),
        (partition("ann"), wire.Ended(at(1), "chat", text("s-1"), text("ann"), text("phone"), halved=True)),
    ]
    routed(ours, used)
    assert routed(ours, ended) == [
        (partition("ann"), wire.Ended(at(1), "chat", text("s-1"), text("ann"), text("phone")))
    ]


@given(happenings.events)
def test_forwarder_and_consumer_agree_on_what_all_have_to_hear(event) -> None:
    assert is_shared(event) == (not event.user and bool(event.session) and type(event) in SHARED_KINDS)


def test_lookups_of_one_request_without_a_user_meet_whether_or_not_they_find_one() -> None:
    for more in ({"request": "r-1"}, {"trace": b"t" * 16}):
        missed = wire.LookedUp(at(0), "chat", **more)
        ((stream, told),) = routed(router(), missed)
        found = Rewriter(Pseudonyms(KEY)).rewrite(structs.replace(missed, session="s-1"))
        assert stream == partition_of(report_of(found).evidence.request, PARTITIONS)
        assert stream == partition_of(report_of(told).evidence.request, PARTITIONS)


def test_sessions_of_one_id_in_two_scopes_that_are_not_declared_are_kept_apart() -> None:
    events = [wire.Created(at(0), scope, "s-1", "ann") for scope in ("cart", "form", "chat", "other")]
    claimed = {
        each.scope: stream for stream, each in routed(router(1 << 10), *events) if isinstance(each, wire.Claimed)
    }
    assert claimed["chat"] == claimed["other"] == partition("s-1", 1 << 10)
    assert claimed["cart"] == partition(f"cart/{text('s-1')}", 1 << 10)
    assert len(set(claimed.values())) == 3


def test_a_create_that_names_no_session_goes_to_its_user_or_its_request_and_claims_nothing() -> None:
    assert routed(router(), wire.Created(at(0), "chat", "", "ann")) == [
        (partition("ann"), wire.Created(at(0), "chat", "", text("ann")))
    ]
    assert [stream for stream, _ in routed(router(), wire.Created(at(0), "chat", request="r-1"))] == [partition("r-1")]


# In order, and with where it comes from.


@given(st.lists(happenings.events, max_size=20))
def test_each_stream_has_its_events_in_the_order_written(events) -> None:
    ends = [100 * (number + 1) for number in range(len(events))]
    found = router().route(events, ends, WRITER)
    rewriter = Rewriter(Pseudonyms(KEY))
    for stream in found.values():
        assert len(stream.ends) == len(stream.events)
        assert stream.ends == sorted(stream.ends)
        for end, told in zip(stream.ends, stream.events, strict=True):
            source = rewriter.rewrite(events[end // 100 - 1])
            assert (told.at_us, told.scope, told.session) == (source.at_us, source.scope, source.session)
            assert is_arranged(told) or type(told) is type(source)
    told = [end for each in found.values() for end, event in zip(*each, strict=True) if not is_arranged(event)]
    assert sorted(told) == ends


@given(st.lists(happenings.events, max_size=12), st.integers(-2, 2))
def test_what_is_remembered_only_saves_repetition(events, shift_s) -> None:
    events = [event for event in events if not isinstance(event, wire.Ended)]
    used, fresh = router(), router()
    routed(used, *events, *events)
    used.rewriter.shift_us = fresh.rewriter.shift_us = shift_s * SECOND
    for event in events:
        first = routed(fresh, event)
        again = routed(used, event)
        assert again == [each for each in first if each in again]
        assert all(isinstance(each, wire.Claimed) for stream, each in first if (stream, each) not in again)


def test_every_event_needs_to_say_where_it_ends() -> None:
    with pytest.raises(ValueError, match="shorter"):
        router().route([wire.Reused(at(0), "chat", "s-1", "ann")], [], WRITER)


# Claims.


def test_a_claim_is_told_once_and_again_before_the_session_would_expire() -> None:
    ours = router()
    times = [0, 1, 899, 900, 901, 1799, 1800, 9000, 9001]
    assert claims(ours, *(wire.Reused(at(each), "chat", "s-1", "ann") for each in times)) == [
        at(0),
        at(900),
        at(1800),
        at(9000),
    ]


def test_each_user_of_a_session_claims_it_and_each_session_of_a_user_is_claimed() -> None:
    ours = router()
    events = [
        wire.Reused(at(number), "chat", session, user)
        for number, (session, user) in enumerate([("s-1", "ann"), ("s-1", "bob"), ("s-2", "ann")])
    ]
    assert claims(ours, *events) == [at(0), at(1), at(2)]
    assert claims(ours, *events) == []


def test_an_earlier_meeting_that_arrives_later_is_claimed_as_well() -> None:
    ours = router()
    times = [100, 50, 60, 99, 100, 40, 41, 999, 1000]
    assert claims(ours, *(wire.Reused(at(each), "chat", "s-1", "ann") for each in times)) == [
        at(100),
        at(50),
        at(40),
        at(1000),
    ]


@given(st.lists(st.tuples(st.sampled_from(["s-1", "s-2"]), st.sampled_from(["ann", "bob"]), st.integers(0, 7200))))
def test_no_use_is_far_from_a_claim_that_was_told(uses) -> None:
    ours, told = router(), []
    for session, user, second in uses:
        for _, event in routed(ours, wire.Reused(at(second), "chat", session, user)):
            if isinstance(event, wire.Claimed):
                told.append((event.session, event.user, event.at_us))
        assert any((text(session), text(user)) == each[:2] and 0 <= at(second) - each[2] < IDLE // 2 for each in told)


def test_claims_are_told_again_after_going_back() -> None:
    ours, event = router(), wire.Reused(at(0), "chat", "s-1", "ann")
    assert claims(ours, event) == [at(0)]
    assert claims(ours, event) == []
    ours.forget()
    assert claims(ours, event) == [at(0)]


def test_what_was_not_routed_after_all_is_not_remembered_as_told() -> None:
    ours, event = router(), wire.Reused(at(0), "chat", "s-1", "ann")
    with pytest.raises(ValueError, match="shorter"):
        ours.route([event, event], [100], WRITER)
    assert claims(ours, event) == [at(0)]


def test_claims_are_remembered_within_bounds(monkeypatch) -> None:
    monkeypatch.setattr(claiming, "CLAIMS_MAX", 100)
    ours = router()
    for number in range(1000):
        assert claims(ours, wire.Reused(at(number), "chat", f"s-{number}", "ann")) == [at(number)]
        assert claims(ours, wire.Reused(at(number), "chat", f"s-{number}", "ann")) == []
        assert len(ours._claims) <= 100


# What a stream has already.


def test_a_stream_is_not_told_what_it_has() -> None:
    event = wire.Reused(at(0), "chat", "s-1", "ann")
    home, keeper = partition("ann"), partition("s-1")
    assert home != keeper
    assert [stream for stream, _ in routed(router(), event, sent={home: 100})] == [keeper]
    assert [stream for stream, _ in routed(router(), event, sent={keeper: 100})] == [home]
    assert routed(router(), event, sent={home: 100, keeper: 100}) == []
    assert len(routed(router(), event, sent={home: 99, keeper: 99})) == 2


def test_a_claim_that_its_keeper_may_have_without_this_worker_is_told_with_the_next_use() -> None:
    event = wire.Reused(at(0), "chat", "s-1", "ann")
    home, keeper = partition("ann"), partition("s-1")
    found = router().route([event, event, event], [100, 200, 300], WRITER, {keeper: 100})
    assert (found[home].ends, found[keeper].ends) == ([100, 200, 300], [200])


# Ids and their formats.


def test_each_new_id_is_compared_where_it_is_still_known() -> None:
    ours = router(id_formats=FORMATS)
    event = wire.Identified(at(0), "chat", "s-1", "old-ann", request="r-1", thread="Thread 7")
    checked = {each.id_kind: (stream, each) for stream, each in routed(ours, event) if isinstance(each, wire.Checked)}
    base = (at(0), "chat", text("s-1"), text("old-ann"), "", text("r-1"), b"")
    assert checked == {
        "session": (partition("s-1"), wire.Checked(*base, text("s-1"), "session", "canonical", "text(3)")),
        "user": (partition("old-ann"), wire.Checked(*base, text("old-ann"), "user", "legacy", "text(7)")),
        "thread": (partition("Thread 7"), wire.Checked(*base, text("Thread 7"), "thread", "invalid", "text(8)")),
    }
    assert not [each for _, each in routed(ours, event) if isinstance(each, wire.Checked)]


def test_a_verdict_comes_before_all_that_makes_the_id_a_known_one() -> None:
    for stream in (
        router(1, id_formats=FORMATS).route([wire.Reused(at(0), "chat", "s-1", "u-1")], [100], WRITER).values()
    ):
        assert [type(event) for event in stream.events] == [wire.Checked, wire.Checked, wire.Reused, wire.Claimed]


@pytest.mark.parametrize("kind", [wire.Unmet, wire.Violated, wire.DbSession])
def test_what_is_no_session_of_the_applications_is_not_compared(kind) -> None:
    event = kind(at(0), "chat", "what a stranger wrote")
    assert not [each for _, each in routed(router(id_formats=FORMATS), event) if isinstance(each, wire.Checked)]


def test_a_scope_that_is_not_declared_is_judged_as_other() -> None:
    ours = Router(
        Pseudonyms(KEY), {"other": ScopeRules("other", idle_timeout_us=10 * SECOND, id_formats=FORMATS)}, PARTITIONS
    )
    first, second = (wire.Reused(at(number), "cart", "s-1", "ann") for number in (0, 5))
    checked = [(stream, each) for stream, each in routed(ours, first) if getattr(each, "id_kind", "") == "session"]
    assert checked == [(partition(f"cart/{text('s-1')}"), checked[0][1])]
    assert claims(ours, second) == [at(5)]


def test_requests_are_looked_at_but_for_those_that_only_reuse_known_sessions() -> None:
    ours = router(id_formats={"request": IdFormat("^r-")})
    pair = ("chat", "s-1", "ann", "")
    events = [wire.Reused(at(0), *pair, "r-1"), wire.Reused(at(1), *pair, "r-2"), wire.LookedUp(at(2), *pair, "r-3")]
    assert [each.id for _, each in routed(ours, *events) if isinstance(each, wire.Checked)] == [
        text("r-1"),
        text("r-3"),
    ]


def test_ids_are_compared_again_after_going_back_and_when_the_rules_change() -> None:
    event = wire.Created(at(0), "chat", "s-1")
    ours = router(id_formats=FORMATS)
    forms = []
    for change in (lambda: None, ours.forget, lambda: ours.declare({"chat": ScopeRules("chat")})):
        change()
        forms.append([each.form for _, each in routed(ours, event) if isinstance(each, wire.Checked)])
    assert forms == [["canonical"], ["canonical"], []]


def test_a_request_whose_ids_were_not_made_together_is_told_as_such() -> None:
    ids = {"thread": "thread_chat_1757362890388_1_00000001", "run": "run_1757362890388_2_00000001"}
    ((stream, told),) = routed(router(), wire.Identified(at(0), "chat", request="r-1", **ids))
    assert (stream, told.mismatched) == (partition("r-1"), True)
