"""What the database says of sessions: counted once, whoever else tells, and only when nobody does."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ledgers import LATENESS_S, REMOTE, SECOND, Book, at, nonzero

from session_exporter.core.checkpoint import Changes, restore
from session_exporter.core.ledger import Ledger
from session_exporter.core.rows import NEW, OLD, OVER, USED, Row, take_rows

GRACE_S = 15


class Watched(Book):
    """A ledger beside a table that is read since `START`; what it commits is kept."""

    def __init__(self, **rules) -> None:
        super().__init__(**rules)
        self.rows: dict[str, dict[bytes, Any]] = {"sessions": {}, "owners": {}}
        take_rows(self.ledger, "chat", [], since_us=at(0), due_us=at(GRACE_S))

    def found(self, what: str, at_s: float, session: str, user: str = "ann", *, seen_s: float | None = None, **more):
        due_us = at((at_s if seen_s is None else seen_s) + GRACE_S)
        row = Row(what, at(at_s), session, user, **more)
        take_rows(self.ledger, "chat", [row], since_us=at(0), due_us=due_us)

    def restarted(self) -> None:
        """Go on from the last commit in a new ledger."""
        changes, old = self.commit(), self.ledger
        self.ledger = Ledger(
            {"chat": old.judges["chat"].rules},
            names=self.names,
            known=self.memory,
            limits=old.limits,
            lateness_us=old.lateness_us,
            numbers=old.numbers,
            totals=old.totals,
        )
        owners, sessions = (list(self.rows[name].values()) for name in ("owners", "sessions"))
        restore(self.ledger, owners, sessions, changes.waiting, [])

    def commit(self) -> Changes:
        changes = super().commit()
        self.rows["sessions"] |= {row.id: row for row in changes.sessions}
        self.rows["owners"] |= {row.id: row for row in changes.owners}
        for _, session, _ in changes.left_sessions:
            self.rows["sessions"].pop(session, None)
        for _, owner in changes.left_owners:
            self.rows["owners"].pop(owner, None)
        return changes


def test_a_row_that_nobody_told_of_is_a_create_at_its_time() -> None:
    book = Watched()
    book.found(NEW, 1, "s1")
    assert (book.committed().creates, book.committed().unseen) == (0, 0)
    book.advance(1 + GRACE_S)
    assert book.committed().creates == 0
    book.advance(1 + GRACE_S + 0.001)
    totals = book.committed()
    assert (totals.creates, totals.found, totals.unseen, totals.reported) == (1, 1, 1, 0)
    assert (totals.active_sessions, totals.active_users) == (1, 1)


def test_it_is_unreported_only_where_there_are_hooks() -> None:
    book = Watched()
    book.found(NEW, 1, "s1")
    book.advance(30)
    assert book.committed().unreported == 0
    book.reused(31, "s1")
    book.commit()
    book.found(NEW, 32, "s2", "bob")
    assert (book.judged().unreported, book.judged().unseen) == (1, 2)


def test_a_row_that_a_hook_told_of_is_one_create_at_the_time_of_the_hook() -> None:
    book = Watched()
    book.found(NEW, 1, "s1", seen_s=5)
    book.created(4, "s1")
    totals = book.judged()
    assert (totals.creates, totals.found, totals.unseen, totals.reported, totals.unreported) == (1, 1, 0, 1, 0)
    assert book.ledger.totals.late_events == 0


def test_a_hook_that_tells_after_the_grace_makes_no_second_create() -> None:
    book = Watched()
    book.found(NEW, 1, "s1")
    book.advance(20)
    book.created(19.5, "s1")
    assert (book.judged().creates, book.judged().unseen) == (1, 1)


def test_a_session_that_has_ended_by_the_time_its_row_is_judged_is_not_created_again() -> None:
    book = Watched()
    book.created(4, "s1")
    book.ended(6, "s1", user="ann")
    book.found(NEW, 1, "s1", seen_s=5)
    totals = book.judged()
    assert (totals.creates, nonzero(totals.ends), totals.found) == (1, {"completed": 1}, 1)


def test_a_row_that_was_seen_again_is_found_once() -> None:
    book = Watched()
    for seen_s in (1, 6, 11):
        book.found(NEW, 1, "s1", seen_s=seen_s)
    book.advance(18)
    book.restarted()
    book.found(NEW, 1, "s1", seen_s=20)
    book.advance(60)
    totals = book.committed()
    assert (totals.creates, totals.found) == (1, 1)


def test_a_row_whose_session_has_left_the_ledger_is_found_once() -> None:
    book = Watched(idle_timeout_us=12 * SECOND + LATENESS_S * SECOND)
    book.created(1, "s1")
    book.found(NEW, 1, "s1", seen_s=5)
    book.advance(100)
    book.commit()
    book.found(NEW, 1, "s1", seen_s=100)
    book.advance(200)
    totals = book.committed()
    assert (totals.creates, totals.found, totals.unseen) == (1, 1, 0)


def test_the_long_memory_is_asked_once_for_a_row_that_nobody_told_of() -> None:
    book, asked = Watched(), []
    find = book.memory.find
    book.memory.find = lambda scope, session: asked.append(session) or find(scope, session)
    for number in range(3):
        book.found(NEW, number, f"s{number}", f"user {number}")
    assert book.judged().creates == 3
    assert len(asked) == 3


def test_a_row_that_waits_outlives_a_restart() -> None:
    book = Watched()
    book.found(NEW, 1, "s1")
    book.restarted()
    book.advance(30)
    assert book.committed().creates == 1


def test_what_was_there_before_is_known_and_not_counted() -> None:
    book = Watched()
    book.found(OLD, -3600, "s0")
    book.commit()
    book.observed(10, "s0")
    totals = book.judged()
    assert (totals.creates, totals.adopted, totals.reuses, totals.found) == (0, 0, 1, 0)


def test_two_rows_of_one_user_are_a_duplicate_that_nobody_saw() -> None:
    book = Watched()
    book.found(NEW, 2, "s2")
    book.found(NEW, 1, "s1")
    assert book.duplicates() == {"unobserved": 1}
    assert book.incident().detail["cause"] == "unobserved"


def test_a_row_beside_a_create_of_a_hook_is_a_duplicate_that_nobody_saw() -> None:
    book = Watched()
    book.created(1, "s1")
    book.found(NEW, 2, "s2")
    book.found(NEW, 1, "s1")
    assert book.duplicates() == {"unobserved": 1}


def test_an_end_in_the_database_does_not_hide_what_was_replaced() -> None:
    book = Watched()
    book.found(NEW, 0, "s1")
    book.found(OVER, 60, "s1", reason="user_request", seen_s=62)
    book.found(NEW, 60, "s2", seen_s=62)
    totals = book.judged()
    assert (totals.creates, nonzero(totals.losses)) == (2, {"replaced": 1})
    assert nonzero(totals.ends) == {"user_request": 1}


def test_an_end_long_before_explains_itself() -> None:
    book = Watched()
    book.found(NEW, 0, "s1")
    book.found(OVER, 30, "s1", reason="user_request")
    book.found(NEW, 60, "s2")
    assert nonzero(book.judged().losses) == {}


def test_a_reason_of_the_applications_own_counts_as_other() -> None:
    book = Watched()
    book.found(NEW, 0, "s1")
    book.found(OVER, 30, "s1", reason="duplicate_cleanup")
    assert book.ends() == {"other": 1}


def test_what_the_database_says_of_use_keeps_a_session_alive() -> None:
    book = Watched(idle_timeout_us=60 * SECOND)
    book.found(NEW, 0, "s1")
    book.advance(20)
    book.found(USED, 40, "s1")
    book.advance(90)
    assert (book.committed().active_sessions, book.committed().reuses) == (1, 0)


HAPPENED = st.lists(
    st.tuples(
        st.integers(0, 40),  # when, in halves of a second
        st.sampled_from(["ann", "bob"]),
        st.booleans(),  # whether a hook tells of it
        st.integers(0, 20),  # for how long its transaction was open, likewise
        st.integers(0, 8),  # after which time it is seen
    ),
    max_size=12,
)


@given(HAPPENED, st.lists(st.integers(0, 40), max_size=3), st.booleans())
def test_rows_and_hooks_together_count_what_is_in_the_table(happened, restarts, again) -> None:
    book = Watched()
    events = []
    for number, (at_2s, user, is_told, open_2s, delay_2s) in enumerate(happened):
        session, made_s = f"s{number}", at_2s / 2
        over_s = made_s + open_2s / 2
        if is_told:
            events.append((over_s + 0.5, "hook", over_s, session, user))
        events.append((over_s + delay_2s / 2, "row", made_s, session, user))
        if again:
            events.append((over_s + delay_2s / 2 + 3, "row", made_s, session, user))
    events += [(each / 2, "restart", 0, "", "") for each in restarts]
    for now_s, what, time_s, session, user in sorted(events):
        book.advance(now_s - LATENESS_S)
        if what == "hook":
            book.created(time_s, session, user, writer=REMOTE)
        elif what == "row":
            book.found(NEW, time_s, session, user, seen_s=now_s)
        else:
            book.restarted()
    totals = book.judged()
    told = sum(each[2] for each in happened)
    assert (totals.creates, totals.found) == (len(happened), len(happened))
    assert (totals.reported, totals.unseen) == (told, len(happened) - told)
    times: dict[str, list[float]] = {}
    for at_2s, user, is_told, open_2s, _ in happened:
        times.setdefault(user, []).append(at_2s / 2 + (open_2s / 2 if is_told else 0))
    pairs = [(a, b) for each in times.values() for a, b in zip(sorted(each), sorted(each)[1:], strict=False)]
    assert sum(totals.duplicates.values()) == sum(b - a < 10 for a, b in pairs)


def test_rows_that_are_judged_long_after_their_time_say_who_told_of_them() -> None:
    book = Watched()
    book.found(NEW, 1, "s1", seen_s=31)
    book.advance(31 + GRACE_S + 1)
    book.found(NEW, 6, "s2", seen_s=50)
    book.created(100, "s3", "bob", sites=("shop.py:1 buy",))
    book.advance(104)
    book.found(NEW, 95, "s4", "bob", seen_s=104)
    book.advance(121)
    book.found(NEW, 90, "s5", "bob", seen_s=121)
    assert book.duplicates() == {"unobserved": 3}
    assert any("shop.py:1 buy" in str(incident.detail) for incident in book.incidents)
