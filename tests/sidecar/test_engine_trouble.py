"""What an engine makes of clocks, keys and reloads that go wrong."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sidecars import CHAT, Sidecar

from session_exporter.config import PrivacySettings
from session_exporter.core import events as wire
from session_exporter.core.judge import ScopeJudge
from session_exporter.core.scopes import ScopeRules
from session_exporter.core.vicinity import Vicinity
from session_exporter.errors import StateError
from session_exporter.sidecar.summary import read_hooks

LATER_S = 60.0
DAY_S = 86_400.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with closing(Sidecar(tmp_path)) as sidecar:
        yield sidecar


def test_an_event_of_a_clock_that_was_ahead_does_not_switch_detection_off(sidecar: Sidecar) -> None:
    sidecar.created(DAY_S, "s0", "eve")
    sidecar.cycle(LATER_S)
    sidecar.stop()
    for second in range(3):
        sidecar.created(100 + second, f"s{second + 1}")
        sidecar.cycle(110 + second)
    chat = sidecar.chat(200)
    assert (chat.creates, chat.duplicate_creates, chat.ends["expired"]) == (4, 2, 0)


def test_a_clock_that_is_set_back_makes_no_event_late_for_long(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(1000)
    sidecar.created(100, "s2", "bob")
    assert sidecar.cycle(99).ledger.late_events == 0
    assert sidecar.cycle(200).ledger.late_events == 0


def test_what_waits_is_counted_before_ids_are_written_in_another_way(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.created(1, "s2", "bob")
    sidecar.cycle(1)
    sidecar.engine.reload(replace(CHAT, privacy=PrivacySettings(show_ids=True)))
    assert sidecar.chat(2).creates == 2


def test_a_start_after_a_kill_counts_what_waited_before_ids_are_written_in_another_way(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    sidecar.cycle(1)
    sidecar.kill()
    sidecar.config = replace(CHAT, privacy=PrivacySettings(show_ids=True))
    assert sidecar.chat(2).creates == 1


def test_a_reload_that_fails_leaves_all_of_the_previous_configuration_in_force(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    sidecar.cycle(0)
    scopes = {**CHAT.scopes, "basket": ScopeRules("basket")}
    broken = replace(CHAT, scopes=scopes, privacy=PrivacySettings(key_file=tmp_path / "missing"))
    with pytest.raises(StateError, match="missing"):
        sidecar.engine.reload(broken)
    sidecar.created(1, "s1")
    assert sidecar.chat(LATER_S).creates == 1
    assert "basket" not in sidecar.cycle().ledger.scopes


def test_an_event_that_trips_over_a_defect_costs_no_other_event(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = ScopeJudge.created

    def trip(self: ScopeJudge, report: object) -> None:
        if report.evidence.sites == ("bad.py:1:f",):
            raise ZeroDivisionError
        judged(self, report)

    monkeypatch.setattr(ScopeJudge, "created", trip)
    sidecar.created(0, "s1")
    sidecar.created(1, "s2", "bob", sites=("bad.py:1:f",))
    sidecar.created(2, "s3", "eve")
    with pytest.raises(ZeroDivisionError):
        sidecar.cycle(LATER_S)
    snapshot = sidecar.cycle(LATER_S)
    assert snapshot.ledger.scopes["chat"].creates == 2
    assert snapshot.exporter.events_lost["malformed", "unknown"] == 1


def test_an_incident_whose_story_trips_over_a_defect_counts_without_it(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trip(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Vicinity, "around", trip)
    sidecar.created(0, "s1")
    sidecar.created(1, "s2")
    with pytest.raises(ZeroDivisionError):
        sidecar.cycle(LATER_S)
    snapshot = sidecar.cycle(LATER_S)
    assert snapshot.ledger.scopes["chat"].duplicate_creates == 1
    assert not any(snapshot.exporter.events_lost.values())
    assert "1 incidents are kept without their story" in caplog.text


def test_a_session_that_leaves_and_returns_within_one_commit_is_stored_as_it_is_now(sidecar: Sidecar) -> None:
    idle_s = CHAT.scopes["chat"].idle_timeout_us / 1e6
    sidecar.created(0, "s1", "")
    sidecar.reused(2 * idle_s, "s1", "")
    sidecar.cycle(2 * idle_s + LATER_S)
    sidecar.kill()
    sidecar.tell(wire.Ended, 2 * idle_s + 90, "s1", "", reason="completed")
    ends = sidecar.chat(2 * idle_s + 200).ends
    assert (ends["expired"], ends["completed"]) == (1, 1)


def test_the_state_can_be_read_wherever_it_is(tmp_path: Path) -> None:
    with closing(Sidecar(tmp_path / "a#b?c%20d")) as sidecar:
        sidecar.created(0, "s1")
        sidecar.cycle(LATER_S)
        assert sidecar.summary()["total"]["creates"] == 1


def test_a_damaged_start_time_of_a_worker_is_shown_as_the_latest_there_is(sidecar: Sidecar) -> None:
    sidecar.created(0, "s1")
    (control,) = sidecar.journal.glob("*.ctl")
    with control.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 8)
    sidecar.cycle(LATER_S)
    assert read_hooks(sidecar.state)[0]["started_at"].startswith("2255-")
