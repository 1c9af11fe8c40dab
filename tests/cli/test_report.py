import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.cli.plain import ASCII, EMOJI, encodable, inert_lines, marks_for, ratio_text, window_text
from session_exporter.cli.report import report
from session_exporter.cli.stories import stories
from session_exporter.core.plaintext import inert
from session_exporter.errors import PeerError
from session_exporter.quantities import parse_duration

HEALTHY = """\
======================================================================
SESSION MANAGEMENT METRICS
======================================================================

Sessions Created:        5
Sessions Reused:         95
Session Reuse Ratio:     95.00%
Context Loss Incidents:  0
Rapid Duplicate Creates: 0

Health Status:
  ✅ Session reuse ratio is HEALTHY (≥95%)"""

UNHEALTHY = """\
======================================================================
SESSION MANAGEMENT METRICS
======================================================================

Sessions Created:        3
Sessions Reused:         7
Session Reuse Ratio:     70.00%
Context Loss Incidents:  1
Rapid Duplicate Creates: 2

Health Status:
  ⚠️  Session reuse ratio is BELOW TARGET (<95%)
  ⚠️  ALERT: High session creation rate detected!
  ⚠️  ALERT: 2 rapid duplicate creates (same_request 1, cross_worker 1)
  ⚠️  ALERT: 1 context loss (reported 1)

Look next:
  view-metrics incidents --since 1h --url http://web-1:9897  # each with its call sites
  view-metrics --watch --since 1h --url http://web-1:9897    # minute by minute: when did it begin?"""

UNKNOWN = """\
======================================================================
SESSION MANAGEMENT METRICS
======================================================================

Sessions Created:        0
Sessions Reused:         0
Session Reuse Ratio:     n/a
Context Loss Incidents:  0
Rapid Duplicate Creates: 0

Health Status:
  ❔ No session traffic in the last 1h

Look next:
  session-exporter tail     # are events recorded at all?
  view-metrics --since 24h  # was there any before?"""

STORIES = """\
2026-11-20 17:58:03.116Z  rapid_duplicate_create  d-1f3a9c0b2e
  cause cross_worker  scope conversation  user u:3f9a  gap 116.2 ms
    +0.0 ms  session s:aa  worker 4711@web-1  request r:11
               at app/handlers.py:41:Handler.run
               at app/main.py:7:serve
  +116.2 ms  session s:bb  worker 4712@web-1  trace 0af7651916cd43dd8448eb211c80319c
               at app/actions.py:9:Action.start

2026-11-20 17:59:00.000Z  context_loss  l-77
  reason reported  scope conversation  user u:3f9a
  expected s:aa  got s:bb"""


def test_a_healthy_window_reads_as_documented(documents: Any) -> None:
    assert report(documents.healthy()) == HEALTHY


def test_an_unhealthy_window_names_each_problem_and_what_to_type_next(documents: Any) -> None:
    assert report(documents.unhealthy(), source=["--url", "http://web-1:9897"]) == UNHEALTHY


def test_what_to_type_next_begins_with_the_newest_incident_and_names_redundant_lookups(documents: Any) -> None:
    document = documents.unhealthy()
    document["total"]["redundant_lookups"] = 4
    text = report(document, newest=["view-metrics", "explain", "d-1f3a9c0b2e"])
    assert text.partition("Look next:\n")[2].splitlines() == [
        "  view-metrics explain d-1f3a9c0b2e  # the newest: why, and what to change",
        "  view-metrics incidents --since 1h  # each with its call sites",
        "  view-metrics lookups --since 1h    # lookups that requests could spare",
        "  view-metrics --watch --since 1h    # minute by minute: when did it begin?",
    ]


def test_redundant_lookups_of_a_healthy_window_call_for_nothing(documents: Any) -> None:
    document = documents.healthy()
    document["total"]["redundant_lookups"] = 4
    assert report(document) == HEALTHY


def test_a_window_without_traffic_says_that_it_cannot_tell(documents: Any) -> None:
    assert report(documents.unknown()) == UNKNOWN


def test_users_with_several_active_sessions_are_told_where_a_database_is_asked(documents: Any) -> None:
    document = documents.healthy()
    document["scopes"]["conversation"] |= {"duplicate_active_users": 0}
    assert "\nDuplicate Active Users:  0\n" in report(document)
    assert "session-exporter audit" not in report(document)
    document["scopes"]["conversation"] |= {"duplicate_active_users": 3}
    document |= {"healthy": False, "problems": ["conversation: 3 users have several active sessions"]}
    text = report(document, source=("--url", "http://web-1:9897"))
    assert "\nDuplicate Active Users:  3\n" in text
    assert "\n  ⚠️  ALERT: conversation: 3 users have several active sessions\n" in text
    look = "view-metrics incidents --kind duplicate_active_user --since 30d --url http://web-1:9897"
    assert f"\n  {look}  # users with several active sessions\n" in text
    assert "\n  session-exporter audit db --help" in text


def test_a_user_with_several_active_sessions_reads_as_a_story() -> None:
    creates = [{"session": "s:aa"}, {"at": "2026-11-20T17:58:03Z", "session": "s:bb"}]
    incident = {
        "id": "u-1",
        "kind": "duplicate_active_user",
        "at": "2026-11-20T18:00:00Z",
        "scope": "chat",
        "user": "u:3f9a",
        "active_rows": 7,
        "gap_ms": None,
        "creates": creates,
    }
    assert stories({"incidents": [incident]}).splitlines() == [
        "2026-11-20 18:00:00.000Z  duplicate_active_user  u-1",
        "  scope chat  user u:3f9a  active sessions 7",
        "  ?  session s:aa",
        "  ?  session s:bb",
    ]


def test_without_emoji_the_report_is_pure_ascii(documents: Any) -> None:
    for document in (documents.healthy(), documents.unhealthy(), documents.unknown()):
        assert report(document, marks=ASCII).isascii()


def test_the_target_shown_is_the_scopes_own(documents: Any) -> None:
    document = documents.healthy() | {"scopes": {"web": documents.scope(0.8, creates=5, reuses=95)}}
    assert "✅ Session reuse ratio is HEALTHY (≥80%)" in report(document)


def test_several_scopes_get_a_table_and_those_below_are_named(documents: Any) -> None:
    scopes = {
        "conversation": documents.scope(creates=5, reuses=40),
        "progress_update": documents.scope(0.8, creates=5, reuses=150, high_create_rate=True),
        "thread": documents.scope(0.8),
    }
    document = documents.summary(healthy=False, total=documents.window(creates=10, reuses=190), scopes=scopes)
    text = report(document)
    assert (
        "Rapid Duplicate Creates: 0\n\n"
        "Scope            Created  Reused   Ratio  Target  Losses  Duplicates\n"
        "conversation           5      40  88.88%     95%       0           0\n"
        "progress_update        5     150  96.77%     80%       0           0\n\n"
        "Health Status:\n"
        "  ⚠️  Session reuse ratio is BELOW TARGET (<95%): conversation\n"
        "  ⚠️  ALERT: High session creation rate detected! (progress_update)\n"
    ) in text


def test_healthy_scopes_with_several_targets_are_named_with_them(documents: Any) -> None:
    scopes = {"a": documents.scope(creates=1, reuses=99), "b": documents.scope(0.8, creates=1, reuses=99)}
    document = documents.summary(healthy=True, total=documents.window(creates=2, reuses=198), scopes=scopes)
    assert "✅ Session reuse ratio is HEALTHY (≥95% a; ≥80% b)" in report(document)


def test_the_documents_judgement_is_not_judged_again(documents: Any) -> None:
    document = documents.unhealthy() | {"healthy": True}
    assert "HEALTHY (≥95%)" in report(document)
    assert "⚠️" not in report(document)


def test_a_problem_this_version_has_no_words_for_is_shown_as_it_came(documents: Any) -> None:
    document = documents.healthy() | {"healthy": False, "problems": ["conversation: 3 isolation violations"]}
    assert "  ⚠️  ALERT: conversation: 3 isolation violations" in report(document)


def test_losses_without_creates_or_reuses_are_reported(documents: Any) -> None:
    total = documents.window(context_losses=2, losses_by_reason={"missing": 2})
    text = report(documents.summary(healthy=False, total=total))
    assert "  ❔ No creates or reuses in the last 1h\n  ⚠️  ALERT: 2 context losses (missing 2)" in text


def test_lost_events_and_the_sidecars_hint_are_told_even_when_healthy(documents: Any) -> None:
    document = documents.healthy() | {"exporter": {"events_lost": 1, "hint": "no worker is seen in /run/x"}}
    assert report(document).endswith(
        "\n\nNote:\n  1 event was lost before being counted: the true figures are higher\n  no worker is seen in /run/x"
    )


def test_a_ratio_just_below_its_target_never_looks_like_it() -> None:
    assert ratio_text(0.94999) == "94.99%"
    assert ratio_text(0.57) == "57.00%"
    assert ratio_text(1.0) == "100.00%"
    assert ratio_text(None) == ratio_text(float("nan")) == "n/a"


@given(st.integers(1, 10**5), st.integers(0, 10**5))
def test_a_ratio_is_rounded_down_exactly(creates: int, reuses: int) -> None:
    hundredths = reuses * 10_000 // (creates + reuses)
    assert ratio_text(reuses / (creates + reuses)) == f"{hundredths // 100}.{hundredths % 100:02d}%"


@given(st.integers(1, 31 * 86_400))
def test_a_window_is_written_as_it_can_be_typed_back(seconds: int) -> None:
    assert parse_duration(window_text(seconds)) == seconds * 1_000_000


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"healthy": "yes"},
        {"healthy": True, "total": None, "window_seconds": 3600},
        {"healthy": True, "total": {"creates": -1, "reuses": 0, "operations": 0}, "window_seconds": 3600},
        {"healthy": True, "total": {"creates": 10**30, "reuses": 0, "operations": 0}, "window_seconds": 3600},
        {"healthy": True, "total": {"creates": 0, "reuses": 0, "operations": 0}, "window_seconds": -1},
    ],
)
def test_what_is_no_summary_is_a_peer_error_that_says_so(document: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match="the answer is no summary"):
        report(document)


def test_incidents_read_as_stories_with_their_call_sites(documents: Any) -> None:
    assert stories({"incidents": [documents.duplicate(), documents.loss()]}) == STORIES


def test_a_violation_reads_as_the_border_and_what_lies_beyond_it() -> None:
    incident = {
        "id": "v-1",
        "kind": "isolation_violation",
        "at": "2026-11-20T17:58:03.116200Z",
        "scope": "default",
        "violation": "db_session_crossed_requests",
        "user": "u:1",
        "request": "r:2",
        "other_request": "r:1",
        "call_sites": ["app/db.py:7:current"],
    }
    assert stories({"incidents": [incident]}) == (
        "2026-11-20 17:58:03.116Z  isolation_violation  v-1\n"
        "  violation db_session_crossed_requests  scope default  user u:1\n"
        "  request r:2  before it in request r:1\n"
        "    at app/db.py:7:current"
    )


def test_an_incident_of_which_little_is_known_is_still_told() -> None:
    incident = {"id": "x", "kind": "isolation_violation", "creates": [{"at": "yesterday"}, {}]}
    text = stories({"incidents": [incident]})
    assert text.startswith("at an unknown time  isolation_violation  x\n")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01", "\x1b[2J"])
def test_a_time_that_is_none_is_shown_and_never_raises(documents: Any, at: str) -> None:
    incident = documents.duplicate() | {"at": at}
    incident["creates"][0]["at"] = at
    text = stories({"incidents": [incident]})
    assert text.startswith(inert(at))
    assert "\n  ?  session s:aa" in text


@pytest.mark.parametrize(
    "document", [{}, {"incidents": {}}, {"incidents": [{"kind": 1}]}, {"incidents": [{"id": "x"}]}]
)
def test_what_is_no_list_of_incidents_is_a_peer_error(document: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match="the answer is no list of incidents"):
        stories(document)


HOSTILE = "\x1b[2J\x07\n\r\u202e\u2066\u200b\x9b31m\x00\u2028"


def test_hostile_text_becomes_visible_and_keeps_its_line(documents: Any) -> None:
    incident = documents.duplicate()
    incident |= {"user": HOSTILE, "scope": HOSTILE, "kind": HOSTILE, "id": HOSTILE, "cause": HOSTILE}
    incident["creates"][0] |= {"session": HOSTILE, "replica": HOSTILE, "call_sites": [HOSTILE], "request": HOSTILE}
    text = stories({"incidents": [incident]})
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count("\n") == STORIES.partition("\n\n")[0].count("\n") - 1
    assert r"\x1b[2J\x07\n\r\u202e" in text


def test_hostile_names_in_a_summary_become_visible(documents: Any) -> None:
    scopes = {HOSTILE: documents.scope(creates=5, reuses=5), "b": documents.scope(creates=5, reuses=5)}
    more = {"problems": [HOSTILE], "exporter": {"hint": HOSTILE}}
    total = documents.window(creates=10, reuses=10)
    text = report(documents.summary(healthy=False, total=total, scopes=scopes, **more), source=["--scope", HOSTILE])
    assert all(line.isprintable() for line in text.split("\n"))


@given(st.text())
def test_inert_text_is_printable_and_bounded_for_any_text(text: str) -> None:
    assert inert(text).isprintable()
    assert len(inert(text * 300)) <= 256 * len(r"\U0010ffff")


def test_a_message_of_several_lines_keeps_them() -> None:
    assert inert_lines("a\x1b\nb") == "a\\x1b\nb"


@pytest.mark.parametrize(
    ("encoding", "environ", "marks"),
    [
        ("utf-8", {}, EMOJI),
        ("utf-8", {"LANG": "C.UTF-8"}, EMOJI),
        ("utf-8", {"LANG": "C"}, ASCII),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ASCII),
        ("utf-8", {"LC_CTYPE": "POSIX"}, ASCII),
        ("utf-8", {"LC_CTYPE": "de_DE.UTF-8", "LANG": "C"}, EMOJI),
        ("utf-8", {"LC_ALL": "C", "LANG": "C.UTF-8"}, ASCII),
        ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, EMOJI),
        ("latin-1", {}, ASCII),
        ("ascii", {"LANG": "C.UTF-8"}, ASCII),
        ("no-such-encoding", {}, ASCII),
        (None, {}, ASCII),
    ],
)
def test_the_marks_are_those_the_terminal_can_show(encoding: str | None, environ: dict[str, str], marks: Any) -> None:
    assert marks_for(encoding, environ) is marks


@given(st.text(), st.sampled_from(["ascii", "latin-1", "utf-8", "no-such-encoding", None]))
def test_any_text_can_be_printed_in_any_encoding(text: str, encoding: str | None) -> None:
    known = encoding if encoding and not re.match("no-", encoding) else "ascii"
    encodable(text, encoding).encode(known)
