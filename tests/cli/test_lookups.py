"""`view-metrics lookups`: how often requests look sessions up, and which places do it again."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from states import commit, creates, nothing, opened

from session_exporter.cli.lookups import lookup_report
from session_exporter.cli.view_metrics import main
from session_exporter.core.lookups import HOUR_US, NO_FIRST, LookupCount, number_of
from session_exporter.core.minutes import MINUTE_US, Minute
from session_exporter.errors import PeerError

FIND, GET = "app/store.py:9:Sessions.find", "app/sessions.py:60:get_or_create_session"
PIPELINE = (FIND, GET, "app/pipeline.py:4:ChatPipeline.run")
HANDLER = (FIND, GET, "app/handler.py:7:MessageHandler.handle")
ACTION = (FIND, GET, "app/action.py:2:TaskAction.perform")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def place(sites: tuple[str, ...], lookups: int, redundant: int, share: float | None, **more: Any) -> dict[str, Any]:
    return {
        "place": "call_sites",
        "call_sites": list(sites),
        "lookups": lookups,
        "redundant_lookups": redundant,
        "share": share,
        "first_looked_up_at": [],
        **more,
    }


def first(sites: tuple[str, ...], redundant: int, kind: str = "call_sites") -> dict[str, Any]:
    return {"place": kind, "call_sites": list(sites), "redundant_lookups": redundant}


def window(requests: int, redundant: int, outside: int = 0) -> dict[str, Any]:
    return {
        "lookups": requests + redundant + outside,
        "redundant_lookups": redundant,
        "looking_requests": requests,
        "lookups_outside_requests": outside,
        "lookups_per_request": (requests + redundant) / requests if requests else None,
    }


def document(*places: dict[str, Any], **scopes: dict[str, Any]) -> dict[str, Any]:
    ranking = {"places": list(places), "redundant_lookups": 378, "lookups": 598, "places_not_shown": 0}
    conversation = {"window": window(180, 378), "before": window(120, 1), "ranking": ranking}
    return {
        "version": "0.1.0",
        "generated_at": "2026-11-20T18:00:30.000000Z",
        "window_seconds": 3600.0,
        "ranking_since": "2026-11-20T17:00:00.000000Z",
        "scopes": {"conversation": conversation, "default": {"window": window(0, 0), "before": window(0, 0)}, **scopes},
    }


def racy() -> dict[str, Any]:
    return document(
        place(HANDLER, 198, 198, 0.5238, first_looked_up_at=[first(PIPELINE, 190), first(HANDLER, 8)]),
        place(ACTION, 180, 180, 0.4762, first_looked_up_at=[first(PIPELINE, 180)]),
        place(PIPELINE, 180, 0, 0.0),
    )


GOLDEN = """\
conversation: 3.10 lookups per request now, 1.01 before
  the last 1h: 558 lookups by 180 requests, 378 redundant
  the 1h before: 121 lookups by 120 requests, 1 redundant

  redundant   share  lookups  since 2026-11-20 17:00Z, at
        198  52.38%      198  app/store.py:9:Sessions.find
                              app/sessions.py:60:get_or_create_session
                              app/handler.py:7:MessageHandler.handle
                                190 after the one at app/pipeline.py:4:ChatPipeline.run
                                8 after one at this very place
        180  47.62%      180  app/store.py:9:Sessions.find
                              app/sessions.py:60:get_or_create_session
                              app/action.py:2:TaskAction.perform
                                180 after the one at app/pipeline.py:4:ChatPipeline.run
          0   0.00%      180  app/store.py:9:Sessions.find
                              app/sessions.py:60:get_or_create_session
                              app/pipeline.py:4:ChatPipeline.run

A request needs one lookup: make it once, where the first is made, and hand the session on.
"""


def test_the_report_compares_and_ranks(server: Any) -> None:
    server.give("/api/v1/lookups", racy())
    result = run("lookups", "--url", server.url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, GOLDEN, "")
    assert server.asked == ["/api/v1/lookups?since=1h&limit=10"]


def test_what_is_asked_for_reaches_the_sidecar(server: Any) -> None:
    server.give("/api/v1/lookups", racy())
    run("--since", "2h", "--scope", "a", "lookups", "--url", server.url, "--scope", "b c", "--limit", "3")
    assert server.asked == ["/api/v1/lookups?since=2h&scope=b+c&limit=3"]


def test_json_is_the_document_itself(server: Any) -> None:
    newer = racy() | {"of_a_newer_version": ["\x1b\u202e"]}
    server.give("/api/v1/lookups", newer)
    result = run("lookups", "--url", server.url, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, newer)
    assert result.stdout.isascii()


def test_places_without_call_sites_and_the_others_are_named_as_such() -> None:
    text = lookup_report(
        document(
            place(
                HANDLER, 5, 4, 0.5, first_looked_up_at=[first((), 3, "no_call_sites"), first((), 1, "of_the_future")]
            ),
            place((), 3, 2, 0.25, place="no_call_sites", first_looked_up_at=[first((), 2, "other_call_sites")]),
            place((), 2, 2, 0.25, place="other_call_sites"),
        )
    )
    lines = [line.strip() for line in text.splitlines()]
    assert "3 after no call sites known" in lines
    assert "1 after of_the_future" in lines
    assert "2  25.00%        3  no call sites known" in lines
    assert "2 after other call sites" in lines
    assert "2  25.00%        2  other call sites" in lines


@pytest.mark.parametrize(
    ("earlier", "here", "told"),
    [
        ((FIND, GET, "a.py:1:f"), (FIND, GET, "b.py:1:g"), "a.py:1:f"),
        ((FIND, "a.py:1:f", "c.py:1:h"), (FIND, "b.py:1:g", "c.py:1:h"), "a.py:1:f"),
        ((FIND,), (FIND, GET), FIND),
        ((FIND, GET), (FIND,), GET),
    ],
)
def test_the_first_lookup_is_told_by_where_its_way_parts(
    earlier: tuple[str, ...], here: tuple[str, ...], told: str
) -> None:
    text = lookup_report(document(place(here, 1, 1, 1.0, first_looked_up_at=[first(earlier, 1)])))
    assert f" 1 after the one at {told}\n" in text


def test_places_that_are_not_shown_are_counted(server: Any) -> None:
    answer = racy()
    answer["scopes"]["conversation"]["ranking"]["places_not_shown"] = 1
    server.give("/api/v1/lookups", answer)
    assert "  and 1 place more (--limit)\n" in run("lookups", "--url", server.url).stdout


def test_lookups_outside_of_requests_are_said_to_be_beyond_judgement() -> None:
    outside = {
        "window": window(0, 0, outside=7),
        "before": window(0, 0),
        "ranking": {"places": [place(PIPELINE, 7, 0, None)]},
    }
    text = lookup_report(document(web=outside))
    assert "web: n/a lookups per request now, n/a before\n" in text
    assert "  the last 1h: 7 lookups by 0 requests, 0 redundant, 7 outside of requests\n" in text
    assert "  Whether these were redundant cannot be told: no request is known." in text
    assert "  the 1h before: no lookups\n" in text
    assert "    n/a        7  app/store.py:9:Sessions.find" in text


def test_no_lookups_are_exit_code_0_and_said(server: Any) -> None:
    server.give(
        "/api/v1/lookups", document() | {"scopes": {"default": {"window": window(0, 0), "before": window(0, 0)}}}
    )
    result = run("lookups", "--url", server.url)
    assert (result.exit_code, result.stdout) == (0, "No lookups in the last 1h\n")


@pytest.mark.parametrize("body", [b"{}", b'{"window_seconds": 1, "scopes": {"a": {}}}', b"[]"])
def test_what_cannot_be_read_is_exit_code_2(server: Any, body: bytes) -> None:
    server.give("/api/v1/lookups", body)
    for arguments in ((), ("--json",)):
        result = run("lookups", "--url", server.url, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")


def test_nobody_to_ask_and_a_wrong_limit_are_exit_code_2(dead_url: str) -> None:
    assert run("lookups", "--url", dead_url).exit_code == 2
    assert run("lookups", "--limit", "0").exit_code == 2
    assert run("lookups", "--watch").exit_code == 2


HOSTILE = st.text(max_size=8) | st.sampled_from(["\x1b[2J", "\u202e", "\r\n", "9" * 400])


@given(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_that_a_peer_says_is_printed_unless_it_is_inert(scope: str, site: str, kind: str) -> None:
    hostile = place((site,), 1, 1, 1.0, first_looked_up_at=[first((kind,), 1), first((), 1, kind)])
    answer = document(hostile, place((), 1, 1, None, place=kind)) | {"ranking_since": site}
    answer["scopes"][scope] = answer["scopes"]["conversation"]
    text = lookup_report(answer)
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(map(len, text.split("\n"))) < 400


def test_a_document_of_another_kind_is_the_peers_fault(documents: Any) -> None:
    with pytest.raises(PeerError, match="document of lookups"):
        lookup_report(documents.healthy())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state in which one request looked up thrice, now."""
    now_us = time.time_ns() // 1000
    minute = Minute(counts={"lookups": 3, "looking_requests": 1, "redundant_lookups": 2})
    counts = [
        LookupCount("chat", now_us // HOUR_US, number_of(sites), sites, before, 1)
        for sites, before in ((PIPELINE, NO_FIRST), (HANDLER, number_of(PIPELINE)), (ACTION, number_of(PIPELINE)))
    ]
    with opened(tmp_path) as state:
        commit(state, nothing(totals=creates(1), minutes=[("chat", now_us // MINUTE_US, minute)], lookups=counts))
    return tmp_path


def test_the_state_is_read_when_no_sidecar_runs(directory: Path) -> None:
    result = run("lookups", "--state.directory", str(directory))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("chat: 3.00 lookups per request now, n/a before\n")
    assert all(sites[-1] in result.stdout for sites in (PIPELINE, HANDLER, ACTION))


def test_a_scope_that_the_state_does_not_know_is_exit_code_2(directory: Path) -> None:
    result = run("lookups", "--state.directory", str(directory), "--scope", "nope")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "knows no scope 'nope'" in result.stderr
