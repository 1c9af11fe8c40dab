"""What a fleet's summary says: the verdict, what casts doubt on it, and what to know about the figures."""

import json
import re
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from recorded_prometheus import Line, RecordedPrometheus

from session_exporter.cli.view_metrics import main
from session_exporter.sidecar.summary import window_of

pytestmark = pytest.mark.integration

HOSTILE = 'sco"pe\\ \x1b[2J\u202e'
MINUTES = 30
BEFORE_S = count(1, 0.5)


class Instance:
    """One instance of a case, born before the window's first sample unless told; its counters grow from 0."""

    def __init__(self, case: str, name: str, *, is_up: bool = True, **births: float | None) -> None:
        self.target = {"case": case, "instance": name, "job": "session-exporter"}
        now_s = float(int(time.time()))
        self.times = [now_s - 60 * MINUTES + 15 * number for number in range(4 * MINUTES + 1)]
        # No two states are made in the same microsecond.
        self.born_s = births.get("born_s", self.times[0] - next(BEFORE_S))
        self.lines: list[Line] = []
        self.gauge("session_exporter_config_last_reload_successful", 1)
        self.gauge("up", 1, last=int(is_up))
        if self.born_s is not None:
            loss = {"reason": "malformed", "kind": "unknown"}
            self.gauge("session_exporter_events_lost_created", self.born_s - 0.01, **loss)

    def gauge(self, name: str, value: float, last: float | None = None, **labels: str) -> "Instance":
        values = [value] * (len(self.times) - 1) + [value if last is None else last]
        self.lines.append(({"__name__": name, **labels, **self.target}, list(zip(self.times, values, strict=True))))
        return self

    def counter(self, name: str, last: int, first: int = 0, **labels: str) -> "Instance":
        steps = len(self.times) - 1
        values = [float(first + (last - first) * number // steps) for number in range(steps + 1)]
        self.lines.append(({"__name__": name, **labels, **self.target}, list(zip(self.times, values, strict=True))))
        return self

    def scope(self, name: str = "web", creates: int = 1, reuses: int = 99, first: int = 0) -> "Instance":
        if self.born_s is not None:
            self.gauge("session_creates_created", self.born_s, scope=name)
        self.gauge("session_active_sessions", 7, scope=name)
        self.gauge("session_active_users", 5, scope=name)
        self.counter("session_creates_total", creates, first, scope=name)
        return self.counter("session_reuses_total", reuses, first, scope=name)

    def reads(self, *numbers: int, of: int = 0) -> "Instance":
        """Partitions, and the shared stream; without `of` as versions do that do not say how many there are."""
        for partition in (*map(str, numbers), "shared"):
            self.gauge("session_exporter_stream_lag_seconds", 0.5, partition=partition)
        return self.gauge("session_exporter_stream_partitions", of) if of else self


def fleets() -> list[Line]:
    old_s = time.time() - 5 * 86_400
    duplicates, losses = "session_rapid_duplicate_creates_total", "session_context_loss_total"
    instances = [
        Instance("well", "a:1").scope().scope("chat", 10, 90).gauge("session_exporter_workers", 4),
        Instance("well", "b:1").scope(),
        Instance("lost", "a:1").scope().counter("session_exporter_events_lost_total", 3, reason="full", kind="created"),
        Instance("doubled", "a:1").scope().gauge("session_db_duplicate_active_users", 2, last=0, scope="web"),
        Instance("doubled", "b:1").scope().gauge("session_db_duplicate_active_users", 2, scope="web"),
        Instance("newer", "a:1").scope().counter(duplicates, 2, scope="web", cause="cross_planet"),
        Instance("cut off", "a:1").scope().gauge("session_exporter_stream_up", 1, last=0),
        Instance("shares", "a:1").scope().reads(0, 1, of=4),
        Instance("shares", "b:1").scope().reads(2, 3, of=4),
        Instance("shares", "a forwarder:1"),
        Instance("shares", "a sidecar:1").scope(),
        Instance("unread", "a:1").scope().reads(0, 1, 2, of=16),
        Instance("unread", "b:1").scope().reads(8),
        Instance("unread one", "a:1").scope().counter(losses, 1, scope="web", reason="missing").reads(0, of=2),
        Instance("unread one", "b:1", is_up=False).scope().reads(1, of=2),
        Instance("overlap", "a:1").scope().reads(0, 1, of=3),
        Instance("overlap", "b:1").scope().reads(1, 2, of=3),
        Instance("two fleets", "a:1").scope().reads(0, 1, of=2),
        Instance("two fleets", "b:1").scope().reads(0, 1, of=2),
        Instance("two fleets", "c:1").scope().reads(0, of=1),
        Instance("consumer twice", "a:1", born_s=old_s).scope().reads(0, of=1),
        Instance("consumer twice", "again", born_s=old_s).scope().reads(0, of=1),
        Instance("nobody reads", "a sidecar:1").scope(),
        Instance("nobody reads", "a forwarder:1"),
        Instance("down", "a:1").scope().counter(losses, 1, scope="web", reason="missing"),
        Instance("down", "b:1", is_up=False).scope(),
        Instance("a finder is down", "a:1", is_up=False).scope().counter(losses, 9, scope="web", reason="missing"),
        Instance("a finder is down", "b:1").scope().counter(losses, 2, scope="web", reason="missing"),
        Instance("the finder is down", "a:1", is_up=False).scope().counter(losses, 9, scope="web", reason="missing"),
        Instance("the finder is down", "b:1").scope(),
        Instance("moved", "z:1", is_up=False, born_s=old_s).scope().counter(losses, 9, scope="web", reason="missing"),
        Instance("moved", "b:1", born_s=old_s).scope().counter(losses, 9, scope="web", reason="missing"),
        Instance("a forwarder is down", "a:1").scope().reads(0, of=1),
        Instance("a forwarder is down", "f:1", is_up=False),
        Instance("old", "a:1", born_s=old_s).scope(creates=1001, reuses=1099, first=1000),
        Instance("unborn", "a:1", born_s=None).scope(creates=1001, reuses=1099, first=1000),
        Instance("twice", "a:1", born_s=old_s).scope(),
        Instance("twice", "again", born_s=old_s).scope(),
        Instance("hostile", "\x1b[31m\u202e:1").scope(HOSTILE).counter(duplicates, 1, scope=HOSTILE, cause="\x1b]0;x"),
        Instance("idle", "a:1").scope(creates=0, reuses=0),
    ]
    return [line for each in instances for line in each.lines]


@pytest.fixture(scope="module")
def prometheus(require_server: Any) -> Any:
    with RecordedPrometheus(require_server("prometheus"), require_server("promtool"), fleets()) as server:
        yield server


def view(prometheus: Any, case: str, *arguments: str) -> Result:
    given = ("--prometheus", prometheus.url, "--selector", f'case="{case}"', *arguments)
    return CliRunner().invoke(main, given, prog_name="view-metrics", env={"LC_ALL": "C.UTF-8"})


def document(prometheus: Any, case: str, *arguments: str) -> dict[str, Any]:
    return json.loads(view(prometheus, case, "--json", *arguments).stdout)


def test_all_instances_are_summed_by_scope_and_judged_like_one(prometheus: Any) -> None:
    found = document(prometheus, "well")
    assert (found["total"]["creates"], found["total"]["reuses"]) == (12, 288)
    assert {name: scope["window"]["creates"] for name, scope in found["scopes"].items()} == {"chat": 10, "web": 2}
    assert found["scopes"]["web"]["active_sessions"] == 14
    assert found["problems"] == ["chat: reuse ratio 90.00% is below the target of 95%"]
    assert found["exporter"]["workers"] == 4
    assert found["total"].keys() == window_of([]).keys()


def test_a_scope_is_judged_alone_and_what_to_type_next_keeps_to_it(prometheus: Any) -> None:
    assert view(prometheus, "well", "--scope", "web").exit_code == 0
    result = view(prometheus, "well", "--scope", "chat")
    assert result.exit_code == 1
    assert "Sessions Reused:         90\n" in result.stdout
    assert "Look next" not in result.stdout  # nobody in particular can tell more


def test_the_configuration_says_what_ratio_is_to_be_reached(prometheus: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("scopes: {chat: {reuse_target: 0.9}, web: {reuse_target: 0.5}}\n")
    result = view(prometheus, "well", "--config.file", str(config))
    assert (result.exit_code, "(≥90% chat; ≥50% web)" in result.stdout) == (0, True)


def test_lost_events_are_told_and_change_no_verdict(prometheus: Any) -> None:
    result = view(prometheus, "lost")
    assert result.exit_code == 0
    assert "3 events were lost before being counted: the true figures are higher" in result.stdout


def test_users_with_several_sessions_in_the_database_are_counted_once_however_many_saw_them(prometheus: Any) -> None:
    result = view(prometheus, "doubled")
    assert (result.exit_code, "ALERT: web: 2 users have several active sessions" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("newer", "a newer version counts what this one does not know: session_rapid_duplicate_creates_total cross_pl"),
        ("cut off", "a:1 cannot reach the stream: events wait to be counted"),
        ("unread", "partitions 3-7,9-15 of 16: no consumer that can be scraped reads them"),
        ("overlap", "partition 1 of 3: read by a:1, b:1; expected one consumer, --selector chooses a fleet"),
        ("a forwarder is down", "f:1 cannot be scraped now (up is 0): what forwarders have not sent is not counted"),
        ("nobody reads", "no consumer that can be scraped reads what 1 forwarder may send"),
    ],
)
def test_what_makes_the_counts_too_low_leaves_no_verdict(prometheus: Any, case: str, why: str) -> None:
    result = view(prometheus, case)
    assert result.exit_code == 2
    assert "It cannot be told whether the last 1h was healthy" in result.stdout
    assert f"  {why}" in result.stdout


def test_partitions_that_are_all_read_leave_no_doubt(prometheus: Any) -> None:
    result = view(prometheus, "shares")
    assert (result.exit_code, "partition" in result.stdout) == (0, False)
    assert document(prometheus, "shares")["exporter"]["partitions_unread"] == []
    assert document(prometheus, "unread")["exporter"]["partitions_unread"] == [*range(3, 8), *range(9, 16)]


def test_what_is_wrong_is_wrong_though_the_reader_of_a_partition_is_down(prometheus: Any) -> None:
    result = view(prometheus, "unread one")
    assert result.exit_code == 1
    assert "  partition 1 of 2: no consumer that can be scraped reads it\n" in result.stdout


def test_two_fleets_that_are_whole_are_told_apart_by_nobody_and_this_is_said(prometheus: Any) -> None:
    result = view(prometheus, "two fleets")
    assert result.exit_code == 0
    assert "partitions 0-1 of 2: read by a:1, b:1; expected one consumer, --selector chooses a fleet" in result.stdout


def test_a_consumer_that_is_scraped_twice_reads_its_partitions_once(prometheus: Any) -> None:
    result = view(prometheus, "consumer twice")
    assert (result.exit_code, "read by" in result.stdout) == (0, False)


def test_what_is_wrong_is_wrong_though_an_instance_is_down(prometheus: Any) -> None:
    result = view(prometheus, "down")
    assert result.exit_code == 1
    assert "ALERT: 1 context loss (missing 1)" in result.stdout
    assert "b:1 cannot be scraped now (up is 0)" in result.stdout
    assert "view-metrics incidents --since 1h --url http://a:1 " in result.stdout


@pytest.mark.parametrize(
    ("case", "asked"), [("a finder is down", "b:1"), ("moved", "b:1"), ("the finder is down", None)]
)
def test_who_is_down_is_nobody_to_ask(prometheus: Any, case: str, asked: str | None) -> None:
    result = view(prometheus, case)
    assert result.exit_code == 1
    assert re.findall("incidents .*--url http://([^ ]*)", result.stdout) == ([asked] if asked else [])


def test_what_was_counted_before_anybody_looked_is_left_out_and_this_is_said(prometheus: Any) -> None:
    result = view(prometheus, "old")
    assert (result.exit_code, "Sessions Created:        1\n" in result.stdout) == (0, True)
    assert "a:1: what was counted before the first scrape is not in the figures" in result.stdout


def test_without_births_it_is_said_what_is_estimated(prometheus: Any) -> None:
    result = view(prometheus, "unborn")
    assert (result.exit_code, "Sessions Reused:         99\n" in result.stdout) == (0, True)
    assert "a:1: without _created, so that restarts and first counts are estimates" in result.stdout


def test_a_sidecar_that_is_scraped_twice_is_counted_once(prometheus: Any) -> None:
    result = view(prometheus, "twice")
    assert "Sessions Reused:         99\n" in result.stdout
    assert "a:1, again: one sidecar that is scraped twice, or copies of one state; counted once" in result.stdout


def test_hostile_labels_are_shown_and_harmless(prometheus: Any) -> None:
    result = view(prometheus, "hostile", "--scope", HOSTILE)
    assert "Sessions Reused:         99\n" in result.stdout
    assert r"\x1b[31m\u202e:1" in result.stdout
    assert {char for char in result.output if not char.isprintable()} == {"\n"}


def test_no_traffic_is_no_verdict(prometheus: Any) -> None:
    result = view(prometheus, "idle")
    assert (result.exit_code, "No session traffic in the last 1h" in result.stdout) == (2, True)
    again = f"view-metrics --since 24h --prometheus {prometheus.url} --selector 'case=\"idle\"'"
    assert again in result.stdout
