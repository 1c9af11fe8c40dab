"""`view-metrics` on a sidecar that reads a real PostgreSQL: reconciliation, verdict and incidents."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from postgres_server import Postgres
from watched import Table, WatchedSidecar, configured, running, until

from session_exporter.cli.view_metrics import main
from session_exporter.core import events as wire

pytestmark = pytest.mark.integration


@pytest.fixture
def table(postgres: Postgres) -> Table:
    return Table(postgres)


@pytest.fixture
def sidecar(table: Table, tmp_path: Path) -> Iterator[WatchedSidecar]:
    with running(tmp_path, configured(table.url())) as sidecar:
        sidecar.until_up()
        yield sidecar


def ask(sidecar: WatchedSidecar, *arguments: str) -> Result:
    options = ("--state.directory", str(sidecar.state))
    return CliRunner().invoke(main, (*arguments, *options), prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def until_found(sidecar: WatchedSidecar, count: int) -> None:
    until(lambda: sidecar.cycle().ledger.scopes["chat"].found >= count, f"{count} rows are judged")


def test_hooks_and_database_agree_until_somebody_passes_the_hooks_by(table: Table, sidecar: WatchedSidecar) -> None:
    for number in range(3):
        sidecar.tell_now(wire.Created, f"s{number}", f"u{number}")
    table.insert("s0", "s1", "s2")
    until_found(sidecar, 3)
    agreed = ask(sidecar, "reconcile", "--json")
    assert (agreed.exit_code, json.loads(agreed.stdout)["agree"]) == (0, True)
    table.insert("s3")
    until_found(sidecar, 4)
    apart = ask(sidecar, "reconcile")
    assert (apart.exit_code, "⚠️  1 session in the database that no hook told of" in apart.stdout) == (1, True)


def test_a_user_with_several_active_sessions_is_told_everywhere(table: Table, sidecar: WatchedSidecar) -> None:
    table.insert("s1", "s2", user="ann")
    table.insert("s3")
    until(lambda: sidecar.watched().duplicate_users == {"chat": 1}, "they are counted")
    verdict = ask(sidecar)
    assert verdict.exit_code == 1
    assert "Duplicate Active Users:  1" in verdict.stdout
    assert "ALERT: chat: 1 user has several active sessions" in verdict.stdout
    (told,) = json.loads(ask(sidecar, "incidents", "--kind", "duplicate_active_user", "--json").stdout)["incidents"]
    story = ask(sidecar, "explain", told["id"]).stdout
    assert "2 active sessions in the database" in story
    assert "session-exporter audit db" in story


def test_what_was_under_way_at_the_first_look_is_no_difference(table: Table, tmp_path: Path) -> None:
    config = configured(table.url())
    patient = replace(config, watch=(replace(config.watch[0], grace_us=1_000_000),))
    with psycopg.connect(table.server.dsn(table.database)) as under_way:
        under_way.execute("INSERT INTO sessions (id, user_id) VALUES ('s1', 'ann')")
        with running(tmp_path, patient) as sidecar:
            sidecar.until_up()
            under_way.commit()
            sidecar.tell_now(wire.Created, "s1", "ann")
            until(lambda: any(each.is_known for each in sidecar.positions().values()), "the old rows are known")
            totals = sidecar.cycle().ledger.scopes["chat"]
            assert (totals.reported, totals.found, totals.unseen) == (1, 1, 0)
