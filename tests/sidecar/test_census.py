"""What a census has counted: in the state, in the verdict, and as incidents."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import at
from sidecars import CHAT, Sidecar, killed_in
from watched_tables import PLACE, census_of, twin

from session_exporter.config import PrivacySettings
from session_exporter.core.documents import iso
from session_exporter.sidecar.census import active_rows, duplicate_users, forget_tables
from session_exporter.sidecar.records import CountedTable, ExporterState, read_meta
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import State
from session_exporter.sidecar.summary import reading

KIND = "duplicate_active_user"


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.cycle(0)
        yield sidecar


def of_users(sidecar: Sidecar) -> list[str]:
    return [each["user"] for each in sidecar.incidents(kind=KIND)]


def test_a_user_with_several_active_sessions_is_an_incident_with_its_story(sidecar: Sidecar) -> None:
    sidecar.created(0.5, "s1", sites=("app/a.py:1:make",))
    sidecar.now_us = at(30)
    census_of(sidecar, twin("ann", "s2", "s1", created_us=at(1)))
    sidecar.cycle(30)
    (told,) = sidecar.incidents(kind=KIND)
    assert (told["at"], told["scope"], told["active_rows"], told["gap_ms"]) == (iso(at(30)), "chat", 2, 1.0)
    assert (len(told["sessions"]), told["user"][:2]) == (2, "u:")
    assert [each["kind"] for each in told["timeline"]] == ["created"]
    assert "are active at once" in told["explanation"]["cause"]
    assert [each.kind for each in sidecar.alarms] == [KIND]


def test_it_is_told_once_while_it_stays_so_over_restarts_and_again_when_it_comes_back(sidecar: Sidecar) -> None:
    ann = twin("ann", "s2", "s1")
    for _ in range(2):
        census_of(sidecar, ann)
        sidecar.cycle()
    sidecar.stop()
    with reading(sidecar.state) as connection:
        kept = read_meta(connection, "exporter", ExporterState)
    assert kept is not None
    sidecar.cycle(60)
    sidecar.engine._progress.exporter.census = kept.census  # nothing is watched here, and all of it was forgotten
    census_of(sidecar, ann)
    sidecar.cycle()
    assert len(of_users(sidecar)) == 1
    for twins in ((), (ann,)):
        sidecar.now_us += 1
        census_of(sidecar, *twins)
        sidecar.cycle()
    assert len(of_users(sidecar)) == 2


def test_a_census_that_was_not_committed_is_told_by_the_next(sidecar: Sidecar) -> None:
    census_of(sidecar, twin("ann", "s2", "s1"))
    assert killed_in(sidecar, State, "_store_window")
    sidecar.cycle(10)
    assert of_users(sidecar) == []
    census_of(sidecar, twin("ann", "s2", "s1"))
    sidecar.cycle()
    assert len(of_users(sidecar)) == 1


def test_any_user_with_several_active_sessions_is_unhealthy(sidecar: Sidecar) -> None:
    sidecar.reused(1, "s1")
    sidecar.cycle(10)
    assert sidecar.summary()["scopes"]["chat"]["duplicate_active_users"] is None
    census_of(sidecar, users=0)
    sidecar.cycle()
    found = sidecar.summary()
    assert (found["healthy"], found["scopes"]["chat"]["duplicate_active_users"]) == (True, 0)
    census_of(sidecar, twin("ann", "s2", "s1"), users=3, rows=9)
    sidecar.cycle()
    found = sidecar.summary()
    assert (found["healthy"], found["problems"]) == (False, ["chat: 3 users have several active sessions"])
    assert (found["scopes"]["chat"]["duplicate_active_users"], found["scopes"]["chat"]["active_rows"]) == (3, 9)


def test_it_stays_so_for_the_window_in_which_it_was_found(sidecar: Sidecar) -> None:
    census_of(sidecar, twin("ann", "s2", "s1"))
    sidecar.cycle()
    sidecar.now_us = at(120)
    census_of(sidecar)
    sidecar.reused(120, "s1")
    sidecar.cycle(120)
    assert sidecar.summary()["problems"] == ["chat: 1 user has several active sessions"]
    assert sidecar.summary(since_s=60)["problems"] == []


def test_one_without_traffic_is_unhealthy_all_the_same(sidecar: Sidecar) -> None:
    census_of(sidecar, users=1)
    sidecar.cycle()
    assert sidecar.summary()["healthy"] is False


def test_no_plain_id_of_a_census_is_told_or_kept(sidecar: Sidecar) -> None:
    census_of(sidecar, twin("plain-ann", "plain-s2", "plain-s1", key="plain-phone"))
    sidecar.cycle()
    assert "plain" not in json.dumps(sidecar.incidents(kind=KIND))
    sidecar.stop()
    assert b"plain-" not in b"".join(path.read_bytes() for path in sidecar.state.iterdir())


def test_ids_that_are_no_longer_to_be_shown_leave_the_census(sidecar: Sidecar) -> None:
    sidecar.stop()
    (sidecar.state / DATABASE_NAME).unlink()
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    sidecar.cycle(1)
    census_of(sidecar, twin("plain-ann", "plain-s2", "plain-s1"))
    sidecar.cycle()
    assert of_users(sidecar) == ["plain-ann"]
    sidecar.stop()
    sidecar.config = CHAT
    sidecar.cycle(2)
    sidecar.stop()
    assert b"plain-" not in b"".join(path.read_bytes() for path in sidecar.state.iterdir())


def test_figures_are_by_scope_over_tables_that_say_so() -> None:
    tables = [
        CountedTable("chat", 1, 5, 2),
        CountedTable("chat", 1, 7, 1),
        CountedTable("form", 1, 4, None),
        CountedTable("log", 1),
    ]
    assert active_rows(tables) == {"chat": 12, "form": 4}
    assert duplicate_users(tables) == {"chat": 3}


def test_tables_that_are_no_longer_watched_are_forgotten() -> None:
    exporter = ExporterState(census={PLACE: CountedTable("chat", 1), "gone/chats/chat": CountedTable("chat", 1)})
    forget_tables(exporter, [PLACE])
    assert [*exporter.census] == [PLACE]
