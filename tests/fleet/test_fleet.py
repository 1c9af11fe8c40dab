"""One truth over six replicas: real workers, forwarders, consumers and Redis, held against the oracle."""

import random

import pytest
from fleet_campaign import count_later, kill_at_random, leave_alone, play, take_redis_away

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

SEED = random.SystemRandom().randrange(1_000_000)


@pytest.fixture
def program(require_server):
    return require_server("redis-server")


def test_totals_and_causes_over_six_replicas_are_the_oracles(tmp_path, program) -> None:
    outcome = play(tmp_path, program, seed=SEED, disturb=leave_alone)
    assert outcome.problems == [], f"seed {SEED}"
    assert outcome.events >= 200_000


def test_kills_of_forwarders_consumers_and_redis_lose_nothing_and_count_nothing_twice(tmp_path, program) -> None:
    outcome = play(tmp_path, program, seed=SEED, disturb=kill_at_random)
    assert outcome.problems == [], f"seed {SEED}"
    assert outcome.deeds.total() >= 5


def test_a_redis_that_is_away_costs_no_event_and_no_scrape(tmp_path, program) -> None:
    outcome = play(tmp_path, program, seed=SEED, disturb=take_redis_away(15.0), events=100_000)
    assert outcome.problems == [], f"seed {SEED}"
    assert outcome.answers > 0


def test_hours_that_were_recorded_before_anybody_counted_come_to_the_same(tmp_path, program) -> None:
    outcome = count_later(tmp_path, program, seed=SEED, events=100_000)
    assert outcome.problems == [], f"seed {SEED}"
