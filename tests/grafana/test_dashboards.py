"""The dashboards: valid, complete, and asking for nothing that the sidecar does not expose."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from session_exporter.sidecar.exposition import METRICS, sample_names

PROJECT = Path(__file__).resolve().parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((PROJECT / "grafana").rglob("*.json"))}
PANELS = {f"{name}: {panel['title']}": panel for name, board in DASHBOARDS.items() for panel in board["panels"]}
RULES = [
    rule
    for path in sorted((PROJECT / "alerts").glob("*.rules.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
# `up` is Prometheus' own; OpenMetrics adds when counting began.
CREATED = {f"{metric.name.removesuffix('_total')}_created" for metric in METRICS if metric.kind == "counter"}
EXPOSED = sample_names() | CREATED | {"up"}
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
UNITS = {"short", "percentunit", "ops", "s", "bytes"}


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)', " ", expression)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = re.findall(r"(?<![\w.])[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(?!\s*\()", bare)
    return {name for name in names if name not in WORDS}


def expressions() -> dict[str, str]:
    found = {f"alert {rule.get('alert', rule.get('record'))}": rule["expr"] for rule in RULES}
    for name, panel in PANELS.items():
        found |= {f"{name} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


EXPRESSIONS = expressions()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_that_is_asked_for_is_exposed(name) -> None:
    used = metrics_in(EXPRESSIONS[name])
    assert used
    assert used <= EXPOSED


def test_the_names_of_metrics_are_found_in_every_corner_of_an_expression() -> None:
    text = 'sum by (job) (increase(a_total{x="b_total"}[5m]) > 0 or a_total - last_over_time(c[1d] offset 10m))'
    assert metrics_in(f"{text} and 1e3 < d") == {"a_total", "c", "d"}


def test_prometheus_understands_every_expression(require_server, tmp_path) -> None:
    promtool = require_server("promtool")
    rules = [
        {"record": "test:expression", "labels": {"of": str(number)}, "expr": re.sub(r"\$__\w+", "5m", expression)}
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_every_panel_says_what_it_shows_and_what_it_shows_without_data(panel) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    assert defaults["unit"] in UNITS
    assert defaults["noValue"]
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_every_query_is_narrowed_by_the_variables(panel) -> None:
    for target in panel["targets"]:
        for selector in re.findall(r"\{([^}]*)\}", target["expr"]):
            assert 'job=~"$job"' in selector
            assert 'instance=~"$instance"' in selector
        assert not re.search(r"_total(?!\{[^}]*\}\[)", target["expr"]), "a counter outside of rate() or increase()"


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(board) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)
def test_a_dashboard_is_found_again_and_is_changed_in_its_file_only(board) -> None:
    assert re.fullmatch("[a-z-]{8,40}", board["uid"])
    assert board["editable"] is False
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "scope"]
    assert variables["datasource"]["label"] == "Data source"
    assert all(variables[name]["allValue"] == ".+" for name in ("job", "instance", "scope"))


def test_dashboards_have_uids_of_their_own() -> None:
    uids = [board["uid"] for board in DASHBOARDS.values()]
    assert uids
    assert len(set(uids)) == len(uids)
