"""Every create that a database has is counted once, whoever is killed, and whenever; `make watch` does it for long."""

import random

import pytest
from watch_kills import play

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]


def test_kills_of_the_sidecar_and_restarts_of_the_database_miss_nothing_and_count_nothing_twice(
    tmp_path, own_postgres
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    outcome = play(tmp_path, own_postgres, seed=seed, creates=6_000, kills=2, restarts=1, hold_s=3.0)
    assert outcome.problems == [], f"seed {seed}"
    assert outcome.truth.rows >= 6_000
    assert min(outcome.truth.ended, outcome.truth.duplicates) > 0
    assert outcome.answers > 0
