"""What a commit stores of a ledger, and that a ledger made of it goes on."""

import msgspec
from ledgers import NEIGHBOUR, REMOTE, Book, at

from session_exporter.core.checkpoint import Changes, restore, take_changes
from session_exporter.core.population import Known
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.totals import LedgerTotals


def stored(changes: Changes) -> Changes:
    """The changes as they come back from MessagePack."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(changes), type=Changes)


def reopened(changes: Changes, **rules: object) -> Book:
    """A new ledger that was given one commit."""
    kept = stored(changes)
    book = Book(totals=kept.totals, **rules)
    restore(book.ledger, kept.owners, kept.sessions, kept.waiting, [(kept.waiting.epoch, kept.requests)])
    return book


def test_a_commit_holds_only_what_has_changed() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(0, "s2", "bob")
    book.ledger.finish()
    first = take_changes(book.ledger)
    assert {row.id for row in first.sessions} == {b"s1", b"s2"}
    assert {row.id for row in first.owners} == {b"ann", b"bob"}
    book.reused(60, "s2", "bob")
    second = take_changes(book.ledger)
    assert [row.id for row in second.sessions] == [b"s2"]
    assert second.owners == []


def test_a_commit_after_nothing_has_happened_holds_no_rows() -> None:
    book = Book()
    book.created(0, "s1")
    book.ledger.finish()
    assert take_changes(book.ledger).any_rows()
    assert not take_changes(book.ledger).any_rows()
    book.advance(60)
    assert not take_changes(book.ledger).any_rows()


def test_a_commit_survives_its_encoding() -> None:
    book = Book()
    book.created(0, "s1", request="r1", sites=("app.py:1:f",), trace=bytes(range(16)))
    book.created(1, "s2", writer=REMOTE)
    book.observed(30, "s3", "bob", request="r2")
    book.ended(40, "s1", "deleted")
    book.advance(40.5)
    book.created(50, "s4", "", sites=("app.py:2:g",))
    changes = take_changes(book.ledger)
    assert msgspec.msgpack.encode(stored(changes)) == msgspec.msgpack.encode(changes)
    assert len(changes.sessions) == 3
    assert len(changes.waiting.reports) == 2  # the deletion, unless an insert follows, and a create


def test_the_counts_of_a_commit_include_its_reuses() -> None:
    book = Book()
    book.reused(0, "s1")
    book.reused(1, "s1")
    changes = take_changes(book.ledger)
    assert changes.totals.scopes["chat"].reuses == 2
    assert take_changes(book.ledger).totals.scopes["chat"].reuses == 2


def test_a_commit_counts_the_sessions_that_are_tracked() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(0, "s1", scope="default")
    book.ended(5, "s1")
    book.ledger.finish()
    assert take_changes(book.ledger).totals.tracked_sessions == 2


def test_a_session_that_left_is_moved_to_the_long_memory() -> None:
    book = Book()
    book.created(0, "s1")
    book.reused(60, "s1")
    book.judged()
    book.advance(4000)
    changes = take_changes(book.ledger)
    number = book.ledger.judges["chat"].number
    assert changes.left_sessions == [(number, b"s1", Known(at(60), ended=True, born=True))]
    assert changes.left_owners == [(number, b"ann")]


def test_a_session_that_left_and_came_back_between_two_commits_stays() -> None:
    book = Book()
    book.created(0, "s1")
    book.judged()
    book.advance(4000)
    book.reused(4000, "s1")
    book.ledger.finish()
    changes = take_changes(book.ledger)
    assert (changes.left_sessions, changes.left_owners) == ([], [])
    assert [(row.id, row.last_us) for row in changes.sessions if row.id == b"s1"][-1] == (b"s1", at(4000))
    assert changes.owners[-1].id == b"ann"


def test_judgements_that_are_pending_are_made_after_a_restart() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(1, "s2", writer=REMOTE)
    book.observed(20, "s3", "bob")
    book.ended(30, "s2", "deleted")
    changes = take_changes(book.ledger)
    assert changes.totals.scopes["chat"].creates == 0
    totals = reopened(changes).judged()
    assert (totals.creates, totals.adopted, totals.duplicates["cross_replica"]) == (2, 1, 1)
    assert totals.ends["deleted"] == 1


def test_a_sighting_is_explained_by_a_create_after_a_restart() -> None:
    book = Book()
    book.observed(0, "s1")
    book.advance(1)
    after = reopened(take_changes(book.ledger))
    after.created(1.5, "s1")
    totals = after.judged()
    assert (totals.creates, totals.adopted) == (1, 0)


def test_a_deletion_is_a_rewrite_when_the_insert_comes_after_a_restart() -> None:
    book = Book()
    book.created(0, "s1")
    book.ended(60, "s1", "deleted")
    book.advance(61)
    after = reopened(take_changes(book.ledger))
    after.created(61.5, "s1")
    totals = after.judged()
    assert (totals.creates, totals.ends["deleted"], totals.active_sessions) == (1, 0, 1)


def test_the_cause_of_a_duplicate_is_found_after_a_restart() -> None:
    book = Book()
    book.created(0, "s1", request="r1", writer=NEIGHBOUR, sites=("app.py:1:f",))
    book.advance(1)
    after = reopened(take_changes(book.ledger))
    after.created(5, "s2", request="r1", writer=NEIGHBOUR)
    assert after.duplicates() == {"same_request": 1}
    assert after.incident().detail["creates"][0]["call_sites"] == ["app.py:1:f"]


def test_evidence_is_forgotten_after_a_restart_too() -> None:
    book = Book()
    book.created(0, "s1", sites=("app.py:1:f",))
    book.advance(1)
    after = reopened(take_changes(book.ledger))
    after.advance(600)
    (owner,) = after.ledger.judges["chat"].people.owners.values()
    assert owner.anchors is None
    assert owner.anchor_us == at(0)


def test_live_sessions_and_users_are_counted_again_after_a_restart() -> None:
    book = Book()
    book.created(0, "s1", key="phone")
    book.created(20, "s2", key="laptop")
    book.created(40, "s3", "")
    book.created(60, "s4", "bob")
    book.ended(80, "s4")
    before = book.judged()
    book.ledger.finish()
    everything = Book()
    everything.created(0, "s1", key="phone")
    everything.created(20, "s2", key="laptop")
    everything.created(40, "s3", "")
    everything.created(60, "s4", "bob")
    everything.ended(80, "s4")
    everything.ledger.finish()
    after = reopened(take_changes(everything.ledger)).judged()
    assert (after.active_sessions, after.active_users) == (before.active_sessions, before.active_users) == (3, 1)


def test_a_restored_session_expires_on_time() -> None:
    book = Book()
    book.created(0, "s1")
    book.advance(1)
    after = reopened(take_changes(book.ledger))
    after.advance(1800)
    assert after.committed().ends["expired"] == 0
    after.advance(1800.000001)
    assert after.committed().ends["expired"] == 1


def test_a_request_is_remembered_after_a_restart() -> None:
    book = Book()
    book.created(-60, "s1")
    book.looked_up(0, "s1", request="r1")
    after = reopened(take_changes(book.ledger))
    after.looked_up(1, "s1", request="r1")
    totals = after.judged()
    assert (totals.reuses, totals.lookups, totals.redundant_lookups) == (1, 2, 1)


def test_the_watermark_is_where_it_was_after_a_restart() -> None:
    book = Book()
    book.advance(60)
    after = reopened(take_changes(book.ledger))
    after.created(59, "s1")
    assert after.ledger.totals.late_events == 1


def test_rows_of_scopes_that_are_no_longer_declared_are_passed_over() -> None:
    before = Book(scopes={"job": ScopeRules("job")})
    before.created(0, "s1", scope="job")
    before.ledger.finish()
    before.observed(60, "s2", "bob", scope="job")
    before.advance(61)
    changes = take_changes(before.ledger)
    assert changes.sessions
    assert changes.waiting.adopting
    after = Book()
    restore(after.ledger, changes.owners, changes.sessions, changes.waiting, [])
    after.ledger.finish()
    assert all(not judge.people.sessions and not judge.people.owners for judge in after.ledger.judges.values())


def test_the_counts_survive_their_encoding() -> None:
    book = Book()
    book.created(0, "s1")
    book.created(3, "s2")
    book.ended(5, "s1")
    book.judged()
    totals = book.ledger.totals
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(totals), type=LedgerTotals) == totals
