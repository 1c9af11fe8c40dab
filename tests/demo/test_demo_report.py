"""What the demonstration prints at its end, and how it judges itself."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from session_exporter.demo.findings import Claims, Counts, Truth, read_claims, read_truth
from session_exporter.demo.report import STAGES, Outcome, broken_promises, clearest, findings
from session_exporter.demo.store import CONVERSATION, PROGRESS_UPDATE, ChatDatabase
from session_exporter.demo.traffic import Plan, TrafficCounts

INCIDENT = "incident\n" + "\n".join(f"  at {stage}" for stage in STAGES)
RACY = Outcome(
    plan=Plan(),
    tally=TrafficCounts(wrong_greetings=3, wrongly_greeted={"ada"}, failures=2, workers={1: 10, 2: 20}),
    workers=frozenset({1, 2}),
    truth=Truth({CONVERSATION: Counts(9, 6, 3), PROGRESS_UPDATE: Counts(8, 5, 3)}, orphans=1),
    claims=Claims(
        creates={CONVERSATION: 9, PROGRESS_UPDATE: 8},
        reuses={CONVERSATION: 91, PROGRESS_UPDATE: 92},
        duplicates={
            CONVERSATION: {"same_request": 4, "cross_worker": 2},
            PROGRESS_UPDATE: {"same_request": 5, "cross_worker": 0},
        },
        losses={CONVERSATION: 3, PROGRESS_UPDATE: 0},
        redundant_lookups={CONVERSATION: 200, PROGRESS_UPDATE: 190},
    ),
    judgement="⚠️  BELOW TARGET",
    judgement_code=1,
    incident=INCIDENT,
    lookups="conversation: 3.00 lookups per request now, n/a before\n" + "\n".join(STAGES),
)
REPAIRED = replace(
    RACY,
    tally=TrafficCounts(failures=2, workers={1: 10, 2: 20}),
    truth=Truth({CONVERSATION: Counts(3, 0, 3), PROGRESS_UPDATE: Counts(3, 0, 3)}, orphans=0),
    claims=Claims(
        creates={CONVERSATION: 3, PROGRESS_UPDATE: 3},
        reuses={CONVERSATION: 97, PROGRESS_UPDATE: 97},
        duplicates={CONVERSATION: {"same_request": 0}, PROGRESS_UPDATE: {"same_request": 0}},
        losses={CONVERSATION: 0, PROGRESS_UPDATE: 0},
        redundant_lookups={CONVERSATION: 0, PROGRESS_UPDATE: 0},
    ),
    judgement_code=0,
    incident="",
    lookups="conversation: 1.00 lookups per request now, n/a before",
)


def test_a_run_that_showed_everything_breaks_no_promise() -> None:
    assert broken_promises(RACY, fixed=False) == []
    assert broken_promises(REPAIRED, fixed=True) == []


def test_the_racy_run_does_not_pass_for_a_repaired_one_nor_the_other_way_round() -> None:
    assert "no duplicate is found" in broken_promises(RACY, fixed=True)
    assert "no request looks its session up twice" in broken_promises(RACY, fixed=True)
    assert "duplicates are found across workers" in broken_promises(REPAIRED, fixed=False)


@pytest.mark.parametrize(
    ("outcome", "promise"),
    [
        (replace(RACY, truth=Truth({CONVERSATION: Counts(10, 6, 3)}, 1)), "agree with the rows"),
        (replace(RACY, truth=Truth({CONVERSATION: Counts(9, 7, 3)}, 1)), "agree with the rows"),
        (replace(RACY, workers=frozenset({1, 2, 3})), "every worker"),
        (replace(RACY, incident="incident\n  at ChatPipeline.run"), "an incident names all three call sites"),
        (replace(RACY, lookups="ChatPipeline.run MessageHandler.handle"), "the redundant lookups name all three"),
        (replace(RACY, judgement_code=2), "view-metrics says unhealthy"),
        (replace(RACY, tally=replace(RACY.tally, wrong_greetings=0)), "users are greeted"),
    ],
)
def test_what_was_not_as_promised_is_named(outcome: Outcome, promise: str) -> None:
    assert [promise in broken for broken in broken_promises(outcome, fixed=False)] == [True]


def test_a_repaired_run_must_reach_the_reuse_ratio_in_every_scope() -> None:
    claims = replace(REPAIRED.claims, reuses={CONVERSATION: 97, PROGRESS_UPDATE: 56})
    assert broken_promises(replace(REPAIRED, claims=claims), fixed=True) == ["every scope reaches its reuse ratio"]


def test_the_findings_set_rows_beside_counts() -> None:
    text = findings(RACY)
    assert "rows in conversation_sessions                    9        9  agrees" in text
    assert "duplicates by cause: same_request 9, cross_worker 2" in text
    assert "greeted although they had picked a project: 1 of 40 users" in text
    assert "DISAGREES" not in text
    assert "DISAGREES" in findings(replace(RACY, truth=REPAIRED.truth))


def incident(identifier: str, *stages: str) -> dict[str, Any]:
    return {"id": identifier, "creates": [{"call_sites": ["store.py:9:create", stage]} for stage in stages]}


def test_the_clearest_incident_is_that_of_three_creates_by_the_three_stages() -> None:
    incidents = [incident("d-1", STAGES[0]), incident("d-2", *STAGES, *STAGES), incident("d-3", *STAGES)]
    assert clearest(incidents) == "d-3"
    assert clearest(incidents[:2]) == "d-1"
    assert not clearest([])


def test_claims_are_read_from_an_exposition() -> None:
    exposition = """\
# HELP session_creates_total Sessions created.
# TYPE session_creates_total counter
session_creates_total{scope="conversation"} 3.0
# TYPE session_rapid_duplicate_creates_total counter
session_rapid_duplicate_creates_total{scope="conversation",cause="same_request"} 2.0
session_rapid_duplicate_creates_total{scope="conversation",cause="unobserved"} 0.0
# TYPE session_context_loss_total counter
session_context_loss_total{scope="conversation",reason="reported"} 1.0
session_context_loss_total{scope="conversation",reason="missing"} 4.0
# TYPE session_redundant_lookups_total counter
session_redundant_lookups_total{scope="conversation"} 7.0
# TYPE session_reuse_ratio gauge
session_reuse_ratio{scope="conversation"} NaN
"""
    claims = read_claims(exposition)
    assert claims.creates == {"conversation": 3}
    assert claims.causes() == {"same_request": 2}
    assert claims.losses == {"conversation": 5}
    assert claims.redundant_lookups == {"conversation": 7}


def test_rows_less_than_the_window_after_another_of_their_user_are_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "chat.sqlite"
    ChatDatabase(path, one_active_session=False).close()
    rows = [
        ("a", "ada", "00.0"),
        ("b", "ada", "09.9"),
        ("c", "ada", "19.9"),
        ("d", "bob", "20.0"),
        ("e", "bob", "20.1"),
    ]
    insert = "INSERT INTO conversation_sessions (id, user_id, status, created_at) VALUES (?, ?, 'active', ?)"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executemany(insert, [(row, user, f"2026-01-01T00:00:{at}00000+00:00") for row, user, at in rows])
    truth = read_truth(path)
    assert truth.scopes[CONVERSATION] == Counts(creates=5, duplicates=2, ended=0)
    assert truth.orphans == 5


def test_a_story_is_shown_until_it_happened() -> None:
    story = "d-1: twice\n\nTimeline\n    found\n      a.py:1\n  > created A\n      a.py:2\n      from b.py:3"
    names = "\n\nNames\n  A  session"
    shown = findings(replace(RACY, incident=f"{story}\n    found B\n      a.py:1{names}\n  B  session"))
    assert f"\n\n{story}\n    ...{names}\n\nWhere" in shown
    for whole in (story, story + names, "no timeline"):
        assert f"\n\n{whole}\n\nWhere" in findings(replace(RACY, incident=whole))
