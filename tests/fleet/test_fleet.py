"""One truth over six replicas: real workers, forwarders, consumers and Redis, held against the oracle.

What is recorded in real time, and killed at random, depends on when the machine lets whom work: `make fleet` does that
for long, and prints the seed of a round that differs.
"""

import pytest
from fleet_campaign import count_later

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

SEED = 20_000


def test_what_was_recorded_before_anybody_counted_comes_to_the_oracles_totals(tmp_path, require_server) -> None:
    outcome = count_later(tmp_path, require_server("redis-server"), seed=SEED, events=20_000)
    assert outcome.problems == []
    assert outcome.events >= 20_000
