"""A state that an earlier version wrote: opened, brought up to date once, and nothing of it lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sidecars import Sidecar

from session_exporter.core import events as wire
from session_exporter.errors import StateError, StateIncompatible
from session_exporter.sidecar.lookups import read_lookups
from session_exporter.sidecar.schema import DATABASE_NAME, VERSION, open_to_read

WRITTEN = {version: Path(__file__).with_name(f"state_{version}.sql") for version in (1, 2)}


@pytest.fixture(params=WRITTEN)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def sidecar(tmp_path: Path, version: int) -> Iterator[Sidecar]:
    """A sidecar that finds a state of an earlier version, of two minutes before."""
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.state.mkdir(mode=0o700)
        (sidecar.state / "key").write_bytes(b"k" * 32)
        with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as connection:
            connection.executescript(WRITTEN[version].read_text(encoding="utf-8"))
        yield sidecar


def schema_of(path: Path) -> set[tuple[str, str]]:
    """Tables and indexes with their columns."""
    with closing(sqlite3.connect(path / DATABASE_NAME)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        return {(name, str(connection.execute(f"PRAGMA table_xinfo({name})").fetchall())) for (name,) in names}


def test_counts_and_incidents_are_kept(sidecar: Sidecar) -> None:
    chat = sidecar.chat(120)
    counts = (chat.creates, chat.reuses, chat.adopted, chat.lookups, chat.redundant_lookups)
    assert counts == (3, 3, 1, 5, 2)
    assert sum(chat.duplicates.values()) == chat.losses["reported"] == 1
    incidents = sidecar.incidents()
    assert [each["kind"] for each in incidents] == ["context_loss", "rapid_duplicate_create"]
    assert len(incidents[1]["creates"]) == 2
    assert sidecar.summary()["total"]["creates"] == 3


def test_incidents_are_found_by_what_they_had_no_columns_for(sidecar: Sidecar) -> None:
    sidecar.cycle(120)
    (loss,) = sidecar.incidents(reason="reported")
    assert loss["kind"] == "context_loss"
    assert loss in sidecar.incidents(user=loss["user"])
    (duplicate,) = sidecar.incidents(kind="rapid_duplicate_create")
    assert sidecar.incidents(cause=duplicate["cause"]) == [duplicate]
    assert duplicate in sidecar.incidents(user=duplicate["user"])


@pytest.mark.parametrize("version", [1])
def test_incidents_without_a_story_have_an_empty_one(sidecar: Sidecar) -> None:
    sidecar.cycle(120)
    assert [each["timeline"] for each in sidecar.incidents()] == [[], []]
    assert [each["id"] for each in sidecar.incidents()] == ["l-b27518d3ee", "d-fb01d8b464"]


@pytest.mark.parametrize("version", [2])
def test_incidents_keep_their_stories(sidecar: Sidecar) -> None:
    sidecar.cycle(120)
    assert [len(each["timeline"]) for each in sidecar.incidents()] == [9, 2]
    assert [each["id"] for each in sidecar.incidents()] == ["l-2518be6ca4", "d-0d0293ff88"]


def test_what_was_waiting_is_judged_and_sessions_are_known(sidecar: Sidecar) -> None:
    sidecar.reused(130, "s4", "dan")
    chat = sidecar.chat(140)
    assert (chat.creates, chat.reuses, chat.adopted) == (4, 4, 1)


def test_a_request_that_went_on_is_still_the_same(sidecar: Sidecar, version: int) -> None:
    sidecar.tell(wire.LookedUp, 121, "s1", request="r8", sites=("app/store.py:9:find", "app/handler.py:7:handle"))
    assert sidecar.chat(122).redundant_lookups == 3
    document = read_lookups(sidecar.state, since_s=3600, scope="chat", limit=10, now_us=sidecar.now_us)
    (place,) = document["scopes"]["chat"]["ranking"]["places"]
    redundant = {each["place"]: each["redundant_lookups"] for each in place["first_looked_up_at"]}
    assert redundant == ({"other_call_sites": 1} if version == 1 else {place["place"]: 3})


@pytest.mark.parametrize("version", [1])
def test_lookups_of_minutes_that_counted_no_requests_are_left_out_of_what_is_compared(sidecar: Sidecar) -> None:
    sidecar.cycle(120)
    document = read_lookups(sidecar.state, since_s=3600, scope="chat", limit=10, now_us=sidecar.now_us)
    assert document["scopes"]["chat"]["window"] == {
        "lookups": 5,
        "redundant_lookups": 2,
        "looking_requests": 0,
        "lookups_outside_requests": 0,
        "lookups_per_request": None,
    }
    for request in ("r10", "r10", "r11", "r12"):
        sidecar.tell(wire.LookedUp, 180, "s1", request=request)
    sidecar.cycle(200)
    document = read_lookups(sidecar.state, since_s=3600, scope="chat", limit=10, now_us=sidecar.now_us)
    assert document["scopes"]["chat"]["window"] == {
        "lookups": 9,
        "redundant_lookups": 3,
        "looking_requests": 3,
        "lookups_outside_requests": 0,
        "lookups_per_request": 4 / 3,
    }


def test_it_has_the_tables_of_a_new_state(sidecar: Sidecar, tmp_path: Path) -> None:
    sidecar.cycle(120)
    with closing(Sidecar(tmp_path / "new")) as new:
        new.cycle(120)
        assert schema_of(sidecar.state) == schema_of(new.state)


def test_it_goes_on_after_another_restart(sidecar: Sidecar) -> None:
    sidecar.cycle(120)
    sidecar.kill()
    sidecar.created(121, "s6", "fay")
    assert sidecar.chat(200).creates == 5


def test_whoever_only_reads_says_to_start_the_sidecar_once(sidecar: Sidecar, version: int) -> None:
    with pytest.raises(
        StateIncompatible, match=f"state version {version}; expected {VERSION}: start session-exporter once"
    ):
        open_to_read(sidecar.state)
    sidecar.cycle(120)
    open_to_read(sidecar.state).close()


@pytest.mark.parametrize("version", [1])
def test_an_upgrade_that_failed_in_its_middle_is_made_again(sidecar: Sidecar) -> None:
    with closing(sqlite3.connect(sidecar.state / DATABASE_NAME, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE lookups (a)")  # in the way of the upgrade: it fails in its middle
        with pytest.raises(StateError, match="already exists"):
            sidecar.cycle(120)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(incidents)")}
        assert "user" not in columns
        connection.execute("DROP TABLE lookups")
    assert sidecar.chat(120).creates == 3
