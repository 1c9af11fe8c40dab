"""What hooks report of statements and database sessions: sightings, restarts, conflicts, failures, violations, uses."""

import pytest
from ledgers import REMOTE, START, WORKER, Book, at, nonzero

from session_exporter.core import events as wire
from session_exporter.core.db_sessions import RECENT_MAX, metrics_of
from session_exporter.core.events import ROW, UPSERT
from session_exporter.core.model import SessionState
from session_exporter.core.scopes import VIOLATIONS


def use(at_s: float = 5, **more: object) -> wire.DbSession:
    told = {
        "outcome": "committed",
        "state": "closed",
        "opened_at_us": at(at_s - 2),
        "last_activity_us": at(at_s - 1),
        "queries": 7,
        "transactions": 2,
        "total_time_us": 2_000_000,
        **more,
    }
    return wire.DbSession(at(at_s), "default", "use-1", "ann", "", "r1", **told)


def test_a_lookup_that_its_transaction_made_before_is_no_further_reuse() -> None:
    book = Book()
    book.created(0, "s1")
    book.looked_up(1, "s1")
    book.looked_up(1, "s1", again=True)
    chat = book.judged()
    assert (chat.lookups, chat.reuses) == (2, 1)


def test_a_statement_that_sees_a_session_is_no_lookup() -> None:
    book = Book()
    book.observed(0, "s1", origin=UPSERT)
    book.observed(1, "s2", origin=ROW)
    assert book.judged().lookups == 0


def test_an_upsert_of_a_known_session_is_a_reuse_and_of_an_unknown_one_an_adoption() -> None:
    book = Book()
    book.created(0, "s1")
    book.observed(1, "s1", origin=UPSERT)
    book.observed(1, "s2", user="bob", origin=UPSERT)
    chat = book.judged()
    assert (chat.creates, chat.reuses, chat.adopted) == (1, 1, 1)


def test_an_upsert_for_a_user_who_has_another_session_is_a_create() -> None:
    book = Book()
    book.created(0, "s1")
    book.observed(1, "s2", origin=UPSERT)
    assert (book.judged().creates, book.duplicates()) == (2, {"same_worker": 1})


@pytest.mark.parametrize("origin", [UPSERT, ROW])
@pytest.mark.parametrize("reason", ["completed", "deleted"])
def test_a_statement_that_writes_an_ended_session_creates_it_again(origin: int, reason: str) -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(10, "s1", reason)
    book.observed(60, "s1", origin=origin)
    chat = book.judged()
    assert (chat.creates, chat.reuses, chat.active_sessions) == (2, 0, 1)


def test_a_row_that_follows_a_deletion_at_once_is_a_rewrite() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(10, "s1", "deleted")
    book.observed(10, "s1", origin=ROW)
    assert (book.judged().creates, book.ends()) == (1, {})


def test_the_first_row_of_a_session_is_its_create_and_the_others_are_nothing() -> None:
    book = Book()
    for second, writer in ((0, WORKER), (1, REMOTE), (2, WORKER)):
        book.observed(second, "s1", origin=ROW, writer=writer)
    chat = book.judged()
    assert (chat.creates, chat.reuses, chat.adopted) == (1, 0, 0)


def test_a_row_of_a_session_that_had_only_expired_revives_it() -> None:
    book = Book()
    book.created(0, "s1")
    book.observed(2000, "s1", origin=ROW)
    chat = book.judged()
    assert (chat.creates, nonzero(chat.ends), chat.active_sessions) == (1, {"expired": 1}, 1)


@pytest.mark.parametrize("kind", [wire.Created, wire.Observed])
def test_another_generation_ends_the_session_and_begins_another_under_its_id(kind: type) -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.tell(kind, 60, "s1", generation="task-2", **({"origin": UPSERT} if kind is wire.Observed else {}))
    book.reused(61, "s1")
    chat = book.judged()
    assert (chat.creates, nonzero(chat.ends), chat.reuses, chat.active_sessions) == (2, {"replaced": 1}, 1, 1)
    assert chat.durations.sum_s == pytest.approx(60, abs=0.001)


def test_the_same_generation_is_the_same_session() -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.observed(60, "s1", origin=UPSERT, generation="task-1")
    chat = book.judged()
    assert (chat.creates, chat.reuses, nonzero(chat.ends)) == (1, 1, {})


def test_a_generation_that_becomes_known_late_ends_nothing() -> None:
    book = Book()
    book.created(0, "s1")
    book.observed(60, "s1", origin=UPSERT, generation="task-1")
    book.observed(70, "s1", origin=UPSERT, generation="task-2")
    assert (book.judged().creates, book.ends()) == (2, {"replaced": 1})


def test_restarts_of_one_user_in_the_window_are_duplicates() -> None:
    book = Book()
    book.created(0, "s1", generation="task-1")
    book.observed(1, "s1", origin=UPSERT, generation="task-2")
    assert book.duplicates() == {"same_worker": 1}


def test_a_conflict_is_neither_create_nor_duplicate() -> None:
    book = Book()
    book.created(0, "s1")
    book.tell(wire.Conflicted, 1, "s2", sites=("a.py:1:f",))
    chat = book.judged()
    assert (chat.conflicts, chat.creates, nonzero(chat.duplicates), chat.active_sessions) == (1, 1, {}, 1)


def test_failed_creates_are_counted_by_reason() -> None:
    book = Book()
    for reason in ("timeout", "timeout", "auth", "a reason of tomorrow"):
        book.tell(wire.CreateFailed, 1, reason=reason)
    assert nonzero(book.judged().failures) == {"timeout": 2, "auth": 1, "other": 1}


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_violation_is_counted_by_kind_and_its_story_is_kept(kind: str) -> None:
    book = Book()
    about = {"kind": kind, "request": "r2", "other_user": "bob", "other_request": "r1", "sites": ("a.py:1:f",)}
    book.tell(wire.Violated, 1, "use-1", "ann", **about)
    incident = book.incident()
    assert nonzero(book.judged().violations) == {kind: 1}
    assert (incident.kind, incident.scope, incident.detail["violation"]) == ("isolation_violation", "chat", kind)
    told = [incident.detail[name] for name in ("user", "other_user", "request", "other_request", "session")]
    assert told == ["ann", "bob", "r2", "r1", "use-1"]
    assert incident.detail["call_sites"] == ["a.py:1:f"]


def test_violations_of_one_use_are_incidents_of_their_own() -> None:
    book = Book()
    for kind in VIOLATIONS[1:3]:
        book.tell(wire.Violated, 1, "use-1", "ann", kind=kind)
    book.judged()
    assert len({incident.id for incident in book.incidents}) == 2


def test_uses_of_database_sessions_add_up() -> None:
    book = Book()
    failed = use(outcome="error", state="error", errors={"deadlock": 1, "of tomorrow": 2}, queries=1, transactions=1)
    book.ledger.apply([use(), failed, use(outcome="of tomorrow")], WORKER)
    totals = book.ledger.totals.db
    assert nonzero(totals.closed) == {"committed": 1, "error": 2}
    assert (totals.queries, totals.transactions) == (15, 5)
    assert nonzero(totals.errors) == {"deadlock": 1, "other": 2}
    assert (sum(totals.durations.counts), totals.durations.sum_s) == (3, 6.0)


def test_the_newest_uses_are_kept_with_pseudonyms() -> None:
    book = Book(show_ids=False)
    book.ledger.apply([use(5 + number) for number in range(RECENT_MAX + 5)], WORKER)
    changes = book.commit()
    assert changes.db_uses is not None
    assert len(changes.db_uses) == RECENT_MAX
    newest = changes.db_uses[-1]
    assert newest.event.at_us == at(5 + RECENT_MAX + 4)
    assert (newest.event.user[:2], newest.event.request[:2], newest.worker) == ("u:", "r:", WORKER.id)
    assert book.commit().db_uses is None


def test_a_use_is_told_by_the_canonical_model() -> None:
    metrics = metrics_of(use(errors={"deadlock": 1}, last_error="OperationalError 40P01", state="error"))
    assert (metrics.session_id, metrics.request_id, metrics.user_id) == ("use-1", "r1", "ann")
    assert (metrics.state, metrics.query_count, metrics.transaction_count) == (SessionState.ERROR, 7, 2)
    assert (metrics.error_count, metrics.last_error) == (1, "OperationalError 40P01")
    assert metrics.created_at.timestamp() * 1_000_000 == START + 3_000_000
    assert metrics.last_activity_at.timestamp() * 1_000_000 == START + 4_000_000
    assert (metrics.total_time_ms, metrics.closed_at is not None) == (2000.0, True)


def test_a_user_who_becomes_known_later_is_told_once() -> None:
    told: list[tuple[str, bytes, bytes]] = []
    book = Book(listener=lambda verdict: told.append((verdict.verdict, verdict.session, verdict.user)))
    book.created(0, "s1", user="")
    for second in (1, 2):
        book.attributed(second, "s1", "ann")
    book.judged()
    assert told == [("create", b"s1", b""), ("attributed", b"s1", b"ann")]
