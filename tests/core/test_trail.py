"""What is remembered of events, and which of them tell the story of an incident."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import NEIGHBOUR, REMOTE, SECOND, WORKER, Book, at
from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core import trail as trail_module
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import Remembered
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.core.trail import EVENTS_MAX, KEPT_MAX, Trail

KEY = b"k" * 32
SITES = ("app/handlers.py:41:Handler.run",)
TRACE = bytes(range(16))


class Diary:
    """A trail that shows ids as they are, told what happened in seconds."""

    def __init__(self, *, show_ids: bool = True, **limits: Any) -> None:
        self.names = Pseudonyms(KEY, show_ids=show_ids)
        self.trail = Trail(self.names, Limits(**limits))
        self.declare()

    def declare(self) -> None:
        self.trail.declare({"chat": ScopeRules("chat"), "other": ScopeRules("other")})

    def go_under(self, key: bytes = KEY, **limits: Any) -> None:
        self.names = Pseudonyms(key, show_ids=self.names.show_ids)
        self.trail.go_under(self.names, Limits(**limits))
        self.declare()

    def add(self, kind: type, at_s: float, /, session: str = "", user: str = "ann", **more: Any) -> None:
        writer = more.pop("writer", WORKER)
        self.trail.add([kind(at(at_s), more.pop("scope", "chat"), session, user, **more)], writer)

    def incident(
        self, at_s: float, users: Iterable[str] = ("ann",), sessions: Iterable[str] = (), **detail: Any
    ) -> Incident:
        digest = self.names.digest
        users, sessions = tuple(map(digest, users)), tuple(map(digest, sessions))
        return Incident(f"x-{at_s}", "context_loss", at(at_s), "chat", detail, users, sessions)

    def told(self, incident: Incident) -> dict[str, Any]:
        self.trail.want(incident)
        self.trail.tell()
        return incident.detail

    def times(self, incident: Incident) -> list[float]:
        return [(each["at_us"] - at(0)) / SECOND for each in self.told(incident)["timeline"]]


@pytest.fixture
def diary() -> Diary:
    return Diary()


def test_an_entry_of_a_timeline_tells_who_did_what_where(diary: Diary) -> None:
    diary.add(wire.Created, 1, "s1", key="phone", request="r1", trace=TRACE, sites=SITES, writer=REMOTE)
    assert diary.told(diary.incident(2))["timeline"] == [
        {
            "at_us": at(1),
            "kind": "created",
            "scope": "chat",
            "session": "s1",
            "user": "ann",
            "key": "phone",
            "request": "r1",
            "trace": TRACE.hex(),
            "worker": REMOTE.id,
            "pid": REMOTE.pid,
            "replica": REMOTE.replica,
            "call_sites": list(SITES),
            "note": {},
        }
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "note"),
    [
        (wire.Created, {"expected": "s0"}, {"expected": "s0"}),
        (wire.Reused, {}, {}),
        (wire.LookedUp, {"asked": "s0", "duration_us": 1500}, {"asked": "s0", "duration_ms": 1.5}),
        (wire.LookedUp, {"again": True}, {"again": True}),
        (wire.Observed, {"origin": wire.UPSERT, "expected": "s0"}, {"origin": "upsert", "expected": "s0"}),
        (wire.Ended, {"reason": "deleted"}, {"reason": "deleted"}),
        (wire.Ended, {"reason": "ann said so"}, {"reason": "other"}),
        (wire.Attributed, {}, {}),
        (wire.ContextLost, {"expected": "s0", "actual": "s1"}, {"expected": "s0", "actual": "s1"}),
        (wire.Conflicted, {}, {}),
        (wire.CreateFailed, {"reason": "timeout"}, {"reason": "timeout"}),
        (wire.CreateFailed, {"reason": "x"}, {"reason": "other"}),
        (
            wire.Unmet,
            {"missed": wire.MISSED_BY_ID, "actual": "s1", "shared": True},
            {"missed": "missed_by_id", "actual": "s1", "shared": True},
        ),
        (
            wire.Violated,
            {"kind": "db_session_of_two_users", "other_user": "bob", "other_request": "r0"},
            {"violation": "db_session_of_two_users", "other_user": "bob", "other_request": "r0"},
        ),
        (
            wire.DbSession,
            {"outcome": "error", "errors": {"timeout": 1, "x": 2}, "last_error": "OperationalError 57014"},
            {"outcome": "error", "errors": "other, timeout", "last_error": "OperationalError 57014"},
        ),
    ],
)
def test_the_note_tells_what_else_matters(diary: Diary, kind: type, fields: dict[str, Any], note: Any) -> None:
    diary.add(kind, 1, "s", **fields)
    (entry,) = diary.told(diary.incident(2))["timeline"]
    assert (entry["kind"], entry["note"]) == (wire.KINDS[kind], note)


def test_uses_without_errors_and_ids_of_requests_tell_nothing(diary: Diary) -> None:
    diary.add(wire.DbSession, 1, outcome="committed")
    diary.add(wire.Identified, 1, thread="t1")
    assert diary.times(diary.incident(2)) == []


def test_the_use_of_a_database_session_is_told_where_the_incident_is_about_it(diary: Diary) -> None:
    diary.add(wire.DbSession, 1, "d1", outcome="committed", sites=SITES)
    diary.add(wire.DbSession, 1, "d2", outcome="committed")
    (entry,) = diary.told(diary.incident(2, sessions=["d1"]))["timeline"]
    assert (entry["session"], entry["call_sites"]) == ("d1", list(SITES))


def test_the_ids_of_a_request_are_told_where_one_of_them_is_invalid(diary: Diary) -> None:
    diary.add(wire.Identified, 1, thread="t1")
    diary.add(wire.Identified, 2, thread="t2")
    diary.add(wire.Identified, 2, thread="t3", user="bob")
    assert diary.times(structs.replace(diary.incident(2), kind="invalid_id")) == [2]


def test_the_story_is_that_of_the_users_and_sessions_of_the_incident(diary: Diary) -> None:
    diary.add(wire.Reused, 1, "s1")
    diary.add(wire.Reused, 2, "s2", user="bob")
    diary.add(wire.Ended, 3, "s1", user="")
    diary.add(wire.Reused, 4, "s9", user="eve")
    assert diary.times(diary.incident(9)) == [1]
    assert diary.times(diary.incident(9, users=(), sessions=["s1"])) == [1, 3]
    assert diary.times(diary.incident(9, users=["ann", "bob"], sessions=["s1"])) == [1, 2, 3]


def test_a_user_who_is_called_like_a_session_is_not_that_session(diary: Diary) -> None:
    diary.add(wire.Reused, 1, "ann", user="bob")
    assert diary.times(diary.incident(2)) == []
    assert diary.times(diary.incident(2, users=(), sessions=["ann"])) == [1]


def test_sessions_of_undeclared_scopes_are_told_apart(diary: Diary) -> None:
    diary.add(wire.Reused, 1, "s1", user="", scope="forms")
    diary.add(wire.Reused, 2, "s1", user="", scope="chat")
    (entry,) = diary.told(diary.incident(3, users=(), sessions=["forms/s1"]))["timeline"]
    assert (entry["at_us"], entry["scope"], entry["session"]) == (at(1), "other", "forms/s1")


def test_a_quarter_of_the_story_is_what_came_after_the_incident(diary: Diary) -> None:
    for second in range(10):
        diary.add(wire.Reused, second, "s1")
    diary.go_under(trail_events_per_user=4)
    assert diary.times(diary.incident(5)) == [3, 4, 5, 6]
    assert diary.times(diary.incident(9)) == [6, 7, 8, 9]
    assert diary.times(diary.incident(1)) == [0, 1, 2, 3]
    assert diary.times(diary.incident(-1)) == [0, 1, 2, 3]


def test_each_user_of_an_incident_has_a_share_of_the_story() -> None:
    diary = Diary(trail_events_per_user=2)
    diary.add(wire.Reused, 1, "s1", user="bob")
    for second in range(2, 9):
        diary.add(wire.Reused, second, "s1")
    diary.add(wire.Ended, 2, "s1", user="")
    assert diary.times(diary.incident(9, users=["ann", "bob"], sessions=["s1"])) == [1, 7, 8]


def test_what_is_older_than_the_retention_is_not_told_and_soon_forgotten() -> None:
    diary = Diary(trail_retention_us=60 * SECOND)
    diary.add(wire.Reused, 0, "s1")
    diary.add(wire.Reused, 50, "s1")
    assert diary.times(diary.incident(70)) == [50]
    diary.trail.forget(at(60))
    assert diary.trail.count == 2
    diary.trail.forget(at(61))
    assert diary.trail.count == 1


KINDS = [wire.Reused, wire.LookedUp, wire.DbSession, wire.Ended]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 30),
        st.sampled_from(["", "s1", "s2"]),
        st.sampled_from(["", "ann", "bob"]),
    ),
    max_size=60,
)


def plain_choice(
    events: list[Any], at_us: int, names: tuple[set[str], set[str]], count: int, retention_us: int
) -> list[int]:
    """Which events tell an incident: those around it of each user and session, and of these those of each user."""

    def around(orders: Iterable[int]) -> list[int]:
        ordered = sorted(orders, key=lambda order: (events[order].at_us, order))
        before = [order for order in ordered if events[order].at_us <= at_us]
        after = [order for order in ordered if events[order].at_us > at_us]
        late = max(count // 4, count - len(before))
        late = min(late, len(after))
        early = min(count - late, len(before))
        return [*before[len(before) - early :], *after[:late]]

    users, sessions = names
    loud = [order for order, event in enumerate(events) if not isinstance(event, wire.DbSession)]
    found: set[int] = set()
    for user in users:
        found.update(around(order for order in loud if events[order].user == user))
    for session in sessions:
        found.update(around(order for order, event in enumerate(events) if event.session == session))
    found = {order for order in found if abs(events[order].at_us - at_us) <= retention_us}
    groups = [{order for order in found if events[order].user == user} for user in users]
    groups.append({order for order in found if events[order].user not in users})
    chosen = {order for group in groups for order in around(group)}
    return sorted(chosen, key=lambda order: (events[order].at_us, order))


@given(
    EVENTS,
    st.lists(
        st.tuples(st.integers(0, 30), st.sets(st.sampled_from(["ann", "bob"])), st.sets(st.sampled_from(["s1", "s2"])))
    ),
    st.integers(1, 5),
    st.integers(1, 20),
    st.integers(0, 60),
)
def test_the_choice_is_that_of_the_plain_rule(
    told: list[Any], wanted: list[Any], count: int, retention_s: int, restored: int
) -> None:
    diary = Diary(trail_events_per_user=count, trail_retention_us=retention_s * SECOND)
    events = [kind(at(second), "chat", session, user) for kind, second, session, user in told]
    first = Diary()
    first.trail.add([event for event in events[:restored] if not isinstance(event, wire.DbSession)], WORKER)
    diary.trail.go_on(first.trail.kept())
    for event in events[restored:]:
        diary.trail.add([event], NEIGHBOUR)
    events = [event for event in events[:restored] if not isinstance(event, wire.DbSession)] + events[restored:]
    incidents = [diary.incident(second, users, sessions) for second, users, sessions in wanted]
    for incident in incidents:
        diary.trail.want(incident)
    diary.trail.tell()
    for incident, (second, users, sessions) in zip(incidents, wanted, strict=True):
        chosen = plain_choice(events, at(second), (users, sessions), count, retention_s * SECOND)
        assert [
            (each["at_us"], each["session"], each["user"], each["kind"]) for each in incident.detail["timeline"]
        ] == [
            (events[order].at_us, events[order].session, events[order].user, wire.KINDS[type(events[order])])
            for order in chosen
        ]


def error_of(diary: Diary, incident: Incident) -> Any:
    found = diary.told(incident).get("db_error")
    return found and (found["kind"], found["label"], found["gap_ms"])


def test_the_error_before_an_incident_is_the_latest_of_its_request_trace_or_user(diary: Diary) -> None:
    diary.add(wire.CreateFailed, 1, reason="timeout", request="r1", user="")
    diary.add(wire.Conflicted, 2, trace=TRACE, user="")
    diary.add(wire.DbSession, 3, errors={"deadlock": 1}, last_error="DBAPIError 40P01", sites=SITES)
    diary.add(wire.DbSession, 4, errors={"deadlock": 1}, request="r9", user="eve")
    assert error_of(diary, diary.incident(5, users=(), request="r1")) == ("create_failed", "timeout", 4000.0)
    assert error_of(diary, diary.incident(5, users=(), creates=[{"request": "r1"}])) == (
        "create_failed",
        "timeout",
        4000,
    )
    assert error_of(diary, diary.incident(5, users=(), trace=TRACE.hex())) == ("conflicted", "unique index", 3000.0)
    assert error_of(diary, diary.incident(5, request="r1")) == ("db_session", "DBAPIError 40P01", 2000.0)
    assert diary.told(diary.incident(5, request="r1"))["db_error"]["call_sites"] == list(SITES)


def test_an_error_in_a_trace_is_of_the_request_that_the_trace_stands_for(diary: Diary) -> None:
    diary.add(wire.Conflicted, 1, trace=TRACE, user="eve")
    diary.add(wire.Conflicted, 2, trace=TRACE, user="eve", writer=NEIGHBOUR)
    request = f"{TRACE.hex()}@{WORKER.id}"
    assert error_of(diary, diary.incident(5, users=(), request=request)) == ("conflicted", "unique index", 4000.0)


def test_an_error_counts_within_the_duplicate_window_and_not_after_the_incident(diary: Diary) -> None:
    diary.add(wire.Conflicted, 10)
    assert error_of(diary, diary.incident(9.9)) is None
    assert error_of(diary, diary.incident(10)) is not None
    assert error_of(diary, diary.incident(20)) is not None
    assert error_of(diary, diary.incident(20.1)) is None


def test_a_use_without_errors_is_no_error(diary: Diary) -> None:
    diary.add(wire.DbSession, 1)
    assert error_of(diary, diary.incident(2)) is None


def plain_values(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from plain_values(name)
            yield from plain_values(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from plain_values(each)
    else:
        yield str(value)


def test_nothing_plain_is_told_or_handed_on() -> None:
    diary = Diary(show_ids=False, trail_events_per_user=100)
    ids = [
        "key",
        "request",
        "expected",
        "actual",
        "asked",
        "other_user",
        "other_request",
        "generation",
        "thread",
        "run",
    ]
    words = ["reason", "kind", "outcome", "state"]
    for kind in wire.KINDS:
        more = {name: f"plain-{name}" for name in (*ids, *words) if name in kind.__struct_fields__}
        more |= {"errors": {"plain-error": 1}} if kind is wire.DbSession else {}
        diary.add(kind, 1, "plain-session", "plain-user", **more)
        diary.add(kind, 1, "plain-session", "plain-user", **more, scope="plain-scope")
    told = diary.told(diary.incident(2, users=["plain-user"]))
    assert {each["kind"] for each in told["timeline"]} == set(wire.KINDS.values()) - {"identified"}
    assert [text for text in plain_values(told) if "plain" in text] == []
    assert b"plain" not in msgspec.msgpack.encode(diary.trail.kept())


# Bounds.


def reused(count: int, first_s: float = 0, user: str = "eve") -> list[wire.Event]:
    return [wire.Reused(at(first_s) + number, "chat", "s9", user) for number in range(count)]


def test_so_many_events_are_remembered_at_most_the_newest() -> None:
    diary = Diary()
    diary.add(wire.Reused, 0, "s1")
    diary.trail.add(reused(EVENTS_MAX - 1), WORKER)
    assert diary.trail.count == EVENTS_MAX
    assert diary.times(diary.incident(0)) == [0]
    diary.trail.add(reused(10), WORKER)
    assert diary.trail.count <= EVENTS_MAX
    assert diary.times(diary.incident(0)) == []


def test_of_a_batch_that_is_too_large_the_newest_events_are_remembered() -> None:
    diary = Diary()
    diary.trail.add([*reused(2, user="ann"), *reused(EVENTS_MAX, 1)], WORKER)
    assert diary.trail.count == EVENTS_MAX
    assert diary.times(diary.incident(1)) == []


def test_an_incident_is_told_before_events_leave_that_it_may_need() -> None:
    diary = Diary()
    diary.add(wire.Reused, 0, "s1")
    incident = diary.incident(0)
    diary.trail.want(incident)
    for piece in range(11):
        assert "timeline" not in incident.detail
        diary.trail.add(reused(10_000, piece), WORKER)
        if piece == 9:
            break
    assert [each["at_us"] for each in incident.detail["timeline"]] == [at(0)]
    assert diary.trail.count <= EVENTS_MAX - trail_module.SHED


def test_with_the_trail_off_nothing_is_remembered_and_nothing_told() -> None:
    diary = Diary(trail_events_per_user=0)
    diary.add(wire.Reused, 0, "s1")
    assert diary.trail.count == 0
    assert diary.told(diary.incident(0)) == {}
    assert diary.trail.kept() == []
    diary.trail.go_on([Remembered(at(0), "reused")])
    assert diary.trail.count == 0


def test_a_trail_that_is_switched_off_forgets(diary: Diary) -> None:
    diary.add(wire.Reused, 0, "s1")
    diary.go_under(trail_events_per_user=0)
    assert diary.trail.count == 0


def test_no_more_incidents_are_waiting_than_the_state_can_hold() -> None:
    diary = Diary(max_incidents=2)
    incidents = [diary.incident(second) for second in range(4)]
    for incident in incidents:
        diary.trail.want(incident)
    diary.trail.tell()
    assert ["timeline" in each.detail for each in incidents] == [False, False, True, True]


# Going on.


def test_a_reload_forgets_nothing_unless_ids_are_written_in_another_way() -> None:
    diary = Diary(show_ids=False)
    diary.add(wire.Reused, 0, "s1")
    diary.go_under()
    assert diary.times(diary.incident(1)) == [0]
    diary.go_under(b"x" * 32)
    assert diary.trail.count == 0


def test_what_was_not_committed_is_forgotten_and_read_again(diary: Diary) -> None:
    diary.add(wire.Reused, 0, "s1")
    diary.trail.settle()
    for _ in range(3):
        diary.add(wire.Reused, 1, "s1")
        diary.trail.want(diary.incident(1))
        diary.trail.go_on()
    diary.add(wire.Reused, 1, "s1")
    assert diary.times(diary.incident(2)) == [0, 1]


def test_a_clean_stop_hands_the_newest_events_on() -> None:
    first, second = Diary(show_ids=False), Diary(show_ids=False)
    first.add(wire.Ended, 0, "s1", reason="deleted", request="r1", trace=TRACE, writer=REMOTE)
    first.add(wire.Conflicted, 1, key="phone", sites=SITES)
    first.add(wire.Reused, 2, "s2", scope="forms")
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(first.trail.kept()), type=list[Remembered])
    second.trail.go_on(kept)
    wanted = {"sessions": ["s1", "forms/s2"]}
    assert second.told(second.incident(3, **wanted)) == first.told(first.incident(3, **wanted))
    assert len(first.told(first.incident(3, **wanted))["timeline"]) == 3
    assert second.trail.kept() == kept


def test_a_clean_stop_hands_on_so_many_events_at_most(diary: Diary) -> None:
    diary.trail.add(reused(KEPT_MAX), WORKER)
    diary.trail.add(reused(10, 5), WORKER)
    kept = diary.trail.kept()
    assert len(kept) == KEPT_MAX
    assert (kept[0].at_us, kept[-1].at_us) == (at(0) + 10, at(5) + 9)


# In the ledger.


def test_a_duplicate_is_told_with_what_its_user_did_before() -> None:
    book = Book(trail=True)
    book.looked_up(-1, request="r1", sites=SITES)
    book.created(0, "s1", request="r1")
    book.tell(wire.CreateFailed, 0.05, reason="connection")
    book.created(0.1, "s2", request="r2", writer=NEIGHBOUR)
    book.reused(0.2, "s2", user="bob")
    book.judged()
    detail = next(each.detail for each in book.incidents if each.kind == "rapid_duplicate_create")
    assert [each["kind"] for each in detail["timeline"]] == [
        "looked_up",
        "created",
        "create_failed",
        "created",
        "reused",
    ]
    assert detail["db_error"]["label"] == "connection"


def test_the_retention_follows_the_watermark() -> None:
    book = Book(trail=True, limits=Limits(trail_retention_us=SECOND))
    book.reused(0, "s1")
    book.commit()
    assert book.ledger.trail.count == 1
    book.advance(5)
    book.commit()
    assert book.ledger.trail.count == 0
