"""The volume of a consumer is lost: its counters begin anew, it knows whom it knew, and nothing is counted again."""

import shutil

import pytest
from fleet_processes import fleet_of
from sidecar_process import until

from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

CONFIG = "lateness: 200ms\nscopes: {chat: {duplicate_window: 1s, idle_timeout: 10m}}\n"
CREATES, BORN, LOST = "session_creates_total", "session_creates_created", "session_exporter_state_lost_total"
USERS = 60


@pytest.fixture
def fleet(tmp_path, require_server):
    with fleet_of(tmp_path, require_server("redis-server"), CONFIG, replicas=2, consumers=2) as running:
        yield running.start()


@pytest.fixture
def trackers(fleet):
    opened = [SessionTracker(journal) for journal in fleet.journals]
    yield opened
    for tracker in opened:
        tracker.close()


def everybody(act, first, last):
    for number in range(first, last):
        act(number)(f"user {number}", f"session {number}", scope="chat")


def total(fleet, name, **labels):
    return sum(scrape.total(name, **labels) for scrape in fleet.scrapes())


@pytest.mark.parametrize("ended_by", ["stop", "kill"])
def test_what_is_counted_after_a_volume_was_lost_is_what_happens_after(fleet, trackers, ended_by) -> None:
    everybody(lambda number: trackers[number % 2].created, 0, USERS)
    until(lambda: total(fleet, CREATES) == USERS, "the first creates")
    losing, other = fleet.consumers
    before, others_before = losing.scrape(), other.scrape()
    assert before.total(CREATES)
    assert before.total(LOST) == 0

    getattr(losing, ended_by)()
    shutil.rmtree(losing.state)
    everybody(lambda number: trackers[number % 2].created, USERS, 2 * USERS)
    losing.start()
    left = 2 * USERS - before.total(CREATES)
    until(lambda: total(fleet, CREATES) == left, "the next creates")
    counted = fleet.scrapes()
    assert [scrape.total(LOST) for scrape in counted] == [1, 0]
    assert counted[1].regressions(others_before) == []
    assert all(counted[0].of(BORN)[labels] > born for labels, born in before.of(BORN).items())

    # It knows whom it knew: these are neither created nor adopted, and go on where they were.
    everybody(lambda number: trackers[number % 2].observed, 0, 2 * USERS)
    until(lambda: total(fleet, "session_reuses_total") == 2 * USERS, "the sightings")
    assert total(fleet, CREATES) == left
    assert total(fleet, "session_adopted_total") == 0
    assert total(fleet, "session_active_sessions") == 2 * USERS

    last = losing.scrape()
    assert losing.stop() == 0
    again = losing.start().scrape()
    assert again.regressions(last) == []
    assert again.total(LOST) == 1
