"""The state's directory is lost while the journal survives: counting starts anew, and nothing is counted again."""

import shutil

import pytest
from sidecar_process import Sidecar

from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration

CREATES = "session_creates_total"
BORN = "session_creates_created"


@pytest.fixture
def sidecar(tmp_path):
    with Sidecar(tmp_path, "lateness: 100ms\n") as running:
        yield running


@pytest.fixture
def tracker(sidecar):
    open_tracker = SessionTracker(sidecar.journal)
    yield open_tracker
    open_tracker.close()


@pytest.mark.parametrize("ended_by", ["stop", "kill"])
def test_a_lost_state_starts_new_counters_and_counts_nothing_again(sidecar, tracker, ended_by):
    tracker.created("a user", "a session")
    tracker.reused("a user", "a session")
    before = sidecar.start().scrape_until(lambda scrape: scrape.total(CREATES) == 1, "the create")
    getattr(sidecar, ended_by)()
    shutil.rmtree(sidecar.state)
    # The worker lives, so its segment is still there, and has been counted.
    tracker.reused("a user", "a session")
    anew = sidecar.start().scrape()
    sidecar.until_logged("level=warning .*the state that had counted these events is lost")
    assert anew.total(CREATES) == 0
    assert anew.total("session_reuses_total") == 0
    assert anew.total("session_exporter_events_total") == 0
    for labels, born in before.of(BORN).items():
        assert anew.of(BORN)[labels] > born
    # What was known is still known: neither a create nor an adoption.
    tracker.created("a user", "a session")
    tracker.observed("a user", "a session")
    seen = sidecar.scrape_until(lambda scrape: scrape.total("session_reuses_total") == 1, "the sighting")
    assert seen.total(CREATES) == 0
    assert seen.total("session_adopted_total") == 0
    tracker.created("another user", "another session")
    counted = sidecar.scrape_until(lambda scrape: scrape.total(CREATES) == 1, "the next create")
    assert sidecar.stop() == 0
    again = sidecar.start().scrape()
    assert again.total(CREATES) == 1
    assert again.regressions(counted) == []
    assert "is lost" not in sidecar.log


def test_a_first_start_counts_what_was_recorded_before_it(sidecar, tracker):
    tracker.created("a user", "a session")
    scrape = sidecar.start().scrape_until(lambda scrape: scrape.total(CREATES) == 1, "the create")
    assert scrape.total("session_exporter_events_total") == 1
    assert "is lost" not in sidecar.log
