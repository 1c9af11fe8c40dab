"""What the hooks of one process know of each other."""

import os

import pytest

from session_exporter import pending


@pytest.fixture(autouse=True)
def nothing_left() -> object:
    yield
    assert not pending._pending


def test_a_session_is_pending_until_each_transaction_that_creates_it_has_settled() -> None:
    pending.begin("chat", "s1")
    pending.begin("chat", "s1")
    pending.settle("chat", "s1")
    assert pending.is_pending("chat", "s1")
    pending.settle("chat", "s1")
    assert not pending.is_pending("chat", "s1")


def test_the_same_id_in_another_scope_is_another_session() -> None:
    pending.begin("chat", "s1")
    assert not pending.is_pending("form", "s1")
    pending.settle("chat", "s1")


def test_settling_what_is_not_pending_is_nothing() -> None:
    pending.settle("chat", "s1")
    assert not pending.is_pending("chat", "s1")


def test_what_is_pending_is_bounded() -> None:
    for number in range(pending.PENDING_MAX + 5):
        pending.begin("chat", str(number))
    assert len(pending._pending) == pending.PENDING_MAX
    for number in range(pending.PENDING_MAX + 5):
        pending.settle("chat", str(number))


def test_a_scope_is_watched_while_a_hook_watches_it() -> None:
    pending.watch_scope("chat")
    pending.watch_scope("chat")
    pending.unwatch_scope("chat")
    assert pending.is_watched("chat")
    pending.unwatch_scope("chat")
    assert not pending.is_watched("chat")
    assert not pending.is_watched("form")


@pytest.mark.integration
def test_a_forked_child_has_no_transactions_of_its_parent() -> None:
    pending.begin("chat", "s1")
    child = os.fork()
    if child == 0:
        os._exit(pending.is_pending("chat", "s1"))
    _, status = os.waitpid(child, 0)
    pending.settle("chat", "s1")
    assert os.waitstatus_to_exitcode(status) == 0
