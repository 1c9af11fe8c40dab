"""Hosts whose clocks differ: races are judged by one clock, and whose clock is wrong can be seen."""

import time

import pytest
from fleet_processes import fleet_of
from sidecar_process import environment, until

from session_exporter.journal import JournalWriter

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

CONFIG = "lateness: 1s\nscopes: {chat: {duplicate_window: 2s, idle_timeout: 10m}}\n"
SKEW = "session_exporter_clock_skew_seconds"
DUPLICATES = "session_rapid_duplicate_creates_total"
AHEAD_US = 3_000_000
HOUR_US = 3_600_000_000
USERS = 20
CREATED = 1
# The clock of a whole process, however it is asked.
SITE = """\
import os, time
ahead_ns = int(os.environ["CLOCK_AHEAD_US"]) * 1000
own_ns, own_s = time.time_ns, time.time
time.time_ns, time.time = lambda: own_ns() + ahead_ns, lambda: own_s() + ahead_ns / 1e9
"""


@pytest.fixture
def fleet(tmp_path, require_server):
    """Two replicas, the second of which is 3 s ahead, and a consumer that is an hour behind."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    path = f"{site}:{environment()['PYTHONPATH']}"
    with fleet_of(tmp_path, require_server("redis-server"), CONFIG, replicas=2, consumers=1) as made:
        made.forwarders[1].variables = {"PYTHONPATH": path, "CLOCK_AHEAD_US": str(AHEAD_US)}
        made.consumers[0].variables = {"PYTHONPATH": path, "CLOCK_AHEAD_US": str(-HOUR_US)}
        yield made.start()


@pytest.fixture
def workers(fleet):
    writers = [
        JournalWriter(journal, replica=f"pod-{number}", clock_us=lambda ahead_us=number * AHEAD_US: now_us() + ahead_us)
        for number, journal in enumerate(fleet.journals)
    ]
    yield writers
    for writer in writers:
        writer.close()


def now_us():
    return time.time_ns() // 1000


def create_all(workers, replica, what):
    for number in range(USERS):
        at_us = now_us() + replica * AHEAD_US
        workers[replica].append((CREATED, at_us, "chat", f"{what} {number} of {replica}", f"{what} {number}"))


def test_races_over_hosts_are_judged_by_one_clock(fleet, workers) -> None:
    begun_us = now_us()
    create_all(workers, 0, "in a race")  # by the clocks of the hosts, 4 s before the other
    create_all(workers, 1, "in no race")
    until(lambda: now_us() - begun_us > 1_000_000, "a second later")
    create_all(workers, 1, "in a race")
    until(lambda: now_us() - begun_us > 2_600_000, "more than the window later")
    create_all(workers, 0, "in no race")  # by the clocks of the hosts, 0.4 s before the other

    (consumer,) = fleet.consumers
    found = consumer.scrape_until(lambda scrape: scrape.total("session_creates_total") == 4 * USERS, "all creates")
    duplicates = found.of("session_rapid_duplicate_creates_total", scope="chat")
    assert {dict(labels)["cause"]: number for labels, number in duplicates.items() if number} == {
        "cross_replica": USERS
    }
    assert found.total("session_exporter_late_events_total") == 0
    skews = [process.scrape().total(SKEW) for process in (*fleet.forwarders, consumer)]
    assert skews == pytest.approx([0, -AHEAD_US / 1e6, HOUR_US / 1e6], abs=0.1)
