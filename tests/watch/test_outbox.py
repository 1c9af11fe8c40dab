"""Findings between two threads: few, in order, and none that were called back."""

import threading
from collections.abc import Callable

import pytest

from session_exporter.watch.findings import Findings, TablePosition
from session_exporter.watch.outbox import FINDINGS_MAX, Outbox

DEADLINE_S = 10.0


def findings(number: int = 0) -> Findings:
    return Findings("main", "sessions", "chat", (), TablePosition(1, number, 1), number)


@pytest.fixture
def full() -> Outbox:
    outbox = Outbox()
    for number in range(FINDINGS_MAX):
        assert outbox.put(findings(number), outbox.generation)
    return outbox


def put_while(outbox: Outbox, act: Callable[[], object]) -> bool:
    """Put one more, which has to wait, and do something that ends the waiting; returns whether it was taken."""
    taken = []
    generation = outbox.generation
    putting = threading.Thread(target=lambda: taken.append(outbox.put(findings(99), generation)))
    putting.start()
    act()
    putting.join(DEADLINE_S)
    assert not putting.is_alive()
    return taken == [True]


def test_findings_are_taken_in_the_order_in_which_they_were_put(full: Outbox) -> None:
    taken = [full.take() for _ in range(FINDINGS_MAX)]
    assert [each.seen_us for each in taken if each is not None] == list(range(FINDINGS_MAX))
    assert full.take() is None


def test_whoever_finds_more_than_is_taken_waits_until_there_is_room(full: Outbox) -> None:
    assert put_while(full, full.take)
    assert len(full) == FINDINGS_MAX


def test_what_is_called_back_is_dropped_also_on_its_way(full: Outbox) -> None:
    assert not put_while(full, full.call_back)
    assert len(full) == 0
    assert full.put(findings(), full.generation)
    assert not full.put(findings(), full.generation - 1)


def test_nobody_waits_for_a_closed_one(full: Outbox) -> None:
    assert not put_while(full, full.close)
    assert full.take() is None
    assert not full.put(findings(), full.generation)
