"""From events with plain ids to reports with digests."""

import msgspec
import pytest

from session_exporter.core import events as wire
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.records import CREATED, ENDED, LOOKED_UP, OBSERVED, UNMET, Report
from session_exporter.core.reports import SITES_MAX, Reports

NAMES = Pseudonyms(b"k" * 32)
WORKER = wire.Writer("w0", "pod-a", 10)
NEIGHBOUR = wire.Writer("w1", "pod-a", 11)
TRACE = bytes(range(16))


def report_of(event: wire.Event, kind: int, place: str = "", writer: wire.Writer = WORKER) -> Report:
    return Reports(NAMES).of(event, kind, 1, place, writer)


def test_a_report_holds_no_plain_id() -> None:
    ids = ["an id of a session", "of a user", "of a device", "of a request", "of a task", "of the session before"]
    session, user, key, request, task, before = ids
    event = wire.Created(1, "chat", session, user, key, request, TRACE, ("app.py:1:f",), task, before)
    report = report_of(event, CREATED)
    assert not [each for each in ids if each.encode() in msgspec.msgpack.encode(report)]
    assert (report.at_us, report.kind, report.scope) == (1, CREATED, 1)
    evidence = report.evidence
    assert (evidence.worker, evidence.replica, evidence.pid) == ("w0", "pod-a", 10)
    assert (evidence.trace, evidence.sites) == (TRACE, ("app.py:1:f",))


def test_a_user_and_each_of_their_devices_are_owners_of_their_own() -> None:
    plain, phone, laptop = (
        report_of(wire.Created(1, "chat", "s1", "ann", key), CREATED) for key in ("", "phone", "laptop")
    )
    assert plain.user == phone.user == laptop.user == plain.owner
    assert len({plain.owner, phone.owner, laptop.owner}) == 3


def test_who_has_no_user_has_no_owner() -> None:
    report = report_of(wire.Created(1, "chat", "s1", "", "phone"), CREATED)
    assert (report.user, report.owner) == (b"", b"")


def test_undeclared_scopes_keep_their_sessions_and_users_apart() -> None:
    event = wire.Created(1, "cart", "s1", "ann", expected="s0")
    cart, wizard = (report_of(event, CREATED, place) for place in ("cart/", "wizard/"))
    assert cart.session != wizard.session
    assert cart.other != wizard.other
    assert cart.owner != wizard.owner
    assert cart.user == wizard.user


def test_a_trace_stands_for_the_request_in_its_worker_only() -> None:
    event = wire.LookedUp(1, "chat", "s1", "ann", trace=TRACE)
    one, again = (report_of(event, LOOKED_UP).evidence.request for _ in range(2))
    other = report_of(event, LOOKED_UP, writer=NEIGHBOUR).evidence.request
    assert one == again != other
    named = report_of(wire.LookedUp(1, "chat", "s1", "ann", request="r1", trace=TRACE), LOOKED_UP).evidence.request
    assert named == report_of(wire.LookedUp(1, "chat", "s1", "ann", request="r1"), LOOKED_UP).evidence.request


@pytest.mark.parametrize(
    ("reason", "counted"), [("completed", "completed"), ("rotated", "rotated"), ("logout", "other")]
)
def test_a_reason_that_is_not_of_the_closed_set_is_other(reason: str, counted: str) -> None:
    assert report_of(wire.Ended(1, "chat", "s1", reason=reason), ENDED).reason == counted


@pytest.mark.parametrize("kind", [wire.Created, wire.Observed])
def test_what_a_request_expected_is_another_session(kind: type[wire.Created] | type[wire.Observed]) -> None:
    number = CREATED if kind is wire.Created else OBSERVED
    other = report_of(kind(1, "chat", "s2", "ann", expected="s1"), number).other
    assert other == report_of(wire.Created(1, "chat", "s1", "ann"), CREATED).session
    assert report_of(kind(1, "chat", "s1", "ann", expected="s1"), number).other == b""
    assert report_of(kind(1, "chat", "s1", "ann"), number).other == b""


def test_an_observation_says_when_its_session_was_created_and_how_it_was_seen() -> None:
    event = wire.Observed(9, "chat", "s1", "ann", created_at_us=5, origin=wire.UPSERT, generation="task-1")
    report = report_of(event, OBSERVED)
    assert (report.created_at_us, report.origin, bool(report.version)) == (5, wire.UPSERT, True)


def test_an_unmet_expectation_says_since_when_how_and_what_was_used_instead() -> None:
    about = {"missed": wire.MISSED_BY_USER, "since_us": 5, "actual": "s2", "shared": True, "sites": ("app.py:1:f",)}
    report = report_of(wire.Unmet(9, "chat", "s1", "ann", **about), UNMET)
    assert (report.origin, report.created_at_us, report.first) == (wire.MISSED_BY_USER, 5, False)
    assert report.other == report_of(wire.Created(1, "chat", "s2"), CREATED).session
    assert report.evidence.sites == ("app.py:1:f",)
    alone = report_of(wire.Unmet(9, "chat", "s1", "ann"), UNMET)
    assert (alone.first, alone.other) == (True, b"")


def test_the_call_sites_of_one_place_are_one_object_and_only_so_many_are_kept() -> None:
    reports = Reports(NAMES)
    first, second = (
        reports.of(wire.Created(1, "chat", "s1", sites=(f"app.py:{number}:f",)), CREATED, 1, "", WORKER).evidence.sites
        for number in ("1", "1")
    )
    assert first is second
    for number in range(2 * SITES_MAX):
        reports.of(wire.Created(1, "chat", "s1", sites=(f"app.py:{number}:f",)), CREATED, 1, "", WORKER)
        assert len(reports._sites) <= SITES_MAX
