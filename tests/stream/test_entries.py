"""Whatever stands in a stream is an entry, or says why it is none."""

import happenings
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core import events as wire
from session_exporter.stream.entries import VERSION, BadEntry, Entry, Origin, decode, encode

ids = happenings.ids
arranged = st.one_of(
    st.builds(wire.Claimed, happenings.times, st.just("chat"), ids, ids, sites=st.just(("app/store.py:7 get",))),
    st.builds(wire.Checked, happenings.times, st.just("chat"), ids, ids, id=ids, id_kind=st.just("user")),
)
counts = st.integers(0, 1 << 62)


@st.composite
def entries(draw):
    events = draw(st.lists(happenings.events | arranged, max_size=5))
    ends = sorted(draw(st.lists(counts, min_size=len(events), max_size=len(events))))
    origin = Origin("boot-17-a9", draw(st.sampled_from(["", "pod-a"])), draw(counts))
    numbers = [draw(counts), draw(counts), draw(happenings.times), draw(happenings.times)]
    return Entry(VERSION, "pod-a-1", origin, draw(counts), ends, events, *numbers)


def plain(struct):
    """What stands on the wire."""
    return msgspec.msgpack.decode(encode(struct))


def fields(**changed):
    """An entry as a list, to be spoilt."""
    events = [wire.Reused(happenings.START, "chat", "s", "u"), wire.Created(happenings.START, "chat", "s", "u")]
    entry = Entry(VERSION, "pod-a-1", Origin("w"), 1, [100, 200], events, 7, 0, 5, 6)
    by_name = dict(zip(Entry.__struct_fields__, plain(entry), strict=True))
    return list({**by_name, **changed}.values())


def reason_of(raw):
    with pytest.raises(BadEntry) as refused:
        decode(raw)
    return refused.value.reason


@given(entries())
def test_an_entry_is_read_as_it_was_written(entry) -> None:
    assert decode(encode(entry)) == entry


def test_the_writer_of_an_entry_is_the_writer_of_its_events() -> None:
    assert Origin("boot-17-a9", "pod-a", 17).writer() == happenings.WRITER


def test_what_a_later_release_adds_at_the_end_is_passed_over() -> None:
    assert decode(encode([*fields(), "more", {"and": "more"}])) == decode(encode(fields()))
    longer = [*plain(wire.Reused(happenings.START, "chat", "s", "u", "k", "r", b"t" * 16)), "more"]
    assert decode(encode(fields(ends=[1], events=[longer]))).events[0].request == "r"


def test_what_is_left_out_at_the_end_has_its_default() -> None:
    assert decode(encode(fields()[:6])) == Entry(
        VERSION, "pod-a-1", Origin("w"), 1, [100, 200], decode(encode(fields())).events
    )


@pytest.mark.parametrize(
    "raw",
    [
        encode(fields(version=VERSION + 1)),
        encode([VERSION + 1]),
        encode([1 << 63]),
        encode([VERSION + 1, {"of": "another"}, [["form"]]]),
        encode(fields(version=1 << 62)),
    ],
)
def test_an_entry_of_a_newer_version_is_known_for_what_it_is(raw) -> None:
    assert reason_of(raw) == "newer_version"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"hello",
        b"\x90",
        encode(None),
        encode({"version": VERSION}),
        encode([]),
        encode(["1"]),
        encode([None]),
        encode([-1]),
        encode([True, *fields()[1:]]),
        encode(fields(version=0)),
        encode(fields(version=-5)),
        encode(fields(version=1.5)),
        encode(fields()) + b"\x00",
        encode(fields())[:-1],
        encode(fields(forwarder="f" * 257)),
        encode(fields(origin=[""])),
        encode(fields(origin=["w" * 95])),
        encode(fields(origin="w")),
        encode(fields(segment=-1)),
        encode(fields(ends=[100])),
        encode(fields(ends=[100, 200, 300])),
        encode(fields(ends=[200, 100])),
        encode(fields(ends=[-1, 100])),
        encode(fields(ends=[100, (1 << 62) + 1])),
        encode(fields(events=[[2, 0, "chat"], [99, 0, "chat"]])),
        encode(fields(events=[[2, 0, "chat"], [2, 0]])),
        encode(fields(events=[[2, 0, "chat"], [2, wire.TIME_MAX_US + 1, "chat"]])),
        encode(fields(events=[[2, 0, "chat"], [2, 0, "s" * 257]])),
        encode(fields(sent_us=wire.TIME_MAX_US + 1)),
        # Lengths of what is not there, and arrays in arrays.
        b"\xdd\xff\xff\xff\xff",
        b"\x96\x01\xa1f\x91\xa1w\x00\xdd\xff\xff\xff\xff",
        b"\x96\x01\xa1f\x91\xa1w\x00\x90\xdd\xff\xff\xff\xff\x01",
        b"\x96\x01\xdb\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x96\x01\xa1f" + b"\x91" * 100_000,
        # A text that is no UTF-8.
        b"\x96\x01\xa1\xff\x91\xa1w\x00\x90\x90",
    ],
)
def test_what_is_none_is_malformed(raw) -> None:
    assert reason_of(raw) == "malformed"


@given(entries(), st.data())
def test_a_spoilt_entry_is_refused_or_read_and_nothing_else(entry, data) -> None:
    raw = bytearray(encode(entry))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(raw))
    except BadEntry as refused:
        assert refused.reason in {"malformed", "newer_version"}  # noqa: PT017 - either is right
    else:
        assert len(found.ends) == len(found.events)
        assert found.ends == sorted(found.ends)


@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_are_refused(raw) -> None:
    assert reason_of(raw) in {"malformed", "newer_version"}


def test_a_kind_of_event_that_is_added_makes_another_version() -> None:
    kinds = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 101, 102}
    tags = {kind.__struct_config__.tag for kind in (*wire.KINDS, wire.Claimed, wire.Checked)}
    assert (VERSION, tags) == (1, kinds), "older consumers cannot read such an entry: raise VERSION"
