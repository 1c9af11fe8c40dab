"""Where redundant lookups come from, as the state keeps it: exactly once, within bounds, and ranked."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import START, Book
from sidecars import Sidecar, killed_in, tampered
from states import commit, creates, nothing, opened

from session_exporter._version import __version__
from session_exporter.core import events as wire
from session_exporter.core.lookups import (
    HOUR_ROWS_MAX,
    HOUR_US,
    NO_FIRST,
    OTHER,
    PLACES_KEPT,
    LookupCount,
    Sites,
    number_of,
    ranked,
)
from session_exporter.errors import StateError
from session_exporter.journal import JournalReader
from session_exporter.sidecar import lookups
from session_exporter.sidecar.lookups import read_lookups
from session_exporter.sidecar.schema import DATABASE_NAME
from session_exporter.sidecar.state import MINUTES_KEPT, State

HOUR = START // HOUR_US
FIND = "app/store.py:9:find"
PIPELINE = (FIND, "app/pipeline.py:4:run")
HANDLER = (FIND, "app/handler.py:7:handle")
ACTION = (FIND, "app/action.py:2:perform")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def state(directory: Path) -> Iterator[State]:
    with opened(directory) as state:
        yield state


def look_up(sidecar: Sidecar, at_s: float, *places: Sites, request: str = "r1", **more: Any) -> None:
    for sites in places:
        sidecar.tell(wire.LookedUp, at_s, request=request, sites=sites, **more)


def read(sidecar: Sidecar, since_s: float = 3600.0, scope: str | None = "chat", limit: int = 10) -> dict[str, Any]:
    return read_lookups(sidecar.state, since_s=since_s, scope=scope, limit=limit, now_us=sidecar.now_us)


def chat(sidecar: Sidecar, **wanted: Any) -> dict[str, Any]:
    scope: dict[str, Any] = read(sidecar, **wanted)["scopes"]["chat"]
    return scope


def count(sites: Sites, lookups: int = 1, *, first: int = NO_FIRST, hour: int = HOUR) -> LookupCount:
    return LookupCount("chat", hour, number_of(sites), sites, first, lookups)


def generated(number: int) -> Sites:
    return (f"generated.py:{number}:call",)


def rows(directory: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        return connection.execute(sql).fetchall()


def test_the_document_says_how_often_where_and_after_whom(sidecar: Sidecar) -> None:
    for request in ("r1", "r2"):
        look_up(sidecar, 60, PIPELINE, HANDLER, ACTION, HANDLER, request=request)
    look_up(sidecar, 60, PIPELINE, request="r3")
    look_up(sidecar, 60, (), request="")
    sidecar.cycle(90)
    assert read(sidecar) == {
        "version": __version__,
        "generated_at": "2027-01-15T08:01:30.000000Z",
        "window_seconds": 3600.0,
        "ranking_since": "2027-01-15T08:00:00.000000Z",
        "scopes": {
            "chat": {
                "window": {
                    "lookups": 10,
                    "redundant_lookups": 6,
                    "looking_requests": 3,
                    "lookups_outside_requests": 1,
                    "lookups_per_request": 3.0,
                },
                "before": {
                    "lookups": 0,
                    "redundant_lookups": 0,
                    "looking_requests": 0,
                    "lookups_outside_requests": 0,
                    "lookups_per_request": None,
                },
                "ranking": {
                    "lookups": 10,
                    "redundant_lookups": 6,
                    "places_not_shown": 0,
                    "places": [
                        told(HANDLER, 4, 4, 4 / 6, after=(PIPELINE, 4)),
                        told(ACTION, 2, 2, 2 / 6, after=(PIPELINE, 2)),
                        told(PIPELINE, 3, 0, 0.0),
                        told((), 1, 0, 0.0, place="no_call_sites"),
                    ],
                },
            }
        },
    }


def told(
    sites: Sites, lookups: int, redundant: int, share: float, *, after: Any = None, place: str = "call_sites"
) -> dict[str, Any]:
    first = [{"place": "call_sites", "call_sites": list(after[0]), "redundant_lookups": after[1]}] if after else []
    return {
        "place": place,
        "call_sites": list(sites),
        "lookups": lookups,
        "redundant_lookups": redundant,
        "share": share,
        "first_looked_up_at": first,
    }


def test_the_window_is_compared_with_as_long_a_time_before_it(sidecar: Sidecar) -> None:
    look_up(sidecar, 30, PIPELINE, PIPELINE, PIPELINE, request="long ago")
    for request in ("r1", "r2"):
        look_up(sidecar, 3600, PIPELINE, HANDLER, ACTION, request=request)
    look_up(sidecar, 5400, PIPELINE, request="r3")
    sidecar.cycle(7100)
    compared = chat(sidecar, since_s=1800)
    assert compared["window"]["lookups_per_request"] == 1.0
    assert (compared["before"]["lookups_per_request"], compared["before"]["looking_requests"]) == (3.0, 2)


def test_the_ranking_covers_the_whole_hour_in_which_the_window_begins_and_says_so(sidecar: Sidecar) -> None:
    look_up(sidecar, -600, ACTION)  # the hour before
    look_up(sidecar, 60, HANDLER)  # the hour, but before the window
    look_up(sidecar, 3000, PIPELINE)
    sidecar.cycle(3060)
    document = read(sidecar, since_s=600)
    assert document["ranking_since"] == "2027-01-15T08:00:00.000000Z"
    scope = document["scopes"]["chat"]
    assert scope["window"]["lookups"] == 1
    assert {tuple(each["call_sites"]) for each in scope["ranking"]["places"]} == {HANDLER, PIPELINE}


def test_the_ranking_covers_no_time_from_before_anything_was_kept(sidecar: Sidecar) -> None:
    look_up(sidecar, 60, PIPELINE)
    sidecar.cycle(90)
    assert read(sidecar, since_s=864_000)["ranking_since"] == "2027-01-15T08:00:00.000000Z"


def test_only_so_many_places_are_named_and_the_others_are_counted(sidecar: Sidecar, monkeypatch: Any) -> None:
    monkeypatch.setattr("session_exporter.core.lookups.COMMIT_ROWS_MAX", 5)
    for number in range(7):
        look_up(sidecar, 60, generated(number), request="")
    sidecar.cycle(90)
    ranking = chat(sidecar, limit=2)["ranking"]
    assert [each["place"] for each in ranking["places"]] == ["call_sites", "call_sites", "other_call_sites"]
    assert (ranking["places"][-1]["lookups"], ranking["places_not_shown"]) == (2, 3)


def test_every_scope_is_told_or_the_one_that_was_asked_for(sidecar: Sidecar) -> None:
    look_up(sidecar, 60, PIPELINE)
    look_up(sidecar, 60, HANDLER, scope="default")
    sidecar.cycle(90)
    assert set(read(sidecar, scope=None)["scopes"]) == {"chat", "default", "other"}
    places = read(sidecar, scope="default")["scopes"]["default"]["ranking"]["places"]
    assert [tuple(each["call_sites"]) for each in places] == [HANDLER]
    with pytest.raises(KeyError, match="nope"):
        read(sidecar, scope="nope")


def test_a_scope_without_lookups_has_no_ranking(sidecar: Sidecar) -> None:
    sidecar.cycle(60)
    assert chat(sidecar)["ranking"] == {"lookups": 0, "redundant_lookups": 0, "places": [], "places_not_shown": 0}


class Step(NamedTuple):
    request: str
    sites: Sites
    minute: int
    then: str


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["", "r1", "r2", "r3", "r4"]),
        st.sampled_from([(), PIPELINE, HANDLER, ACTION]),
        st.integers(-60, 119),
        st.sampled_from(["", "", "cycle", "kill", "stop", "die before commit", "die after commit"]),
    ),
    max_size=25,
)


def take(sidecar: Sidecar, step: Step) -> None:
    look_up(sidecar, step.minute * 60, step.sites, request=step.request)
    if step.then == "cycle":
        sidecar.cycle()
    elif step.then == "kill":
        sidecar.kill()
    elif step.then == "stop":
        sidecar.stop()
    elif step.then == "die before commit":
        killed_in(sidecar, State, "commit")
    elif step.then == "die after commit":
        killed_in(sidecar, JournalReader, "release")


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_ranking_is_that_of_the_whole_history_however_often_the_sidecar_dies(steps: list[Step]) -> None:
    with TemporaryDirectory() as place, closing(Sidecar(Path(place))) as sidecar:
        sidecar.now_us = START + 2 * HOUR_US - 1
        for step in steps:
            take(sidecar, step)
        sidecar.cycle()
        found = chat(sidecar, since_s=7199)
    firsts: dict[str, Sites] = {}
    pairs: Counter[tuple[Sites, Sites | None]] = Counter()
    in_window: Counter[str] = Counter()
    for step in steps:
        first = firsts.setdefault(step.request, step.sites) if step.request in firsts and step.request else None
        if step.request:
            firsts.setdefault(step.request, step.sites)
        if step.minute >= 0:
            pairs[step.sites, first] += 1
            in_window["looking_requests"] += bool(step.request) and first is None
            in_window["redundant_lookups"] += first is not None
    by_number = {(number_of(s), NO_FIRST if f is None else number_of(f)): n for (s, f), n in pairs.items()}
    assert [(tuple(each["call_sites"]), each["lookups"], each["redundant_lookups"]) for each in places_of(found)] == [
        (next(s for s, _ in pairs if number_of(s) == each.place), each.lookups, each.redundant)
        for each in ranked(by_number)
    ]
    assert {name: found["window"][name] for name in in_window} == in_window
    for each in places_of(found):
        told_pairs = {tuple(f["call_sites"]): f["redundant_lookups"] for f in each["first_looked_up_at"]}
        assert all(pairs[tuple(each["call_sites"]), first] == n for first, n in told_pairs.items())


def places_of(scope: dict[str, Any]) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = scope["ranking"]["places"]
    return places


def test_a_commit_that_fails_counts_no_lookup(directory: Path) -> None:
    book = Book()
    book.looked_up(0, request="r1", sites=PIPELINE)
    changes = book.commit()
    with opened(directory) as state:
        commit(state, nothing())
        with closing(sqlite3.connect(directory / DATABASE_NAME)) as other:
            other.execute("CREATE TRIGGER broken BEFORE INSERT ON lookups BEGIN SELECT RAISE(ABORT, 'broken'); END")
            with pytest.raises(StateError, match="broken"):
                commit(state, changes)
            assert other.execute("SELECT count(*) FROM places").fetchone() == (0,)
            other.execute("DROP TRIGGER broken")
        commit(state, changes)
    assert rows(directory, "SELECT lookups FROM lookups") == [(1,)]


def test_an_hour_keeps_the_places_that_matter_most(state: State, directory: Path) -> None:
    hot = [count(generated(number), 5, first=number_of(PIPELINE)) for number in range(PLACES_KEPT)]
    commit(state, nothing(lookups=hot))
    for batch in range(5):
        numbers = range(1000 * (batch + 1), 1000 * (batch + 1) + HOUR_ROWS_MAX // 2)
        commit(state, nothing(lookups=[count(generated(number)) for number in numbers]))
    assert rows(directory, "SELECT count(*) FROM lookups")[0][0] <= HOUR_ROWS_MAX
    assert rows(directory, "SELECT sum(lookups) FROM lookups") == [(5 * PLACES_KEPT + 5 * HOUR_ROWS_MAX // 2,)]
    named = {place for (place,) in rows(directory, "SELECT place FROM lookups WHERE first > 0")}
    assert named == {each.place for each in hot}
    # Of those that are not told apart any more, no call sites are left behind.
    (kept,), (used,) = (rows(directory, f"SELECT count(*) FROM {table}")[0] for table in ("places", "lookups"))
    assert kept <= used


def test_hours_are_forgotten_as_minutes_are_and_call_sites_with_the_last_of_them(state: State, directory: Path) -> None:
    kept_hours = MINUTES_KEPT // 60
    commit(state, nothing(lookups=[count(PIPELINE, hour=HOUR - kept_hours), count(HANDLER, hour=HOUR)]))
    state.forget_old(START)
    assert len(rows(directory, "SELECT * FROM lookups")) == 2
    state.forget_old(START + HOUR_US)
    assert rows(directory, "SELECT hour FROM lookups") == [(HOUR,)]
    ((sites,),) = rows(directory, "SELECT sites FROM places")
    assert json.loads(sites) == list(HANDLER)


def test_the_oldest_hours_are_forgotten_when_there_are_too_many_rows(
    state: State, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "ROWS_MAX", 10)
    commit(state, nothing(lookups=[count(generated(n), hour=HOUR + h) for h in range(4) for n in range(6)]))
    state.forget_old(START)
    assert rows(directory, "SELECT DISTINCT hour - ? FROM lookups".replace("?", str(HOUR))) == [(2,), (3,)]
    assert len(rows(directory, "SELECT * FROM places")) == 6


def test_a_first_place_is_told_for_as_long_as_its_lookup_is_kept(state: State, directory: Path) -> None:
    commit(state, nothing(totals=creates(1), lookups=[count(PIPELINE), count(HANDLER, first=number_of(PIPELINE))]))
    commit(state, nothing(totals=creates(1), lookups=[count(ACTION, first=number_of(generated(1)))]))
    document = read_lookups(directory, since_s=60, scope="chat", limit=10, now_us=START + 60_000_000)
    firsts = {
        tuple(each["call_sites"]): [tuple(first["call_sites"]) for first in each["first_looked_up_at"]]
        for each in places_of(document["scopes"]["chat"])
    }
    assert firsts == {HANDLER: [PIPELINE], ACTION: [()], PIPELINE: []}


def test_what_the_file_system_cannot_decode_is_kept(state: State, directory: Path) -> None:
    odd = ("app/\udcff.py:1:f", "quote'\"\n\0.py:2:g")
    commit(state, nothing(lookups=[count(odd)]))
    ((sites,),) = rows(directory, "SELECT sites FROM places")
    assert json.loads(sites) == [r"app/\udcff.py:1:f", odd[1]]


def test_the_other_places_have_no_call_sites(state: State, directory: Path) -> None:
    commit(state, nothing(lookups=[LookupCount("chat", HOUR, OTHER, (), OTHER, 3)]))
    assert rows(directory, "SELECT count(*) FROM places") == [(0,)]


def test_forgetting_ids_keeps_the_places(sidecar: Sidecar) -> None:
    look_up(sidecar, 60, PIPELINE, HANDLER)
    sidecar.cycle(90)
    before = places_of(chat(sidecar))
    sidecar.kill()
    (sidecar.state / "key").write_bytes(b"n" * 32)
    sidecar.cycle(90)
    assert places_of(chat(sidecar)) == before


@pytest.mark.parametrize("sites", ["no json", "[1]", '{"a": 1}', r'["\udcff"]'])
def test_reading_what_is_damaged_is_an_error_of_the_state(sidecar: Sidecar, sites: str) -> None:
    look_up(sidecar, 60, PIPELINE)
    sidecar.cycle(90)
    with tampered(sidecar, f"UPDATE places SET sites = '{sites}'"), pytest.raises(StateError, match="readable state"):
        read(sidecar)
