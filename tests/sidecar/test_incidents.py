"""Incidents in the state: kept, bounded, found again, and told with what led to them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledgers import SECOND, at
from sidecars import CHAT, FULL_DISK, Sidecar, tampered

from session_exporter.config import PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.documents import iso
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.errors import StateError
from session_exporter.sidecar.incidents import Wanted, read_incidents, user_label
from session_exporter.sidecar.schema import DATABASE_NAME

SITES = ("app.py:1:f",)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def race(sidecar: Sidecar, at_s: float = 0, user: str = "ann") -> None:
    sidecar.created(at_s, f"{user}-{at_s}-1", user)
    sidecar.created(at_s + 1, f"{user}-{at_s}-2", user)


def stories(sidecar: Sidecar, **wanted: Any) -> list[list[str]]:
    """Of each incident, oldest first, the kinds of events of its timeline."""
    return [[step["kind"] for step in each["timeline"]] for each in reversed(sidecar.incidents(**wanted))]


def document(sidecar: Sidecar, **wanted: Any) -> dict[str, Any]:
    return read_incidents(sidecar.state, Wanted(**wanted), now_us=sidecar.now_us)


def test_incidents_come_newest_first_and_can_be_chosen(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(1, "s2")
    sidecar.created(2, "s3", worker="other")
    sidecar.tell(wire.ContextLost, 3, expected="a", actual="b")
    sidecar.tell(wire.Violated, 4, "d1", kind="db_session_crossed_tasks")
    sidecar.cycle(60)
    everything = sidecar.incidents()
    assert [each["at"] for each in everything] == [iso(at(second)) for second in (4, 3, 2, 1)]
    assert sidecar.incidents(kind="context_loss") == everything[1:2]
    assert sidecar.incidents(cause="cross_worker") == everything[2:3]
    assert sidecar.incidents(reason="reported") == everything[1:2]
    assert sidecar.incidents(reason="db_session_crossed_tasks") == everything[:1]
    assert sidecar.incidents(reason="cross_replica") == []
    assert sidecar.incidents(limit=2) == everything[:2]
    assert sidecar.incidents(since_s=58) == everything[:3]
    assert sidecar.incidents(scope="default") == []
    assert sidecar.incidents(scope="chat") == everything
    with pytest.raises(KeyError, match="nobody"):
        sidecar.incidents(scope="nobody")


def test_scopes_that_share_ids_have_incidents_of_their_own_at_one_time(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, scopes={name: ScopeRules(name) for name in ("chat", "run")})
    for scope in ("chat", "run"):
        sidecar.created(0, "s1", scope=scope)
        sidecar.created(1, "s2", scope=scope)
        sidecar.tell(wire.ContextLost, 2, expected="s1", actual="s2", scope=scope)
        sidecar.reused(3, "s2", "bob", scope=scope)
    sidecar.cycle(60)
    for kind in ("rapid_duplicate_create", "context_loss", "isolation_violation"):
        found = sidecar.incidents(kind=kind)
        assert {each["scope"] for each in found} == {"chat", "run"}
        assert len({each["id"] for each in found}) == 2


def test_an_incident_has_the_form_that_is_promised(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1", request="r1", sites=SITES, trace=bytes(range(16)))
    sidecar.tell(wire.CreateFailed, 0.05, reason="timeout")
    sidecar.created(0.1162, "s2", request="r1", sites=("app.py:2:g",))
    sidecar.cycle(60)
    (found,) = sidecar.incidents()
    own = {"cause", "user", "gap_ms", "sessions", "creates", "timeline", "db_error", "explanation"}
    assert set(found) == {"id", "kind", "at", "scope"} | own
    assert (found["cause"], found["gap_ms"], found["at"]) == ("same_request", 116.2, iso(at(0.1162)))
    first, last = found["creates"]
    assert set(first) >= {"at", "session", "request", "trace", "worker", "pid", "replica", "call_sites"}
    assert (first["at"], first["call_sites"], last["call_sites"]) == (iso(at(0)), ["app.py:1:f"], ["app.py:2:g"])
    assert first["worker"] == sidecar.worker().writer_id
    assert [first["session"], last["session"]] == found["sessions"]
    assert set(found["explanation"]) == {"cause", "advice", "decided"}
    assert (found["db_error"]["at"], found["db_error"]["label"]) == (iso(at(0.05)), "timeout")


def test_a_step_of_the_timeline_has_the_form_that_is_promised(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1", sites=SITES)
    sidecar.created(1, "s2")
    sidecar.cycle(60)
    (found,) = sidecar.incidents()
    assert found["timeline"][0] == {
        "at": iso(at(0)),
        "kind": "created",
        "scope": "chat",
        "session": found["sessions"][0],
        "user": found["user"],
        "key": "",
        "request": "",
        "trace": "",
        "worker": sidecar.worker().writer_id,
        "pid": found["creates"][0]["pid"],
        "replica": "pod",
        "call_sites": list(SITES),
        "note": {},
    }


def test_an_incident_is_found_by_its_id_or_a_beginning_of_it_whatever_its_age(sidecar: Sidecar) -> None:
    race(sidecar)
    race(sidecar, 100, "bob")
    sidecar.cycle(2 * 86_400)
    first, second = document(sidecar, since_s=10 * 86_400)["incidents"]
    assert sidecar.incidents(id=first["id"]) == [first]
    assert sidecar.incidents(id=second["id"][:-1]) == [second]
    assert sidecar.incidents(id="d-") == [first, second]
    assert sidecar.incidents(id="d-", limit=1) == [first]
    assert sidecar.incidents(id="x-") == sidecar.incidents(id="d_") == []


def test_an_exact_id_is_meant_even_when_others_begin_with_it(sidecar: Sidecar) -> None:
    race(sidecar)
    sidecar.cycle(60)
    (found,) = sidecar.incidents()
    sidecar.stop()
    with tampered(sidecar, f"UPDATE incidents SET id = '{found['id'][:5]}'"):
        race(sidecar, 100, "bob")
        sidecar.cycle(160)
        assert [each["id"] for each in sidecar.incidents(id=found["id"][:5])] == [found["id"][:5]]


def test_a_user_is_found_on_both_sides_of_a_border(sidecar: Sidecar) -> None:
    race(sidecar)
    race(sidecar, 20, "bob")
    sidecar.tell(wire.Violated, 40, "d1", "eve", kind="db_session_of_two_users", other_user="ann")
    sidecar.cycle(60)
    names = sidecar.engine.names
    assert [each["kind"] for each in sidecar.incidents(user=user_label(names, "ann"))] == [
        "isolation_violation",
        "rapid_duplicate_create",
    ]
    assert len(sidecar.incidents(user=user_label(names, "eve"))) == 1
    assert sidecar.incidents(user=user_label(names, "mia")) == []


def test_an_id_that_is_too_long_is_found_as_the_application_reported_it() -> None:
    names = Pseudonyms(b"k" * 32, show_ids=True)
    assert user_label(names, "ann") == "ann"
    assert user_label(names, "a" * 1000).startswith("blake2b:")


# What is new.


def test_what_is_new_comes_in_the_order_of_the_commits(sidecar: Sidecar) -> None:
    race(sidecar)
    sidecar.cycle(60)
    seen = document(sidecar)
    assert document(sidecar, after=seen["next"]) == {"incidents": [], "next": seen["next"]}
    race(sidecar, 100, "bob")
    sidecar.cycle(160)
    sidecar.tell(wire.ContextLost, 3, expected="a", actual="b")
    sidecar.cycle(3 * 3600)
    new = document(sidecar, after=seen["next"])
    assert [each["at"] for each in new["incidents"]] == [iso(at(101)), iso(at(3))]
    assert document(sidecar, after=new["next"])["incidents"] == []


def test_more_than_the_limit_comes_with_the_next_question(sidecar: Sidecar) -> None:
    for number in range(5):
        race(sidecar, 20 * number, f"user-{number}")
    sidecar.cycle(300)
    after, times = "0-0", []
    while (new := document(sidecar, after=after, limit=2))["incidents"]:
        times += [each["at"] for each in new["incidents"]]
        after = new["next"]
    assert times == [iso(at(20 * number + 1)) for number in range(5)]


def test_in_another_state_everything_is_new(sidecar: Sidecar) -> None:
    race(sidecar)
    sidecar.cycle(60)
    assert len(document(sidecar, after="00000000-77")["incidents"]) == 1


# Bounds.


def test_incidents_are_kept_for_their_retention(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, limits=Limits(incident_retention_us=3600 * SECOND))
    race(sidecar)
    race(sidecar, 1800, "bob")
    sidecar.cycle(1900)
    assert len(sidecar.incidents(since_s=1e6)) == 2
    sidecar.cycle(3600)
    assert len(sidecar.incidents(since_s=1e6)) == 2
    sidecar.cycle(3700)
    assert [each["at"] for each in sidecar.incidents(since_s=1e6)] == [iso(at(1801))]
    sidecar.cycle(9000)
    assert sidecar.incidents(since_s=1e6) == []


def test_so_many_incidents_are_kept_at_most(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, limits=Limits(max_incidents=3))
    for number in range(5):
        race(sidecar, 20 * number, f"user-{number}")
        sidecar.cycle(20 * number + 19)
    assert [each["at"] for each in sidecar.incidents()] == [iso(at(20 * number + 1)) for number in (4, 3, 2)]


def test_a_trail_that_is_switched_off_tells_and_keeps_nothing(sidecar: Sidecar) -> None:
    sidecar.config = replace(CHAT, limits=Limits(trail_events_per_user=0))
    race(sidecar)
    sidecar.cycle(60)
    assert stories(sidecar) == [[]]
    sidecar.stop()
    assert handed_on(sidecar) == 0


def test_what_says_nothing_takes_no_room_in_the_state(sidecar: Sidecar) -> None:
    for second in range(20):
        sidecar.tell(wire.LookedUp, second)
    race(sidecar, 21)
    sidecar.cycle(60)
    (found,) = sidecar.incidents()
    assert len(found["timeline"]) == 20
    sidecar.stop()
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME)) as connection:
        assert connection.execute("SELECT length(data) FROM incidents").fetchone()[0] < 20 * 250


# A story goes on.


def handed_on(sidecar: Sidecar) -> int:
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME)) as connection:
        return connection.execute("SELECT count(*) FROM meta WHERE name = 'trail'").fetchone()[0]


def test_a_story_goes_on_over_a_clean_stop(sidecar: Sidecar) -> None:
    sidecar.tell(wire.LookedUp, 0, request="r1", sites=SITES)
    sidecar.created(1, "s1", request="r1")
    sidecar.cycle(5)
    sidecar.stop()
    assert handed_on(sidecar) == 1
    sidecar.created(8, "s2", request="r2")
    sidecar.cycle(60)
    assert handed_on(sidecar) == 0
    (found,) = sidecar.incidents()
    assert [step["kind"] for step in found["timeline"]] == ["looked_up", "created", "created"]
    assert found["timeline"][0]["call_sites"] == list(SITES)


def test_a_story_goes_on_over_two_stops_without_an_event_between_them(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    for second in (5, 6, 7):
        sidecar.cycle(second)
        sidecar.stop()
    sidecar.created(8, "s2")
    sidecar.cycle(60)
    assert stories(sidecar) == [["created", "created"]]


def test_after_a_kill_a_story_begins_with_what_is_read_again(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(5)
    sidecar.created(8, "s2")
    sidecar.kill()
    sidecar.cycle(60)
    assert stories(sidecar) == [["created"]]
    assert sidecar.chat().duplicate_creates == 1


def test_a_reload_forgets_no_story(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(5)
    sidecar.engine.reload(replace(CHAT, limits=Limits(trail_events_per_user=1)))
    sidecar.created(8, "s2")
    sidecar.cycle(60)
    assert stories(sidecar) == [["created"]]
    sidecar.engine.reload(replace(CHAT, limits=Limits(trail_events_per_user=30)))
    sidecar.created(9, "s3")
    sidecar.cycle(120)
    assert stories(sidecar)[-1] == ["created"] * 3


def test_ids_that_are_written_anew_begin_a_new_story(sidecar: Sidecar) -> None:
    sidecar.created(1, "s1")
    sidecar.cycle(5)
    sidecar.engine.reload(replace(CHAT, privacy=PrivacySettings(show_ids=True)))
    race(sidecar, 8)
    sidecar.cycle(60)
    assert stories(sidecar) == [["created", "created"]]


def test_events_that_are_read_again_are_told_once(sidecar: Sidecar) -> None:
    sidecar.tell(wire.LookedUp, 0, request="r1")
    sidecar.cycle(1)
    race(sidecar, 2)
    sidecar.now_us = at(60)
    with tampered(sidecar, FULL_DISK) as disk:
        for _ in range(3):
            with pytest.raises(StateError):
                sidecar.engine.cycle(60.0)
        disk.execute("DROP TRIGGER full_disk")
    sidecar.cycle()
    assert stories(sidecar) == [["looked_up", "created", "created"]]


@pytest.mark.parametrize("stop", ["stop", "kill", "reload"])
def test_a_restart_in_the_middle_changes_no_count(tmp_path: Path, stop: str) -> None:
    counts = []
    for name in ("whole", "broken"):
        with closing(Sidecar(tmp_path / name)) as sidecar:
            race(sidecar)
            sidecar.reused(2, "s9", "bob")
            sidecar.cycle(3)
            if name == "broken":
                sidecar.engine.reload(CHAT) if stop == "reload" else getattr(sidecar, stop)()
            race(sidecar, 4)
            sidecar.tell(wire.Ended, 5, "s9", "bob", reason="completed")
            chat = sidecar.chat(60)
            counts.append((chat.creates, chat.reuses, chat.duplicates, chat.losses, chat.ends))
            counts[-1] += (len(sidecar.incidents()),)
    assert counts[0] == counts[1]
