"""What hooks have told of a scope beside what its table says, and when the two agree."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ledgers import at
from sidecars import Sidecar
from watched_tables import rows_of, watched

from session_exporter.core.documents import iso


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that has begun to read the table of chat, at the start."""
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.cycle(0)
        watched(sidecar)
        yield sidecar


def told(sidecar: Sidecar) -> dict[str, Any]:
    compared: dict[str, Any] = sidecar.summary()["scopes"]["chat"]["reconciliation"]
    return compared


def test_scopes_whose_tables_are_not_read_have_nothing_to_compare(tmp_path: Path) -> None:
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.cycle(0)
        assert [each["reconciliation"] for each in sidecar.summary()["scopes"].values()] == [None] * 3


def test_what_hooks_told_and_the_table_has_agrees(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(5)
    rows_of(sidecar, {"s1": 4.0})
    watched(sidecar)
    sidecar.cycle(300)
    watched(sidecar)
    sidecar.cycle(300)
    assert told(sidecar) == {
        "since": iso(at(0)),
        "read_until": iso(at(300)),
        "reported": 1,
        "found": 1,
        "unseen": 0,
        "unreported": 0,
        "difference": 0,
        "waiting": 0,
        "unread": 0,
        "missing": 0,
        "agree": True,
    }
    msgspec.json.encode(told(sidecar))


def test_what_no_hook_told_of_is_a_difference(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(5)
    rows_of(sidecar, {"s1": 4.0, "s2": 3.0})
    sidecar.cycle(300)
    found = told(sidecar)
    assert (found["reported"], found["found"], found["unreported"], found["difference"]) == (1, 2, 1, 1)
    assert found["agree"] is False


def test_a_row_that_a_hook_may_still_tell_of_waits(sidecar: Sidecar) -> None:
    sidecar.cycle(5)
    rows_of(sidecar, {"s1": 1.0, "s2": 1.0})
    watched(sidecar)
    sidecar.cycle(6)
    assert (told(sidecar)["waiting"], told(sidecar)["found"]) == (2, 0)
    sidecar.cycle(60)
    assert (told(sidecar)["waiting"], told(sidecar)["found"]) == (0, 2)


def test_what_the_table_was_not_read_for_is_not_missing(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(20)
    assert (told(sidecar)["unread"], told(sidecar)["missing"], told(sidecar)["agree"]) == (1, 0, True)
    watched(sidecar, read_s_ago=-200)
    sidecar.cycle(220)
    assert (told(sidecar)["unread"], told(sidecar)["missing"], told(sidecar)["agree"]) == (0, 1, False)


def test_without_hooks_there_is_nothing_to_agree_with(sidecar: Sidecar) -> None:
    rows_of(sidecar, {"s1": 0.0})
    sidecar.cycle(60)
    assert (told(sidecar)["found"], told(sidecar)["unreported"], told(sidecar)["agree"]) == (1, 0, None)


def test_a_table_that_was_not_read_lately_agrees_with_nobody(sidecar: Sidecar) -> None:
    sidecar.reused(1, "s1")
    sidecar.cycle(60)
    assert told(sidecar)["agree"] is True
    sidecar.reused(901, "s1")
    sidecar.cycle(901)
    assert told(sidecar)["agree"] is None


def test_a_chosen_scope_is_compared_alone(sidecar: Sidecar) -> None:
    sidecar.cycle(60)
    assert [*sidecar.summary()["scopes"]] != ["chat"]
    scopes = sidecar.summary(scope="chat")["scopes"]
    assert {name: each["reconciliation"]["reported"] for name, each in scopes.items()} == {"chat": 0}


def test_what_only_the_table_tells_of_has_been_read(sidecar: Sidecar) -> None:
    sidecar.cycle(5)
    rows_of(sidecar, {"s1": 1.0})
    sidecar.cycle(60)
    watched(sidecar)
    assert (told(sidecar)["found"], told(sidecar)["unread"]) == (1, 0)
