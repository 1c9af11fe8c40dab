"""Uses of database sessions: from the workers to what is exposed and answered."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledgers import at
from sidecars import Sidecar

from session_exporter.core.events import DbSession
from session_exporter.sidecar.summary import read_db_sessions


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def tell_use(sidecar: Sidecar, number: int = 1, **more: Any) -> None:
    told = {
        "outcome": "error",
        "state": "error",
        "opened_at_us": at(1),
        "last_activity_us": at(2),
        "queries": 7,
        "transactions": 2,
        "errors": {"deadlock": 1},
        "last_error": "OperationalError 40P01",
        "total_time_us": 2_000_000,
        **more,
    }
    sidecar.tell(DbSession, 3, f"use-{number}", "ann", request="r1", **told)


def answered(sidecar: Sidecar) -> list[dict[str, Any]]:
    return read_db_sessions(sidecar.state, now_us=at(63))


def test_a_use_is_answered_as_the_canonical_model_tells_it(sidecar: Sidecar) -> None:
    tell_use(sidecar)
    sidecar.cycle(4)
    (told,) = answered(sidecar)
    assert told.pop("user_id").startswith("u:")
    assert told.pop("request_id").startswith("r:")
    assert told.pop("worker") == sidecar.worker().writer_id
    assert told == {
        "session_id": "use-1",
        "state": "error",
        "created_at": "2027-01-15T08:00:01+00:00",
        "last_activity_at": "2027-01-15T08:00:02+00:00",
        "last_activity": "2027-01-15T08:00:02+00:00",
        "closed_at": "2027-01-15T08:00:03+00:00",
        "age_seconds": 62.0,
        "inactivity_seconds": 61.0,
        "query_count": 7,
        "transaction_count": 2,
        "error_count": 1,
        "last_error": "OperationalError 40P01",
        "total_time_ms": 2000.0,
        "outcome": "error",
        "errors_by_kind": {"deadlock": 1},
        "trace": "",
        "pid": told["pid"],
        "replica": "pod",
        "call_sites": [],
    }


def test_the_newest_come_first_and_stay_over_a_restart(sidecar: Sidecar) -> None:
    for number in range(3):
        tell_use(sidecar, number)
    sidecar.cycle(4)
    sidecar.stop()
    tell_use(sidecar, 3)
    sidecar.cycle(5)
    assert [told["session_id"] for told in answered(sidecar)] == ["use-3", "use-2", "use-1", "use-0"]


def test_a_use_of_an_unknown_state_is_counted_and_not_shown(sidecar: Sidecar) -> None:
    tell_use(sidecar, state="of tomorrow")
    snapshot = sidecar.cycle(4)
    assert answered(sidecar) == []
    assert snapshot.ledger.db.closed["error"] == 1


def test_gauges_and_counts_of_the_workers_are_exposed_and_kept_over_a_restart(sidecar: Sidecar) -> None:
    worker = sidecar.worker()
    worker.open()
    worker.set_gauge("db_open_sessions", 2)
    worker.set_gauge("db_pool_used", 2)
    worker.add_count("db_sessions_opened", 5)
    worker.pool_waited(700)
    exposed = sidecar.cycle(1).exporter.db
    assert (exposed.opened, exposed.open_sessions, exposed.pool_connections["used"]) == (5, 2, 2)
    assert (sum(exposed.pool_waits.counts), exposed.pool_waits.sum_s) == (1, 0.0007)
    sidecar.stop()
    worker.add_count("db_sessions_opened", 1)
    exposed = sidecar.cycle(2).exporter.db
    assert (exposed.opened, sum(exposed.pool_waits.counts), exposed.leaked) == (6, 1, 0)
    sidecar.end_worker()
    exposed = sidecar.cycle(3).exporter.db
    assert (exposed.opened, exposed.open_sessions, exposed.leaked) == (6, 0, 2)
    assert sidecar.cycle(4).exporter.db.leaked == 2
