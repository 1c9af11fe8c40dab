import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("statsd", reason="the peers are missing; install them with: pip install -e '.[bench]'")

BENCH = Path(__file__).parent
# Rows of each group in the order printed; times are nobody's business here.
ROWS = {"auditing": 2, "calls": 16, "creates": 3, "detection": 5, "consume": 5}
ROWS |= {"forwarding": 9, "streaming": 12, "watching": 10, "workers": 3, "population": 9, "imports": 3}
SERVERS = {"forwarding": "redis-server", "streaming": "redis-server", "watching": "initdb", "auditing": "initdb"}
# Of each version of SQLAlchemy that is there, and then of calls and requests.
ROWS["hooks"] = 4 * (1 + (BENCH.parents[1] / ".venv/sqlalchemy-2.0").is_dir()) + 2


def run(*arguments):
    done = subprocess.run([sys.executable, BENCH, "--quick", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("group", ROWS)
def test_every_row_of_a_group_is_printed_and_finite(group, require_server):
    if group in SERVERS:
        require_server(SERVERS[group])
    figures = json.loads(run("--json", "--only", group))

    assert len(figures) == ROWS[group]
    assert all(math.isfinite(figure["value"]) for figure in figures)
    assert all(figure["ratio"] is None or math.isfinite(figure["ratio"]) for figure in figures)
    assert all(figure["what"] and figure["unit"] for figure in figures)


@pytest.mark.slow
@pytest.mark.integration
def test_the_table_names_what_was_measured_its_target_and_the_verdict():
    _, _, heading, _, *rows = run("--only", "creates").splitlines()

    assert heading.split() == ["what", "median", "unit", "peer", "ratio", "target", "verdict"]
    assert [row.split(",")[0] for row in rows] == ["ledger"] * 3
