"""Nothing lost, nothing twice: whoever is killed, and whenever."""

import random

import pytest
from kill_campaign import campaign
from sidecar_process import Sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_kills_of_workers_and_sidecar_lose_nothing_and_count_nothing_twice(tmp_path):
    seed = random.SystemRandom().randrange(1_000_000)
    outcome = campaign(tmp_path, seed=seed, seconds=25)
    assert outcome.problems == [], f"seed {seed}"
    assert sum(outcome.kills.values()) >= 20
    assert outcome.answers > 0
    duplicates = outcome.final.of("session_rapid_duplicate_creates_total", scope="conversation")
    found = {dict(labels)["cause"] for labels, value in duplicates.items() if value}
    assert found == {"same_request", "same_worker", "cross_worker"}, f"seed {seed}"


def test_no_counter_goes_backwards_when_an_idle_sidecar_is_killed(tmp_path):
    with Sidecar(tmp_path) as sidecar:
        sidecar.start()
        # Each scrape drains, and finds nothing to commit.
        before = [sidecar.scrape() for _ in range(5)][-1]
        sidecar.kill()
        assert sidecar.start().scrape().regressions(before) == []
