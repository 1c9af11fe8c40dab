"""`view-metrics reconcile`: what hooks have told, beside what stands in the database."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sidecars import Sidecar
from watched_tables import rows_of, watched

from session_exporter.cli.view_metrics import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def compared(**figures: Any) -> dict[str, Any]:
    return {
        "since": "2026-11-20T17:00:00.000000Z",
        "read_until": "2026-11-20T18:00:29.000000Z",
        "reported": 1200,
        "found": 1200,
        "unseen": 0,
        "unreported": 0,
        "difference": 0,
        "waiting": 3,
        "unread": 8,
        "missing": 0,
        "agree": True,
        **figures,
    }


def document(documents: Any, **scopes: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = documents.healthy()
    found["scopes"] = {name: documents.scope() | {"reconciliation": each} for name, each in scopes.items()}
    return found


GOLDEN = """\
conversation: since 2026-11-20 17:00:00Z, read up to 2026-11-20 18:00:29Z
  Reported by hooks:       1200
  Found in the database:   1207
  Seen by no hook:         10
  Difference:              +7
  Still waiting:           3 found, 8 reported
  ⚠️  9 sessions in the database that no hook told of: something creates sessions where no hook
     looks, such as a function or a trigger of the database, another service, a job, or a way
     through the application that is not instrumented.
     Look next: view-metrics incidents --cause unobserved --since 30d --scope conversation --url URL
     and for what else writes to the table: wrap it, map it, or let it report
  ⚠️  1 session that hooks told of and the database does not have: rows were deleted before they
     were looked for, or transactions rolled back behind the hooks, or the application writes to
     another database or table than the one that is read.
     Look next: session-exporter check-config FILE: are these its tables, and its database?

thread: since 2026-11-20 17:00:00Z, read up to 2026-11-20 18:00:29Z
  Reported by hooks:       1200
  Found in the database:   1200
  Seen by no hook:         0
  Difference:              0
  Still waiting:           3 found, 8 reported
  ✅ Hooks and database agree
"""


def test_a_difference_is_told_with_what_it_means_and_what_to_do_next(server: Any, documents: Any) -> None:
    apart = compared(found=1207, unseen=10, unreported=9, difference=7, missing=1, agree=False)
    server.summary(document(documents, default=None, conversation=apart, thread=compared()))
    result = run("reconcile", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == GOLDEN.replace("URL", server.url)
    assert server.asked == ["/api/v1/summary?since=1h"]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "the table was not read lately"),
        ({"reported": 0, "found": 9, "unseen": 9}, "no hook tells of sessions of this scope"),
        ({"reported": 0, "found": 0}, "there were no sessions yet"),
    ],
)
def test_what_cannot_be_told_says_why(server: Any, documents: Any, figures: dict[str, Any], said: str) -> None:
    server.summary(document(documents, conversation=compared(agree=None, **figures)))
    result = run("reconcile", "--url", server.url)
    assert (result.exit_code, said in result.stdout) == (2, True)


def test_hooks_and_database_agree_when_all_scopes_do_that_can_be_compared(server: Any, documents: Any) -> None:
    server.summary(document(documents, conversation=compared(), thread=compared(agree=None)))
    assert run("reconcile", "--url", server.url).exit_code == 0


def test_one_scope_can_be_chosen(server: Any, documents: Any) -> None:
    server.summary(document(documents, conversation=compared()))
    assert run("reconcile", "--url", server.url, "--scope", "conversation").exit_code == 0
    assert server.asked == ["/api/v1/summary?since=1h&scope=conversation"]


def test_without_a_watch_nobody_can_tell(server: Any, documents: Any) -> None:
    server.summary(documents.healthy())
    result = run("reconcile", "--url", server.url)
    assert (result.exit_code, "`watch` in the configuration" in result.stdout) == (2, True)


def test_json_is_the_part_of_the_summary_that_reconciles(server: Any, documents: Any) -> None:
    newer = compared() | {"of_a_newer_version": 1}
    server.summary(document(documents, conversation=newer, default=None))
    result = run("reconcile", "--url", server.url, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"generated_at": "2026-11-20T18:00:30.000000Z", "agree": True, "scopes": {"conversation": newer}},
    )


def test_a_consumer_of_a_fleet_says_whose_sessions_it_has_counted(server: Any, documents: Any) -> None:
    found = document(documents, conversation=compared())
    found["exporter"]["notes"] = ["counted here: partitions 0-3 of 8"]
    server.summary(found)
    text = run("reconcile", "--url", server.url).stdout
    assert "Each consumer of a fleet reconciles the sessions of its own users" in text
    assert text.endswith("  counted here: partitions 0-3 of 8\n")


def test_a_prometheus_cannot_reconcile() -> None:
    result = run("reconcile", "--prometheus", "http://127.0.0.1:1")
    assert (result.exit_code, "no rows of a database: ask a sidecar" in result.stderr) == (2, True)


def test_the_state_tells_when_no_sidecar_does(tmp_path: Path) -> None:
    with closing(Sidecar(tmp_path)) as sidecar:
        sidecar.now_us = time.time_ns() // 1000
        sidecar.cycle()
        watched(sidecar)
        sidecar.cycle()
        rows_of(sidecar, {"s1": 0.0})
        sidecar.now_us += 60_000_000
        watched(sidecar)
        sidecar.cycle()
        assert sidecar.summary()["scopes"]["chat"]["reconciliation"]["found"] == 1
    result = run("reconcile", "--state.directory", str(sidecar.state), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["scopes"]["chat"]["unseen"] == 1
