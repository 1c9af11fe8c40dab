"""Lookups and reuses per request: what counts once, and what counts each time."""

from hypothesis import given
from hypothesis import strategies as st
from ledgers import NEIGHBOUR, WORKER, Book, at

from session_exporter.core.requests import GENERATION_MAX, GENERATION_US, RequestMemory

TRACE = bytes(range(16))


def known(session: str = "s1", user: str = "ann") -> Book:
    """A ledger that knows one session, made by a request of its own."""
    book = Book()
    book.created(-60, session, user, request="r0")
    return book


def test_each_explicit_reuse_counts() -> None:
    book = known()
    for _ in range(3):
        book.reused(0, "s1", request="r1")
    assert book.judged().reuses == 3


def test_an_explicit_reuse_counts_even_in_the_request_that_created_the_session() -> None:
    book = known()
    book.reused(-59, "s1", request="r0")
    assert book.judged().reuses == 1


def test_lookups_of_one_request_that_find_the_session_are_one_reuse() -> None:
    book = known()
    book.looked_up(0, "s1", request="r1")
    book.looked_up(1, "s1", request="r1")
    book.observed(2, "s1", request="r1")
    totals = book.judged()
    assert (totals.lookups, totals.reuses) == (3, 1)


def test_each_request_that_finds_the_session_is_a_reuse() -> None:
    book = known()
    for number in range(3):
        book.looked_up(number, "s1", request=f"r{number + 1}")
    assert book.judged().reuses == 3


def test_a_request_that_finds_two_sessions_reuses_both() -> None:
    book = known()
    book.created(-30, "s2", request="r0")
    book.looked_up(0, "s1", request="r1")
    book.looked_up(1, "s2", request="r1")
    assert book.judged().reuses == 2


def test_a_lookup_is_no_reuse_in_the_request_that_created_the_session() -> None:
    book = Book()
    book.looked_up(0, request="r1")
    book.created(1, "s1", request="r1")
    book.looked_up(2, "s1", request="r1")
    book.observed(3, "s1", request="r1")
    totals = book.judged()
    assert (totals.lookups, totals.creates, totals.reuses) == (3, 1, 0)


def test_without_a_request_each_call_that_finds_the_session_is_a_reuse() -> None:
    book = known()
    book.looked_up(0, "s1")
    book.looked_up(1, "s1")
    book.observed(2, "s1")
    totals = book.judged()
    assert (totals.reuses, totals.redundant_lookups) == (3, 0)


def test_a_lookup_that_finds_nothing_is_no_reuse() -> None:
    book = known()
    book.looked_up(0, "", request="r1")
    totals = book.judged()
    assert (totals.lookups, totals.reuses) == (1, 0)


def test_every_lookup_of_a_request_for_one_user_beyond_the_first_is_redundant() -> None:
    book = known()
    book.looked_up(0, "s1", request="r1")
    book.looked_up(1, "", request="r1")
    book.observed(2, "s1", request="r1")
    totals = book.judged()
    assert (totals.lookups, totals.redundant_lookups) == (3, 2)


def test_lookups_of_other_requests_users_and_scopes_are_not_redundant() -> None:
    book = known()
    book.looked_up(0, "s1", request="r1")
    book.looked_up(1, "s1", request="r2")
    book.looked_up(2, "s2", "bob", request="r1")
    book.looked_up(3, "s1", request="r1", scope="default")
    assert book.judged().redundant_lookups == 0
    assert book.ledger.totals.scopes["default"].redundant_lookups == 0


def test_a_trace_stands_in_for_a_request_that_is_not_known() -> None:
    book = known()
    book.looked_up(0, "s1", trace=TRACE)
    book.looked_up(1, "s1", trace=TRACE)
    totals = book.judged()
    assert (totals.reuses, totals.redundant_lookups) == (1, 1)


def test_a_trace_stands_in_for_a_request_within_one_worker_only() -> None:
    book = known()
    book.looked_up(0, "s1", trace=TRACE, writer=WORKER)
    book.looked_up(1, "s1", trace=TRACE, writer=NEIGHBOUR)
    totals = book.judged()
    assert (totals.reuses, totals.redundant_lookups) == (2, 0)


def test_two_creates_of_one_trace_in_two_workers_are_of_two_requests() -> None:
    book = Book()
    book.created(0, "s1", trace=TRACE, writer=WORKER)
    book.created(1, "s2", trace=TRACE, writer=NEIGHBOUR)
    book.created(2, "s3", trace=TRACE, writer=NEIGHBOUR)
    assert book.duplicates() == {"cross_worker": 1, "same_request": 1}


def test_a_request_that_is_known_counts_for_more_than_its_trace() -> None:
    book = known()
    book.looked_up(0, "s1", request="r1", trace=TRACE)
    book.looked_up(1, "s1", request="r2", trace=TRACE)
    assert book.judged().reuses == 2


def test_durations_of_lookups_are_observed() -> None:
    book = known()
    book.looked_up(0, "s1", duration_us=1500)
    book.observed(1, "s1", duration_us=2500)
    durations = book.judged().lookup_durations
    assert (sum(durations.counts), durations.sum_s) == (2, 0.004)


def test_a_request_is_remembered_for_minutes_and_then_forgotten() -> None:
    memory = RequestMemory()
    memory.advance(at(0))
    assert memory.first_lookup(b"r1", 1, b"ann", 7) == 0
    memory.advance(at(0) + GENERATION_US)
    assert memory.first_lookup(b"r1", 1, b"ann", 8) == 7
    memory.advance(at(0) + 3 * GENERATION_US)
    memory.advance(at(0) + 4 * GENERATION_US)
    assert memory.first_lookup(b"r1", 1, b"ann", 9) == 0


def test_a_request_that_goes_on_looking_up_is_not_forgotten() -> None:
    memory = RequestMemory()
    for number in range(5):
        memory.advance(at(0) + number * GENERATION_US)
        assert memory.first_lookup(b"r1", 1, b"ann", number + 1) == min(number, 1)


def test_the_memory_of_requests_is_bounded() -> None:
    memory = RequestMemory()
    for number in range(5 * GENERATION_MAX // 2):
        memory.first_time(b"r%d" % number, 1, b"s1")
        if number % 1000 == 0:
            memory.advance(at(0))
    assert len(memory._young) + len(memory._old) <= 2 * GENERATION_MAX + 2000


@given(
    st.lists(
        st.tuples(st.sampled_from([b"r1", b"r2"]), st.sampled_from([1, 2]), st.sampled_from([b"a", b"b"])), max_size=20
    ),
    st.sets(st.integers(0, 20)),
)
def test_what_a_commit_stored_is_remembered_after_a_restart(
    asked: list[tuple[bytes, int, bytes]], commits: set[int]
) -> None:
    memory, stored = RequestMemory(), []
    firsts: dict[tuple[bytes, int, bytes], int] = {}
    for step, (request, scope, owner) in enumerate(asked):
        memory.advance(at(step * 20))
        first = firsts.setdefault((request, scope, owner), step + 1)
        assert memory.first_lookup(request, scope, owner, step + 1) == (0 if first == step + 1 else first)
        assert memory.first_time(request, scope, owner) == (first == step + 1)
        if step in commits:
            stored.append((memory.epoch, memory.changed))
            since_us = memory.since_us
            memory = RequestMemory()
            for epoch, entries in stored:
                memory.restore(epoch, entries)
            memory.since_us = since_us
