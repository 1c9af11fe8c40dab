"""What leaves a machine names nobody, and is told in the common clock's time."""

import happenings
import msgspec
import pytest
from happenings import SECOND, START
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.travelling import TravelledNames, text_of
from session_exporter.stream import rewriting
from session_exporter.stream.rewriting import FIELDS, ID, PLAIN, TIME, Rewriter, digest_in

KEY = b"k" * 32
ALL_KINDS = [*wire.KINDS, wire.Claimed, wire.Checked]


def rewriter(shift_us=0):
    return Rewriter(Pseudonyms(KEY), shift_us=shift_us)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_of_every_field_it_is_said_whether_it_is_an_id(kind) -> None:
    undeclared = {field for field in kind.__struct_fields__ if FIELDS.get(field) not in {ID, TIME, PLAIN}}
    assert undeclared == set(), f"say in stream/rewriting.py what these fields of {kind.__name__} are"


def test_no_field_is_declared_that_no_event_has() -> None:
    assert set(FIELDS) == {name for kind in ALL_KINDS for name in kind.__struct_fields__}


@given(happenings.events, st.integers(-SECOND, SECOND))
def test_no_id_of_the_application_travels(event, shift_us) -> None:
    told = msgspec.msgpack.encode(rewriter(shift_us).rewrite(event))
    for identifier in happenings.ids_in(event):
        assert not identifier or identifier.encode() not in told


@given(happenings.events)
def test_an_event_that_has_travelled_names_whom_it_named(event) -> None:
    told = rewriter().rewrite(event)
    names, travelled = Pseudonyms(KEY), TravelledNames(KEY)
    for name in type(event).__struct_fields__:
        before, after = getattr(event, name), getattr(told, name)
        assert travelled[after] == names[before] if FIELDS[name] == ID else after == before or name == "mismatched"
    assert type(told) is type(event)


@given(happenings.events, st.integers(-2 * SECOND, 2 * SECOND))
def test_all_times_of_the_workers_clock_are_shifted_alike(event, shift_us) -> None:
    told = rewriter(shift_us).rewrite(event)
    for name in type(event).__struct_fields__:
        if FIELDS[name] == TIME:
            assert getattr(told, name) == (getattr(event, name) + shift_us if getattr(event, name) else 0)


@pytest.mark.parametrize("at_us", [1, START, wire.TIME_MAX_US])
@pytest.mark.parametrize("shift_us", [-wire.TIME_MAX_US, wire.TIME_MAX_US])
def test_no_shift_takes_a_time_out_of_what_an_event_may_hold(at_us, shift_us) -> None:
    told = rewriter(shift_us).rewrite(wire.Unmet(at_us, "chat", since_us=at_us))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=wire.Event) == told


def test_the_clock_may_be_measured_anew() -> None:
    ours = rewriter()
    ours.shift_us = 5 * SECOND
    assert ours.rewrite(wire.Reused(START, "chat")).at_us == START + 5 * SECOND


def test_only_the_forwarder_can_tell_that_ids_were_not_made_together() -> None:
    ids = {"thread": "thread_chat_1757362890388_1_00000001", "run": "run_1757362890388_1_00000001"}
    together = wire.Identified(START, "chat", **ids, request="req_1757362890388_1_00000001")
    ours = rewriter()
    assert not ours.rewrite(together).mismatched
    assert ours.rewrite(structs.replace(together, request="req_1757362890388_2_00000001")).mismatched
    assert not ours.rewrite(structs.replace(together, request="of-another-make")).mismatched


@given(st.binary(min_size=15, max_size=15))
def test_the_text_of_a_digest_gives_it_back(digest) -> None:
    assert digest_in(text_of(digest)) == digest
    assert digest_in("") == b""


def test_texts_are_remembered_within_bounds(monkeypatch) -> None:
    monkeypatch.setattr(rewriting, "TEXTS_MAX", 100)
    ours = rewriter()
    for number in range(1000):
        assert ours.texts[f"u-{number}"] == text_of(Pseudonyms(KEY)[f"u-{number}"])
        assert len(ours.texts) <= 100
    assert ours.texts["u-0"] == text_of(Pseudonyms(KEY)["u-0"])


def test_names_that_show_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="must digest ids"):
        Rewriter(Pseudonyms(KEY, show_ids=True))
